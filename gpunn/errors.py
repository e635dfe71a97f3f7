"""What gpunn raises when the user can put something right.

Every message is one line that says what was found, what was expected and what to do. The command line prints it
and exits with code 2.
"""


class GpunnError(Exception):
    """The base of all errors below."""


class ConfigurationError(GpunnError, ValueError):
    """An argument is out of its range, or arguments contradict each other."""


class DataError(GpunnError, ValueError):
    """A data set or a picture is missing, damaged, or doesn't fit the network."""


class ModelFileError(GpunnError, ValueError):
    """A model file is missing, damaged, or was written by a newer gpunn."""


class ResultsFileError(GpunnError, ValueError):
    """A file with results of benchmarks is missing, damaged, or something else."""


class OutputError(GpunnError, OSError):
    """A file can't be written where it was asked for."""


class DeviceError(GpunnError, RuntimeError):
    """The device that was asked for can't be used; the message carries the cause."""


class OutOfMemoryError(DeviceError):
    """The device's memory is too small for what it was to do; the message says what was needed, and what is free."""


class DivergenceError(GpunnError, ArithmeticError, ValueError):
    """Training left the range of floating-point numbers."""
