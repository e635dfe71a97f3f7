"""What a step costs over ranks: `mpiexec -n 2 python -m benchmarks.ranks`, measured here, and a model for more ranks.

    step(N ranks, batch m) = compute(m / N) + message(N, bytes of the parameters)
    message(N, b) = 2 (N - 1) latency + 2 (N - 1) / N * b / bandwidth, or of small b, (N - 1) (latency + b / bandwidth)

Compute is what one rank with one thread takes for its part of a batch and the step, measured for parts of many sizes
while the other ranks compute likewise, its own copying of gradients included. The message is that of
`gpunn.distributed.Ranks`; its two constants are fitted to what two ranks take here, or given by --latency and
--bandwidth. In the model every rank has a core of its own, and messages between two ranks don't slow down those between
others.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click
import numpy as np

import gpunn
from gpunn.backends import Backend, get_backend
from gpunn.backends.limits import at_most_cores, usable_cores
from gpunn.distributed import Ranks
from gpunn.distributed.mpi import world
from gpunn.distributed.ranks import GATHERED
from gpunn.engines import ENGINES, Examples, Parameters, Recipe
from gpunn.engines.runner import Trainer
from gpunn.engines.threads import blas_threads

PREDICTED = (2, 4, 8, 16)
"""Numbers of ranks of the model's rows."""

PARTS = (32, 64, 256, 1024, 4096, 8192)
"""Sizes of parts of batches of which compute is measured; those between are interpolated."""

SIZES = (1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20, 1 << 22)
"""Numbers of float32 numbers in the messages that are measured."""

ROUNDS = 5
"""Rounds, in which contestants take turns."""

PRODUCTS_A_TURN = 10**9
"""Multiplications of weights by activations, in each of three products, in a turn: about a tenth of a second."""

Measure = Callable[[], float]
"""Returns the seconds of a step."""


class Link(NamedTuple):
    """What a message takes: `latency` in seconds, `bandwidth` in bytes a second."""

    latency: float
    bandwidth: float

    def seconds(self, ranks: int, n_bytes: int) -> float:
        """Return how long `ranks` take to add up `n_bytes` each."""
        others = ranks - 1
        if n_bytes * ranks <= GATHERED:
            return others * (self.latency + n_bytes / self.bandwidth)
        return 2 * others * self.latency + 2 * others / ranks * n_bytes / self.bandwidth


def fitted(measured: Mapping[int, float]) -> Link:
    """Return the link whose `seconds` for two ranks fit `measured`, by bytes, with the least relative errors."""
    n_bytes = np.array(list(measured), float)
    rows = np.stack([np.where(n_bytes * 2 <= GATHERED, 1.0, 2.0), n_bytes], axis=1)
    seconds = np.array(list(measured.values()))
    (latency, a_byte), *_ = np.linalg.lstsq(rows / seconds[:, None], np.ones(len(seconds)), rcond=None)
    return Link(max(0.0, float(latency)), 1 / float(a_byte))


