"""Ensembles: the mean of several networks, held to float64; their files; the command line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

import gpunn
from gpunn import MLP, ConfigurationError, Dataset, Ensemble, ModelFileError, Split, evaluate, evaluation, train
from gpunn.backends.cuda import CudaBackend
from gpunn.datasets.kind import ImageKind
from gpunn.model_file import VERSION

from .conftest import Run, random_split
from .oracle import FORMULAS
from .strict_cupy import StrictCupy
from .test_cli import assert_one_line


def networks(output: str = "softmax", n_outputs: int = 3, scale: float = 1) -> list[MLP]:
    """Networks with other hidden layers and activations each, and weights `scale` times as large."""
    nets = [
        MLP([12, 5, n_outputs], output=output, seed=1),
        MLP([12, 7, 4, n_outputs], hidden=["relu", "tanh"], output=output, seed=2),
        MLP([12, n_outputs], output=output, seed=3),
    ]
    for net in nets:
        net.weights = [np.float32(scale) * W for W in net.weights]
    return nets


def exact_logits(net: MLP, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """z^L in float64, by formulas of the tests' own."""
    A = images / 255
    for W, b, name in zip(net.weights, net.biases, (*net.functions[:-1], "identity"), strict=True):
        A = FORMULAS[name][0](A @ W.astype(np.float64).T + b)
    return A


def exact_outputs(nets: list[MLP], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    found = []
    for net in nets:
        Z = exact_logits(net, images)
        if net.functions[-1] == "softmax":
            exps = np.exp(Z - Z.max(axis=1, keepdims=True))
            found.append(exps / exps.sum(axis=1, keepdims=True))
        else:
            found.append(FORMULAS[net.functions[-1]][0](Z))
    averaged: NDArray[np.float64] = np.mean(found, axis=0)
    return averaged


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity", "tanh"])
def test_outputs_are_the_mean_of_the_networks_outputs(small: Split, output: str) -> None:
    nets = networks(output)
    ensemble, expected = Ensemble(nets), exact_outputs(nets, small.images)
    found = ensemble.feedforward(small.images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-6)
    np.testing.assert_allclose(ensemble.feedforward(small.images[3]), found[3], atol=1e-6)
    np.testing.assert_array_equal(ensemble.predict(small.images), expected.argmax(axis=1))
    if output in ("softmax", "sigmoid"):
        shares = expected / expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(ensemble.predict_proba(small.images), shares, atol=3e-6)


def test_the_mean_decides_and_no_single_network() -> None:
    # One network is nearly sure of class 0, and two lean to class 1.
    nets = [MLP([2, 2], output="softmax", seed=seed) for seed in range(3)]
    for net, logit in zip(nets, (9.0, -0.1, -0.1), strict=True):
        net.weights[0][:], net.biases[0][:] = 0, (logit, 0)
    images = np.zeros((1, 2), np.float32)
    assert [net.predict(images)[0] for net in nets] == [0, 1, 1]
    assert Ensemble(nets).predict(images)[0] == 0


def test_one_output_means_two_classes(small: Split) -> None:
    nets = networks("sigmoid", 1)
    ensemble, expected = Ensemble(nets), exact_outputs(nets, small.images)
    np.testing.assert_array_equal(ensemble.predict(small.images), expected[:, 0] > 0.5)
    shares = np.hstack([1 - expected, expected])
    np.testing.assert_allclose(ensemble.predict_proba(small.images), shares, atol=3e-6)
    split = Split(small.images, small.labels % 2)
    result = evaluate(ensemble, split, device="cpu")
    assert result.confusion.shape == (2, 2)
    assert result.accuracy == np.mean(ensemble.predict(small.images) == split.labels)


@pytest.mark.parametrize(
    ("output", "loss"),
    [("softmax", None), ("sigmoid", None), ("sigmoid", "binary_cross_entropy"), ("relu", "squared_error")],
)
def test_loss_and_accuracy_are_those_of_the_mean(small: Split, output: str, loss: str | None) -> None:
    nets = networks(output)
    Y, A = np.eye(3)[small.labels], exact_outputs(nets, small.images)
    if output == "softmax":
        losses = -np.log(A[Y == 1])
    elif loss == "binary_cross_entropy":
        losses = -(Y * np.log(A) + (1 - Y) * np.log(1 - A)).sum(axis=1)
    else:
        losses = ((A - Y) ** 2).sum(axis=1)
    result = evaluate(Ensemble(nets), small, loss=loss, device="cpu")
    assert result.loss == pytest.approx(losses.mean(), rel=1e-5)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (small.labels, A.argmax(axis=1)), 1)
    np.testing.assert_array_equal(result.confusion, confusion)


