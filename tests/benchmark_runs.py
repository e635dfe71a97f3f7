"""Runs of `pytest --benchmark` made by hand, as what reads results is tested with; no number in them was measured."""

import numpy as np

from benchmarks.estimates import at_least, estimate, ratio, steady
from benchmarks.schema import (
    Absent,
    Comparison,
    Contestant,
    EstimatorAccuracies,
    EstimatorTimes,
    Kernel,
    Machine,
    Published,
    Race,
    RaceRun,
    Recipe,
    Result,
    Round,
    Row,
    Run,
    Start,
    Target,
    Task,
)

ADAM = Recipe(hidden="relu", output="softmax", loss="cross_entropy", optimizer="adam", learning_rate=1e-3)

SPEEDS = {
    ("784-16-10", 1): (0.03, 0.38, 2.3, 16.0),
    ("784-16-10", 10): (0.019, 0.16, 0.2, 1.8),
    ("784-16-10", 32): (0.018, 0.083, 0.11, 0.64),
    ("784-16-10", 128): (0.017, 0.056, 0.09, 0.27),
    ("784-16-10", 1024): (0.017, 0.039, 0.07, 0.17),
    ("784-16-10", 60000): (0.017, 0.09, 0.11, 0.16),
    ("784-128-10", 1): (0.14, 2.2, 9.1, 20.0),
    ("784-128-10", 32): (0.064, 0.24, 0.39, 0.98),
    ("784-128-10", 1024): (0.058, 0.15, 0.2, 0.28),
}
"""Seconds of a round: gpunn's `epoch`, JAX, NumPy and PyTorch."""


def result(
    name: str,
    seconds: float,
    device: str = "cpu",
    peer: bool = False,
    auto: bool = False,
    rounds: int = 9,
    problem: str | None = None,
) -> Result:
    """Return a contestant with rounds around `seconds`, one of them disturbed."""
    noise = np.random.default_rng(len(name)).normal(1, 0.02, rounds)
    took = [Round(number=number, seconds=float(seconds * each)) for number, each in enumerate(noise)]
    if rounds > 1:
        took[1] = Round(number=1, seconds=2 * seconds, disturbed="had a core for 61 % of the time")
    return Result(
        contestant=Contestant(name=name, device=device, is_peer=peer, threads=2 if peer and device == "cpu" else None),
        rounds=took,
        steady=steady(took),
        first=1.5 * seconds,
        preparation=0.2,
        deviation=1e-6,
        accuracy=0.93,
        is_auto=auto,
        problem=problem,
    )


def row(task: Task, results: list[Result], bar: float | None = None, absent: list[Absent] | None = None) -> Row:
    """Return a row with its comparisons on each device."""
    comparisons = []
    for device in dict.fromkeys(each.contestant.device for each in results):
        here = [each for each in results if each.contestant.device == device and each.steady and not each.problem]
        ours = next((each for each in here if each.is_auto), None)
        peers = [each for each in here if each.contestant.is_peer]
        best = min(peers, key=lambda each: each.steady.median if each.steady else 0, default=None)
        found = ratio(ours.rounds, best.rounds) if ours and best else None
        targets = [Target(kind="times the best peer", bar=bar, verdict=at_least(found, bar))] if bar else []
        comparisons.append(
            Comparison(
                device=device,
                ours=ours.contestant.name if ours else None,
                best_peer=best.contestant.name if best else None,
                ratio=found,
                targets=targets,
            )
        )
    return Row(task=task, results=results, absent=absent or [], comparisons=comparisons, seconds=12.5)


