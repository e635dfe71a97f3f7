"""Model files: safetensors, with a description of the network, or of several, in the metadata.

A file holds `weights.0`, `biases.0`, `weights.1`, ... (counted from the input, shapes and dtype as in `MLP`), and in
its metadata, under "gpunn", a JSON object:

    version      format version: 1 if all layers are sigmoid, for older readers, otherwise 2; 3 for ensembles
    sizes        versions 1 and 2: layer sizes, [784, 16, 10]
    activation   version 1: "sigmoid"
    functions    version 2: activation function of each layer but the input, ["relu", "softmax"]
    networks     version 3: a list of objects with `sizes` and `functions`, one for each network
    data         optional: description of the training images, an `ImageKind` (older readers ignore it)
    grey         optional: whether it was trained on grey levels
    training     optional: the record of its training, see `gpunn.training_record`; in version 3 within `networks`

In version 3 the arrays of the first network are `networks.0.weights.0` and so on.
A single metadata entry: safetensors writes several in random order, and equal networks should give equal files.
"""

import itertools
import json
import os
import reprlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunn.activations import checked_functions
from gpunn.datasets.kind import ImageKind
from gpunn.errors import ConfigurationError, ModelFileError
from gpunn.files import open_file, write_whole
from gpunn.printing import printable
from gpunn.training_record import Recorded, TrainingRecord, fitting, plain

if TYPE_CHECKING:
    from safetensors import safe_open

VERSION = 3
LARGEST, LARGEST_OF_ARRAY = 400_000, 100
"""Maximum length of the description in characters: base, and extra for each array."""

RECORDS = 100_000
"""Maximum length of all records of trainings in a file, in characters."""

LONGEST_NAME = 30
"""Length at which a text is no name of an activation function."""

DTYPES = {"F32": np.float32, "F64": np.float64}


class Layers(NamedTuple):
    """A network in a model file."""

    weights: list[NDArray[Any]]
    biases: list[NDArray[Any]]
    functions: tuple[str, ...]
    """Activation function of each layer but the input."""
    training: Recorded | None = None
    """How it was trained, if known."""


class Model(NamedTuple):
    """Contents of a model file."""

    networks: list[Layers]
    """One network, or those of an ensemble."""
    ensemble: bool
    kind: ImageKind | None = None
    """Description of the training images, if known."""
    grey: bool | None = None
    """Whether it was trained on grey levels, if known."""


