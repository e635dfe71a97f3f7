"""Model files: safetensors, with a description of the network in the metadata.

A file holds `weights.0`, `biases.0`, `weights.1`, ... (counted from the input, shapes and dtype as in `MLP`), and in
its metadata, under "gpunn", a JSON object:

    version      format version: 1 if all layers are sigmoid, for older readers, otherwise 2
    sizes        layer sizes, [784, 16, 10]
    activation   version 1: "sigmoid"
    functions    version 2: activation function of each layer but the input, ["relu", "softmax"]
    data         optional: description of the training images, an `ImageKind` (older readers ignore it)
    grey         optional: whether it was trained on grey levels

A single metadata entry: safetensors writes several in random order, and equal networks should give equal files.
"""

import itertools
import json
import os
import reprlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunn.activations import checked_functions
from gpunn.datasets.kind import ImageKind
from gpunn.errors import ConfigurationError, ModelFileError
from gpunn.files import open_file, write_whole
from gpunn.printing import printable

if TYPE_CHECKING:
    from safetensors import safe_open

VERSION = 2
LARGEST, LARGEST_OF_ARRAY = 400_000, 100
"""Maximum length of the description in characters: base, and extra for each array."""

DTYPES = {"F32": np.float32, "F64": np.float64}


class Model(NamedTuple):
    """Contents of a model file."""

    weights: list[NDArray[Any]]
    biases: list[NDArray[Any]]
    functions: tuple[str, ...]
    """Activation function of each layer but the input."""
    kind: ImageKind | None = None
    """Description of the training images, if known."""
    grey: bool | None = None
    """Whether it was trained on grey levels, if known."""


def write_model(path: str | bytes | os.PathLike[str], model: Model) -> None:
    """Write `model` to `path` atomically; raises `OutputError`."""
    from safetensors.numpy import save

    tensors = {}
    for layer, (W, b) in enumerate(zip(model.weights, model.biases, strict=True)):
        # safetensors writes wrong data for arrays that aren't C-contiguous.
        tensors[f"weights.{layer}"] = np.ascontiguousarray(W)
        tensors[f"biases.{layer}"] = np.ascontiguousarray(b)
    sizes = [model.weights[0].shape[1], *(len(b) for b in model.biases)]
    if set(model.functions) == {"sigmoid"}:
        about: dict[str, Any] = {"version": 1, "sizes": sizes, "activation": "sigmoid"}
    else:
        about = {"version": 2, "sizes": sizes, "functions": model.functions}
    if model.kind is not None:
        about["data"] = model.kind.to_dict()
    if model.grey is not None:
        about["grey"] = model.grey
    write_whole(path, save(tensors, {"gpunn": json.dumps(about)}))


def read_model(path: str | bytes | os.PathLike[str]) -> Model:
    """Read the model file at `path`; raises `ModelFileError` if it is missing, damaged or too new."""
    from safetensors import SafetensorError, safe_open

    name = printable(path)
    try:
        with open_file(path):  # checks that it is a readable file
            pass
        with safe_open(os.fsdecode(path), framework="numpy") as file:
            return _checked(name, file)
    except SafetensorError as error:
        reason = printable(str(error)[:200])
        raise ModelFileError(f"{name} is not a whole safetensors file ({reason}): train or copy it again") from error
    except FileNotFoundError as error:
        raise ModelFileError(f"there is no model file {name}: `gpunn train` makes one") from error
    except OSError as error:
        raise ModelFileError(f"cannot read {name}: {error.strerror or error}") from error


