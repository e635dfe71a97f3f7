"""The tests of the kernels' contract, one suite for all machines.

The oracle and the CPU run it in `tests/test_kernels.py`, Numba's simulator in `tests/simulator`, GPUs in `tests/gpu`.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gpunn.dropout import mask
from gpunn.kernels.contract import Kernels
from gpunn.kernels.formulas.activations import ACTIVATIONS
from gpunn.kernels.formulas.losses import LOSSES
from gpunn.kernels.formulas.steps import N_MOMENTS, Numbers

from .kernel_cases import CASES, EPS, NAMES, ONCE, Case, check

OF_COLUMNS = ("column_sums", "descend_sums")
"""Kernels whose output has one number per column."""

NO_ARRAYS: list[Callable[[Any], Any]] = [lambda array: array.tolist(), lambda _: None, lambda _: "array", lambda _: 7]
NO_PLAIN_ARRAYS: list[Callable[[Any], Any]] = [np.ma.masked_array, lambda array: array.view(np.matrix)]


def _same(array: Any) -> Any:
    return array


@dataclass(frozen=True)
class Machine:
    """Kernels, and transfers to and from the arrays that they take."""

    kernels: Any
    shapes: tuple[tuple[int, int], ...]
    """Shapes of the outputs that are compared with the oracle's."""
    expected: str = "a NumPy array"
    """The expected kind of array, in messages."""
    compiled: bool = True
    on_host: bool = True
    """Whether the numbers in arrays are checked before kernels use them; on a GPU that would mean waiting for it."""
    put: Callable[[Any], Any] = _same
    get: Callable[[Any], Any] = _same
    activate: Callable[[], AbstractContextManager[Any]] = nullcontext

    def run(self, name: str, *arguments: Any, out: Any, in_place: bool = False, **options: Any) -> list[Any]:
        """Run a kernel; return `out` and the arguments afterwards, on the host."""
        with self.activate():
            there = [self.put(value) if isinstance(value, np.ndarray) else value for value in arguments]
            target = there[0] if in_place else self.put(out)
            getattr(self.kernels, name)(*there, out=target, **options)
            return [self.get(value) if hasattr(value, "shape") else value for value in (target, *there)]

    def call(self, name: str, **change: Any) -> Any:
        """Call a kernel with valid arguments except for `change`; return the output, on the host."""
        given = good_arguments(name) | change
        with self.activate():
            there = {key: self.put(value) if type(value) is np.ndarray else value for key, value in given.items()}
            moments = there.pop("moments", ())
            if name == "optimizer_step":
                names = ("parameter", "gradient", "numbers", "rule")
                positional = [there.pop(key) for key in names]
                moments = [self.put(moment) if type(moment) is np.ndarray else moment for moment in moments]
                getattr(self.kernels, name)(*positional, *moments, **there)
            else:
                getattr(self.kernels, name)(**there)
            return self.get(there["out"])


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def numbers(**given: Any) -> Numbers:
    return Numbers(**(dict.fromkeys(Numbers._fields, 0.0) | {"correction": 1.0, "epsilon": 1.0, "keep": 1.0} | given))


def good_arguments(name: str) -> dict[str, Any]:
    """Return valid arguments of a kernel."""
    good: dict[str, dict[str, Any]] = {
        "gather_scale": {"images": np.zeros((9, 3), np.uint8), "rows": np.zeros(4, np.int64)},
        "bias_activate": {"z": zeros(4, 3), "bias": zeros(3)},
        "hidden_delta": {"delta": zeros(4, 3), "activations": zeros(4, 3)},
        "output_delta": {
            "output": zeros(4, 3),
            "targets": np.zeros(4, np.uint8),
            "factor": 0.5,
            "total": np.zeros(1),
        },
        "drop": {"activations": zeros(4, 3), "key": 5, "first": 0, "share": 0.5},
        "descend_sums": {"parameter": zeros(3), "gradients": zeros(4, 3), "learning_rate": 1.0},
        "column_sums": {"rows": zeros(4, 3)},
        "optimizer_step": {
            "parameter": zeros(4, 3),
            "gradient": zeros(4, 3),
            "numbers": numbers(),
            "rule": "adam",
            "moments": (zeros(4, 3), zeros(4, 3)),
        },
    }
    return {"out": zeros(3) if name in OF_COLUMNS else zeros(4, 3)} | good[name]


