"""Arguments are checked alike by every engine on every device, so that none reads outside of its arrays."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpunn import MLP, SGD, ConfigurationError, Split, get_backend, train
from gpunn.backends import Backend
from gpunn.engines import CUDA_ENGINES, ENGINES, Engine, Examples, Parameters, Recipe

from .strict_kernels import strict_gpu

ROOT = Path(__file__).parent.parent
CPU = get_backend("cpu")
N, SIZES = 60, (12, 5, 3)

PLACES = [*(("cpu", name) for name in ENGINES), ("cuda", "plain"), ("cuda", "fused")]
everywhere = pytest.mark.parametrize(("device", "name"), PLACES, ids=map(" ".join, PLACES))
"""All engines but `epoch` for CUDA, whose kernel the simulator runs."""


@pytest.fixture
def backend(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    found = CPU if device == "cpu" else strict_gpu(monkeypatch)
    with found.activate():
        yield found


def drawn(n: int = N) -> Split:
    rng = np.random.default_rng(3)
    return Split(rng.integers(0, 256, (n, 12), dtype=np.uint8), rng.integers(0, 3, n, dtype=np.uint8))


def engine(backend: Backend, name: str, labels: Any = None, images: Any = None, recipe: Recipe | None = None) -> Engine:
    kind = ENGINES[name] if backend.name == "cpu" else CUDA_ENGINES.get(name, ENGINES[name])
    net, split = MLP(SIZES, seed=1), drawn()
    examples = Examples(
        backend.asarray(split.images if images is None else images),
        backend.asarray(split.labels if labels is None else labels),
    )
    return kind(backend, Parameters(net.weights, net.biases), examples, recipe or Recipe(8, 0.1))


ORDERS: list[tuple[Any, type[Exception], str]] = [
    (np.zeros((2, 5), np.int64), ValueError, "found an order of 2 dimensions, expected one"),
    (np.zeros((1, 10), np.int64), ValueError, "found an order of 2 dimensions, expected one"),
    (np.array(3), ValueError, "found an order of 0 dimensions, expected one"),
    (np.zeros(0, np.int64), ValueError, "order must have at least one index, got none"),
    (np.array([0.0, 1.9]), TypeError, "found an order of dtype float64, expected integers"),
    (np.array([True, False]), TypeError, "found an order of dtype bool, expected integers"),
    (np.array([0, None]), TypeError, "found an order of dtype object, expected integers"),
    (np.array([0, -1]), IndexError, "found order from -1 to 0, expected 0 to 59"),
    (np.array([0, 60]), IndexError, "found order from 0 to 60, expected 0 to 59"),
    (np.array([0, 2**64 - 1], np.uint64), IndexError, "found order from -1 to 0, expected 0 to 59"),
    (np.ma.masked_array([0, 1], [False, True]), TypeError, "found an order of type MaskedArray, expected a NumPy"),
    ([0, 1], TypeError, "found an order of type list, expected a NumPy array"),
    (None, TypeError, "found an order of type NoneType, expected a NumPy array"),
]


@everywhere
def test_every_engine_refuses_invalid_orders(backend: Backend, name: str) -> None:
    runner = engine(backend, name)
    for order, error, message in ORDERS:
        with pytest.raises(error, match=f"^{message}"):
            runner.run_epoch(order)
    for order in (np.arange(N)[::2], np.arange(N, dtype=np.uint8), np.array([5, 5, 5])):
        assert np.isfinite(runner.run_epoch(order))


@everywhere
def test_every_engine_refuses_invalid_rates(backend: Backend, name: str) -> None:
    runner, order = engine(backend, name), np.arange(16)
    for rates, error, message in (
        (np.ones(3), ValueError, r"found learning rates of shape \(3,\), expected one for each of 2 batches"),
        (np.ones((2, 1)), ValueError, r"found learning rates of shape \(2, 1\)"),
        (np.ones(2, np.complex128), TypeError, "found learning rates of dtype complex128, expected numbers"),
        ([0.1, 0.1], TypeError, "found learning rates of type list, expected a NumPy array"),
    ):
        with pytest.raises(error, match=f"^{message}"):
            runner.run_epoch(order, rates)  # type: ignore[arg-type]
    assert np.isfinite(runner.run_epoch(order, np.ones(4)[::2]))


@everywhere
def test_every_engine_refuses_invalid_labels(backend: Backend, name: str) -> None:
    for labels, error, message in (
        (np.full(N, 3, np.uint8), IndexError, "found labels from 3 to 3, expected 0 to 2"),
        (np.full(N, 255, np.uint8), IndexError, "found labels from 255 to 255, expected 0 to 2"),
        (np.zeros(N - 1, np.uint8), ValueError, r"found labels of shape \(59,\), expected \(60,\)"),
        (np.zeros(N), TypeError, "found labels of dtype float64, expected integers"),
    ):
        with pytest.raises(error, match=f"^{message}"):
            engine(backend, name, labels)


@everywhere
def test_every_engine_refuses_inputs_of_another_width(backend: Backend, name: str) -> None:
    for shape in ((N, 11), (N, 13), (N * 12,), (N, 12, 1)):
        with pytest.raises(ValueError, match=r"^found inputs of shape .*, expected \(n, 12\)$"):
            engine(backend, name, images=np.zeros(shape, np.uint8))


@everywhere
def test_labels_that_are_changed_later_change_nothing(backend: Backend, name: str) -> None:
    labels, order = drawn().labels.copy(), np.arange(N)
    expected = engine(backend, name, drawn().labels).run_epoch(order)
    images = drawn().images
    on_device = backend.asarray(labels)
    net = MLP(SIZES, seed=1)
    kind = ENGINES[name] if backend.name == "cpu" else CUDA_ENGINES.get(name, ENGINES[name])
    examples = Examples(backend.asarray(images), on_device)
    runner = kind(backend, Parameters(net.weights, net.biases), examples, Recipe(8, 0.1))
    labels[:] = 255
    on_device[:] = 255
    assert runner.run_epoch(order) == expected


@pytest.mark.parametrize("size", [0, -1, 7.5, True, None, "8"])
def test_batch_sizes_must_be_integers(size: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^batch_size must be an integer >= 1, got "):
        Recipe(size, 0.1)


HUGE_ORDER = """
import numpy as np
from gpunn import MLP, get_backend, load_mnist
from gpunn.engines import ENGINES, Examples, Parameters, Recipe

