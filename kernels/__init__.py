"""The fused operations of training, imported as `gpunn.kernels`. They know arrays and numbers, nothing of gpunn.

`reference` defines the contract: names, signatures, shapes, what is refused. It is plain NumPy, takes float32 and
float64, and is the oracle of whatever compiled form a device has.
"""
