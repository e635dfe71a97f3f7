"""Published test errors on MNIST beside those of networks that gpunn trains, the mean of several seeds.

pytest --benchmark benchmarks/test_published.py [--seeds 3] [--devices cuda] [-k simard]

Rows that take a CPU long are trained where -k asks for them. No choice depends on the test images: each network meets
them once, when it is trained.
"""

import statistics
import time
from typing import Any

import pytest

from benchmarks.harness import Harness, keep, use
from benchmarks.schema import Published
from benchmarks.workloads.published import Published as Paper
from gpunn import MLP, Dataset, Ensemble, History, evaluate, load_mnist, train


def test_published(harness: Harness, benchmark: Any, paper: Paper, device: str, request: pytest.FixtureRequest) -> None:
    """Train a network from each seed; it fails where the mean error is above what was published."""
    use(benchmark)
    if paper.long and device == "cpu" and not request.config.option.keyword:
        harness.skip(f"{paper.name}: takes a CPU long: ask for it by -k {paper.name}")
    found = measured(paper, load_mnist(), harness.options.seeds, device)
    harness.found["published"].append(found)
    keep(benchmark, paper.name, f"{device}-{found.engine}", found.seconds, errors=found.errors)
    if found.verdict == "missed":
        mean = statistics.mean(found.errors)
        pytest.fail(f"{paper.name}: {mean:.2f} % on the mean of {len(found.errors)} seeds, expected {paper.error} %")


def measured(paper: Paper, data: Dataset, seeds: int, device: str) -> Published:
    """Return the test errors of networks, or of means of several, trained from each seed, in %, and their seconds."""
    data = data.padded(paper.shape)
    errors, taken, engine = [], [], ""
    for first in range(0, seeds * paper.members, paper.members):
        started = time.perf_counter()
        trained = [_trained(paper, data, seed, device) for seed in range(first, first + paper.members)]
        taken.append(time.perf_counter() - started)
        nets, engine = [net for net, _ in trained], trained[-1][1].engine
        found = evaluate(nets[0] if paper.members == 1 else Ensemble(nets), data.test, device=device)
        errors.append(100 * (1 - found.accuracy))
    said = ", ".join(f"{name} {value}" for name, value in (*paper.network.items(), *paper.recipe.items()))
    verdict = "met" if statistics.mean(errors) <= paper.error else "missed"
    about = (paper.layers, paper.source, paper.error, paper.at_best, said, device, engine)
    return Published(*about, errors, taken, verdict)  # type: ignore[arg-type]


def _trained(paper: Paper, data: Dataset, seed: int, device: str) -> tuple[MLP, History]:
    net = MLP(paper.sizes, seed=seed, **paper.network)
    return net, train(net, data.train, device=device, seed=seed, **paper.recipe)
