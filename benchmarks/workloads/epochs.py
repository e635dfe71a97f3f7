"""The rows of the speed table, and how many times the best peer's speed gpunn has to have in each."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from benchmarks.schema import FULL, Contestant, Recipe, Task

RECIPES = {
    "sigmoid": Recipe(),
    "adam": Recipe("relu", "softmax", "cross_entropy", "adam", 1e-4),
    "nesterov": Recipe("relu", "softmax", "cross_entropy", "nesterov", 1e-3),
}
"""By their names on the command line; at these rates rounding errors stay small, so that networks can be compared."""

SMALL, WIDE, DEEP, TALL, LARGE = "784-16-10", "784-128-10", "784-100-50-10", "784-1024-1024-10", "784-2048-2048-10"

BARS: dict[tuple[str, str, bool], dict[int, float | None]] = {
    (SMALL, "sigmoid", False): {1: 12, 10: 8, 32: 4.5, 128: 3, 1024: 2.2, 60000: 4},
    (WIDE, "sigmoid", False): {1: 9, 32: 3.5, 128: 3, 1024: 2.5},
    (WIDE, "adam", False): {32: 4, 128: 4.5, 1024: 3},
    (WIDE, "nesterov", False): dict.fromkeys((32, 128, 1024)),
    (SMALL, "sigmoid", True): {32: 2, 1024: 1.2},
    (DEEP, "sigmoid", False): {1: 15, 32: 1.3, 1024: 1.1},
    (TALL, "sigmoid", False): {128: 1.1, 1024: 1.05},
}
"""By network, recipe, and whether images are dense: batch sizes, and how many times the best peer's speed, on CPUs."""

USUAL = (SMALL, WIDE)
"""Networks that are timed where none is named; the others of `BARS` take minutes."""

OTHER_SIZES = (1, 32, 1024)
"""The batch sizes of a network that isn't in `BARS`."""

ON_GPU: tuple[tuple[str, int, str, str], ...] = (
    (SMALL, 32, "sigmoid", "float32"),
    (LARGE, 1024, "sigmoid", "float32"),
    (WIDE, 32, "sigmoid", "float32"),
    (WIDE, 128, "adam", "float32"),
    (SMALL, 1024, "sigmoid", "float32"),
    (LARGE, 8192, "sigmoid", "float32"),
    (LARGE, 60000, "sigmoid", "float32"),
    (SMALL, 128, "sigmoid", "float32"),
    (SMALL, 60000, "sigmoid", "float32"),
    (WIDE, 1024, "sigmoid", "float32"),
    (WIDE, 32, "adam", "float32"),
    (WIDE, 128, "nesterov", "float32"),
    (WIDE, 128, "sigmoid", "float32"),
    (LARGE, 128, "sigmoid", "float32"),
    (LARGE, 32, "sigmoid", "float32"),
    (SMALL, 8192, "sigmoid", "float32"),
    (WIDE, 60000, "sigmoid", "float32"),
    (WIDE, 8192, "sigmoid", "float32"),
    (LARGE, 1024, "sigmoid", "tf32"),
    (LARGE, 8192, "sigmoid", "tf32"),
    (SMALL, 1, "sigmoid", "float32"),
    (WIDE, 1, "sigmoid", "float32"),
)
"""The rows for GPUs, the most important first, in case the time is up: batch size 1 has 60,000 steps an epoch."""


@dataclass(frozen=True)
class Work:
    """A row, and its targets: times the best peer's speed on CPUs and on GPUs, and seconds a round on GPUs."""

    task: Task
    bar: float | None = None
    gpu_bar: float | None = None
    gpu_seconds: float | None = None

    @property
    def name(self) -> str:
        """A short name, in letters, digits and hyphens."""
        task, recipe = (
            self.task,
            next((name for name, each in RECIPES.items() if same(each, self.task.recipe)), "other"),
        )
        parts = [task.network, f"batch-{task.batch_size}", recipe, *["dense"] * task.dense]
        parts += [f"{task.networks}-networks"] * (task.networks > 1) + ["tf32"] * (task.precision == "tf32")
        return "-".join(parts)

    def fitting(self, images: int) -> "Work":
        """Return the row over so many images: without targets, which are for all of them."""
        if images == FULL:
            return self
        return Work(replace(self.task, images=images, batch_size=min(self.task.batch_size, images)))


