"""`train_many`: the same bits as `train` one network at a time, whatever else is trained beside it."""

import os
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import (
    MLP,
    Averaging,
    Checkpoint,
    ConfigurationError,
    DataError,
    Dataset,
    Distortion,
    DivergenceError,
    EarlyStopping,
    History,
    Split,
    train,
    train_many,
)
from gpunn.backends import limits
from gpunn.backends.cuda import CudaBackend
from gpunn.datasets import ImageKind
from gpunn.engines import Examples, Parameters, Recipe
from gpunn.engines.cpu import sharing
from gpunn.engines.cuda.epoch import EpochCudaGroup
from gpunn.engines.plain import PlainEngine
from gpunn.engines.threads import _libraries
from gpunn.errors import OutOfMemoryError
from gpunn.optimizers import Adam
from gpunn.schedules import Cosine

from .conftest import parameters, random_split
from .host_gpu import HostGpu
from .strict_cupy import StrictCupy
from .test_checkpoints import epochs_in

N = 7
LISTS: dict[str, Any] = {
    "batch_size": [1, 7, 32, None, 200, 16, 10],
    "learning_rate": [0.1, 0.5, None, 0.2, 1.0, 0.01, 0.05],
    "optimizer": ["sgd", "sgd", "sgd", "sgd", "sgd", Adam(), Adam(0.8)],
    "l2": [0.0, 1e-3, 0.0, 1e-4, 0.0, 0.0, 0.0],
    "schedule": ["constant", "cosine", Cosine(), "constant", "step:1,0.5", "constant", "one-cycle"],
    "dropout": [0.0, 0.0, 0.2, 0.0, 0.5, 0.0, 0.0],
    "label_smoothing": [0.0, 0.1, 0.0, 0.0, 0.2, 0.1, 0.0],
    "average": [None, None, 0.5, Averaging(1, 0.9), None, 0.4, None],
    "distort": [None, "affine", None, Distortion(shift=1), None, None, "ciresan"],
    "seed": list(range(N)),
}


@pytest.fixture(autouse=True)
def _many_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the few examples stand for many, which "auto" trains on by compiled engines."""
    monkeypatch.setattr("gpunn.engines.speed.QUICK", 0)


def networks() -> list[MLP]:
    shapes = [(12, 5, 3), (12, 8, 4, 3), (12, 40, 3)]
    return [MLP(shapes[n % 3], seed=n) for n in range(N)]


def assert_same(ours: list[MLP], theirs: list[MLP]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        for found, expected in zip(parameters(mine), parameters(other), strict=True):
            np.testing.assert_array_equal(found, expected)
        assert (mine.grey, mine.kind) == (other.grey, other.kind)


def assert_same_results(ours: list[History], theirs: list[History]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.device, mine.engine, mine.recipe, mine.kept) == (
            other.device,
            other.engine,
            other.recipe,
            other.kept,
        )
        assert mine.losses == other.losses
        assert (mine.accuracies, mine.test_losses) == (other.accuracies, other.test_losses)
        assert mine.train_accuracies == other.train_accuracies
        assert mine.warnings == other.warnings


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pretend that there are so many cores."""

    def pretend(n: int) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(n)), raising=False)
        monkeypatch.setattr(limits, "_quotas", lambda _: [])
        for name in limits.VARIABLES:
            monkeypatch.delenv(name, raising=False)

    return pretend


@pytest.mark.parametrize("engine", ["epoch", "fused"])
@pytest.mark.parametrize("n_cores", [1, 3])
@pytest.mark.parametrize("stopping", [None, EarlyStopping(1, 0.2)])
def test_each_network_comes_out_as_train_alone_gives_it(
    small: Split, cores: Callable[[int], None], n_cores: int, stopping: EarlyStopping | None, engine: str
) -> None:
    cores(n_cores)
    lists = LISTS if stopping is None else LISTS | {"batch_size": 20}
    small = Split(small.images, small.labels, ImageKind(shape=(3, 4)))
    data, expected = Dataset(small, random_split(50, 12, 3, seed=1)), networks()
    common: dict[str, Any] = {"epochs": 3, "early_stopping": stopping, "device": "cpu", "engine": engine}
    alone = [
        train(
            net,
            data,
            **common,
            **{name: value[n] if isinstance(value, list) else value for name, value in lists.items()},
        )
        for n, net in enumerate(expected)
    ]
    nets = networks()
    histories = train_many(nets, data, **common, **lists)
    assert_same(nets, expected)
    assert_same_results(histories, alone)
    assert {history.engine for history in histories} == {engine}


