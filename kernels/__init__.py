"""The fused operations of training, imported as `gpunn.kernels`; independent of the rest of gpunn.

`contract` has their signatures and argument checks, `formulas` their formulas, `cpu` and `cuda` the implementations.
"""
