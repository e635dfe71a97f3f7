"""How long an epoch takes: one table of constants for every engine and device, and the estimates that follow from it.

`auto` chooses by these estimates. They needn't be exact: where two choices are about as fast, either will do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Any, Self

from gpunn.backends.limits import usable_cores
from gpunn.engines.base import Parameters, Recipe

SHARED_SPARSE, SHARED_DENSE = 8, 32
"""Batch sizes from which two threads of `epoch` are faster than one; with smaller ones they mostly wait for each other.

Measured, with sparse and with dense images.
"""

COLUMNS_PER_THREAD = 64
"""Neurons of the first layer that `epoch` gives a thread, with sparse images."""

SHARED_PIXELS, NARROW = 128, 240
"""Batch size from which, and neurons of the widest layer up to which, two threads of `epoch` share sparse pixels.

They do if one thread would have all neurons of the first layer. Measured with 16 to 64 of them on an idle machine: 1.2
times as fast as one thread at 8, 1.4 at 16 and 32, 1.6 at 128. But where other programs take a core, the threads wait
for each other after every batch: at 32 an epoch took twenty times as long.
"""

MIN_PRODUCTS_FOR_THREADS = 1_500_000
"""Multiplications in a batch's largest product from which several threads of `fused` are faster (measured)."""

QUICK = 5e-3
"""Seconds of an epoch by `plain` below which `auto` takes it on a CPU.

It has trained for hundreds of epochs before the kernels of other engines are compiled. Whether they are compiled
already makes no difference, so that the numbers are the same each time.
"""

XEON = "measured on an Intel Xeon with 2 cores"
PARTLY = "partly measured on an Intel Xeon with 2 cores, partly estimated"
H100 = "reckoned from machine code for an H100, measured on no GPU"


