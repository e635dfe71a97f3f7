"""Output file names of `gpunn train`, and protection of existing files."""

from itertools import chain, count
from pathlib import Path

from gpunn.ensemble import load
from gpunn.errors import ModelFileError, OutputError
from gpunn.network import MLP

LONGEST = 100
"""Maximum length of the layer sizes in a file name, in characters."""


def default_name(net: MLP, seed: int) -> Path:
    """Return an unused file name in the working directory, such as 784-16-10-seed0.safetensors."""
    sizes = str(net)
    if len(sizes) > LONGEST:
        sizes = f"{net.sizes[0]}-{len(net.sizes) - 2}-layers-{net.sizes[-1]}"
    names = (Path(f"{sizes}-seed{seed}{suffix}.safetensors") for suffix in chain([""], (f"-{k}" for k in count(2))))
    return next(name for name in names if not name.exists() and not name.is_symlink())


def check_replaceable(output: Path, net: MLP) -> None:
    """Raise `OutputError` unless `output` is missing, empty, or a network with the same layers as `net`."""
    if not output.exists() or output.stat().st_size == 0:
        return
    try:
        found = load(output)
    except ModelFileError as error:
        raise OutputError(f"{output} is not a gpunn model file: choose another --output, or use --force") from error
    if found.layers() != net.layers():
        functions = " and ".join(sorted({", ".join(one.functions) for one in found.nets}))
        raise OutputError(
            f"{output} holds another network, {found} ({functions}): choose another --output, or use --force"
        )
