"""Names of output files, and protection of existing files."""

from collections.abc import Iterator
from itertools import chain, count, islice, takewhile
from pathlib import Path

from gpunn.ensemble import Ensemble, load
from gpunn.errors import ModelFileError, OutputError
from gpunn.network import MLP

LONGEST = 100
"""Maximum length of the layer sizes in a file name, in characters."""


def default_name(net: MLP, seed: int) -> Path:
    """Return an unused file name in the working directory, such as 784-16-10-seed0.safetensors."""
    sizes = str(net)
    if len(sizes) > LONGEST:
        sizes = f"{net.sizes[0]}-{len(net.sizes) - 2}-layers-{net.sizes[-1]}"
    return _unused(f"{sizes}-seed{seed}.safetensors")


def ensemble_name(ensemble: Ensemble) -> Path:
    """Return an unused file name in the working directory, such as ensemble-of-5.safetensors."""
    return _unused(f"ensemble-of-{len(ensemble.nets)}.safetensors")


def record_name(output: Path | None, *, resume: bool) -> Path:
    """Return the name of a sweep's record beside `output`, or in the working directory: sweep.jsonl, sweep-2.jsonl, ...

    It is the first unused one; with `resume` the last used one, if there is one.
    """
    name = Path("sweep.jsonl") if output is None else output.with_name(f"{output.stem}.sweep.jsonl")
    used = list(takewhile(_is_used, _numbered(name)))
    return used[-1] if resume and used else next(islice(_numbered(name), len(used), None))


def _unused(name: str) -> Path:
    return next(path for path in _numbered(Path(name)) if not _is_used(path))


def _numbered(name: Path) -> Iterator[Path]:
    """Yield the name, and the name with -2, -3, ... before its ending."""
    return chain([name], (name.with_name(f"{name.stem}-{k}{name.suffix}") for k in count(2)))


def _is_used(name: Path) -> bool:
    return name.exists() or name.is_symlink()


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
