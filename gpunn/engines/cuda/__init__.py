"""Engines for CUDA GPUs."""
