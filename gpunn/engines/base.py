"""Interface of engines, which run epochs of training on a device."""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunn.averaging import Averaging
from gpunn.backends import Backend
from gpunn.checks import check_whole
from gpunn.distortion import Distortion
from gpunn.engines.stopping import check_stopped
from gpunn.equations import Array, is_csr
from gpunn.errors import ConfigurationError
from gpunn.optimizers import PLAIN, SGD, Adam, Optimizer, OptimizerState
from gpunn.schedules import CONSTANT, Schedule


class Examples(NamedTuple):
    """`n` examples, on one device or on the host; engines differ in the kinds they support.

    - `inputs` (n, n_0): grey levels, uint8, which are divided by 255, or floats of the parameters' dtype; on a CPU,
      these may be a SciPy matrix in compressed sparse row form (CSR);
    - `targets`: classes, uint8 (n,), or target outputs, floats of the parameters' dtype, (n, n_L);
    - `weights`, floats (n,), at least 0, or None if all examples count the same: a batch's loss is the average of its
      examples', weighted by these.
    """

    inputs: Array
    targets: Array
    weights: Array | None = None

    def on(self, backend: Backend) -> "Examples":
        """Return these examples, on the host, as arrays on the device of `backend`."""
        return Examples(*(part if part is None or is_csr(part) else backend.asarray(part) for part in self))

    @property
    def n(self) -> int:
        """Number of examples."""
        return int(self.inputs.shape[0])

    @property
    def sparse(self) -> bool:
        """Whether the inputs are a sparse matrix."""
        return is_csr(self.inputs)

    @property
    def grey(self) -> bool:
        """Whether the inputs are grey levels."""
        return bool(self.inputs.dtype == np.uint8)

    @property
    def labeled(self) -> bool:
        """Whether the targets are classes."""
        return bool(self.targets.ndim == 1)


def examples_reason(
    examples: Examples | None,
    *,
    floats: bool = False,
    rows: bool = False,
    weights: bool = False,
    sparse: bool = False,
) -> str | None:
    """Return why an engine for grey levels and classes, and whatever is set to True, can't use `examples`, or None."""
    if examples is None:
        return None
    if examples.weights is not None and not weights:
        return "it doesn't support sample weights"
    if examples.sparse and not sparse:
        return "its inputs must be an array, got a sparse matrix"
    if not examples.grey and not floats:
        return f"its inputs must be grey levels (uint8), got {examples.inputs.dtype}"
    if not examples.labeled and not rows:
        return "its targets must be classes, got rows of numbers"
    return None


@dataclass(frozen=True)
class Parameters:
    """Weights and biases, shaped as in `MLP`, on a device or on the host, and activation functions."""

    weights: Sequence[Array]
    biases: Sequence[Array]
    functions: Sequence[str] = ()
    """Activation functions of all layers but the input; sigmoid if none are given."""
    memory: OptimizerState | None = None
    """Optimiser state; None before the first step."""
    epochs: int = 0
    """Number of epochs trained before; dropout's masks depend on it."""

    def __post_init__(self) -> None:
        if not self.functions:
            object.__setattr__(self, "functions", ("sigmoid",) * len(self.weights))
        sizes, shapes = self.sizes, [W.shape for W in self.weights]
        expected = [(n_out, n_in) for n_in, n_out in pairwise(sizes)]
        if shapes != expected:
            raise ValueError(f"found weights of shapes {shapes}, expected {expected} by the inputs and biases")
        if len(self.functions) != len(expected):
            raise ValueError(f"found {len(self.functions)} activation functions, expected one for each layer")

    @property
    def sizes(self) -> list[int]:
        """The layer sizes n_0, ..., n_L."""
        return [self.weights[0].shape[1], *map(len, self.biases)]

    @property
    def steps(self) -> int:
        """Number of steps that the optimiser has made."""
        return 0 if self.memory is None else self.memory.steps

    @property
    def n_weights(self) -> int:
        """Number of weights: the multiplications in a forward pass of one example."""
        return sum(W.size for W in self.weights)


PRECISIONS = ("float32", "tf32")


