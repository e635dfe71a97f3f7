"""Training on images that are distorted anew in each epoch."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpunn import MLP, Dataset, Distortion, EarlyStopping, History, Split, evaluate, train
from gpunn.datasets.split import hold_out
from gpunn.distortion import DISTORTIONS
from gpunn.engines import ENGINES, Examples, Parameters, Recipe
from gpunn.errors import ConfigurationError, DataError
from gpunn.kernels.cpu.distort import distort
from gpunn.show import Snapshots

from .conftest import Run, parameters, random_split
from .epoch_cases import EPOCH_CASES
from .host_gpu import HostGpu
from .recipes import CPU

CIRESAN = DISTORTIONS["ciresan"]
N = 500


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Split:
    return mnist.train[:N]


def trained(split: Split, sizes: tuple[int, ...] = (784, 20, 10), **options: Any) -> tuple[list[np.ndarray], History]:
    """Train a network for three epochs; return its parameters and the history."""
    net = MLP(sizes, hidden="relu", output="softmax", seed=4, dtype=options.pop("dtype", np.float32))
    settings: dict[str, Any] = {"epochs": 3, "learning_rate": 0.1, "device": "cpu", "seed": 7, "distort": CIRESAN}
    history = train(net, split, **(settings | options))
    return parameters(net), history


def in_epoch(split: Split, epoch: int) -> np.ndarray:
    out = np.empty_like(split.images)
    distort(
        split.images, CIRESAN.ease(split), CIRESAN.elastic((28, 28)), CIRESAN.limits(), CIRESAN.key(7, epoch), out=out
    )
    return out


def by_hand(split: Split) -> list[np.ndarray]:
    """Do the same in float64 by an engine for each epoch, which knows only this epoch's images."""
    net, rng = MLP((784, 20, 10), hidden="relu", output="softmax", seed=4, dtype=np.float64), np.random.default_rng(7)
    now = Parameters(net.weights, net.biases, net.functions)
    for epoch in (1, 2, 3):
        engine = ENGINES["plain"](
            CPU, now, Examples(in_epoch(split, epoch), split.labels), Recipe(32, 0.1, loss="cross_entropy")
        )
        engine.run_epoch(rng.permutation(len(split)))
        now = engine.parameters()
    return [*now.weights, *now.biases]


def test_each_epoch_trains_on_images_distorted_anew_by_every_engine(digits: Split) -> None:
    before, expected = digits.images.copy(), by_hand(digits)
    for engine, dtype, atol in (("plain", np.float64, 1e-12), ("epoch", np.float32, 1e-5), ("fused", np.float32, 1e-5)):
        found, history = trained(digits, engine=engine, dtype=dtype)
        assert history.engine == engine
        for mine, exact in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, exact, atol=atol)
    np.testing.assert_array_equal(digits.images, before)


