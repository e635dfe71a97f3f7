"""Inputs of `Split`, and training and evaluation with them."""

import math
import re
from typing import Any

import numpy as np
import pytest

from gpunn import MLP, DataError, EarlyStopping, Split, evaluate, train
from gpunn.backends.cuda import CudaBackend
from gpunn.datasets import ImageKind
from gpunn.engines import Examples
from gpunn.engines.cpu.epoch import EpochEngine
from gpunn.engines.cpu.fused import FusedEngine

from .conftest import parameters, random_split
from .strict_cupy import StrictCupy

ENGINES = ("auto", "plain", "epoch", "fused")
GREY = random_split(40, 16, 3)


def trained(split: Split, sizes: tuple[int, ...] = (16, 5, 3), **options: Any) -> MLP:
    net = MLP(sizes)
    train(net, split, **{"epochs": 2, "batch_size": 8, "learning_rate": 0.5, "device": "cpu", **options})
    return net


def assert_alike(one: MLP, other: MLP) -> None:
    for ours, theirs in zip(parameters(one), parameters(other), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_split_is_indexed_by_rows(small: Split) -> None:
    assert len(small[:7]) == 7
    picked = small[np.array([3, 1])]
    np.testing.assert_array_equal(picked.images, small.images[[3, 1]])
    np.testing.assert_array_equal(small[-1].images, small.images[-1:])
    assert len(list(small)) == len(small)
    with pytest.raises(DataError, match="expected at least one image and one pixel"):
        small[:0]


@pytest.mark.parametrize("engine", ENGINES)
def test_xor_is_learnt_from_lists(engine: str) -> None:
    X = [[0, 0], [0, 1], [1, 0], [1, 1]]
    for labels, n_outputs in (([[0], [1], [1], [0]], 1), ([0, 1, 1, 0], 1), ([0, 1, 1, 0], 2)):
        split = Split(X, labels)
        net = MLP([2, 8, n_outputs])
        history = train(net, split, test=split, epochs=300, batch_size=4, learning_rate=8, engine=engine, device="cpu")
        assert net.predict(X).tolist() == [0, 1, 1, 0]
        assert history.accuracy == 1
        assert evaluate(net, split, device="cpu").confusion.tolist() == [[2, 0], [0, 2]]


@pytest.mark.parametrize("engine", ENGINES)
def test_floats_train_like_the_grey_levels_they_stand_for(engine: str) -> None:
    expected = trained(GREY, engine=engine)
    assert expected.grey is True
    for dtype in (np.float32, np.float64, np.longdouble):
        floats: Any = GREY.images.astype(dtype)
        net = trained(Split(floats / 255, GREY.labels), engine=engine)
        assert_alike(net, expected)
        assert net.grey is False


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_of_targets_train_like_the_classes_they_stand_for(engine: str) -> None:
    expected = trained(GREY, engine=engine)
    for targets in (np.eye(3)[GREY.labels], np.eye(3, dtype=int)[GREY.labels].tolist(), np.eye(3) == 1):
        rows = targets if len(targets) == 40 else np.asarray(targets)[GREY.labels]
        split = Split(GREY.images, rows)
        assert_alike(trained(split, engine=engine), expected)
        ours, theirs = (evaluate(expected, each, device="cpu") for each in (split, GREY))
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
        np.testing.assert_array_equal(ours.confusion, theirs.confusion)


@pytest.mark.parametrize(
    "images",
    [
        GREY.images.reshape(-1, 4, 4),
        GREY.images.reshape(-1, 4, 4, 1),
        GREY.images.reshape(-1, 1, 4, 4),
        GREY.images.tolist(),
        GREY.images.reshape(-1, 4, 4).tolist(),
        GREY.images.astype(np.int64),
        np.asfortranarray(GREY.images),
    ],
)
def test_grey_levels_are_taken_in_every_form(images: Any) -> None:
    split = Split(images, GREY.labels)
    assert split.grey
    assert split.images.flags.c_contiguous
    np.testing.assert_array_equal(split.images, GREY.images)


@pytest.mark.parametrize(
    "labels",
    [
        GREY.labels.astype(np.int64),
        GREY.labels.astype(">i4"),
        GREY.labels.tolist(),
        GREY.labels.astype(np.float64),
        tuple(GREY.labels),
    ],
)
def test_classes_may_be_any_integers(labels: Any) -> None:
    split = Split(GREY.images, labels)
    assert split.labels.dtype == np.uint8
    np.testing.assert_array_equal(split.labels, GREY.labels)


def test_bools_are_two_classes() -> None:
    np.testing.assert_array_equal(Split([[0.0], [1.0]], [False, True]).labels, [0, 1])


@pytest.mark.parametrize(
    ("images", "dtype"),
    [
        (np.eye(3, 20, dtype=np.int64), np.float64),  # dark, if they were grey levels
        (np.full((3, 4), 200), np.float64),  # of too few columns for an image
        (np.full((3, 20), 300), np.float64),
        (np.full((3, 20), 200.0), np.float64),
        (np.full((3, 20), 200, np.float32), np.float32),
        (np.eye(3, 20, dtype=np.float16), np.float32),
        (np.eye(3, 20) == 1, np.float32),
    ],
)
def test_other_numbers_are_inputs_as_they_are(images: Any, dtype: type) -> None:
    split = Split(images, [0, 1, 2])
    assert split.images.dtype == dtype
    np.testing.assert_array_equal(split.images, images)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([[0.0], [1.0]], [0], "found 1 labels for 2 images"),
        ([[0.0], [1.0, 2.0]], [0, 1], "found images as list, which is not an array"),
        ([0.0, 1.0], [0, 1], "reshape(-1, 1) images of one pixel"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 1], "one grey level a pixel"),
        (np.zeros((0, 4)), [], "found images of shape (0, 4), expected at least one image and one pixel"),
        ([["a"]], [0], "found images as <U1"),
        ([[1j]], [0], "found images as complex128"),
        ([[None]], [0], "found images as object"),
        (None, [0], "found images as NoneType"),
        ([[math.nan]], [0], "found NaN or infinity in images"),
        (np.ma.masked_equal([[1.0], [2.0]], 1.0), [0, 1], "found masked values in images"),
        ([[0.0], [1.0]], [0, -1], "found the label -1, expected 0 or more"),
        ([[0.0], [1.0]], [0, 256], "found the label 256, expected 0 to 255"),
        ([[0.0], [1.0]], [0.5, 1.0], "reshape(-1, 1) makes targets of one output of them"),
        ([[0.0], [1.0]], ["cat", "dog"], "number the classes, as numpy.unique"),
        ([[0.0], [1.0]], [[0.0], [math.inf]], "found NaN or infinity in targets"),
        ([[0.0], [1.0]], np.zeros((2, 1, 1)), "found labels of shape (2, 1, 1)"),
        ([[0.0], [1.0]], np.zeros((2, 0)), "found labels of shape (2, 0)"),
    ],
)
def test_invalid_data_is_refused_in_one_line(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as refused:
        Split(images, labels)
    assert str(refused.value).isprintable()


def test_numbers_that_the_networks_dtype_cannot_hold_are_refused_before_training() -> None:
    split = Split([[1e300] * 16] * 10, [0] * 10)
    with pytest.raises(DataError, match=re.escape("found images of numbers above 3.4e+38, more than float32 holds")):
        trained(split)


def test_labels_can_be_changed_neither_in_the_split_nor_in_the_original() -> None:
    labels = GREY.labels.copy()
    split = Split(GREY.images, labels)
    labels[:] = 255
    np.testing.assert_array_equal(split.labels, GREY.labels)
    for view in (split.labels, split[:3].labels, Split(GREY.images, split.labels).labels):
        with pytest.raises(ValueError, match="read-only"):
            view[:] = 255
    targets = np.eye(3)[GREY.labels]
    rows = Split(GREY.images, targets)
    targets[:] = math.nan
    assert np.isfinite(rows.labels).all()


def test_labels_that_start_at_1_are_recognised() -> None:
    split = Split(np.zeros((26, 4), np.uint8), np.arange(26) + 1)
    with pytest.raises(DataError, match=r"start at 1: subtract 1, or use 27 outputs \(--classes 27\)"):
        split.check_labels(26)
    with pytest.raises(DataError, match=r"found the label 26, .* use a network with 27 outputs"):
        split.check_labels(10)


def test_targets_must_be_as_many_as_outputs() -> None:
    column = Split(GREY.images, GREY.labels[:, None])
    with pytest.raises(
        DataError, match=re.escape("found rows of 1 target, the network has 3 outputs: labels that are")
    ):
        trained(column)
    with pytest.raises(DataError, match="expected 0 to 1 for 2 classes"):
        trained(GREY, sizes=(16, 1))


def test_grey_levels_are_not_tested_with_floats_up_to_255() -> None:
    loud = Split(GREY.images.astype(np.float64), GREY.labels)
    for one, other in ((GREY, loud), (loud, GREY)):
        with pytest.raises(DataError, match="expected one kind of inputs"):
            trained(one, test=other)
    with pytest.raises(DataError, match="the network was trained on grey levels"):
        evaluate(trained(GREY), loud, device="cpu")
    trained(GREY, test=Split(GREY.images / 255, GREY.labels))


def test_early_stopping_holds_rows_of_floats_out() -> None:
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(50, 16)), rng.normal(size=(50, 2)))
    net = MLP([16, 4, 2], output="identity")
    history = train(
        net, split, epochs=3, batch_size=5, learning_rate=0.01, early_stopping=EarlyStopping(share=0.2), device="cpu"
    )
    assert all(epoch.held_out is not None and math.isfinite(epoch.held_out.loss) for epoch in history.epochs)