@pytest.mark.parametrize(("output", "loss"), [("softmax", "cross_entropy"), ("sigmoid", "binary_cross_entropy")])
def test_losses_stay_exact_where_activations_round_to_0_or_1(small: Split, output: str, loss: str) -> None:
    nets = networks(output, scale=150)
    Y, logits = np.eye(3)[small.labels], np.array([exact_logits(net, small.images) for net in nets])
    if output == "softmax":
        logs = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
        losses = -np.logaddexp.reduce(logs, axis=0)[Y == 1] + np.log(3)
    else:
        yes, no = (np.logaddexp.reduce(-np.logaddexp(0, sign * logits), axis=0) - np.log(3) for sign in (-1, 1))
        losses = -(Y * yes + (1 - Y) * no).sum(axis=1)
    outputs = Ensemble(nets).feedforward(small.images)
    assert (outputs[Y == 1] < 1e-30).any() if output == "softmax" else (outputs[Y == 0] == 1).any()
    assert evaluate(Ensemble(nets), small, loss=loss, device="cpu").loss == pytest.approx(losses.mean(), rel=1e-4)


def test_chunks_do_not_change_the_result(small: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = Ensemble(networks())
    whole = evaluate(ensemble, small, device="cpu")
    for chunk in (1, 7, 199):
        monkeypatch.setattr(evaluation, "CHUNK_ON_CPU", chunk)
        result = evaluate(ensemble, small, device="cpu")
        np.testing.assert_array_equal(result.confusion, whole.confusion)
        assert result.loss == pytest.approx(whole.loss, rel=1e-6)


@pytest.mark.parametrize("loss", [None, "binary_cross_entropy"])
def test_the_cuda_backends_code_path_gives_the_same(small: Split, loss: str | None) -> None:
    ensemble = Ensemble(networks("softmax" if loss is None else "sigmoid"))
    cpu, gpu = (evaluate(ensemble, small, loss=loss, device=device) for device in ("cpu", CudaBackend(StrictCupy(), 0)))
    assert gpu.to_dict() == cpu.to_dict()


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_an_ensemble_of_one_is_that_network_bit_for_bit(small: Split, output: str) -> None:
    net = networks(output)[1]
    np.testing.assert_array_equal(Ensemble([net]).feedforward(small.images), net.feedforward(small.images))
    for loss in (None, "cross_entropy" if output == "softmax" else "binary_cross_entropy"):
        alone, one = (evaluate(each, small, loss=loss, device="cpu") for each in (net, Ensemble([net])))
        assert one.to_dict() == alone.to_dict()


def test_it_is_described_by_its_networks() -> None:
    nets = networks()
    ensemble = Ensemble(nets)
    assert ensemble.nets == tuple(nets)
    assert ensemble.n_parameters == sum(net.n_parameters for net in nets)
    assert (ensemble.n_inputs, ensemble.n_outputs, ensemble.output) == (12, 3, "softmax")
    assert ensemble.dtype == np.float32
    assert (str(ensemble), str(Ensemble(nets[:1]))) == ("ensemble of 3 networks", "ensemble of 1 network")
    assert repr(Ensemble(nets[2:])) == "Ensemble([MLP([12, 3], functions=['softmax'], dtype=float32)])"


def known(net: MLP, **attributes: Any) -> MLP:
    for name, value in attributes.items():
        setattr(net, name, value)
    return net


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (lambda: [MLP([13, 3])], r"the same n_inputs, got 12 for nets\[0\] and 13 for nets\[1\]"),
        (lambda: [MLP([12, 3]), MLP([12, 4])], r"the same n_outputs, got 3 for nets\[0\] and 4 for nets\[2\]"),
        (lambda: [MLP([12, 3], output="softmax")], r"the same output, got 'sigmoid' for nets\[0\] and 'softmax' for"),
        (lambda: [MLP([12, 3], dtype=np.float64)], r"the same dtype, got dtype\('float32'\) for nets\[0\] and dtype\("),
        (lambda: [known(MLP([12, 3]), grey=True)], r"the same grey, got None for nets\[0\] and True for nets\[1\]"),
        (lambda: [known(MLP([12, 3]), kind=ImageKind("A"))], r"the same kind, got None for nets\[0\] and ImageKind"),
        (lambda: [Ensemble(networks("sigmoid"))], r"nets must be MLPs, got Ensemble for nets\[1\]"),
        (lambda: [known(MLP([12, 3]), biases=[])], r"nets\[1\]: found 1 weight matrices and 0 bias vectors"),
    ],
)
def test_mixtures_without_a_meaning_are_refused(others: Callable[[], list[Any]], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        Ensemble([MLP([12, 3]), *others()])
    assert "\n" not in str(refused.value)


def test_no_network_is_no_ensemble() -> None:
    with pytest.raises(ConfigurationError, match="at least one network, got none"):
        Ensemble([])


def test_a_network_that_changed_is_noticed(small: Split, tmp_path: Path) -> None:
    nets = networks()
    ensemble = Ensemble(nets)
    nets[1].weights[0][0, 0] = np.nan
    for use in (lambda: ensemble.save(tmp_path / "both"), lambda: evaluate(ensemble, small, device="cpu")):
        with pytest.raises(ConfigurationError, match=r"nets\[1\]: weights\[0\] or biases\[0\] hold values that aren't"):
            use()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_ensemble_comes_back_bit_for_bit(tmp_path: Path, dtype: type) -> None:
    kind = ImageKind("shapes", (3, 4))
    nets = [known(MLP([12, *hidden, 3], seed=7, dtype=dtype), kind=kind, grey=True) for hidden in ([5], [], [4, 6])]
    Ensemble(nets).save(tmp_path / "both")
    back = gpunn.load(tmp_path / "both")
    assert isinstance(back, Ensemble)
    assert (back.kind, back.grey) == (kind, True)
    for ours, theirs in zip(nets, back.nets, strict=True):
        assert (theirs.sizes, theirs.functions, theirs.kind, theirs.grey) == (ours.sizes, ours.functions, kind, True)
        for mine, own in zip([*ours.weights, *ours.biases], [*theirs.weights, *theirs.biases], strict=True):
            assert own.dtype == dtype
            np.testing.assert_array_equal(mine, own)


def test_the_file_has_a_version_that_older_readers_refuse(tmp_path: Path) -> None:
    contents = set()
    for _ in range(10):
        Ensemble([MLP([4, 3, 2]), MLP([4, 2], seed=1)]).save(tmp_path / "both")
        contents.add((tmp_path / "both").read_bytes())
    assert len(contents) == 1
    with safe_open(tmp_path / "both", framework="numpy") as file:
        about, keys = json.loads(file.metadata()["gpunn"]), sorted(file.keys())
    assert about == {
        "version": 3,
        "networks": [
            {"sizes": [4, 3, 2], "functions": ["sigmoid", "sigmoid"]},
            {"sizes": [4, 2], "functions": ["sigmoid"]},
        ],
    }
    assert keys == [
        *(f"networks.0.{name}" for name in ("biases.0", "biases.1", "weights.0", "weights.1")),
        "networks.1.biases.0",
        "networks.1.weights.0",
    ]
    with pytest.raises(ModelFileError, match=r"both holds an ensemble: load it with gpunn\.load"):
        MLP.load(tmp_path / "both")
    MLP([4, 3, 2]).save(tmp_path / "net")
    assert isinstance(gpunn.load(tmp_path / "net"), MLP)


FIRST, SECOND = {"sizes": [4, 3, 2], "functions": ["relu", "softmax"]}, {"sizes": [4, 2], "functions": ["softmax"]}


def content(*, about: Any = None, first: Any = FIRST, second: Any = SECOND, **tensors: Any) -> bytes:
    """Return the file of an ensemble with changed descriptions and arrays (`n1w0=...`; None leaves one out)."""
    arrays: dict[str, Any] = {}
    for number, net in enumerate((MLP([4, 3, 2]), MLP([4, 2]))):
        for layer, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
            arrays |= {f"n{number}w{layer}": W, f"n{number}b{layer}": b}
    arrays |= tensors
    names = {
        short: re.sub(r"^n(\d)(w|b)", lambda m: f"networks.{m[1]}.{'weights' if m[2] == 'w' else 'biases'}.", short)
        for short in arrays
    }
    described = {"version": 3, "networks": [first, second]} | (about or {})
    kept = {names[short]: array for short, array in arrays.items() if array is not None}
    return save(kept, {"gpunn": json.dumps(described)})


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (content()[:-1], "is not a whole safetensors file"),
        (content() + b"\0", "is not a whole safetensors file"),
        (content(about={"version": VERSION + 1}), f"this gpunn reads versions up to {VERSION}: install a newer gpunn"),
        (content(about={"version": 2}), "has the sizes None: expected two or more positive numbers"),
        (content(about={"networks": None}), "has the networks None: expected an object for each"),
        (content(about={"networks": []}), "has the networks []: expected an object for each"),
        (content(about={"networks": {"0": FIRST}}), "has the networks {'0': {'functions'"),
        (content(second=None), "has the networks [{'functions': ['relu', 'softmax'], 'sizes': [4, 3, 2]}, None]"),
        (content(about={"networks": [FIRST]}), "its sizes [[4, 3, 2]] expect 4"),
        (content(about={"networks": [FIRST] * 5_000}), "its sizes [[4, 3, 2], [4, 3, 2], [4, 3, 2], "),
        (content(about={"networks": [[1]] * 1_000_000}), "characters: expected at most 400,600 for the number of its"),
        (content(second={}), "network 1 has the sizes None: expected two or more positive numbers"),
        (content(second=SECOND | {"sizes": [4, 0]}), "network 1 has the sizes [4, 0]: expected two or more positive"),
        (content(second=SECOND | {"functions": ["softmax", "softmax"]}), "network 1 has the functions ['softmax', "),
        (content(second=SECOND | {"functions": "softmax"}), "network 1 has the functions 'softmax': expected a name"),
        (content(second=SECOND | {"sizes": [5, 2]}), "networks.1.weights.0 has the shape (2, 4), its sizes [5, 2] ex"),
        (content(n1b0=None), "holds 5 arrays, ['networks.0.biases.0', 'networks.0.biases.1', "),
        (content(n1b0=None, n2b0=np.zeros(2)), "its sizes [[4, 3, 2], [4, 2]] expect ['networks.0.biases.0', "),
        (content(extra=np.zeros(1)), "holds 7 arrays, ['extra', 'networks.0.biases.0'"),
        (content(n1b0=np.zeros(3, np.float32)), "networks.1.biases.0 has the shape (3,)"),
        (content(n1b0=np.zeros(2)), "networks.1.biases.0 has the dtype F64, expected one of F32, F64 throughout"),
        (content(n0b0=np.zeros(3, np.int32)), "networks.0.biases.0 has the dtype I32"),
        (content(n1b0=np.array([1, np.inf], np.float32)), "networks.1.biases.0 holds values that aren't finite"),
        (content(about={"grey": 1}), "has 1 for grey: expected true or false"),
        (content(about={"data": {"shape": [3, 4]}}), "found images of 3 x 4 pixels, expected 4 pixels in all"),
        (
            content(second=SECOND | {"functions": ["sigmoid"]}),
            "holds networks that make no ensemble: nets must have the same output, got 'softmax' for nets[0] and",
        ),
        (
            content(second=SECOND | {"sizes": [5, 2]}, n1w0=np.zeros((2, 5), np.float32)),
            "holds networks that make no ensemble: nets must have the same n_inputs, got 4 for nets[0] and 5 for",
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damaged: bytes, message: str) -> None:
    (tmp_path / "both").write_bytes(damaged)
    with pytest.raises(ModelFileError, match=re.escape(message)) as refused:
        gpunn.load(tmp_path / "both")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


def test_a_file_truncated_at_any_byte_is_refused(tmp_path: Path) -> None:
    whole = content()
    for end in range(len(whole)):
        (tmp_path / "both").write_bytes(whole[:end])
        with pytest.raises(ModelFileError):
            gpunn.load(tmp_path / "both")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_byte_gives_an_ensemble_or_a_clear_error(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(content())
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] = data.draw(st.integers(0, 255))
    (tmp_path / "both").write_bytes(damaged)
    try:
        gpunn.load(tmp_path / "both").check()
    except ModelFileError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.fixture
def both(run: Run, mnist: Dataset) -> Ensemble:
    """A trained ensemble, in the file `both` of the working directory of `run`."""
    nets = [MLP([784, 16, 10], output="softmax", seed=1), MLP([784, 10], output="softmax", seed=2)]
    for net in nets:
        train(net, mnist.train[:1000], epochs=2, device="cpu", engine="plain")
    ensemble = Ensemble(nets)
    ensemble.save("both")
    return ensemble


def test_evaluate_takes_an_ensemble(run: Run, both: Ensemble, mnist: Dataset) -> None:
    result = evaluate(both, mnist.test, device="cpu")
    shown = run("evaluate", "both", "--device", "cpu").out
    assert shown.startswith("both: ensemble of 2 networks on 10,000 test images, device cpu\n")
    assert f"cross entropy {result.loss:.5f}   test accuracy {result.accuracy:.2%}\n" in shown
    document = json.loads(run("evaluate", "both", "--device", "cpu", "--json").out)
    assert [net["sizes"] for net in document["networks"]] == [[784, 16, 10], [784, 10]]
    assert document["confusion"] == result.confusion.tolist()
    assert document["loss_function"] == "cross_entropy"
    assert_one_line(
        run("evaluate", "both", "--loss", "squared_error"), "squared_error needs output activation", "got softmax"
    )


def test_predict_takes_an_ensemble(run: Run, both: Ensemble, mnist: Dataset) -> None:
    np.save("digit.npy", mnist.test.images[1].reshape(28, 28))
    (row,) = json.loads(run("predict", "both", "digit.npy", "--json").out)
    image = gpunn.read_digit("digit.npy", both.kind)
    expected = np.mean([net.predict_proba(image) for net in both.nets], axis=0)
    np.testing.assert_allclose(row["probabilities"], expected, rtol=1e-5)
    assert row["class"] == both.predict(image) == expected.argmax()
    assert re.match(r"digit\.npy: \d \(\d+%; next \d, \d+%\)", run("predict", "both", "digit.npy").out)


def test_an_ensembles_file_is_replaced_only_by_force(run: Run, data_dir: Path) -> None:
    Ensemble([MLP([16, 16, 10]), MLP([16, 10])]).save("both")
    before = Path("both").read_bytes()
    command = ("train", "--data-dir", data_dir, "--epochs", 1, "--output", "both")
    assert_one_line(
        run(*command), "both holds another network, ensemble of 2 networks (sigmoid and sigmoid, sigmoid)", "--force"
    )
    assert Path("both").read_bytes() == before
    assert run(*command, "--force").out.endswith("written to both, replacing the previous network\n")
    assert MLP.load("both").sizes == (16, 16, 10)


def test_data_must_fit_the_ensemble() -> None:
    with pytest.raises(gpunn.DataError, match="found images of 13 pixels, the network expects 12"):
        evaluate(Ensemble(networks()), random_split(4, 13, 3), device="cpu")
    with pytest.raises(gpunn.DataError, match=r"found images of shape \(2, 13\), the network expects"):
        Ensemble(networks()).predict(np.zeros((2, 13)))


def test_only_single_networks_are_trained(small: Split) -> None:
    with pytest.raises(ConfigurationError, match="net must be an MLP, got Ensemble"):
        train(Ensemble(networks()), small, epochs=1)  # type: ignore[arg-type]