def write_model(path: str | bytes | os.PathLike[str], model: Model) -> None:
    """Write `model` to `path` atomically; raises `OutputError`."""
    from safetensors.numpy import save

    tensors, described = {}, []
    for number, (weights, biases, functions, training) in enumerate(model.networks):
        about: dict[str, Any] = {"sizes": [weights[0].shape[1], *(len(b) for b in biases)], "functions": functions}
        if training is not None:
            about["training"] = fitting(training.record(), RECORDS // len(model.networks))
        described.append(about)
        for layer, arrays in enumerate(zip(weights, biases, strict=True)):
            for key, array in zip(_keys(number if model.ensemble else None, layer), arrays, strict=True):
                # safetensors writes wrong data for arrays that aren't C-contiguous.
                tensors[key] = np.ascontiguousarray(array)
    first = described[0]
    if model.ensemble:
        about = {"version": 3, "networks": described}
    elif set(first["functions"]) == {"sigmoid"}:
        del first["functions"]
        about = {"version": 1, "activation": "sigmoid"} | first
    else:
        about = {"version": 2} | first
    if model.kind is not None:
        about["data"] = model.kind.to_dict()
    if model.grey is not None:
        about["grey"] = model.grey
    write_whole(path, save(tensors, {"gpunn": json.dumps(about, default=plain)}))


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


class _Described(NamedTuple):
    """Checked description of a network in a file."""

    sizes: list[int]
    functions: tuple[str, ...]
    number: int | None
    """Its place in an ensemble."""
    training: TrainingRecord | None = None

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and the shape of each array, weights before biases."""
        for layer, (n_in, n_out) in enumerate(itertools.pairwise(self.sizes)):
            yield from zip(_keys(self.number, layer), ((n_out, n_in), (n_out,)), strict=True)


def _keys(number: int | None, layer: int) -> tuple[str, str]:
    """Return the names of a layer's weights and biases, in the network `number` of an ensemble, or in the only one."""
    prefix = "" if number is None else f"networks.{number}."
    return f"{prefix}weights.{layer}", f"{prefix}biases.{layer}"


def _checked(name: str, file: "safe_open") -> Model:
    about = _about(name, file.metadata() or {}, LARGEST + LARGEST_OF_ARRAY * len(file.keys()))
    networks, ensemble = _networks(name, about), about["version"] > 2
    kind, grey = _data(name, about, networks[0].sizes[0])
    _check_names(name, file, networks, ensemble=ensemble)
    first_dtype = file.get_slice(_keys(networks[0].number, 0)[0]).get_dtype()
    tensors = {}
    for key, shape, sizes in ((*array, network.sizes) for network in networks for array in network.shapes()):
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
    layers = []
    for network in networks:
        arrays = [tensors[key] for key, _ in network.shapes()]
        layers.append(Layers(arrays[::2], arrays[1::2], network.functions, network.training))
    return Model(layers, ensemble, kind, grey)


def _check_names(name: str, file: "safe_open", networks: list[_Described], *, ensemble: bool) -> None:
    """Raise `ModelFileError` unless the file holds the arrays that `networks` have, by number and names."""
    found = file.keys()
    sizes = reprlib.repr([network.sizes for network in networks] if ensemble else networks[0].sizes)
    n_arrays = sum(2 * (len(network.sizes) - 1) for network in networks)
    if len(found) != n_arrays:
        raise ModelFileError(
            f"{name} holds {len(found)} arrays, {reprlib.repr(sorted(found))}: its sizes {sizes} expect {n_arrays}"
        )
    expected = [key for network in networks for key, _ in network.shapes()]
    if set(found) != set(expected):
        raise ModelFileError(
            f"{name} holds {reprlib.repr(sorted(found))}: its sizes {sizes} expect {reprlib.repr(sorted(expected))}"
        )


def _about(name: str, metadata: dict[str, str], most: int) -> dict[str, Any]:
    """Return the description, at most `most` characters long; only its version is checked."""
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
    if isinstance(about, dict) and "checkpoint" in about:
        raise ModelFileError(f"{name} is a checkpoint, not a model: `gpunn train --resume` goes on from it")
    if not isinstance(about, dict) or type(version := about.get("version")) is not int or version < 1:
        described = reprlib.repr(metadata["gpunn"])
        raise ModelFileError(f"{name} describes itself as {described}: expected a JSON object with a version")
    if version > VERSION:
        raise ModelFileError(
            f"{name} has version {version}, this gpunn reads versions up to {VERSION}: install a newer gpunn"
        )
    return about


def _networks(name: str, about: dict[str, Any]) -> list[_Described]:
    """Return the checked descriptions of the networks."""
    if about["version"] < 3:
        return [_described(name, about, about["version"])]
    networks = about.get("networks")
    if not isinstance(networks, list) or not networks or not all(isinstance(each, dict) for each in networks):
        raise ModelFileError(f"{name} has the networks {reprlib.repr(networks)}: expected an object for each")
    return [_described(f"{name}: network {number}", each, 3, number) for number, each in enumerate(networks)]


def _described(name: str, about: dict[str, Any], version: int, number: int | None = None) -> _Described:
    """Return the checked description of one network; `name` says which, for messages."""
    sizes = about.get("sizes")
    if not isinstance(sizes, list) or len(sizes) < 2 or not all(type(size) is int and size > 0 for size in sizes):
        raise ModelFileError(f"{name} has the sizes {reprlib.repr(sizes)}: expected two or more positive numbers")
    training = about.get("training")
    try:
        record = None if training is None else TrainingRecord.from_dict(training)
    except ConfigurationError as error:
        raise ModelFileError(f"{name} describes its training wrongly: {error}") from error
    return _Described(sizes, _functions(name, about, version, len(sizes) - 1), number, record)


def _functions(name: str, about: dict[str, Any], version: int, n_layers: int) -> tuple[str, ...]:
    """Return the checked activation functions of the layers."""
    if version == 1:
        activation = about.get("activation")
        if activation != "sigmoid":
            raise ModelFileError(f"{name} has the activation {reprlib.repr(activation)}: expected sigmoid")
        return ("sigmoid",) * n_layers
    functions = about.get("functions")
    if not isinstance(functions, list) or not functions or not all(map(_is_name, functions)):
        raise ModelFileError(f"{name} has the functions {reprlib.repr(functions)}: expected a name for each layer")
    try:
        return checked_functions(functions[:-1], functions[-1], n_layers)
    except (ConfigurationError, TypeError) as error:
        raise ModelFileError(f"{name} has the functions {reprlib.repr(functions)}: {error}") from error


def _is_name(function: object) -> bool:
    return isinstance(function, str) and len(function) < LONGEST_NAME


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
