"""Sweeps: many networks, trained on the same examples and ranked by others, held out."""

from gpunn.sweep.cluster import Cluster
from gpunn.sweep.record import Record
from gpunn.sweep.runs import Run, ranked
from gpunn.sweep.search import Sweep
from gpunn.sweep.space import Configuration, Range, Space

__all__ = ["Cluster", "Configuration", "Range", "Record", "Run", "Space", "Sweep", "ranked"]