def test_one_value_is_for_all_and_numpys_lists_are_lists(small: Split) -> None:
    nets, expected = networks()[:3], networks()[:3]
    train_many(nets, small, epochs=1, batch_size=np.array([1, 2, 3]), learning_rate=0.5, seed=range(3), device="cpu")
    for n, net in enumerate(expected):
        train(net, small, epochs=1, batch_size=n + 1, learning_rate=0.5, seed=n, device="cpu")
    assert_same(nets, expected)


def test_no_networks_are_no_work(small: Split) -> None:
    assert train_many([], small, epochs=1, seed=[]) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_and_rows_of_targets(dtype: type) -> None:
    rng = np.random.default_rng(0)
    split = Split(rng.random((60, 12)), rng.random((60, 3)))
    nets, expected = ([MLP((12, 5, 3), seed=n, dtype=dtype) for n in range(3)] for _ in range(2))
    histories = train_many(nets, split, epochs=2, batch_size=8, device="cpu")
    alone = [train(net, split, epochs=2, batch_size=8, device="cpu") for net in expected]
    assert_same(nets, expected)
    assert_same_results(histories, alone)


def test_images_are_encoded_once_and_each_network_has_one_thread(
    mnist: Dataset, cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpunn.kernels.cpu import sparse

    cores(2)
    find, found, shares = sparse.find_nonzero, [], []
    blas: list[int] = []

    def counted(images: Any, team: Any) -> Any:
        found.append(images.shape)
        return find(images, team)

    def note(_: int, __: History) -> None:
        shares.append((limits.usable_cores(), threading.current_thread() is threading.main_thread()))
        blas.extend(library.num_threads for library in _libraries())

    monkeypatch.setattr(sparse, "find_nonzero", counted)
    before = [library.num_threads for library in _libraries()]
    # Batches of 32 of this network would have two threads.
    train_many(
        [MLP((784, 64, 10), seed=n) for n in range(4)], mnist.train[:2000], epochs=2, on_epoch=note, device="cpu"
    )
    assert found == [(2000, 784)]
    assert set(shares) == {(1, False)}
    assert set(blas) == {1}
    assert (limits.usable_cores(), [library.num_threads for library in _libraries()]) == (2, before)
    assert sharing._SHELVES.get() == ()


def test_fewer_networks_than_cores_share_them(small: Split, cores: Callable[[int], None]) -> None:
    cores(8)
    shares: list[int] = []
    train_many(networks()[:3], small, epochs=1, on_end=lambda *_: shares.append(limits.usable_cores()), device="cpu")
    assert shares == [2, 2, 2]


def test_a_network_that_diverges_leaves_the_others_alone(small: Split) -> None:
    ended: list[int] = []
    nets, alone, start = ([MLP((12, 5, 3), output="identity", seed=n) for n in range(3)] for _ in range(3))
    histories = train_many(
        nets,
        small,
        epochs=4,
        learning_rate=[0.01, 1e30, 0.01],
        on_end=lambda n, _: ended.append(n),
        device="cpu",
    )
    assert sorted(ended) == [0, 1, 2]
    assert histories[1].failure is not None
    assert "training diverged in epoch 1" in histories[1].failure
    assert (histories[1].kept, histories[1].epochs) == (0, [])
    assert histories[1].to_dict()["failure"] == histories[1].failure
    assert [history.failure for history in histories[::2]] == [None, None]
    for net in alone[::2]:
        train(net, small, epochs=4, learning_rate=0.01, device="cpu")
    assert_same(nets[::2], alone[::2])
    assert_same(nets[1:2], start[1:2])


def test_callbacks_end_single_networks_and_come_one_at_a_time(small: Split, cores: Callable[[int], None]) -> None:
    cores(4)
    running, ended = threading.Lock(), []

    def on_epoch(number: int, history: History) -> bool:
        assert running.acquire(blocking=False)
        np.linalg.norm(np.ones((300, 300)))  # gives others time to come in
        running.release()
        return len(history.epochs) <= number

    def on_end(number: int, history: History) -> None:
        assert running.acquire(blocking=False)
        ended.append((number, len(history.epochs)))
        running.release()

    histories = train_many(networks(), small, epochs=6, on_epoch=on_epoch, on_end=on_end, device="cpu")
    assert [len(history.epochs) for history in histories] == [1, 2, 3, 4, 5, 6, 6]
    assert sorted(ended) == [(n, min(n + 1, 6)) for n in range(N)]


def test_an_error_in_a_callback_ends_all(small: Split) -> None:
    seen: dict[int, int] = {}

    def fail(number: int, history: History) -> None:
        seen[number] = len(history.epochs)
        if number == 3 and len(history.epochs) == 2:
            raise ZeroDivisionError("a mistake")

    nets = networks()
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        train_many(nets, small, epochs=1000, on_epoch=fail, device="cpu")
    assert list(seen.values()).count(1000) < N - 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gpunn")]


def test_divergence_in_a_callback_is_an_error_like_others(small: Split) -> None:
    def diverge(*_: Any) -> None:
        train(MLP((12, 5, 3), output="identity"), small, epochs=1, learning_rate=1e30, device="cpu")

    with pytest.raises(DivergenceError, match="training diverged in epoch 1"):
        train_many(networks(), small, epochs=3, on_epoch=diverge, device="cpu")


def test_an_interrupt_while_networks_are_handed_out_leaves_them_untrained(
    small: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pool(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *arguments: Any) -> Any:  # type: ignore[override]
            self.submitted += 1
            if self.submitted == 3:
                raise KeyboardInterrupt
            return super().submit(*arguments)

    epochs: list[int] = []
    monkeypatch.setattr("gpunn.engines.cores.ThreadPoolExecutor", Pool)
    nets = networks()
    with pytest.raises(KeyboardInterrupt):
        train_many(nets, small, epochs=5000, on_epoch=lambda number, _: epochs.append(number), device="cpu")
    assert not epochs
    assert_same(nets, networks())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gpunn")]


def test_further_interrupts_do_not_leave_threads_behind(small: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool(ThreadPoolExecutor):
        asked = 0

        def shutdown(self, *arguments: Any, **options: Any) -> None:
            self.asked += 1
            if self.asked <= 3:
                raise KeyboardInterrupt
            super().shutdown(*arguments, **options)

    def on_epoch(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gpunn.engines.cores.ThreadPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        train_many(networks(), small, epochs=5000, on_epoch=on_epoch, device="cpu")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gpunn")]


def test_an_interrupt_ends_what_a_callback_trains_too(small: Split) -> None:
    epochs: list[int] = []

    def count(_: int, history: History) -> None:
        epochs.append(len(history.epochs))
        if len(epochs) == 3:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def on_epoch(*_: Any) -> None:
        train_many(networks(), small, epochs=5000, on_epoch=count, device="cpu")

    with pytest.raises(KeyboardInterrupt):
        train_many(networks()[:2], small, epochs=2, on_epoch=on_epoch, device="cpu")
    assert max(epochs) < 5000


def test_a_callback_may_train_on_images_of_its_own_and_change_them(mnist: Dataset) -> None:
    own, labels, found = mnist.test.images[:200].copy(), mnist.test.labels[:200], []

    def on_end(number: int, _: History) -> None:
        own[...] = np.roll(mnist.test.images[:200], number, axis=1)
        net = MLP((784, 4, 10))
        train(net, Split(own, labels), epochs=1, device="cpu")
        found.append((number, net))

    train_many([MLP((784, 4, 10)) for _ in range(3)], mnist.train[:100], epochs=1, on_end=on_end, device="cpu")
    for number, net in found:
        expected = MLP((784, 4, 10))
        train(expected, Split(np.roll(mnist.test.images[:200], number, axis=1), labels), epochs=1, device="cpu")
        assert_same([net], [expected])


def test_with_early_stopping_only_networks_in_training_have_examples_of_their_own(
    mnist: Dataset, cores: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores(2)
    copies: list[Any] = []
    alive: list[int] = []
    divide = EarlyStopping.divide

    def noted(self: EarlyStopping, split: Split, seed: int) -> tuple[Split, Split]:
        found = divide(self, split, seed)
        copies.append(weakref.ref(found[0].images))
        return found

    def on_end(*_: Any) -> None:
        alive.append(sum(copy() is not None for copy in copies))

    monkeypatch.setattr(EarlyStopping, "divide", noted)
    nets = [MLP((784, 4, 10), seed=n) for n in range(8)]
    train_many(
        nets, mnist.train[:500], epochs=1, seed=range(8), early_stopping=EarlyStopping(), on_end=on_end, device="cpu"
    )
    assert len(copies) == len(alive) == 8
    # A thread keeps its last network's until it has begun the next one.
    assert max(alive) <= 4


def test_what_is_made_of_shared_arrays_is_made_once() -> None:
    ours, others = (np.arange(12, dtype=np.uint8).reshape(3, 4) for _ in range(2))
    for array in (ours, others):
        array.flags.writeable = False
    shelf = sharing.Shelf([ours])
    with sharing.sharing(shelf):
        assert sharing.writable_of(ours) is sharing.writable_of(ours)
        assert sharing.writable_of(others) is not sharing.writable_of(others)
        assert sharing.nonzero_of(ours) is sharing.nonzero_of(ours)
        with sharing.sharing(sharing.Shelf([ours])):
            found = sharing.nonzero_of(ours)
        assert found is sharing.nonzero_of(ours)
    assert sharing.nonzero_of(ours) is not found
    with sharing.sharing(shelf):
        assert sharing.nonzero_of(ours) is found


@pytest.mark.parametrize("engine", ["epoch", "fused", "plain"])
def test_after_an_interrupt_networks_hold_their_last_finished_epoch(
    mnist: Dataset, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several calls an epoch, so that the epochs that are under way end in between.
    monkeypatch.setattr("gpunn.engines.cpu.epoch.MAX_WORK_PER_CALL", 12_730 * 100)
    data, finished = mnist.train[:2000], {}

    def on_epoch(number: int, history: History) -> None:
        finished[number] = len(history.epochs)
        if sum(finished.values()) == 5:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    nets, expected = ([MLP((784, 16, 10), seed=n) for n in range(4)] for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        train_many(nets, data, epochs=500, seed=range(4), on_epoch=on_epoch, engine=engine, device="cpu")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gpunn")]
    for number, net in enumerate(expected):
        if number in finished:
            train(net, data, epochs=finished[number], seed=number, engine=engine, device="cpu")
    assert_same(nets, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": [1, 2]}, "seed must be one value, or one for each of 7 networks, got 2 values"),
        ({"learning_rate": np.ones(8)}, "learning_rate must be one value, or one for each of 7 networks, got 8 values"),
        ({"batch_size": [32] * 6 + [201]}, "network 6: batch_size must be at most 200"),
        ({"l2": -1}, "network 0: l2 must be a finite number >= 0"),
        ({"epochs": 0}, "network 0: epochs must be an integer >= 1, got 0"),
        ({"engine": "nothing"}, "network 0: engine must be one of auto, plain, fused, epoch, got 'nothing'"),
        ({"loss": [None] * 3 + ["cross_entropy"] + [None] * 3}, "network 3: "),
        ({"learning_rate": np.array(-1.0)}, "network 0: learning_rate must be a finite number > 0, got array(-1.)"),
        ({"device": "tpu"}, "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_any_training(small: Split, change: dict[str, Any], message: str) -> None:
    nets, start, calls = networks(), networks(), []
    arguments: dict[str, Any] = {"epochs": 1, "device": "cpu"} | change
    with pytest.raises(ConfigurationError) as refused:
        train_many(nets, small, **arguments, on_end=lambda *_: calls.append(1))
    assert str(refused.value).startswith(message)
    assert_same(nets, start)
    assert not calls


@pytest.mark.parametrize("engine", ["auto", "plain"])
@pytest.mark.parametrize("calls", [1, 5, 13, 20])
def test_interrupted_trainings_go_on_from_their_checkpoints(
    small: Split, tmp_path: Path, cores: Callable[[int], None], engine: str, calls: int
) -> None:
    cores(2)
    small = Split(small.images, small.labels, ImageKind(shape=(3, 4)))
    data, files = Dataset(small, random_split(50, 12, 3, seed=1)), [tmp_path / f"{n}" for n in range(N)]
    files[2] = None  # type: ignore[call-overload]  # one without a checkpoint begins again
    common: dict[str, Any] = {"epochs": 3, "device": "cpu", "engine": engine, **LISTS}
    told = iter(range(calls))

    def on_epoch(*_: object) -> None:
        if next(told, None) is None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_many(networks(), data, **common, checkpoint=files, on_epoch=on_epoch)
    finished = [epochs_in(file) for file in tmp_path.iterdir()]
    assert calls - 3 < sum(finished) <= calls + 2
    nets, expected = networks(), networks()
    histories = train_many(nets, data, **common, resume=files, checkpoint=files)
    alone = train_many(expected, data, **common)
    assert_same(nets, expected)
    assert_same_results(histories, alone)
    assert [epochs_in(file) for file in tmp_path.iterdir()] == [3] * (N - 1)


def test_on_a_gpu_networks_with_checkpoints_are_trained_alone(
    monkeypatch: pytest.MonkeyPatch, small: Split, tmp_path: Path
) -> None:
    trained: list[list[int]] = []

    def run_group(self: Any, _: object, numbers: list[int]) -> None:
        trained.append(list(numbers))
        self.histories |= dict.fromkeys(numbers)

    monkeypatch.setattr("gpunn.many._Many._run_group", run_group)
    monkeypatch.setattr("gpunn.many._Many._run_alone", lambda self, backend, number: run_group(self, backend, [number]))
    monkeypatch.setattr("gpunn.many.group_size", lambda: 4)
    nets, gpu = [MLP((12, 5, 3)) for _ in range(4)], HostGpu(monkeypatch).backend
    train_many(nets, small, device=gpu, checkpoint=[None, tmp_path / "1", None, None])
    assert sorted(trained) == [[0, 2, 3], [1]]


def test_each_network_has_a_checkpoint_of_its_own(small: Split, tmp_path: Path) -> None:
    nets, start = [MLP((12, 5, 3), seed=n) for n in range(2)], [MLP((12, 5, 3), seed=n) for n in range(2)]
    common: dict[str, Any] = {"epochs": 2, "device": "cpu", "engine": "plain"}
    for files, message in (
        (tmp_path, r"checkpoint must be a list with one file for each of 2 networks, got .*Path"),
        ([tmp_path / "0"], "checkpoint must be a list with one file for each of 2 networks, got 1 values"),
        ([tmp_path / "0", Checkpoint(tmp_path / "." / "0")], "found one checkpoint twice: each network must have a"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            train_many(nets, small, **common, checkpoint=files)  # type: ignore[arg-type]
    places = [tmp_path / "0", tmp_path / "1"]
    train_many([MLP((12, 5, 3)) for _ in range(2)], small, **common, seed=[3, 4], checkpoint=places)
    with pytest.raises(ConfigurationError, match=r"^network 0: .* was begun with seed 3, not 4"):
        train_many(nets, small, **common, seed=[4, 3], resume=places)
    assert_same(nets, start)


def test_networks_must_fit_the_data_and_be_different_objects(small: Split) -> None:
    net = MLP((12, 5, 3))
    with pytest.raises(ConfigurationError, match=r"^found one network twice: each network must be an object of its"):
        train_many([net, MLP((12, 5, 3)), net], small)
    with pytest.raises(ConfigurationError, match=r"^nets must be a list of networks, got one: MLP\("):
        train_many(net, small)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^network 1: "):
        train_many([net, MLP((13, 5, 3))], small)


def test_where_a_gpu_has_too_little_memory_the_cpu_evaluates_too(monkeypatch: pytest.MonkeyPatch, small: Split) -> None:
    gpu, run_epoch = CudaBackend(StrictCupy(), 0), PlainEngine.run_epoch

    def fail(self: PlainEngine, *arguments: Any) -> float:
        if self._backend.name != "cpu":
            raise OutOfMemoryError("out of memory")
        return run_epoch(self, *arguments)

    monkeypatch.setattr(PlainEngine, "run_epoch", fail)
    monkeypatch.setattr("gpunn.engines.runner.training_device", lambda _: gpu)
    data, nets, expected = Dataset(small, small[:50]), networks(), networks()
    histories = train_many(nets, data, epochs=1, engine="plain")
    alone = [train(net, data, epochs=1, engine="plain", device="cpu") for net in expected]
    assert_same(nets, expected)
    assert_same_results(histories, alone)


@pytest.mark.parametrize("stopping", [None, EarlyStopping(1, 0.2)])
def test_on_a_gpu_networks_of_a_kind_share_launches(
    monkeypatch: pytest.MonkeyPatch, small: Split, stopping: EarlyStopping | None
) -> None:
    gpu = HostGpu(monkeypatch)
    monkeypatch.setattr("gpunn.kernels.cuda.launch.multiprocessors", lambda: 3)
    lists: dict[str, Any] = {
        "batch_size": [7, 6, 5, 8, 7, 10],
        "learning_rate": [0.5, 0.1, 0.2, 0.3, 1e30, 0.1],
        "optimizer": ["sgd"] * 5 + ["adam"],
        "schedule": ["constant", "cosine"] * 3,
        "dropout": [0.4] * 3 + [0.0] * 2 + [0.5],
        "label_smoothing": [0.0] * 5 + [0.1],
        "average": [None] * 3 + [0.5] + [None] * 2,
        "seed": [3] * 6 if stopping else list(range(6)),
    }
    common: dict[str, Any] = {"epochs": 3, "early_stopping": stopping, "device": gpu.backend}

    def made() -> list[MLP]:
        return [MLP((12, 5, 3), output="identity", seed=n) for n in range(6)]

    data, expected = Dataset(small, random_split(50, 12, 3, seed=1)), made()
    alone = [
        train(net, data, **common, **{name: values[n] for name, values in lists.items()})
        for n, net in enumerate(expected)
        if n != 4
    ]
    gpu.launches.clear()
    nets = made()
    histories = train_many(nets, data, **common, **lists)
    assert histories[4].failure is not None
    assert_same(nets, expected)
    assert_same_results(histories[:4] + histories[5:], alone)
    assert {history.engine for history in histories} == {"epoch", "fused"}


def test_on_a_gpu_some_of_a_kind_may_collect_in_the_gpus_memory(monkeypatch: pytest.MonkeyPatch, small: Split) -> None:
    gpu = HostGpu(monkeypatch)
    # So little that batches of two chunks collect their gradients outside of it.
    gpu.shared_memory = 34_600
    batch_sizes, (nets, expected) = [32, 64, 31], ([MLP((12, 3), seed=n) for n in range(3)] for _ in range(2))
    train_many(nets, small, epochs=1, batch_size=batch_sizes, device=gpu.backend)
    assert len({id(launch.kernel) for launch in gpu.launches}) == 1
    for net, batch_size in zip(expected, batch_sizes, strict=True):
        train(net, small, epochs=1, batch_size=batch_size, device=gpu.backend)
    assert_same(nets, expected)


def test_a_group_takes_only_what_one_kernel_serves(monkeypatch: pytest.MonkeyPatch, small: Split) -> None:
    gpu = HostGpu(monkeypatch).backend
    starts = [Parameters(net.weights, net.biases) for net in (MLP((12, 5, 3)), MLP((12, 5, 3)))]
    with gpu.activate():
        examples = Examples(gpu.asarray(small.images), gpu.asarray(small.labels))
        with pytest.raises(ValueError, match="found networks of different kinds"):
            EpochCudaGroup(gpu, starts, examples, [Recipe(4, 0.1), Recipe(100, 0.1)])