def test_targets_that_are_no_classes_have_a_loss_and_no_accuracy() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 16)), rng.normal(size=(50, 2))
    net = MLP([16, 2], output="identity", dtype=np.float64)
    result = evaluate(net, Split(X, Y), device="cpu")
    assert result.loss == pytest.approx(((net.feedforward(X) - Y) ** 2).sum(axis=1).mean())
    assert math.isnan(result.accuracy)
    assert result.to_dict() == {"loss": result.loss, "accuracy": None, "confusion": []}


@pytest.mark.parametrize(
    ("rows", "classes"),
    [
        ([[0], [1]], [0, 1]),
        ([[-1], [1]], [0, 1]),
        ([[0.0], [0.5]], None),
        ([[0, 1], [1, 0]], [1, 0]),
        ([[0.1, 0.9], [0.6, 0.4]], [1, 0]),
        ([[-1, 1], [1, -1]], [1, 0]),
        ([[1, 1], [0, 1]], None),  # answers to two questions
        ([[2, -1], [0, 1]], None),
    ],
)
def test_rows_stand_for_classes_where_one_entry_stands_out(rows: Any, classes: Any) -> None:
    found = Split(np.zeros((2, 1)), rows).classes
    assert (None if found is None else found.tolist()) == classes


def test_the_kind_of_images_in_rows_and_columns_is_measured() -> None:
    disc = np.hypot(*np.mgrid[-14:14, -14:14] + 0.0) < 9
    digits = np.tile(disc, (5, 1, 1)).astype(np.uint8) * 255
    assert Split(digits, [0] * 5).kind == ImageKind(shape=(28, 28), framing="digit")
    assert Split(digits[:, None], [0] * 5).kind == ImageKind(shape=(28, 28), framing="digit")
    assert Split(np.roll(digits, 4, axis=1), [0] * 5).kind == ImageKind(shape=(28, 28), framing="whole")
    assert Split(np.full((5, 28, 28), 9, np.uint8), [0] * 5).kind == ImageKind(shape=(28, 28), framing="whole")
    assert Split(digits[:, :, 4:-4], [0] * 5).kind == ImageKind(shape=(28, 20), framing="whole")
    assert Split(np.zeros((5, 28, 28), np.uint8), [0] * 5).kind == ImageKind(shape=(28, 28), framing="whole")


