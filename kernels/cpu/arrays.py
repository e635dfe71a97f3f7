"""The contract's checks, for arrays on the host."""

from ..checks import HostArrays
from ..contract import Contract

CONTRACT = Contract(HostArrays())
