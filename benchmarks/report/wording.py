"""Numbers and tasks in words."""

from collections.abc import Sequence

from benchmarks.schema import Estimate, Recipe, Task

NAMES = {"relu": "ReLU", "sgd": "SGD", "nesterov": "Nesterov", "adam": "Adam", "cross_entropy": "cross-entropy"}
"""How names of gpunn's are written in sentences, where that isn't as they are."""

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def speed_in_words(speed: float) -> str:
    """Return images per second in three digits: 950, 24.1k, 3.75M."""
    return f"{speed:.0f}" if speed < 999.5 else _with_unit(speed, "#.3g")


def mark_in_words(number: float) -> str:
    """Return a number at a tick of an axis, as short as it can be: 0.5, 20, 10k, 1M."""
    return _with_unit(number, ".3g")


def _with_unit(number: float, form: str) -> str:
    size, unit = next((each for each in UNITS if number >= 0.9995 * each[0]), (1, ""))
    return f"{number / size:{form}}".rstrip(".") + unit


def time_in_words(seconds: float) -> str:
    """Return a time in three digits, with its unit."""
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.3g} \N{MICRO SIGN}s"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"


def times_in_words(ratio: float) -> str:
    """Return a ratio as short as it may be: 0.98, 4.6, 13, 140."""
    return f"{ratio:.2f}" if ratio < 1.995 else f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"


def range_in_words(values: Sequence[float]) -> str:
    """Return the smallest and the largest of some ratios, or the one that both are."""
    low, high = times_in_words(min(values)), times_in_words(max(values))
    return low if low == high else f"{low} to {high}"


def sureness(ratio: Estimate) -> str:
    """Return why it can't be told from its rounds which of two is faster; "" where it can."""
    if not ratio.sure:
        return f"{ratio.rounds} round{'s' * (ratio.rounds > 1)}: too few to tell"
    return "too close to tell" if ratio.low <= 1 <= ratio.high else ""


def some(number: int, what: str) -> str:
    """Return a number of things: 1 row, 12 rows."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def kind_of(task: Task) -> str:
    """Return what tasks have in common that differ in batch size, and the learning rate it takes, alone."""
    parts = [task.network]
    if task.recipe != Recipe(learning_rate=task.recipe.learning_rate):
        functions = dict.fromkeys([task.recipe.hidden, task.recipe.output])
        parts += [NAMES.get(name, name) for name in (*functions, task.recipe.loss, task.recipe.optimizer)]
        parts = [f"{parts[0]} with {listed([part.replace('_', ' ') for part in parts[1:]])}"]
    parts += ["dense images"] * task.dense + [task.precision] * (task.precision != "float32")
    parts += [some(task.networks, "network")] * (task.networks > 1) + [some(task.epochs, "epoch")] * (task.epochs > 1)
    return ", ".join([*parts, *[some(task.images, "image")] * (not task.full)])


def name_of(task: Task) -> str:
    """Return the task in a line: its kind and batch size."""
    return f"{kind_of(task)}, batch size {task.batch_size:,}"
