"""Measurements. Run them on a machine that does nothing else."""
