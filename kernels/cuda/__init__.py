"""Kernels for CUDA GPUs, compiled by numba-cuda; importing a module with kernels needs it."""
