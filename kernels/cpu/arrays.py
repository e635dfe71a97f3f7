"""The contract's checks for arrays of the host."""

from ..checks import HostArrays
from ..contract import Contract

CONTRACT = Contract(HostArrays())
