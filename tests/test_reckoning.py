"""PTX that NumPy runs computes what it says, and what kernels are reckoned to take follows from what they issue."""

from typing import Any

import numpy as np
import pytest

from benchmarks.ptx import Block, Part, Program
from benchmarks.reckoning import H100, cost, cycles, reckon
from gpunn import Dataset
from gpunn.engines import ENGINES, Examples, Parameters, Recipe
from gpunn.kernels.cuda.epoch.layout import CudaLayout, KernelSpec
from gpunn.optimizers import PLAIN

from .cuda_compiler import cuda_compiler, ptx, types_of
from .recipes import CPU, drawn, in_float64

KERNEL = """
.visible .entry k(
	.param .u64 k_param_0
)
{
	.reg .pred 	%p<3>;
	ld.param.u64 	%rd1, [k_param_4];
	mov.u32 	%r1, %tid.x;
	and.b32 	%r2, %r1, 1;
	setp.eq.s32 	%p1, %r2, 0;
	mul.wide.u32 	%rd2, %r1, STRIDE;
	mov.u64 	%rd3, _cudapy_smem_1;
	add.s64 	%rd4, %rd3, %rd2;
	st.shared.u32 	[%rd4], %r1;
	@%p1 bra 	$L__BB0_1;
	add.s32 	%r1, %r1, 100;
$L__BB0_1:
	bar.sync 	0;
	mul.wide.u32 	%rd5, %r1, 4;
	add.s64 	%rd6, %rd1, %rd5;
	st.global.u32 	[%rd6+8], %r1;
	ret;
}
"""


@pytest.mark.parametrize(("stride", "repeated"), [(4, 1), (8, 2), (128, 32), (132, 1)])
def test_paths_meet_again_and_banks_are_counted(stride: int, repeated: int) -> None:
    out = np.zeros(200, np.uint32)
    block = Block(Program.read(KERNEL.replace("STRIDE", str(stride))), 64, [out], 16_384)
    block.run()
    expected = np.zeros(200, np.uint32)
    for t in range(64):
        expected[t + 100 * (t % 2) + 2] = t + 100 * (t % 2)
    np.testing.assert_array_equal(block.array(0), expected)
    before, after = block.parts[0], block.parts[1]
    assert before.issued["add.s32"].tolist() == before.issued["bra"].tolist() == [1, 1]
    # Of each warp, the words of even and of odd threads are in two lines each of the L1 cache.
    assert (before.shared, after.shared, after.runs) == (2 * repeated, 8, 1)
    # Even threads' 4 sectors and odd ones' 5, of 32 words; both warps begin in the middle of a sector.
    assert after.bytes_of_l2 == 32 * 2 * (5 + 5)


def test_the_busiest_of_a_multiprocessor_counts() -> None:
    issued = {"fma.rn.f32": np.full(16, 100), "mov.u32": np.full(16, 1000), "mma.sync": np.full(16, 10)}
    found = cycles(Part(issued, shared=500, bytes_of_l2=64 * 300), H100)
    assert (found.issue, found.products, found.shared, found.l2, found.longest) == (
        440,
        40 * H100.product,
        500,
        300,
        220,
    )
    assert found.total == 500
    one = {"fma.rn.f32": np.eye(16, dtype=np.int64)[3] * 100}
    assert cycles(Part(one), H100).total == 200
    assert (cost("mov.b32"), cost("div.rn.f32"), cost("ld.shared.v4.f32")) == (0, 10, 1)


def test_the_ptx_of_the_kernel_on_tensor_cores_follows_float64(mnist: Dataset) -> None:
    cuda_compiler()
    from gpunn.kernels.cuda.epoch.run import compile_epoch

    sizes, functions, n = (784, 16, 10), ("sigmoid", "sigmoid"), 37
    layout = CudaLayout(sizes, batch_size=32, threads=512, capacity=227 * 1024, tensor_cores=True)
    start, split = drawn(sizes, functions), mnist.train
    words, none = np.zeros((n, 4 * layout.n_words), np.uint8), np.zeros((1, 1), np.float32)
    words[:, :784] = split.images[:n]
    numbers = PLAIN.numbers(0, np.full(2, 0.5), 0.0).astype(np.float32)[None]
    packed = layout.pack(start.weights, start.biases)[None]
    arguments: list[Any] = [words.view(np.uint32), split.labels[:n].copy(), np.arange(n)[None], np.array([n])]
    arguments += [np.array([32]), numbers, packed, none, none, none.view(np.uint32), np.zeros((1, 512))]
    kernel = compile_epoch(layout, KernelSpec(functions))
    program = Program.read(ptx(kernel, types_of(arguments), H100.capability))
    block = Block(program, layout.threads, arguments, layout.shared_bytes)
    block.run()
    examples = Examples(split.images[:n], split.labels[:n])
    exact = ENGINES["plain"](CPU, in_float64(start), examples, Recipe(32, 0.5))
    assert block.array(10).sum() / n == pytest.approx(exact.run_epoch(np.arange(n)), rel=1e-6)
    found, expected = Parameters(*layout.unpack(block.array(6)[0])), exact.parameters()
    for ours, theirs in zip((*found.weights, *found.biases), (*expected.weights, *expected.biases), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-7)


def test_an_epoch_on_tensor_cores_is_reckoned() -> None:
    cuda_compiler()
    found = reckon((784, 16, 10), 32, H100, tensor_cores=True)
    assert list(found.parts) == [
        "images fetched, and multiplied", "sums of parts", "layer 2", "delta of layer 1", "update", "images stored"
    ]  # fmt: skip
    # 49 tiles of weights, 4 groups of 8 images or 2 of 16 and 2 of 8 pixels, 3 parts: by 16 warps, one has a tile more.
    for name in ("images fetched, and multiplied", "update"):
        assert found.parts[name].products == 12 * 13 * H100.product
    assert 4 < found.milliseconds(32, H100) < 7
