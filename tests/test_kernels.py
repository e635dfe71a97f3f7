"""The kernels' contract on the CPU: the oracle and the compiled kernels, and back-propagation made of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunn import MLP
from gpunn.equations import backpropagate
from gpunn.kernels.cpu import contract as cpu

from . import oracle
from .conftest import random_split
from .kernel_cases import CASES, NAMES, ONCE, check
from .kernel_contract import OF_COLUMNS, KernelContract, Machine, numbers

SHAPES = ((1, 1), (3, 5), (33, 2), (9, 16), (2, 33), (40, 130), (7, 255))
CPU = Machine(cpu, SHAPES)


class TestOracle(KernelContract):
    @pytest.fixture
    def machine(self) -> Machine:
        return Machine(oracle, ((1, 1), (9, 16)), compiled=False)


class TestCPU(KernelContract):
    @pytest.fixture
    def machine(self) -> Machine:
        return CPU


@pytest.mark.parametrize(("kernels", "dtype"), [(oracle, np.float32), (oracle, np.float64), (cpu, np.float32)])
@pytest.mark.parametrize("m", [1, 7, 32])
def test_the_kernels_make_a_step_of_backpropagation(kernels: Any, dtype: Any, m: int) -> None:
    split = random_split(40, 12, 3)
    net = MLP([12, 5, 3], seed=1, dtype=dtype)
    rows = np.random.default_rng(0).permutation(40)[:m]

    X = np.empty((m, 12), dtype)
    kernels.gather_scale(split.images, rows, out=X)
    hidden = X @ net.weights[0].T
    kernels.bias_activate(hidden, net.biases[0], out=hidden)
    output = hidden @ net.weights[1].T
    kernels.bias_activate(output, net.biases[1], out=output)
    total = np.zeros(1)
    delta2 = np.empty_like(output)
    kernels.output_delta(output, split.labels[rows], 1 / m, total, out=delta2)
    delta1 = delta2 @ net.weights[1]
    kernels.hidden_delta(delta1, hidden, out=delta1)
    stepped = net.weights[0].copy()
    kernels.optimizer_step(stepped, np.ascontiguousarray(delta1.T @ X), numbers(rate=0.5), out=stepped)
    stepped_bias = net.biases[0].copy()
    kernels.descend_sums(stepped_bias, delta1, 0.5, out=stepped_bias)

    Y = np.eye(3, dtype=dtype)[split.labels[rows]]
    loss, dW, db = backpropagate(np, net.weights, net.biases, split.images[rows].astype(dtype) / 255, Y)
    close: dict[str, Any] = {"rtol": 0, "atol": 8 * float(np.finfo(dtype).eps)}
    assert total[0] / m == pytest.approx(float(loss), rel=1e-6)
    np.testing.assert_allclose(delta2.T @ hidden, dW[1], **close)
    np.testing.assert_allclose(delta2.sum(axis=0), db[1], **close)
    np.testing.assert_allclose(delta1.T @ X, dW[0], **close)
    np.testing.assert_allclose(stepped, net.weights[0] - 0.5 * dW[0], **close)
    np.testing.assert_allclose(stepped_bias, net.biases[0] - 0.5 * db[0], **close)


@given(m=st.integers(1, 40), n=st.integers(1, 200), in_place=st.booleans(), data=st.data())
@settings(deadline=None, max_examples=200)
def test_compiled_kernels_agree_with_the_oracle_at_any_shape(
    m: int, n: int, in_place: bool, data: st.DataObject
) -> None:
    case = data.draw(st.sampled_from(CASES))
    check(case, CPU.run, m, n, in_place=in_place and case.name not in ONCE)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gather_scale"])
def test_compiled_kernels_refuse_float64(name: str) -> None:
    out = np.zeros(3) if name in OF_COLUMNS else np.zeros((4, 3))
    with pytest.raises(TypeError, match=r"^found out of float64, expected a float32 array$"):
        CPU.call(name, out=out)


def test_arrays_in_files_are_arrays(tmp_path: Path) -> None:
    CPU.call("gather_scale", images=np.memmap(tmp_path / "images", np.uint8, "w+", shape=(9, 3)))


def test_arrays_changed_in_place_must_be_writable() -> None:
    parameter, gradient, velocity = np.ones((3, 4), np.float32)
    velocity.flags.writeable = False
    with pytest.raises(ValueError, match="first moment must be writable"):
        cpu.optimizer_step(parameter, gradient, numbers(rate=0.1, beta1=0.9), "momentum", velocity, out=parameter)
    assert (parameter == 1).all()
    assert (velocity == 1).all()


def test_moments_that_fade_away_are_forgotten() -> None:
    # Arithmetic with subnormal numbers, which they would become, is many times as slow.
    parameter, gradient = np.ones(20, np.float32), np.zeros(20, np.float32)
    velocity, mean, square = np.full((3, 20), 1.1e-30, np.float32)
    square[:] = 1.2e-38
    mean[1] = velocity[1] = np.nan
    of_step = numbers(rate=0.1, beta1=0.9, rest1=0.1, beta2=0.9, rest2=0.1, epsilon=1e-8)
    cpu.optimizer_step(parameter, gradient, of_step, "momentum", velocity, out=parameter)
    cpu.optimizer_step(parameter, gradient, of_step, "adam", mean, square, out=parameter)
    for moment in (velocity, mean, square):
        assert (moment[2:] == 0).all()
    assert np.isnan([velocity[1], mean[1], parameter[1]]).all()


def test_compiled_sigmoid_is_right_to_2e_7_for_every_kind_of_float32() -> None:
    bits = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38, -1e38, 1e-45, -1e-45], np.float32)
    z = np.concatenate([bits.view(np.float32), special])
    found = np.empty((1, len(z)), np.float32)
    cpu.bias_activate(z[None], np.zeros(len(z), np.float32), out=found)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = 1 / (1 + np.exp(-z.astype(np.float64)))
    np.testing.assert_array_equal(np.isnan(found[0]), np.isnan(z))
    number = ~np.isnan(z)
    assert np.abs(found[0] - exact)[number].max() <= 2e-7
    rising = found[0][number][np.argsort(z[number], kind="stable")].astype(np.float64)
    assert (rising - np.maximum.accumulate(rising)).min() >= -2.4e-7
    assert rising.min() >= 0
    assert rising.max() <= 1


def test_losses_of_many_outputs_are_right() -> None:
    zeros, total = np.zeros((1, 1500), np.float32), np.zeros(1)
    cpu.output_delta(zeros, zeros.copy(), 1.0, total, "identity", "binary_cross_entropy", out=np.empty_like(zeros))
    assert total[0] == pytest.approx(1500 * np.log(2), rel=1e-6)
    rng = np.random.default_rng(0)
    z = (20 * rng.normal(size=(1, 10_000))).astype(np.float32)
    total[0] = 0
    cpu.output_delta(z, np.zeros_like(z), 1.0, total, "identity", "binary_cross_entropy", out=np.empty_like(z))
    assert total[0] == pytest.approx(np.logaddexp(0, z.astype(np.float64)).sum(), rel=1e-5)
