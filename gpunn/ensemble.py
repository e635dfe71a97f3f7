"""Ensembles: several networks that predict together, and the loader of model files with one network or several."""

import os
import reprlib
from collections.abc import Sequence
from typing import Any, final

from gpunn.datasets.kind import ImageKind
from gpunn.errors import ConfigurationError, ModelFileError
from gpunn.model_file import Layers, Model, read_model, write_model
from gpunn.network import MLP, Network
from gpunn.printing import printable

SAME = ("n_inputs", "n_outputs", "output", "dtype", "kind", "grey")
"""Attributes that are the same in all networks of an ensemble."""

MOST_NAMED = 3
"""Maximum number of networks in the `repr` of an ensemble."""


@final
class Ensemble(Network):
    """Several networks that predict together: its output activations are the mean of theirs.

    Softmax outputs are probabilities, and so is their mean. Each sigmoid output is a network's own estimate of how
    likely its class is, and the estimates are averaged as they are, before `predict_proba` divides them by their sum.
    So are the outputs of other functions, which estimate the target. `predict`, losses and accuracy follow from these
    means as from the outputs of one network.

    `nets` are one or more `MLP`s. Hidden layers, and how they were trained, may differ. The numbers of inputs and
    outputs, the output activation, the dtype, and `kind` and `grey` of the training images must be the same. The
    networks are kept, not copied.

    Raises `ConfigurationError` for other networks.
    """

    def __init__(self, nets: Sequence[MLP]) -> None:
        self._nets = tuple(nets)
        self.check()

    @property
    def nets(self) -> tuple[MLP, ...]:
        """The networks."""
        return self._nets

    @property
    def kind(self) -> ImageKind | None:
        """Description of the training images, or None if unknown."""
        return self.nets[0].kind

    @property
    def grey(self) -> bool | None:
        """Whether the networks were trained on grey levels, or None if not by `gpunn.train`."""
        return self.nets[0].grey

    def layers(self) -> dict[str, Any]:
        """Return each network's layer sizes and activation functions as JSON types."""
        return {"networks": [net.layers() for net in self.nets]}

    def check(self) -> None:
        """Raise `ConfigurationError` if a network fails its own `check`, or doesn't go with the first."""
        if not self.nets:
            raise ConfigurationError("nets must have at least one network, got none")
        for number, net in enumerate(self.nets):
            if not isinstance(net, MLP):
                raise ConfigurationError(f"nets must be MLPs, got {type(net).__name__} for nets[{number}]")
            try:
                net.check()
            except ConfigurationError as error:
                raise ConfigurationError(f"nets[{number}]: {error}") from error
            for trait in SAME:
                first, own = getattr(self.nets[0], trait), getattr(net, trait)
                if own != first:
                    raise ConfigurationError(
                        f"nets must have the same {trait}, got {reprlib.repr(first)} for nets[0] and "
                        f"{reprlib.repr(own)} for nets[{number}]"
                    )

    def save(self, path: str | bytes | os.PathLike[str]) -> None:
        """Write the networks atomically to one file at `path` as safetensors (see `gpunn.model_file`).

        Raises `OutputError` if it can't be written, and the errors of `check`.
        """
        self.check()
        networks = [Layers(net.weights, net.biases, net.functions, net.training) for net in self.nets]
        write_model(path, Model(networks, ensemble=True, kind=self.kind, grey=self.grey))

    def __repr__(self) -> str:
        shown = [repr(net) for net in self.nets[:MOST_NAMED]]
        if len(self.nets) > MOST_NAMED:
            shown.append(f"... {len(self.nets) - MOST_NAMED} more")
        return f"Ensemble([{', '.join(shown)}])"

    def __str__(self) -> str:
        return f"ensemble of {len(self.nets)} network{'s' * (len(self.nets) != 1)}"


def load(path: str | bytes | os.PathLike[str]) -> MLP | Ensemble:
    """Load what the model file at `path` holds, a network or an ensemble.

    Raises `ModelFileError` if the file is missing or damaged.
    """
    model = read_model(path)
    nets = MLP.of_model(model)
    if not model.ensemble:
        return nets[0]
    try:
        return Ensemble(nets)
    except ConfigurationError as error:
        raise ModelFileError(f"{printable(path)} holds networks that make no ensemble: {error}") from error
