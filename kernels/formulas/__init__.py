"""Formulas, each given once, in operations that arrays, vectors of a CPU and threads of a GPU all have."""