BELOW = zeros(4, 4)

REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("gather_scale", {"images": np.zeros((9, 3))}, TypeError, "dtype float64, expected uint8"),
    ("gather_scale", {"images": np.zeros((9, 4), np.uint8)}, ValueError, r"shape \(9, 4\), expected \(9, 3\)"),
    ("gather_scale", {"images": np.zeros((), np.uint8)}, ValueError, r"shape \(\), expected \(3,\)"),
    ("gather_scale", {"rows": np.zeros(4, np.int32)}, TypeError, "rows of dtype int32, expected int64"),
    ("gather_scale", {"out": np.zeros((4, 3), np.float16)}, TypeError, "out of float16, expected a float32"),
    ("bias_activate", {"z": np.zeros((4, 3))}, TypeError, "z of dtype float64, expected float32"),
    ("bias_activate", {"z": zeros(3, 4).T}, ValueError, "expected a C-contiguous array"),
    ("bias_activate", {"out": zeros(3)}, ValueError, "expected 2 dimensions"),
    ("bias_activate", {"activation": "swish"}, ValueError, "activation must be one of sigmoid, tanh, .*, got 'swish'"),
    ("bias_activate", {"activation": 7}, TypeError, "activation must be a name, got 7"),
    ("hidden_delta", {"activation": "softmax"}, ValueError, "activation must be one of sigmoid, .*, got 'softmax'"),
    ("hidden_delta", {"out": zeros(4, 6)[:, ::2]}, ValueError, "C-contiguous"),
    ("output_delta", {"targets": np.zeros(4, np.int64)}, TypeError, "labels of dtype int64, expected uint8"),
    ("output_delta", {"targets": np.zeros((4, 3))}, TypeError, "targets of dtype float64, expected float32"),
    ("output_delta", {"targets": zeros(4, 2)}, ValueError, r"targets of shape \(4, 2\), expected"),
    ("output_delta", {"total": zeros(1)}, TypeError, "total of dtype float32, expected float64"),
    ("output_delta", {"loss": "hinge"}, ValueError, "loss must be one of squared_error, .*, got 'hinge'"),
    ("output_delta", {"loss": None}, TypeError, "loss must be a name, got None"),
    ("output_delta", {"activation": ["tanh"]}, TypeError, r"activation must be a name, got \['tanh'\]"),
    ("optimizer_step", {"gradient": BELOW}, ValueError, r"gradient of shape \(4, 4\)"),
    ("optimizer_step", {"moments": (BELOW, zeros(4, 3))}, ValueError, r"first moment of shape \(4, 4\)"),
    ("optimizer_step", {"moments": (zeros(4, 3), BELOW)}, ValueError, r"second moment of shape \(4, 4\)"),
    ("optimizer_step", {"moments": (zeros(4, 3), np.zeros((4, 3)))}, TypeError, "second moment of dtype float64"),
    ("optimizer_step", {"moments": ()}, ValueError, "rule adam needs 2 moments, got 0"),
    ("optimizer_step", {"rule": "momentum"}, ValueError, "rule momentum needs 1 moments, got 2"),
    ("optimizer_step", {"rule": "lbfgs"}, ValueError, "rule must be one of descent, .*, got 'lbfgs'"),
    ("optimizer_step", {"rule": None}, TypeError, "rule must be a name, got None"),
    ("descend_sums", {"gradients": BELOW}, ValueError, r"gradients of shape \(4, 4\)"),
    ("column_sums", {"rows": BELOW}, ValueError, r"rows of shape \(4, 4\)"),
    ("drop", {"activations": BELOW}, ValueError, r"activations of shape \(4, 4\)"),
    ("drop", {"share": 1.0}, ValueError, "share must be at least 0 and below 1, got 1"),
    ("drop", {"key": 0.5}, TypeError, "key must be a whole number, got 0.5"),
    ("drop", {"key": 2**32}, ValueError, "key must be from 0 to 4294967295, got 4294967296"),
    ("drop", {"first": -1}, ValueError, "first must be from 0 to 4294967295, got -1"),
]

