"""Data sets: the embedded MNIST, and any other in MNIST's four-file form."""

from gpunn.datasets.kind import ImageKind
from gpunn.datasets.mnist import load_mnist
from gpunn.datasets.split import Dataset, Split

__all__ = ["Dataset", "ImageKind", "Split", "load_mnist"]