def same(recipe: Recipe, other: Recipe) -> bool:
    """Whether two recipes differ by the learning rate at most."""
    return recipe.label == other.label


def work(network: str, batch_size: int, recipe: str = "sigmoid", *, dense: bool = False, tf32: bool = False) -> Work:
    """Return a row with the targets that it has."""
    how = RECIPES[recipe]
    if recipe == "sigmoid":
        # Many neurons together overshoot, which a few steps don't magnify.
        overshoots = max(map(int, network.split("-")[1:])) > 1024 and batch_size < 8192
        how = Recipe(learning_rate=0.02 if batch_size == 1 or overshoots else 0.1)
    precision = "tf32" if tf32 else "float32"
    task = Task(network, batch_size, how, dense, precision=precision)  # type: ignore[arg-type]
    bar = None if tf32 else BARS.get((network, recipe, dense), {}).get(batch_size)
    if (network, batch_size, recipe, dense) == (SMALL, 32, "sigmoid", False):
        return Work(task, bar, gpu_bar=8, gpu_seconds=5e-3)
    return Work(task, bar, gpu_bar=1 if network == LARGE and batch_size >= 1024 and not tf32 else None)


SLOW_TO_CHECK = (work(WIDE, 1).task,)
"""Rows whose float64 network takes half a minute; timed beside peers, and where they are asked for."""


def many(networks: int) -> Work:
    """Return the row of so many networks that are trained at once, each at a learning rate of its own."""
    return Work(Task(SMALL, 32, Recipe(), networks=networks))


def chosen(
    networks: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    recipes: Sequence[str] = (),
    *,
    dense: bool = False,
    at_once: Sequence[int] = (),
    gpu_only: bool = False,
    images: int = FULL,
) -> list[Work]:
    """Return the rows of these networks, batch sizes and recipes; what isn't given is as in `BARS`, or for GPUs."""
    if gpu_only and not (networks or batch_sizes or recipes or dense):
        found = [work(network, m, recipe, tf32=precision == "tf32") for network, m, recipe, precision in ON_GPU]
    else:
        found = []
        for network in networks or USUAL:
            kinds = [(recipe, only) for name, recipe, only in BARS if name == network] or [("sigmoid", dense)]
            if recipes:
                kinds = [(recipe, dense) for recipe in recipes]
            for recipe, without_zeros in kinds:
                if dense and not without_zeros and (network, recipe, True) in BARS:
                    continue
                sizes = batch_sizes or list(BARS.get((network, recipe, without_zeros), {})) or OTHER_SIZES
                found += [work(network, m, recipe, dense=without_zeros or dense) for m in sizes]
    found += [many(number) for number in at_once]
    return list(dict.fromkeys(each.fitting(images) for each in found))


def unsuitable(task: Task, contestant: Contestant) -> str | None:
    """Return why nobody would wait for this contestant, or None."""
    if task.network == LARGE and contestant.device == "cpu":
        return "takes minutes for a network of this size"
    if task.network == LARGE and contestant.name == "epoch":
        return "on one multiprocessor, takes minutes for a network of this size"
    return None


def exact_device(task: Task, device: str) -> str:
    """Return the device of the float64 network that all are compared with.

    An epoch of 784-2048-2048-10 is 2e12 operations, and at small batches `plain` passes over its weights five times a
    step: minutes on a CPU. Its reference is computed on the GPU, where the other networks, compared with the CPU's,
    show whether `plain` is right.
    """
    return device if task.network == LARGE else "cpu"
