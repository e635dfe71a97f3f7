"""ONNX files: onnxruntime computes from them what networks and estimators predict."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError, Ensemble, OutputError, onnx_file
from gpunn.activations import HIDDEN, OUTPUT
from gpunn.datasets import ImageKind
from gpunn.network import Network
from tests.conftest import Run

onnx = pytest.importorskip("onnx", reason="onnx is not installed: gpunn[onnx]")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime, which runs ONNX files, is not installed")

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 12), dtype=np.uint8)

Ran = tuple[dict[str, Any], dict[str, Any], Any]


@pytest.fixture
def ran(tmp_path: Path) -> Callable[[Any, Any], Ran]:
    """Return what onnxruntime computes from the file of a network or an estimator, the metadata, and the input."""

    def ran(net: Any, X: Any, **how: Any) -> Ran:
        path = tmp_path / "model.onnx"
        net.to_onnx(path, **how)
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version == 17
        session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        names = [each.name for each in session.get_outputs()]
        found = dict(zip(names, session.run(names, {"inputs": X}), strict=True))
        about = session.get_modelmeta().custom_metadata_map
        return found, {key: json.loads(value) for key, value in about.items()}, given

    return ran


def network(
    hidden: str = "relu", output: str = "softmax", n_outputs: int = 3, *, seed: int = 1, dtype: Any = np.float32
) -> MLP:
    """A network with biases, of outputs on both sides of 0."""
    net = MLP([12, 7, 5, n_outputs], hidden=hidden, output=output, init="normal", seed=seed, dtype=dtype)
    net.biases = [RNG.normal(size=b.shape).astype(b.dtype) for b in net.biases]
    return net


def check(ran: Callable[..., Ran], net: Network, X: Any, **how: Any) -> None:
    found, _, _ = ran(net, X, **how)
    np.testing.assert_allclose(found["probabilities"], net.predict_proba(X), rtol=1e-5, atol=1e-5)
    output, labels = net.feedforward(X), found["labels"]
    if net.n_outputs == 1:
        output = np.concatenate([np.full_like(output, 0.5), output], axis=1)
    # Saturated outputs are equal but for rounding: any of those may be the largest.
    np.testing.assert_allclose(output[np.arange(len(labels)), labels], output.max(axis=1), rtol=1e-5, atol=1e-5)
    assert labels.dtype == np.int64
    assert found["probabilities"].dtype == net.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("output", OUTPUT)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_activation_is_computed_as_here(ran: Any, hidden: str, output: str, dtype: Any) -> None:
    X = RNG.normal(size=(30, 12)).astype(dtype)
    for n_outputs in (1, 4) if output != "softmax" else (4,):
        check(ran, network(hidden, output, n_outputs, dtype=dtype), X)


def test_grey_levels_are_divided_in_the_file_and_floats_are_not(ran: Any) -> None:
    net = network()
    check(ran, net, IMAGES, grey=True)
    net.grey = True
    check(ran, net, IMAGES)
    assert ran(net, IMAGES)[2].type == "tensor(uint8)"
    check(ran, net, (IMAGES / 255).astype(np.float32), grey=False)
    as_bytes, _, _ = ran(net, IMAGES)
    as_floats, _, _ = ran(net, (IMAGES / 255).astype(np.float32), grey=False)
    np.testing.assert_allclose(as_bytes["probabilities"], as_floats["probabilities"], atol=1e-6)


def test_outputs_that_are_all_0_give_equal_shares(ran: Any) -> None:
    net = network("relu", "relu")
    net.biases[-1][:] = -1e6
    found, _, _ = ran(net, np.zeros((2, 12), np.float32))
    np.testing.assert_allclose(found["probabilities"], np.full((2, 3), 1 / 3), rtol=1e-6)
    np.testing.assert_array_equal(found["labels"], [0, 0])


def test_an_ensemble_is_the_mean_of_its_networks(ran: Any) -> None:
    nets = [network(seed=1), network("tanh", seed=2), MLP([12, 3], output="softmax", seed=3)]
    data = RNG.random((9, 12), np.float32)
    check(ran, Ensemble(nets), data)
    assert all(np.abs(net.predict_proba(data) - Ensemble(nets).predict_proba(data)).max() > 0.01 for net in nets)


def test_any_number_of_examples_is_taken(ran: Any) -> None:
    for n in (1, 2, 300):
        found, _, given = ran(network(), np.zeros((n, 12), np.float32))
        assert given.shape == ["n", 12]
        assert found["labels"].shape == (n,)


def test_the_metadata_have_what_is_known_of_the_images(ran: Any) -> None:
    net = network()
    assert ran(net, np.zeros((1, 12), np.float32))[1] == {}
    net.kind = ImageKind("Letters", (3, 4), "whole", ("a", "b", "ç"))
    about = ran(net, np.zeros((1, 12), np.float32))[1]
    assert about == {"data_set": "Letters", "image_shape": [3, 4], "classes": ["a", "b", "ç"]}


def test_equal_networks_give_equal_files(tmp_path: Path) -> None:
    net = MLP([12, 7, 3])
    net.kind = ImageKind("Letters", (3, 4), "whole", ("a", "b", "c"))
    for name in ("a", "b"):
        net.to_onnx(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    broken = network()
    broken.weights[0][0, 0] = np.nan
    with pytest.raises(ConfigurationError, match="aren't finite"):
        broken.to_onnx(path)
    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, "LARGEST", 100)
        with pytest.raises(ConfigurationError, match="an ONNX file holds less than 2 GiB"):
            network().to_onnx(path)
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "onnx", None)
        with pytest.raises(ConfigurationError, match=r"needs onnx .*pip install 'gpunn\[onnx\]'"):
            network().to_onnx(path)
    with pytest.raises(OutputError, match="there is no folder"):
        network().to_onnx(tmp_path / "none" / "model.onnx")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


# The command line


def test_export_writes_a_network_or_an_ensemble(run: Run, tmp_path: Path) -> None:
    net = network()
    net.grey = True
    net.save(tmp_path / "net.safetensors")
    done = run("export", "net.safetensors")
    assert (done.code, done.err) == (0, "")
    assert done.out == "model.onnx: 12-7-5-3 as ONNX, 0.0 MB\n"
    session = runtime.InferenceSession("model.onnx")
    np.testing.assert_array_equal(session.run(["labels"], {"inputs": IMAGES})[0], net.predict(IMAGES))
    Ensemble([net, net]).save(tmp_path / "both.safetensors")
    told = json.loads(run("export", "both.safetensors", "-o", "b.onnx", "--inputs", "floats", "--json").out)
    assert told == {"onnx": "b.onnx", "bytes": (tmp_path / "b.onnx").stat().st_size, "networks": [net.layers()] * 2}
    assert runtime.InferenceSession("b.onnx").get_inputs()[0].type == "tensor(float)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.safetensors"], "there is no model file"),
        (["net.safetensors", "-o", "none/model.onnx"], "there is no folder"),
        (["net.safetensors", "-o", "./net.safetensors"], "is the model itself: choose another --output"),
        (["net.safetensors", "-o", ""], "must be a path"),
        (["net.safetensors", "--inputs", "int8"], "is not one of 'bytes', 'floats'"),
    ],
)
def test_export_refuses_in_one_line(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    net = network()
    net.save(tmp_path / "net.safetensors")
    done = run("export", *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert message in done.err
    np.testing.assert_array_equal(MLP.load(tmp_path / "net.safetensors").weights[0], net.weights[0])
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_export_replaces_no_other_kind_of_file(run: Run, tmp_path: Path) -> None:
    for name in ("net", "other.safetensors"):
        network().save(tmp_path / name)
    before = (tmp_path / "other.safetensors").read_bytes()
    done = run("export", "net", "-o", "other.safetensors")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "other.safetensors is there, and not named as ONNX files are" in done.err
    assert (tmp_path / "other.safetensors").read_bytes() == before
    assert [run("export", "net").code for _ in range(2)] == [0, 0]


# Estimators


@pytest.fixture
def estimators() -> Any:
    return pytest.importorskip("gpunn.estimators", reason="scikit-learn is not installed: gpunn[sklearn]")


X = RNG.normal(size=(120, 6))
CLASSES = [
    np.array([3, 7, 12]),
    np.array(["cat", "dog", "øre"]),
    np.array(["cat", "dog"], object),
    np.array([-1.0, 2.0]),
    np.array([False, True]),
    np.array([5]),
]
IN_FIT = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@IN_FIT
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", CLASSES, ids=lambda classes: f"{len(classes)}-{classes.dtype.kind}")
def test_a_classifier_gives_its_own_labels(ran: Any, estimators: Any, classes: Any, dtype: Any) -> None:
    data = X.astype(dtype)
    y = classes[(X[:, 0] > 0).astype(int) + (X[:, 1] > 1) if len(classes) > 2 else (X[:, 0] > 0) * (len(classes) - 1)]
    for activation, hidden in itertools.product(("logistic", "relu"), ((), (8, 4))):
        model = estimators.MLPClassifier(hidden, activation=activation, max_iter=3, random_state=0).fit(data, y)
        found, about, _ = ran(model, data)
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(data), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found["labels"], model.predict(data))
        assert about == {}


@IN_FIT
def test_several_networks_give_their_mean(ran: Any, estimators: Any) -> None:
    model = estimators.MLPClassifier((8,), n_networks=3, max_iter=3, random_state=0).fit(X, X[:, 0] > 0)
    found, _, _ = ran(model, X)
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), rtol=1e-5, atol=1e-5)


@IN_FIT
def test_several_labels_and_numbers_are_predicted(ran: Any, estimators: Any) -> None:
    labels = (X[:, :3] > 0).astype(int)
    model = estimators.MLPClassifier((8,), max_iter=20, random_state=0, learning_rate_init=0.05).fit(X, labels)
    found, _, _ = ran(model, X)
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found["labels"], model.predict(X))
    for y in (X[:, 0], X[:, :2]):
        regressor = estimators.MLPRegressor(hidden_layer_sizes=(8,), activation="tanh", max_iter=3, random_state=0).fit(
            X, y
        )
        found, _, _ = ran(regressor, X)
        np.testing.assert_allclose(found["predictions"], regressor.predict(X), rtol=1e-5, atol=1e-5)
        assert found["predictions"].shape == y.shape


@IN_FIT
def test_an_estimator_of_counts_is_written(ran: Any, estimators: Any) -> None:
    model = estimators.MLPRegressor("poisson", (8,), max_iter=3, random_state=0).fit(X, RNG.poisson(2, 120))
    found, _, _ = ran(model, X)
    np.testing.assert_allclose(found["predictions"], model.predict(X), rtol=1e-5, atol=1e-5)


@IN_FIT
def test_an_estimator_gives_the_names_of_its_features(ran: Any, estimators: Any) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas, whose data frames are fitted, is not installed")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    model = estimators.MLPClassifier((4,), max_iter=2).fit(frame, X[:, 0] > 0)
    assert ran(model, X)[1] == {"feature_names": list("abcdef")}


@IN_FIT
def test_what_no_file_can_hold_is_refused(tmp_path: Path, estimators: Any) -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        estimators.MLPClassifier().to_onnx(tmp_path / "model.onnx")
    model = estimators.MLPClassifier((4,), max_iter=2).fit(X, X[:, 0] > 0)
    model.classes_ = np.array([None, 1], object)
    with pytest.raises(ConfigurationError, match="found labels of dtype object, an ONNX file holds numbers or text"):
        model.to_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
