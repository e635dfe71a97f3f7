"""The data set that a command uses."""

from collections.abc import Iterator
from pathlib import Path

from gpunn.datasets import Dataset, load_mnist
from gpunn.datasets.places import folder_of, remember
from gpunn.errors import DataError
from gpunn.network import Network
from gpunn.printing import printable

EMBEDDED = ("", "MNIST")
"""Names of data sets for which the embedded MNIST is taken; "" is unknown."""


def load_data(data_dir: Path | None, *, n_classes: int | None = None) -> Dataset:
    """Return the data set in `data_dir`, by default the embedded MNIST, and note where it is; see `load_mnist`."""
    data = load_mnist(data_dir, n_classes=n_classes)
    if data_dir is not None and data.train.kind is not None:
        remember(data.train.kind.digest, data_dir)
    return data


def data_for(net: Network, data_dir: Path | None) -> Dataset:
    """Return the data set in `data_dir`, or without it the one that `net` was trained on, if it is known where that is.

    Raises the errors of `load_mnist`, and `DataError` if the network's data set is another than MNIST and can't be
    found.
    """
    kind = net.kind
    known = folder_of(kind.digest) if data_dir is None and kind is not None and kind.digest else None
    if kind is not None and known is not None:
        try:
            data = loaded_for(net, known)
            if kind.name not in EMBEDDED or data.test.kind is None or data.test.kind.digest == kind.digest:
                return data
        except DataError as error:
            if kind.name not in EMBEDDED:
                error.add_note("the network was trained on what was there: give its folder by --data-dir")
                raise
    elif data_dir is None and kind is not None and kind.name not in EMBEDDED:
        raise DataError(f"the network was trained on {printable(kind.name)}: give its folder by --data-dir")
    return loaded_for(net, data_dir)


def loaded_for(net: Network, data_dir: Path | None) -> Dataset:
    """Return the data set in `data_dir`, or MNIST, padded if `net` was trained on padded images.

    Raises the errors of `load_mnist`, and `DataError` for images that can't be padded.
    """
    data, kind = load_data(data_dir, n_classes=net.n_outputs), net.kind
    if kind is None or kind.shape is None or data.train.kind is None or data.train.kind.shape != kind.unpadded:
        return data
    return data.padded(kind.shape)


def misfits(net: Network, data: Dataset) -> Iterator[str]:
    """Yield a warning if `net` seems to be trained on another data set than `data`."""
    ours, theirs = net.kind, data.test.kind
    names = [printable(kind.name) if kind is not None else "" for kind in (ours, theirs)]
    if all(names) and names[0] != names[1]:
        yield f"the network was trained on {names[0]} but is evaluated on {names[1]}: see --data-dir"
    elif net.n_outputs > max(2, data.test.n_classes):
        yield (
            f"the network has {net.n_outputs} classes but is evaluated on a data set with {data.test.n_classes}: "
            "see --data-dir"
        )
    elif ours is not None and theirs is not None and ours.digest and ours.digest != theirs.digest:
        yield f"the files of {names[1] or 'the data set'} are other ones than those that the network was trained on"