@pytest.mark.xdist_group(str(EPOCH_CASES[0]))  # whose kernel it is
@pytest.mark.parametrize("engine", ["epoch", "fused"])
def test_gpus_train_on_the_same_images(digits: Split, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, found = HostGpu(monkeypatch), []
    for device, name in ((gpu.backend, engine), ("cpu", "plain")):
        net = MLP(EPOCH_CASES[0].sizes, seed=4)
        history = train(net, digits[:200], epochs=2, batch_size=32, device=device, engine=name, distort=CIRESAN)
        assert history.engine == name
        found.append(parameters(net))
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


@pytest.mark.parametrize("images", ["sparse", "dense"])
def test_images_made_ahead_are_the_same(digits: Split, images: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split = digits if images == "sparse" else Split(255 - digits.images, digits.labels, digits.kind)
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr("gpunn.engines.distorting.usable_cores", lambda cores=cores: cores)
        found.append(trained(split, engine="epoch")[0])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_next_images_are_made_while_an_epoch_trains(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunn.engines.cpu.epoch import EpochEngine

    monkeypatch.setattr("gpunn.engines.distorting.usable_cores", lambda: 2)
    prepare, run, ready = EpochEngine.prepare, EpochEngine.run_epoch, threading.Semaphore(0)
    waited: list[list[bool]] = []

    def noted_prepare(self: Any, inputs: Any) -> Any:
        ready.release()
        return prepare(self, inputs)

    def waiting_run(self: Any, *arguments: Any) -> float:
        waited.append([ready.acquire(timeout=60) for _ in range(2 if not waited else 1 if len(waited) < 2 else 0)])
        return run(self, *arguments)

    monkeypatch.setattr(EpochEngine, "prepare", noted_prepare)
    monkeypatch.setattr(EpochEngine, "run_epoch", waiting_run)
    trained(digits, engine="epoch")
    # Each epoch but the last begins when its own images are there, and ends when the next ones are.
    assert waited == [[True, True], [True], []]


def test_held_out_and_test_images_are_never_distorted(digits: Split, mnist: Dataset) -> None:
    net = MLP((784, 20, 10), hidden="relu", output="softmax", seed=4)
    test = mnist.test[:300]
    history = train(
        net, digits, epochs=2, test=test, early_stopping=EarlyStopping(9), seed=7, device="cpu", distort="simard"
    )
    (rest, held_out), epoch = hold_out(digits, 0.1, 7), history.epochs[-1]
    assert history.kept == 2
    for split, evaluation in ((held_out, epoch.held_out), (test, epoch.test), (rest, epoch.train)):
        assert evaluation is not None
        assert evaluate(net, split, device="cpu").loss == pytest.approx(evaluation.loss, rel=1e-5)


def test_the_history_says_how_images_were_distorted(digits: Split) -> None:
    _, history = trained(digits, distort=Distortion(rotation=5, halved=(1,)), epochs=1)
    assert history.to_dict()["distort"] == {"rotation": 5, "halved": [1]}


@pytest.mark.parametrize("cores", [1, 2])
def test_a_failure_while_images_are_made_ends_training(
    digits: Split, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, thread: int, **__: Any) -> None:
        if thread in (40, 41):
            raise RuntimeError("no room for a node")

    monkeypatch.setattr("gpunn.engines.distorting.usable_cores", lambda: cores)
    monkeypatch.setattr("gpunn.kernels.cpu.contract.distort", fail)
    with pytest.raises(RuntimeError, match="no room for a node"):
        trained(digits)


@pytest.mark.parametrize(
    ("split", "distort", "error", "message"),
    [
        (random_split(40, 12, 3), "affine", DataError, "found images of 12 pixels in unknown rows to distort"),
        (Split(np.zeros((40, 3, 4)), np.zeros(40, int)), "affine", DataError, "found images of float64 to distort"),
        (
            random_split(40, 12, 3),
            "elastic",
            ConfigurationError,
            "distort must be one of affine, simard, ciresan, or a",
        ),
        (
            Split(np.zeros((40, 3, 4), np.uint8), np.linspace(0, 1, 120).reshape(40, 3)),
            CIRESAN,
            DataError,
            "distortions that differ between classes need labels that are classes",
        ),
    ],
)
def test_what_cannot_be_distorted_is_refused(split: Split, distort: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        train(MLP((12, 5, 3)), split, epochs=1, distort=distort)


@pytest.fixture
def _matplotlib() -> None:
    pytest.importorskip("matplotlib", reason='needs Matplotlib: pip install "gpunn[plot]"')


@pytest.mark.usefixtures("_matplotlib")
def test_train_distorts_and_shows_what_it_may_look_like(run: Run, data_dir: Path) -> None:
    options = "--data-dir", data_dir, "--epochs", 2, "--device", "cpu", "--hidden", 5
    outcome = run("train", *options, "--json", "--distort", "ciresan", "--show-distortions", "some.png")
    assert outcome.code == 0
    assert json.loads(outcome.out)["distort"]["alpha"] == 37
    assert "distorted images are in some.png\n" in outcome.err
    levels = np.asarray(Image.open("some.png").convert("L"))
    assert levels.min() < 50
    assert levels.max() == 255
    other = run("train", *options, "--json")
    assert json.loads(other.out)["epochs"] != json.loads(outcome.out)["epochs"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--show-distortions", "some.png"], "--show-distortions needs --distort"),
        (["--distort", "simard", "--show-distortions", "some.gif"], "a picture's name must end in .png or .svg"),
        (["--distort", "simard", "--show-distortions", "no/some.png"], "no"),
        (["--distort", "waves"], "'waves' is not one of"),
    ],
)
@pytest.mark.usefixtures("_matplotlib")
def test_pictures_of_distortions_that_cannot_be_made_are_refused(
    run: Run, data_dir: Path, options: list[str], message: str
) -> None:
    outcome = run("train", "--data-dir", data_dir, *options)
    assert outcome.code == 2
    assert message in outcome.err


def test_the_page_shows_how_weights_formed_on_distorted_images(digits: Split) -> None:
    net = MLP((784, 20, 10), seed=4)
    snapshots = Snapshots(net)
    history = train(net, digits, epochs=1, batch_size=25, device="cpu", distort=CIRESAN, on_epoch=snapshots)
    snapshots.look_closer(digits, history, epochs=1)
    images = np.empty_like(digits.images)
    distort(
        digits.images, CIRESAN.ease(digits), CIRESAN.elastic((28, 28)), CIRESAN.limits(), CIRESAN.key(0, 1), out=images
    )
    early = [snapshot for snapshot in snapshots if snapshot.images]
    assert len(early) == 3
    net = MLP((784, 20, 10), seed=4, dtype=np.float64)
    for snapshot in early:
        engine = ENGINES["plain"](
            CPU,
            Parameters(net.weights, net.biases, net.functions),
            Examples(images, digits.labels),
            Recipe(25, history.recipe.learning_rate),
        )
        engine.run_epoch(np.random.default_rng(0).permutation(N)[: snapshot.images])
        np.testing.assert_allclose(snapshot.weights[0], engine.parameters().weights[0], rtol=2e-3, atol=1e-3)
