"""Published test errors on MNIST beside those of networks that gpunn trains, the mean of several seeds.

pytest --benchmark benchmarks/test_published.py [--seeds 3] [--devices cuda] [-k 784-30-10]
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.harness import Harness, keep, use
from benchmarks.schema import Published
from benchmarks.workloads.published import Published as Paper
from gpunn import MLP, Dataset, load_mnist, train


def test_published(harness: Harness, benchmark: Any, paper: Paper, device: str) -> None:
    """Train a network from each seed; it fails where the mean error is above what was published."""
    use(benchmark)
    if paper.on_gpu and device == "cpu":
        harness.skip(f"{paper.name}: takes too long on a CPU")
    found = measured(paper, load_mnist(), harness.options.seeds, device)
    harness.found["published"].append(found)
    keep(benchmark, paper.name, f"{device}-{found.engine}", found.seconds, errors=found.errors)
    if found.verdict == "missed":
        mean = statistics.mean(found.errors)
        pytest.fail(f"{paper.name}: {mean:.2f} % on the mean of {len(found.errors)} seeds, expected {paper.error} %")


def measured(paper: Paper, data: Dataset, seeds: int, device: str) -> Published:
    """Return the test errors of networks trained from each seed, in %, and the seconds that each took."""
    errors, taken, engine = [], [], ""
    for seed in range(seeds):
        net = MLP(paper.sizes, seed=seed, **paper.network)
        started = time.perf_counter()
        history = train(net, data.train[: paper.images], test=data.test, device=device, seed=seed, **paper.recipe)
        taken.append(time.perf_counter() - started)
        errors.append(error_of(history.accuracies, at_best=paper.at_best))
        engine = history.engine
    said = ", ".join(f"{name} {value}" for name, value in (*paper.network.items(), *paper.recipe.items()))
    verdict = "met" if statistics.mean(errors) <= paper.error else "missed"
    about = (paper.name, paper.source, paper.error, paper.at_best, said, device, engine)
    return Published(*about, errors, taken, verdict)  # type: ignore[arg-type]


def error_of(accuracies: Sequence[float], *, at_best: bool) -> float:
    """Return the error in % of the last epoch, or of the best one."""
    return 100 * (1 - (max(accuracies) if at_best else accuracies[-1]))
