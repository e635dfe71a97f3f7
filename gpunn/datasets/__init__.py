"""Data sets: the embedded MNIST, and others in MNIST's four-file format."""

from gpunn.datasets.kind import ImageKind
from gpunn.datasets.mnist import load_mnist
from gpunn.datasets.split import Dataset, Split

__all__ = ["Dataset", "ImageKind", "Split", "load_mnist"]