def _checked(name: str, file: "safe_open") -> Model:
    about = _about(name, file.metadata() or {}, LARGEST + LARGEST_OF_ARRAY * len(file.keys()))
    sizes = about["sizes"]
    functions, (kind, grey) = _functions(name, about, len(sizes) - 1), _data(name, about, sizes[0])
    n_tensors = 2 * (len(sizes) - 1)
    if len(file.keys()) != n_tensors:
        raise ModelFileError(
            f"{name} holds {len(file.keys())} arrays, {reprlib.repr(sorted(file.keys()))}: its sizes "
            f"{reprlib.repr(sizes)} expect {n_tensors}"
        )
    expected: dict[str, tuple[int, ...]] = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        expected[f"weights.{layer}"] = (n_out, n_in)
        expected[f"biases.{layer}"] = (n_out,)
    if set(file.keys()) != set(expected):
        raise ModelFileError(
            f"{name} holds {reprlib.repr(sorted(file.keys()))}: its sizes {reprlib.repr(sizes)} expect "
            f"{reprlib.repr(sorted(expected))}"
        )
    first_dtype = file.get_slice("weights.0").get_dtype()
    tensors = {}
    for key, shape in expected.items():
        found = file.get_slice(key)
        if tuple(found.get_shape()) != shape:
            raise ModelFileError(
                f"{name}: {key} has the shape {reprlib.repr(tuple(found.get_shape()))}, its sizes "
                f"{reprlib.repr(sizes)} expect {shape}"
            )
        if found.get_dtype() not in DTYPES or found.get_dtype() != first_dtype:
            raise ModelFileError(
                f"{name}: {key} has the dtype {found.get_dtype()}, expected one of {', '.join(DTYPES)} throughout"
            )
        tensors[key] = file.get_tensor(key)
        if not np.isfinite(tensors[key]).all():
            raise ModelFileError(f"{name}: {key} holds values that aren't finite; train it again")
    layers = range(len(sizes) - 1)
    return Model(
        weights=[tensors[f"weights.{layer}"] for layer in layers],
        biases=[tensors[f"biases.{layer}"] for layer in layers],
        functions=functions,
        kind=kind,
        grey=grey,
    )


def _about(name: str, metadata: dict[str, str], most: int) -> dict[str, Any]:
    """Return the description of the network, at most `most` characters long; version and sizes are checked."""
    if "gpunn" not in metadata:
        raise ModelFileError(f"{name} is a safetensors file, but not a gpunn model: use one written by `gpunn train`")
    if len(metadata["gpunn"]) > most:
        raise ModelFileError(
            f"{name} describes itself in {len(metadata['gpunn']):,} characters: expected at most {most:,} for the "
            "number of its arrays"
        )
    try:
        about = json.loads(metadata["gpunn"])
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or type(version := about.get("version")) is not int or version < 1:
        described = reprlib.repr(metadata["gpunn"])
        raise ModelFileError(f"{name} describes itself as {described}: expected a JSON object with a version")
    if version > VERSION:
        raise ModelFileError(
            f"{name} has version {version}, this gpunn reads versions up to {VERSION}: install a newer gpunn"
        )
    sizes = about.get("sizes")
    if not isinstance(sizes, list) or len(sizes) < 2 or not all(type(size) is int and size > 0 for size in sizes):
        raise ModelFileError(f"{name} has the sizes {reprlib.repr(sizes)}: expected two or more positive numbers")
    return about


def _functions(name: str, about: dict[str, Any], n_layers: int) -> tuple[str, ...]:
    """Return the checked activation functions of the layers."""
    if about["version"] == 1:
        activation = about.get("activation")
        if activation != "sigmoid":
            raise ModelFileError(f"{name} has the activation {reprlib.repr(activation)}: expected sigmoid")
        return ("sigmoid",) * n_layers
    functions = about.get("functions")
    if not isinstance(functions, list) or not functions:
        raise ModelFileError(f"{name} has the functions {reprlib.repr(functions)}: expected a name for each layer")
    try:
        return checked_functions(functions[:-1], functions[-1], n_layers)
    except (ConfigurationError, TypeError) as error:
        raise ModelFileError(f"{name} has the functions {reprlib.repr(functions)}: {error}") from error


def _data(name: str, about: dict[str, Any], n_inputs: int) -> tuple[ImageKind | None, bool | None]:
    """Return the checked description of the training images and whether they were grey levels."""
    grey, kind = about.get("grey"), about.get("data")
    if grey is not None and not isinstance(grey, bool):
        raise ModelFileError(f"{name} has {reprlib.repr(grey)} for grey: expected true or false")
    if kind is None:
        return None, grey
    try:
        found = ImageKind.from_dict(kind)
        found.check_pixels(n_inputs)
    except ConfigurationError as error:
        raise ModelFileError(f"{name} describes its data wrongly: {error}") from error
    return found, grey