def test_a_split_is_described_in_a_line() -> None:
    assert repr(GREY) == "Split(40 x 16 grey levels, labels up to 2)"
    assert repr(Split([[0.5, 1]], [[0, 1]])) == "Split(1 x 2 float64, rows of 2 targets)"


def test_floats_and_rows_keep_to_the_device_of_the_cuda_backend() -> None:
    gpu = CudaBackend(StrictCupy(), 0)
    rng = np.random.default_rng(0)
    for labels in (np.eye(3)[GREY.labels], rng.normal(size=(40, 3)), GREY.labels):
        split = Split(rng.normal(size=(40, 16)), labels)
        assert_alike(trained(split, test=split, device=gpu, engine="plain"), trained(split, test=split, engine="plain"))


def test_auto_chooses_an_engine_that_takes_floats_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, bool]] = []

    def unsupported_reason(_: Any, __: Any, ___: Any, examples: Examples | None = None) -> str | None:
        assert examples is not None
        asked.append((examples.grey, examples.labeled))
        return "it takes grey levels and classes alone"

    for engine in (EpochEngine, FusedEngine):
        monkeypatch.setattr(engine, "unsupported_reason", unsupported_reason)
    split = Split(GREY.images / 255, np.eye(3)[GREY.labels])
    history = train(MLP([16, 3]), split, epochs=1, batch_size=8, learning_rate=0.1, device="cpu")
    assert history.engine == "plain"
    assert asked == [(False, False)] * 2
