"""The fused operations of training, imported as `gpunn.kernels`. They know arrays and numbers, nothing of gpunn.

`contract` has their signatures, and what they refuse; `formulas` what they compute; `cpu` and `cuda` how.
"""