OVERLAPPING: list[tuple[str, Callable[[Any], dict[str, Any]]]] = [
    ("bias_activate", lambda a: {"out": a[:4], "bias": a[0]}),
    ("bias_activate", lambda a: {"out": a[:4], "z": a[1:5]}),
    ("hidden_delta", lambda a: {"out": a[:4], "activations": a[:4]}),
    ("output_delta", lambda a: {"out": a[:4], "targets": a[:4]}),
    ("optimizer_step", lambda a: {"out": a[:4], "gradient": a[:4]}),
    ("optimizer_step", lambda a: {"out": a[:4], "moments": (a[4:8], a[:4])}),
    ("optimizer_step", lambda a: {"moments": (a[:4], a[:4])}),
    ("optimizer_step", lambda a: {"parameter": a[:4], "moments": (a[4:8], a[:4])}),
    ("optimizer_step", lambda a: {"gradient": a[:4], "moments": (a[:4], a[4:8])}),
    ("descend_sums", lambda a: {"out": a[0], "gradients": a[:4]}),
    ("column_sums", lambda a: {"out": a[0], "rows": a[:4]}),
    ("drop", lambda a: {"out": a[:4], "activations": a[1:5]}),
]
"""Overlapping arguments made of one array, (8, 3)."""

ENDS = {
    "sigmoid": (0, 0.5, 1),
    "tanh": (-1, 0, 1),
    "relu": (0, 0, np.inf),
    "leaky_relu": (-np.inf, 0, np.inf),
    "elu": (-1, 0, np.inf),
    "identity": (-np.inf, 0, np.inf),
}
"""f(z) for the lowest z, for 0, and for the highest z."""


