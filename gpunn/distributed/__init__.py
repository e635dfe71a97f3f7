"""Training over the processes of an MPI communicator, called ranks."""

from gpunn.distributed.ranks import Ranks, over_ranks

__all__ = ["Ranks", "over_ranks"]