split, net = load_mnist().train[:1000], MLP([784, 16, 10])
start, examples = Parameters(net.weights, net.biases), Examples(split.images, split.labels)
for batch_size in (1, 7):
    engine = ENGINES["epoch"](get_backend("cpu"), start, examples, Recipe(batch_size, 0.1))
    try:
        engine.run_epoch(np.tile(np.arange(1000), 12_000).reshape(1, -1))
    except ValueError as error:
        print(error)
"""


def alone(code: str) -> list[str]:
    """Return the lines that `code` prints in a separate process, which may crash."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.splitlines()


def test_a_long_order_of_two_dimensions_crashes_no_process() -> None:
    assert alone(HUGE_ORDER) == ["found an order of 2 dimensions, expected one"] * 2


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_a_callback_that_overwrites_the_labels_changes_nothing(name: str, batch_size: int) -> None:
    found = []
    for value in (None, 255):
        labels = drawn().labels.copy()
        split = Split(drawn().images.copy(), labels)

        def on_epoch(_: object, split: Split = split, labels: NDArray[Any] = labels, value: int | None = value) -> None:
            if value is not None:
                labels[:] = value
                with pytest.raises(ValueError, match="read-only"):
                    split.labels[:] = value
                # Who insists still changes nothing that an engine reads.
                split.labels.setflags(write=True)
                split.labels[:] = value
                split.labels.setflags(write=False)

        net = MLP(SIZES, seed=1)
        train(
            net, split, epochs=3, batch_size=batch_size, learning_rate=0.1, device="cpu", engine=name, on_epoch=on_epoch
        )
        found.append(net)
    for ours, theirs in zip(found[0].weights, found[1].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_images_that_change_while_they_are_encoded_cause_no_write_out_of_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gpunn.kernels.cpu import sparse

    images = np.zeros((40, 784), np.uint8)
    images[:, 5] = 7
    encode, ends = sparse._encode, []

    def brightened_after_counting(flat: Any, n_pixels: int, middle: int, starts: Any, words: Any) -> None:
        images[:] = 9
        padded = np.full(words.size + 20_000, 3, np.uint64)
        encode(flat, n_pixels, middle, starts, padded[: words.size])
        ends.append(padded[words.size :])
        words[:] = padded[: words.size]

    monkeypatch.setattr(sparse, "_encode", brightened_after_counting)
    found = sparse.find_nonzero(images)
    assert (ends[0] == 3).all()
    # However the images change, decoding stays inside of each image.
    assert found.starts[-1] == len(found.words)
    for image in range(40):
        words = found.words[found.starts[2 * image] : found.starts[2 * image + 2]]
        assert sum(int(word) >> 8 * byte & 255 for word in words for byte in range(4)) < 784


@everywhere
def test_the_memory_of_another_optimiser_is_refused(backend: Backend, name: str) -> None:
    net, split = MLP(SIZES, seed=1), drawn()
    kind = ENGINES[name] if backend.name == "cpu" else CUDA_ENGINES.get(name, ENGINES[name])
    examples = Examples(backend.asarray(split.images), backend.asarray(split.labels))
    recipe = Recipe(8, 0.1, optimizer=SGD(momentum=0.9))
    memory = kind(backend, Parameters(net.weights, net.biases), examples, recipe).memory()
    for wrong in (memory._replace(moments=()), memory._replace(moments=([array[:1] for array in memory.moments[0]],))):
        with pytest.raises(ConfigurationError, match="memory must be the state of "):
            kind(backend, Parameters(net.weights, net.biases, memory=wrong), examples, recipe)


def test_parameters_must_have_matching_shapes() -> None:
    first, second = MLP(SIZES).weights
    biases = MLP(SIZES).biases
    for weights in ([first, second[:, :1]], [first, second[:1]], [first, second.T], [first], [first, second, second]):
        with pytest.raises(ValueError, match=r"^found weights of shapes \[.*\], expected \[\(5, 12\), \(3, 5\)\]"):
            Parameters(weights, biases)
    with pytest.raises(ValueError, match=r"^found 1 activation functions, expected one for each layer$"):
        Parameters([first, second], biases, ("tanh",))
