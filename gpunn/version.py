"""The version of gpunn, for the package, for building it, and for what files say of their writers."""

__version__ = "0.1.0"
