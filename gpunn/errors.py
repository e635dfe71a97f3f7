"""Errors that the user can fix.

Every message is one line: the rule, the value given, and what to do. The command line prints it and exits with code 2.
"""


class GpunnError(Exception):
    """Base class of gpunn's errors."""


class ConfigurationError(GpunnError, ValueError):
    """An argument is invalid, or arguments contradict each other."""


class DataError(GpunnError, ValueError):
    """A data set or a picture is missing, damaged, or doesn't fit the network."""


class ModelFileError(GpunnError, ValueError):
    """A model file is missing, damaged, or was written by a newer gpunn."""


class OutputError(GpunnError, OSError):
    """A file can't be written."""


class DeviceError(GpunnError, RuntimeError):
    """The requested device can't be used; the message gives the cause."""


class OutOfMemoryError(DeviceError):
    """The device ran out of memory; the message says how much was needed and how much is free."""


class ClusterError(GpunnError, RuntimeError):
    """A Dask cluster can't be reached, or was lost; the message gives the cause."""


class DivergenceError(GpunnError, ArithmeticError, ValueError):
    """Training produced non-finite numbers."""