@dataclass(frozen=True)
class Work:
    """What the time of an epoch depends on."""

    sizes: tuple[int, ...]
    """Layer sizes n_0, ..., n_L."""
    n: int
    """Number of examples."""
    batch_size: int
    lit: float = 1.0
    """Share of the inputs that are not 0, if they are sparse; 1 otherwise."""
    moments: int = 0
    """Number of the optimiser's moments for each weight."""

    @classmethod
    def of(cls, start: Parameters, recipe: Recipe, n: int, lit: float = 1.0) -> Self:
        """Return the work of an epoch over `n` examples."""
        return cls(tuple(start.sizes), n, recipe.batch_size, lit, recipe.optimizer.n_moments)

    @property
    def n_batches(self) -> int:
        """Number of batches."""
        return -(-self.n // self.batch_size)


@dataclass(frozen=True)
class Cost:
    """Times of one engine on one kind of device, in nanoseconds."""

    source: str
    """"measured" or "reckoned", and where."""
    batch: float = 0.0
    """A batch."""
    layer: float = 0.0
    """A layer of a batch: calls from Python, and launches."""
    meeting: float = 0.0
    """A batch that several threads share, for each thread but one: the time that they wait for each other."""
    weight: float = 0.0
    """A weight that a batch's step changes."""
    upper: float = 0.0
    """A weight above the first layer, besides: a batch fetches it once, however many examples use it."""
    example: float = 0.0
    """An example."""
    sparse: float = 0.0
    """A multiplication by a non-zero input, by one thread; 0 if the engine multiplies by zeros, too."""
    product: float = 0.0
    """Any other multiplication, by one thread."""
    chunk: int = 0
    """Maximum examples at a time: a larger batch costs `batch`, `weight` and `upper` several times. 0 if none."""

    def counts(self, work: Work, threads: int) -> dict[str, float]:
        """Return how often an epoch of `work` costs each of the times above."""
        first, *others = (n_in * n_out for n_in, n_out in pairwise(work.sizes))
        upper = sum(others)
        lit = work.lit if self.sparse else 1.0
        # Forward and update for the first layer, backward too for the others.
        dark = lit < 1
        sparse, dense = 2 * lit * first if dark else 0.0, 3 * upper + (0.0 if dark else 2.0 * first)
        # Gradients and moments are read and written besides. Adam steps every weight, others those of lit inputs.
        passes = 1 + 4 * work.moments
        stepped = (first if work.moments > 1 else lit * first) + upper
        turns = work.n_batches * (-(-work.batch_size // self.chunk) if self.chunk else 1)
        return {
            "batch": turns,
            "layer": work.n_batches * (1 + len(others)),
            "meeting": work.n_batches * (threads - 1),
            "weight": turns * passes * stepped,
            "upper": turns * upper,
            "example": work.n,
            "sparse": work.n * sparse / threads,
            "product": work.n * dense / threads,
        }


LAUNCH = 2_000.0
"""Nanoseconds of a launch or a product of `fused` that a CUDA graph replays, reckoned; there are about 7 a layer."""


def _unit(unit: str, default: float, source: str) -> Any:
    return field(default=default, metadata={"unit": unit, "source": source})


@dataclass(frozen=True)
class Speeds:
    """The table: what each engine costs on a CPU and on a GPU, and what a GPU costs besides.

    On CPUs, estimates for `epoch` on MNIST are within a factor of 1.5 of what was measured with 784-16-10, 784-128-10,
    784-100-50-10 and 784-1024-1024-10, at batch sizes from 1 to 60,000. Images without zeros take up to twice as long.
    """

    cpu_epoch: Cost = Cost(XEON, meeting=2_000, weight=0.045, upper=0.25, example=68, sparse=0.04, product=0.0163)
    cpu_fused: Cost = Cost(PARTLY, layer=28_000, meeting=380_000, weight=0.5, example=300, sparse=0.06, product=0.0155)
    cpu_plain: Cost = Cost(PARTLY, layer=15_000, weight=1.4, example=700, product=0.018)
    # A chunk of 32 images takes 11.4 us with 784-16-10 and 56 us with 784-128-10, divided by 0.65.
    gpu_epoch: Cost = Cost(H100, batch=2_790, weight=0.115, example=157, product=0.0102, chunk=32)
    gpu_fused: Cost = Cost(H100, layer=7 * LAUNCH, example=20, product=0.000127)
    gpu_plain: Cost = Cost(H100, layer=200_000, example=60, product=0.000127)
    gpu_start: float = _unit("s", 1.5, "reckoned")
    """Seconds to import CuPy and to make a context."""
    gpu_load: float = _unit("s", 1.0, "reckoned")
    """Seconds to load the kernels of a network; the first time they take a few seconds more to compile."""
    gpu_networks: float = _unit("networks", 132.0, "reckoned: an H100 has so many multiprocessors")
    """Networks of one kind that `epoch` trains at the same time."""
    large_for_blas: float = _unit("weights", 2_000_000.0, "measured on a CPU with 2 cores")
    """Weights between two hidden layers from which `fused` is faster than `epoch` on a CPU.

    Measured with one and two threads at batch sizes from 1 to 60,000: up to 1024 x 1024 `epoch` is faster than `fused`,
    by 1.1 times (1024 x 1024, batch size 1024) to a hundred (784-16-10, batch size 1); with 2048 x 2048, `fused` by up
    to 1.3.
    """

    def seconds(self, kind: str, engine: str, work: Work) -> float:
        """Return the estimated seconds of an epoch of `work` by `engine` on a "cpu" or a "gpu"."""
        cost = self.cost(kind, engine)
        counts = cost.counts(work, threads_of(engine, work) if kind == "cpu" else 1)
        nanoseconds: float = sum(getattr(cost, name) * count for name, count in counts.items())
        return nanoseconds / 1e9

    def quick(self, work: Work) -> bool:
        """Whether an epoch of `work` is so little that `plain` trains it on a CPU."""
        return self.seconds("cpu", "plain", work) < QUICK

    def seconds_to_evaluate(self, kind: str, sizes: tuple[int, ...], n: int, batch_size: int) -> float:
        """Return the estimated seconds of a forward pass of `n` examples: a third of training by `plain`."""
        return self.seconds(kind, "plain", Work(sizes, n, batch_size)) / 3

    def cost(self, kind: str, engine: str) -> Cost:
        """Return the cost of `engine`, or that of `plain` for an engine without constants."""
        found: Cost = getattr(self, f"{kind}_{engine}", None) or getattr(self, f"{kind}_plain")
        return found


BUILT_IN = Speeds()


def shares_pixels(sizes: Sequence[int], batch_size: int) -> bool:
    """Whether two threads of `epoch` share the pixels of sparse images, instead of the first layer's neurons."""
    return batch_size >= SHARED_PIXELS and sizes[1] <= COLUMNS_PER_THREAD and max(sizes[1:]) <= NARROW


def threads_of(engine: str, work: Work) -> int:
    """Return how many threads `engine` uses on this CPU."""
    cores, first = usable_cores(), work.sizes[1]
    if engine == "epoch":
        sparse = work.lit < 1
        if work.batch_size < (SHARED_SPARSE if sparse else SHARED_DENSE):
            return 1
        if not sparse:
            return min(cores, -(-work.batch_size // SHARED_SPARSE))
        return min(cores, 2 if shares_pixels(work.sizes, work.batch_size) else -(-first // COLUMNS_PER_THREAD))
    largest = max(n_in * n_out for n_in, n_out in pairwise(work.sizes))
    return cores if work.batch_size * largest >= MIN_PRODUCTS_FOR_THREADS else 1


@dataclass(frozen=True)
class Constant:
    """A constant of the table that can be measured."""

    value: float
    unit: str
    source: str


def constants(speeds: Speeds) -> dict[str, Constant]:
    """Return all constants that can be measured, by name: "cpu_epoch.weight", "gpu_start"."""
    found: dict[str, Constant] = {}
    for part in fields(Speeds):
        value = getattr(speeds, part.name)
        if not isinstance(value, Cost):
            found[part.name] = Constant(value, part.metadata["unit"], part.metadata["source"])
            continue
        for name in TIMES:
            # What an engine doesn't have, such as threads that meet, costs nothing.
            if getattr(getattr(BUILT_IN, part.name), name):
                found[f"{part.name}.{name}"] = Constant(getattr(value, name), "ns", value.source)
    return found


TIMES = tuple(part.name for part in fields(Cost) if part.name not in {"source", "chunk"})


def with_constants(speeds: Speeds, values: dict[str, float]) -> Speeds:
    """Return `speeds` with `values`, by the names of `constants`."""
    for name, value in values.items():
        part, _, time = name.partition(".")
        changed: Any = replace(getattr(speeds, part), **{time: value}) if time else value
        speeds = replace(speeds, **{part: changed})
    return speeds


def spoken(seconds: float) -> str:
    """Return `seconds` to two digits, for a message: 0.26 s, 12 ms, 3,400 s."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 0.1 or unit == "us":
            break
    return f"{float(f'{seconds * factor:.2g}'):,g} {unit}"