class Bench:
    """The work of one network, for this process alone and over all ranks."""

    def __init__(self, sizes: Sequence[int], communicator: Any) -> None:
        self.communicator, self._sizes = communicator, sizes
        self.leads = communicator.Get_rank() == 0
        self._split = gpunn.load_mnist().train
        self._examples = Examples(self._split.images, self._split.labels)
        net = gpunn.MLP(sizes, seed=0)
        self._start = Parameters(net.weights, net.biases, net.functions)
        self.n_bytes = 4 * net.n_parameters
        self._backend: Backend = get_backend("cpu")

    def alone(self, engine: str, batch_size: int, threads: int) -> Measure:
        """Return a measurement of `engine` in this process, with so many threads."""
        with at_most_cores(threads):
            recipe = Recipe(batch_size, 0.1)
            return self._measure(ENGINES[engine](self._backend, self._start, self._examples, recipe), batch_size)

    def over(self, communicator: Any, batch_size: int, threads: int) -> Measure:
        """Return a measurement of `fused` over the ranks of `communicator`, which all call this."""
        ranks = Ranks(communicator)
        with at_most_cores(threads), ranks.own_cores():
            recipe = Recipe(batch_size, 0.1)
            trainer = ranks.make(ENGINES["fused"], self._backend, self._start, self._examples, recipe)
        return self._measure(trainer, batch_size)

    def _measure(self, trainer: Trainer, batch_size: int) -> Measure:
        steps = max(1, min(len(self._split), PRODUCTS_A_TURN * 4 // self.n_bytes) // batch_size)
        order = np.random.default_rng(0).permutation(len(self._split))[: steps * batch_size]

        def measure() -> float:
            with blas_threads(1):
                begun = time.perf_counter()
                trainer.run_epoch(order)
                return (time.perf_counter() - begun) / steps

        return measure

    def by_the_first(self, measure: Callable[[], float]) -> float:
        """Return what `measure` returns in the first rank, while the others sleep."""
        if self.leads:
            found = measure()
            for rank in range(1, self.communicator.Get_size()):
                self.communicator.send(found, dest=rank)
            return found
        while not self.communicator.iprobe(source=0):
            time.sleep(0.002)
        return float(self.communicator.recv(source=0))

    def message(self, ranks: Ranks, n: int) -> Measure:
        """Return a measurement of the sum of `n` numbers over `ranks`."""
        buffer = ranks.buffer(np, n, np.dtype(np.float32))
        times = max(3, min(200, (1 << 22) // n))

        def measure() -> float:
            begun = time.perf_counter()
            for _ in range(times):
                ranks.add_up(buffer)
            return (time.perf_counter() - begun) / times

        return measure

    def medians(self, contestants: Mapping[Any, tuple[Measure, bool]]) -> dict[Any, float]:
        """Return the medians over rounds, in which they take turns; those marked are measured by all ranks."""
        found: dict[Any, list[float]] = {name: [] for name in contestants}
        for number in range(1 + ROUNDS):
            for name, (measure, by_all) in contestants.items():
                seconds = measure() if by_all else self.by_the_first(measure)
                if number:  # the first round warms up
                    found[name].append(seconds)
        return {name: statistics.median(seconds) for name, seconds in found.items()}


def measured(bench: Bench, batch_sizes: Sequence[int]) -> tuple[dict[Any, float], dict[int, float], dict[int, float]]:
    """Return seconds by engine, threads and batch size; of a part of a batch, by its size; and of a message, by bytes.

    The engine of several ranks is called "ranks".
    """
    from mpi4py import MPI

    contestants: dict[Any, tuple[Measure, bool]] = {}
    for batch_size in batch_sizes:
        for engine in ("fused", "epoch"):
            for threads in (1, 2):
                contestants[engine, threads, batch_size] = bench.alone(engine, batch_size, threads), False
        contestants["ranks", 1, batch_size] = bench.over(bench.communicator, batch_size, usable_cores()), True
    for part in PARTS:
        if part <= max(batch_sizes):
            contestants["part", part] = bench.over(MPI.COMM_SELF, part, 1), True
    ranks = Ranks(bench.communicator)
    for n in SIZES:
        contestants["message", n * 4] = bench.message(ranks, n), True
    found = bench.medians(contestants)
    steps = {key: seconds for key, seconds in found.items() if key[0] not in {"part", "message"}}
    parts, messages = ({key[1]: t for key, t in found.items() if key[0] == kind} for kind in ("part", "message"))
    return steps, parts, messages


def lines(
    bench: Bench, batch_sizes: Sequence[int], steps: Mapping[Any, float], parts: Mapping[int, float], link: Link
) -> Iterator[str]:
    """Yield what was measured, in milliseconds a step, and what the model says, with the ratio to one process."""
    size = bench.communicator.Get_size()
    for batch_size in batch_sizes:
        best = {threads: min(steps[engine, threads, batch_size] for engine in ("fused", "epoch")) for threads in (1, 2)}
        yield f"batch {batch_size}"
        for engine in ("fused", "epoch"):
            one, two = (steps[engine, threads, batch_size] * 1e3 for threads in (1, 2))
            yield f"  measured  one process, {engine:5}  1 thread {one:9.2f} ms   2 threads {two:9.2f} ms"
        seconds = steps["ranks", 1, batch_size]
        yield (
            f"  measured  {size} ranks {seconds * 1e3:25.2f} ms   {best[1] / seconds:5.2f} of the best with 1 thread, "
            f"{best[2] / seconds:.2f} of that with 2"
        )
        for ranks in PREDICTED:
            compute = float(np.interp(batch_size / ranks, list(parts), list(parts.values())))
            message = link.seconds(ranks, bench.n_bytes)
            total = compute + message
            yield (
                f"  model    {ranks:2} ranks {total * 1e3:25.2f} ms   {best[1] / total:5.2f} of the best with 1 thread"
                f"   (compute {compute * 1e3:.2f}, message {message * 1e3:.2f})"
            )


@click.command()
@click.option("--hidden", default="256,128", show_default=True, help="Sizes of the hidden layers.")
@click.option("--batch-size", "batch_sizes", type=int, multiple=True, default=(1024, 8192), show_default=True)
@click.option("--latency", type=float, help="Microseconds of a message, in place of those fitted to what is measured.")
@click.option("--bandwidth", type=float, help="GB/s of a message, likewise.")
def main(hidden: str, batch_sizes: tuple[int, ...], latency: float | None, bandwidth: float | None) -> None:
    """Measure steps over the ranks of mpiexec beside one process, and print the model beside that."""
    sizes = [784, *map(int, hidden.split(",")), 10]
    bench = Bench(sizes, world())
    steps, parts, messages = measured(bench, batch_sizes)
    if not bench.leads:
        return
    here = fitted(messages) if bench.communicator.Get_size() == 2 else Link(0.0, np.inf)
    link = Link(
        here.latency if latency is None else latency * 1e-6, here.bandwidth if bandwidth is None else bandwidth * 1e9
    )
    print(f"{'-'.join(map(str, sizes))}, {bench.n_bytes / 1e6:.2f} MB of gradients")
    first = 4 * (784 + 1) * sizes[1] / bench.n_bytes
    print(f"of them the first layer's, which are the last to be computed: {first:.0%}")
    for n_bytes, seconds in messages.items():
        fit = here.seconds(2, n_bytes)
        print(f"message of {n_bytes / 1e6:8.3f} MB  {seconds * 1e6:8.0f} us   model {fit * 1e6:8.0f} us")
    print(f"link of the model: {link.latency * 1e6:.0f} us, {link.bandwidth / 1e9:.2f} GB/s")
    for line in lines(bench, batch_sizes, steps, parts, link):
        print(line)


if __name__ == "__main__":
    main()