class KernelContract:
    """The suite; subclasses have a fixture `machine`."""

    @pytest.mark.usefixtures("launches")
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_it_agrees_with_the_oracle(self, machine: Machine, case: Case) -> None:
        for m, n in machine.shapes:
            check(case, machine.run, m, n)

    @pytest.mark.parametrize("case", [case for case in CASES if case.name not in ONCE], ids=str)
    def test_out_may_be_the_first_input(self, machine: Machine, case: Case) -> None:
        for m, n in machine.shapes:
            check(case, machine.run, m, n, in_place=True)

    def test_every_operation_has_its_signature(self, machine: Machine) -> None:
        def signature(function: Any) -> list[tuple[Any, ...]]:
            found = inspect.signature(function).parameters.values()
            return [(p.name, p.kind, p.default) for p in found if p.name != "self"]

        operations = [name for name, value in vars(Kernels).items() if inspect.isfunction(value) and name[0] != "_"]
        assert sorted(operations) == NAMES
        for name in operations:
            assert signature(getattr(machine.kernels, name)) == signature(getattr(Kernels, name))

    @pytest.mark.parametrize("name", NAMES)
    def test_valid_arguments_are_accepted(self, machine: Machine, name: str) -> None:
        machine.call(name)

    @pytest.mark.parametrize("name", NAMES)
    def test_an_empty_batch_is_no_work(self, machine: Machine, name: str) -> None:
        whole, nothing = good_arguments(name), zeros(0, 3)
        kept = {"bias", "images", "total", "parameter" if name == "descend_sums" else "", "out" * (name in OF_COLUMNS)}
        empty = {
            key: value[:0] for key, value in whole.items() if isinstance(value, np.ndarray) and key not in kept
        } | ({"moments": (nothing.copy(), nothing.copy())} if "moments" in whole else {})
        machine.call(name, **empty)

    def test_the_sum_of_no_rows_is_zero(self, machine: Machine) -> None:
        parameter, nothing, out = np.arange(3, dtype=np.float32), zeros(0, 3), np.full(3, 7, np.float32)
        np.testing.assert_array_equal(machine.run("descend_sums", parameter, nothing, 1.0, out=out)[0], [0, 1, 2])
        assert (machine.run("column_sums", nothing, out=out)[0] == 0).all()

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("targets", [np.zeros(0, np.uint8), zeros(0, 3)], ids=["labels", "rows"])
    def test_an_empty_batch_has_no_loss(self, machine: Machine, loss: str, targets: Any) -> None:
        nothing, total = zeros(0, 3), np.array([2.5])
        after = machine.run("output_delta", nothing, targets, 1.0, total, "identity", loss, out=nothing, in_place=True)
        assert after[4] == 2.5

    @pytest.mark.parametrize(("name", "change", "error", "message"), REFUSED)
    def test_invalid_arguments_are_refused(
        self, machine: Machine, name: str, change: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        # Copies on a GPU would be C-contiguous.
        if not all(a.flags.c_contiguous for a in change.values() if isinstance(a, np.ndarray)):
            with machine.activate():
                change = {key: self.strided(machine, array) for key, array in change.items()}
        with pytest.raises(error, match=message):
            machine.call(name, **change)

    @staticmethod
    def strided(machine: Machine, array: Any) -> Any:
        """Return an array of the machine: one in Fortran order, or else every second column of another."""
        if array.flags.f_contiguous:
            return machine.put(np.ascontiguousarray(array.T)).T
        return machine.put(zeros(array.shape[0], 2 * array.shape[1]))[:, ::2]

    @pytest.mark.parametrize("number", range(len(OVERLAPPING)), ids=lambda number: OVERLAPPING[number][0])
    def test_out_must_not_overlap_other_inputs(self, machine: Machine, number: int) -> None:
        name, change = OVERLAPPING[number]
        with machine.activate():
            shared = machine.put(zeros(8, 3))
        with pytest.raises(ValueError, match="must not overlap an input"):
            machine.call(name, **change(shared))
        assert (machine.get(shared) == 0).all()

    def test_neighbours_in_memory_do_not_overlap(self, machine: Machine) -> None:
        with machine.activate():
            both = machine.put(zeros(2, 4, 3))
        assert (machine.call("bias_activate", z=both[0], out=both[1]) == 0.5).all()

    @pytest.mark.parametrize("name", NAMES)
    def test_every_array_must_be_an_array(self, machine: Machine, name: str) -> None:
        changes = NO_ARRAYS + NO_PLAIN_ARRAYS * machine.on_host
        for argument, value in good_arguments(name).items():
            places = range(len(value)) if argument == "moments" else [None] * isinstance(value, np.ndarray)
            for place in places:
                for change in changes:
                    given = wrong = change(value if place is None else value[place])
                    if place is not None:
                        given = (*value[:place], wrong, *value[place + 1 :])
                    expected = rf"^found [a-z ]+ of type {type(wrong).__name__}, expected {machine.expected}"
                    with pytest.raises(TypeError, match=expected):
                        machine.call(name, **{argument: given})

    @pytest.mark.parametrize("name", NAMES)
    def test_every_number_must_be_a_number(self, machine: Machine, name: str) -> None:
        given = good_arguments(name)
        for wrong in (None, "1", [1.0], np.ones(1), 1j, True):
            changes: list[dict[str, Any]] = [
                {key: wrong} for key, value in given.items() if isinstance(value, int | float)
            ]
            if "numbers" in given:
                changes += [{"numbers": numbers(**{field: wrong})} for field in Numbers._fields]
            for change in changes:
                with pytest.raises(TypeError, match=r"^[a-z0-9_ ]+ must be a (whole )?number, got "):
                    machine.call(name, **change)

    @pytest.mark.parametrize("row", [-1, 4, -(2**63), 2**63 - 1])
    @pytest.mark.parametrize("n", [3, 8])
    def test_rows_out_of_range_are_not_read(self, machine: Machine, row: int, n: int) -> None:
        images, rows = np.arange(4 * n, dtype=np.uint8).reshape(4, n), np.array([3, row, 0])
        if machine.on_host:
            with pytest.raises(IndexError, match=f"found rows from {min(0, row)} to {max(3, row)}, expected 0 to 3"):
                machine.run("gather_scale", images, rows, out=zeros(3, n))
        else:
            found = machine.run("gather_scale", images, rows, out=zeros(3, n))[0]
            np.testing.assert_allclose(found * 255, [images[3], [np.nan] * n, images[0]], rtol=EPS)

    def test_no_image_is_read_if_there_are_none(self, machine: Machine) -> None:
        images, rows = np.zeros((0, 3), np.uint8), np.zeros(2, np.int64)
        if machine.on_host:
            with pytest.raises(IndexError, match="found rows from 0 to 0, expected 0 to -1"):
                machine.run("gather_scale", images, rows, out=zeros(2, 3))
        else:
            assert np.isnan(machine.run("gather_scale", images, rows, out=zeros(2, 3))[0]).all()

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("label", [3, 255])
    def test_labels_out_of_range_are_refused(self, machine: Machine, label: int, loss: str) -> None:
        a, labels = np.full((3, 3), 0.5, np.float32), np.array([1, label, 2], np.uint8)
        arguments = a, labels, 4.0, np.zeros(1), "identity", loss
        if machine.on_host:
            with pytest.raises(IndexError, match=f"found labels from 1 to {label}, expected 0 to 2"):
                machine.run("output_delta", *arguments, out=a, in_place=True)
        else:
            found, *_, total, _, _ = machine.run("output_delta", *arguments, out=a, in_place=True)
            np.testing.assert_array_equal(np.isnan(found).all(axis=1), [False, True, False])
            np.testing.assert_array_equal(np.sign(found[[0, 2]]), [[1, -1, 1], [1, 1, -1]])
            assert np.isnan(total[0])

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_activations_saturate_without_warnings_and_keep_nan(self, machine: Machine, activation: str) -> None:
        z = np.array([[-np.inf, 0, np.inf, -1e38, 1e38, np.nan]], np.float32)
        a = machine.run("bias_activate", z, zeros(6), activation, out=z, in_place=True)[0]
        np.testing.assert_allclose(a[0, :3], ENDS[activation], rtol=0, atol=3e-7)
        assert np.isnan(a[0]).tolist() == [False] * 5 + [True]
        delta = np.full((1, 2), np.nan, np.float32)
        assert np.isnan(machine.run("hidden_delta", delta, np.ones_like(delta), activation, out=delta.copy())[0]).all()

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("column", range(3))
    def test_a_loss_of_nan_is_nan(self, machine: Machine, loss: str, column: int) -> None:
        output, labels = np.array([[1, 2, 3], [1, 2, 3]], np.float32), np.array([0, 2], np.uint8)
        output[1, column] = np.nan
        arguments = output, labels, 1.0, np.zeros(1), "identity", loss
        found, *_, total, _, _ = machine.run("output_delta", *arguments, out=output, in_place=True)
        assert np.isnan(total[0])
        assert not np.isnan(found[0]).any()
        assert np.isnan(found[1, column])
        assert np.isnan(found[1]).all() == (loss == "cross_entropy")

    def test_cross_entropies_of_certain_outputs_are_right(self, machine: Machine) -> None:
        logits, labels = np.array([[200, -200, 0], [-300, 300, -300]], np.float32), np.array([0, 0], np.uint8)
        for loss, value, of_zero in (("cross_entropy", 600.0, 0.0), ("binary_cross_entropy", 600 + np.log(2), 0.5)):
            arguments = logits, labels, 1.0, np.zeros(1), "identity", loss
            found, *_, total, _, _ = machine.run("output_delta", *arguments, out=np.empty_like(logits))
            assert total[0] == pytest.approx(value, rel=4 * EPS)
            np.testing.assert_allclose(found, np.array([[0, 0, of_zero], [-1, 1, 0]]), rtol=0, atol=2e-7)

    def test_numbers_too_large_for_float32_are_infinite_without_a_warning(self, machine: Machine) -> None:
        ones, two = np.ones((2, 2), np.float32), np.ones(2, np.float32)
        # The oracle doesn't round its numbers.
        with nullcontext() if machine.compiled else np.errstate(over="ignore"):
            matrix = machine.run("optimizer_step", ones.copy(), ones, numbers(rate=1e300), out=ones.copy())[0]
            row = machine.run("descend_sums", two, ones, 1e300, out=two.copy())[0]
        assert (matrix == -np.inf).all()
        assert (row == -np.inf).all()

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.999999, 1 - 1e-12])
    def test_drop_agrees_with_the_masks(self, machine: Machine, share: float) -> None:
        for key, first in ((4_000_000_007, 59_000), (0, 2**31), (2**32 - 1, 0)):
            ones = np.ones((30, 37), np.float32)
            found = machine.run("drop", ones, key, first, share, out=ones.copy())[0]
            expected = mask(np, key, first, (30, 37), share=share, dtype=np.float32)
            np.testing.assert_allclose(found, expected, rtol=EPS)
            assert share == 0.1 or (found == 0).any()

    def test_grey_levels_are_divided_to_the_last_bit(self, machine: Machine) -> None:
        images = np.arange(256, dtype=np.uint8).reshape(4, 64)
        found = machine.run("gather_scale", images, np.arange(4), out=zeros(4, 64))[0]
        np.testing.assert_array_equal(found, images.astype(np.float32) / np.float32(255))

    def test_images_may_begin_anywhere_in_memory(self, machine: Machine) -> None:
        with machine.activate():
            images = machine.put(np.arange(33, dtype=np.uint8))[1:].reshape(4, 8)
        found = machine.call("gather_scale", images=images, out=zeros(4, 8))
        np.testing.assert_array_equal(found, np.tile(np.arange(1, 9, dtype=np.float32) / np.float32(255), (4, 1)))

    def test_float_inputs_are_unchanged(self, machine: Machine) -> None:
        rng = np.random.default_rng(3)
        inputs, rows = rng.normal(size=(50, 37)).astype(np.float32), rng.integers(0, 50, 60)
        found = machine.run("gather_scale", inputs, rows, out=zeros(60, 37))[0]
        np.testing.assert_array_equal(found, inputs[rows])

    @pytest.mark.parametrize("shape", [(7,), (2, 3, 2), (0,)], ids=str)
    def test_parameters_of_any_shape_make_steps(self, machine: Machine, shape: tuple[int, ...]) -> None:
        ones, given = np.ones(shape, np.float32), {"rate": 0.5, "beta1": 0.5}
        steps: tuple[tuple[str, Numbers, float], ...] = (
            ("descent", numbers(rate=0.5, l2=1.0), 0.0),
            ("momentum", numbers(**given), 1 - 0.5 * 1.5),
            ("nesterov", numbers(**given), 1 - 0.5 * 1.75),
            ("adam", numbers(**given, rest1=0.5, beta2=0.5, rest2=0.5, keep=0.75), 0.75 - 0.5 / 2),
        )
        for rule, of_step, expected in steps:
            moments = [ones.copy() for _ in range(N_MOMENTS[rule])]
            arguments = ones.copy(), ones, of_step, rule, *moments
            found = machine.run("optimizer_step", *arguments, out=ones, in_place=True)[0]
            np.testing.assert_allclose(found, np.full(shape, expected, np.float32), rtol=1e-6)