def sample_run(*, gpu: bool = False, images: int = 60_000, started: str = "2026-11-25 14:03:00") -> Run:
    """Return a run with something of everything; with a GPU beside the CPU if asked for."""
    scale = images / 60_000
    rows = []
    for (network, batch_size), (ours, jax, numpy, torch) in SPEEDS.items():
        task = Task(network=network, batch_size=batch_size, images=images)
        results = [
            result("epoch", ours * scale, auto=True),
            result("fused", ours * scale * 2),
            result("plain", numpy * scale * 1.1),
            result("jax", jax * scale, peer=True),
            result("numpy", numpy * scale, peer=True, rounds=9 if numpy < 3 * jax else 0),
            result("torch", torch * scale, peer=True, rounds=9 if torch < 3 * jax else 0),
        ]
        if gpu:
            results += [
                result("epoch", 0.004, "cuda:0", auto=True),
                result("fused", 0.006, "cuda:0"),
                result("torch.graphs", 0.03, "cuda:0", peer=True),
                result("jax", 0.05, "cuda:0", peer=True),
            ]
        gone = Absent(contestant=Contestant(name="sklearn", device="cpu", is_peer=True), reason="not installed")
        rows.append(row(task, results, bar=4.4 if images == 60_000 else None, absent=[gone]))
    adam = Task(network="784-128-10", batch_size=128, recipe=ADAM, images=images)
    rows.append(row(adam, [result("epoch", 0.09, auto=True), result("jax", 0.37, peer=True)], bar=4.5))
    dense = Task(network="784-16-10", batch_size=32, dense=True, images=images)
    broken = result("torch", 0.6, peer=True, problem="wrong: found the loss 2, expected 0.4")
    rows.append(row(dense, [result("epoch", 0.03, auto=True), result("jax", 0.08, peer=True), broken]))
    many = Task(network="784-16-10", batch_size=32, networks=100, epochs=5, images=images)
    rows.append(
        row(
            many,
            [result("train_many", 9.7, auto=True), result("train in turn", 28.3), result("jax.vmap", 72.5, peer=True)],
        )
    )
    small = Task(network="784-16-10", batch_size=32, images=images)
    mine, peer = Contestant(name="epoch", device="cpu"), Contestant(name="jax", device="cpu", is_peer=True)
    runs = [RaceRun(seed=n, epochs=5, seconds=0.1, accuracy=0.941, reference_epochs=5) for n in range(5)]
    times = estimate([0.1, 0.11, 0.12, 0.1, 0.13, 0.1, 0.11])
    return Run(
        started=started,
        finished=started[:-2] + "59",
        revision="1a2b3c4",
        machine=Machine(
            name="A processor made up for tests",
            cores=2,
            versions={"python": "3.13.0", "numpy": "2.4.6", "numba": "0.68.1", "jax": "0.10.2", "sklearn": "none"},
            devices={"cpu": {"name": "A processor made up for tests"}}
            | ({"cuda:0": {"name": "A GPU made up for tests", "driver": "580.1"}} if gpu else {}),
            absent_devices={} if gpu else {"cuda": "no CUDA driver found"},
            load=0.1,
        ),
        options={"peers": "all", "images": images},
        rows=rows,
        starts=[
            Start(task=small, contestant=mine, cold=[13.0], warm=[1.4, 1.5, 1.4]),
            Start(task=small, contestant=peer, warm=[2.1, 2.2, 2.0]),
        ],
        races=[
            Race(task=small, goal=0.94, contestant=mine, runs=runs, p_value=1.0),
            Race(task=small, goal=0.94, contestant=peer, runs=runs[:1], p_value=1.0),
        ],
        kernels=[
            Kernel(
                device="cpu",
                name="bias_activate",
                shape=(1024, 128),
                n_bytes=10**6,
                fused=times,
                unfused=times,
                copy=times,
                ratio=estimate([2.0] * 7),
            ),
            Kernel(device="cpu", name="adam_step", shape=(128, 784), n_bytes=10**6, problem="wrong: differs"),
        ],
        published=[
            Published(
                network="784-30-10",
                source="Nielsen, 2015",
                published=4.6,
                at_best=True,
                recipe="30 epochs",
                device="cpu",
                engine="epoch",
                errors=[4.4, 4.5, 4.6],
                seconds=[1.0, 1.1, 1.0],
                verdict="met",
            )
        ],
        estimator_times=[
            EstimatorTimes(
                hidden=16,
                batch_size=32,
                solver="adam",
                engine="epoch",
                device="cpu",
                images=60_000,
                their_images=6_000,
                ours=times,
                theirs=estimate([1.0] * 7),
                ratio=estimate([9.0] * 7),
                our_first=0.4,
                their_first=1.4,
                deviation=1e-5,
            )
        ],
        estimator_accuracies=[
            EstimatorAccuracies(
                data="MNIST",
                hidden=64,
                solver="adam",
                epochs=3,
                engine="epoch",
                device="cpu",
                ours=[96.9, 97.1],
                theirs=[97.0, 97.0],
                chance=0.3,
            )
        ],
        left_out=["784-2048-2048-10, batch size 1: no time"],
        failures=[],
    )