@dataclass(frozen=True)
class Recipe:
    """Settings of the training: `batch_size` examples a step, each step `learning_rate` times the gradient.

    `precision` is that of the factors in matrix products, one of `PRECISIONS`: "tf32" keeps 10 bits of their mantissas,
    which GPUs of compute capability 8.0 and newer multiply several times as fast; sums are float32 all the same.

    `l2` is the penalty on weights, not biases, l2 / 2 times the sum of their squares: it adds l2 W to their gradient.
    `dropout` is the fraction of hidden activations set to 0 for each example, drawn from `seed`; the others
    are scaled up to keep the mean. `schedule` changes the learning rate from batch to batch. Losses that are reported
    count `largest_loss` for an output's where that is less; only the engine `plain` heeds this. No step depends on it.
    With `distort`, examples get other inputs before each epoch, see `Engine.use`. `label_smoothing` is the share of
    each class's target that their targets spread over all classes. `average` changes what the network is after an
    epoch, not how it is trained. `max_norm`, unless 0, is the largest norm that weights into a hidden neuron have after
    a step: larger ones are scaled down.
    """

    batch_size: int
    learning_rate: float
    precision: str = "float32"
    loss: str = "squared_error"
    optimizer: Optimizer = PLAIN
    l2: float = 0.0
    dropout: float = 0.0
    seed: int = 0
    schedule: Schedule = CONSTANT
    largest_loss: float = math.inf
    distort: Distortion | None = None
    label_smoothing: float = 0.0
    average: Averaging | None = None
    max_norm: float = 0.0

    def __post_init__(self) -> None:
        check_whole("batch_size", self.batch_size, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON types, without unused settings."""
        found: dict[str, Any] = {name: getattr(self, name) for name in ("batch_size", "learning_rate", "precision")}
        found |= {"loss_function": self.loss, "seed": self.seed}
        for name, choice, default in (("optimizer", self.optimizer, PLAIN), ("schedule", self.schedule, CONSTANT)):
            if choice != default:
                numbers: dict[str, Any] = asdict(choice) if is_dataclass(choice) else {}
                found[name] = {"name": type(choice).__name__, **numbers}
        if self.distort is not None:
            found["distort"] = self.distort.to_dict()
        if self.average is not None:
            found["average"] = self.average.to_dict()
        return found | {
            name: getattr(self, name)
            for name in ("l2", "dropout", "label_smoothing", "max_norm")
            if getattr(self, name)
        }


class Engine(ABC):
    """Trains its own copy of a network, one epoch per call; used inside `backend.activate()`.

    Between epochs, `parameters`, `memory` and the number of epochs are all that an engine depends on: another one that
    starts from them goes on with the same bits, if it is of the same kind and on the same kind of device.

    All engines compute the same: mini-batch gradient descent over the batches `order[0:m]`, `order[m:2m]`, ..., the
    last of which may be smaller. They differ only in speed and in what they support.
    """

    name: ClassVar[str]

    own_threads: ClassVar[bool]
    """Whether the engine runs its own threads; BLAS is then limited to one."""

    threads: int
    """Number of the host's threads that run an epoch."""

    @abstractmethod
    def __init__(self, backend: Backend, start: Parameters, examples: Examples, recipe: Recipe) -> None:
        """Copy `start` (host arrays), and take the `examples` on the device of `backend`.

        Classes are copied; inputs and rows of targets may not be, and must not change during training.
        """

    @classmethod
    @abstractmethod
    def unsupported_reason(
        cls, backend: Backend, start: Parameters, recipe: Recipe, examples: Examples | None = None
    ) -> str | None:
        """Return in a few words why the engine can't train these parameters on this backend like this, or None.

        Only the kind of `examples` matters; None stands for grey levels and classes.
        """

    @abstractmethod
    def run_epoch(self, order: NDArray[Any], rates: NDArray[np.float64] | None = None) -> float:
        """Train once on every example in `order` (n,), host integers; return the epoch's mean loss.

        `rates` are the learning rates of its batches, by default the recipe's. Each example's loss is that before
        its batch's step, without the L2 penalty. Returns when the device is done. Raises the errors of
        `gpunn.engines.checks.checked_order`.
        """

    @abstractmethod
    def prepare(self, inputs: Array) -> Any:
        """Return other `inputs`, on the device and shaped like the examples', in the form that `use` takes.

        It may be called while another thread runs an epoch. The inputs must not change until others are used.
        """

    @abstractmethod
    def use(self, prepared: Any) -> None:
        """Train on the inputs that `prepare` has made `prepared` of, with the examples' targets.

        The recipe must have `distort`.
        """

    @abstractmethod
    def parameters(self) -> Parameters:
        """Return the parameters, on the device: copies on a CPU; on a GPU, the next epoch may change them."""

    @abstractmethod
    def memory(self) -> OptimizerState:
        """Return a copy of the optimiser state, on the host; another engine can resume from it."""


def in_calls(
    order: NDArray[np.int64], rates: NDArray[np.float64], batch_size: int, most: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield `order` and the batches' `rates` in parts of at most `most` examples, or of one batch if that is more.

    Raises `Stopped` before a part if training is to end.
    """
    batches = max(1, most // batch_size)
    for first in range(0, len(rates), batches):
        check_stopped()
        yield order[first * batch_size : (first + batches) * batch_size], rates[first : first + batches]


def tf32_reason(recipe: Recipe) -> str | None:
    """Return why an engine without TF32 can't use this recipe, or None."""
    return (
        None
        if recipe.precision == "float32"
        else "TF32 needs the engine fused and a GPU of compute capability 8.0 or newer"
    )


def max_norm_reason(recipe: Recipe) -> str | None:
    """Return why an engine without max-norm can't use this recipe, or None."""
    return "it doesn't support max-norm" if recipe.max_norm else None


def optimizer_reason(recipe: Recipe) -> str | None:
    """Return why an engine with compiled steps can't use this optimiser, or None."""
    if isinstance(recipe.optimizer, SGD | Adam):
        return None
    return f"it takes only SGD and Adam, got the optimiser {recipe.optimizer}"


def kernels_reason(backend: Backend, start: Parameters, *modules: str) -> str | None:
    """Return why an engine with compiled float32 kernels that needs `modules` can't be used, or None."""
    dtype = start.weights[0].dtype
    if dtype != np.float32:
        return f"it computes in float32, and the network is {dtype}"
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, OSError) as error:  # OSError: a shared library is missing
            return f"{module} can't be imported ({error})"
    try:
        backend.kernels  # noqa: B018 - raises if they can't be used
    except ConfigurationError as error:
        return str(error)
    return None
