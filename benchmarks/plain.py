"""What the `plain` engine's generality costs: an epoch beside a hand-written NumPy loop of the same work.

    python -m benchmarks.plain [--batch-sizes 32,128] [--rounds 11]

Both run in turn, from the same weights in the same order of images; their networks are compared. Ratios above 1 say
how much slower `plain` is.
"""

import platform
import time
from collections.abc import Callable

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import numpy_by_hand
from gpunn import MLP, Split, get_backend, load_mnist
from gpunn.engines import Examples, Parameters, Recipe
from gpunn.engines.plain import PlainEngine

LEARNING_RATE = 1.0


@click.command()
@click.option("--batch-sizes", default="32,128,1024", show_default=True)
@click.option("--rounds", default=11, show_default=True, type=click.IntRange(min=2))
def main(batch_sizes: str, rounds: int) -> None:
    """Print a row a batch size: milliseconds an epoch, median and quartiles, and the ratio of each round."""
    split = load_mnist().train
    about = get_backend("cpu").describe() | {"python": platform.python_version()}
    click.echo("; ".join(f"{key} {value}" for key, value in about.items()))
    click.echo(f"{'batch size':>10}{'plain, ms':>24}{'by hand, ms':>24}{'ratio':>21}")
    for batch_size in map(int, batch_sizes.split(",")):
        # The first round warms up; who goes first changes from round to round.
        rows = [_round(split, batch_size, plain_first=number % 2 == 0) for number in range(rounds + 1)]
        times = np.array(rows[1:]) * 1e3
        click.echo(
            f"{batch_size:10}{_spread(times[:, 0], '.0f'):>24}{_spread(times[:, 1], '.0f'):>24}"
            f"{_spread(times[:, 0] / times[:, 1], '.2f'):>21}"
        )


def _round(split: Split, batch_size: int, *, plain_first: bool) -> tuple[float, float]:
    """Return the seconds of an epoch of `plain` and of the loop, after checking that they made the same network."""
    net = MLP([784, 16, 10])
    start, recipe = Parameters(net.weights, net.biases), Recipe(batch_size, LEARNING_RATE)
    engine = PlainEngine(get_backend("cpu"), start, Examples(split.images, split.labels), recipe)
    order = np.random.default_rng(0).permutation(len(split))

    def plain() -> None:
        engine.run_epoch(order)

    def by_hand() -> None:
        numpy_by_hand.run_epoch(start, split.images, split.labels, order, recipe)

    seconds: dict[Callable[[], None], float] = {}
    for run in (plain, by_hand) if plain_first else (by_hand, plain):
        started = time.perf_counter()
        run()
        seconds[run] = time.perf_counter() - started
    trained = engine.parameters()
    for ours, theirs in zip([*trained.weights, *trained.biases], [*net.weights, *net.biases], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * np.abs(theirs).max())
    return seconds[plain], seconds[by_hand]


def _spread(values: NDArray[np.float64], form: str) -> str:
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{median:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    main()
