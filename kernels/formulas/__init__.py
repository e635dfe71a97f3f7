"""Formulas, each written once, in operations that arrays, CPU vectors and GPU threads all have."""
