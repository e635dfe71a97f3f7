"""Reckoned times of the whole-epoch kernel for GPUs: cycles by part, from what its PTX issues on MNIST.

`python -m benchmarks.reckoning --networks 784-16-10 --batches 32` needs the CUDA compiler, but no GPU: NumPy runs the
PTX (`benchmarks.ptx`) for a batch more and a batch less, and the difference is what a batch takes. Nothing of this is
measured. A part takes as long as the busiest of four: a scheduler's instructions, its tensor core, shared memory, and
the L2 cache; or its longest warp, if that has no other to hide behind. What is left out (latencies that nothing hides)
made good kernels elsewhere half as slow again, so that two numbers are printed: a floor, and what is expected.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks.ptx import Block, Part, Program
from gpunn import load_mnist
from gpunn.optimizers import PLAIN

SCHEDULERS = 4
EXPECTED = 1 / 0.65
"""Expected time over the floor."""
IMAGES = 60_000


class Gpu(NamedTuple):
    """What a multiprocessor does, by its data sheet: none of it is measured here."""

    name: str
    capability: tuple[int, int, str]
    ghz: float
    product: float
    """Cycles of a scheduler's tensor core for an m16n8k16 product."""
    l2: float = 64.0
    """Bytes of the L2 cache in a cycle."""
    barrier: float = 40.0
    shared_bytes: int = 227 * 1024


H100 = Gpu("H100", (9, 0, "a"), 1.9, 6.5)
"""Its tensor cores could do one in 4 cycles, but by other instructions; by `mma.sync` it is said to be 6.5."""

COSTS = (
    (r"mov|cvta|ld\.param|bar|ret|cvt\.u32\.u64|cvt\.u64\.u32", 0),
    (r"rem\.[us]32", 25), (r"rem\.s64", 35), (r"div\.rn", 10), (r"mul\.(hi|lo)\.s64", 4), (r"cvt\.rn\.f32\.u32", 2),
)  # fmt: skip
"""Machine instructions for one of PTX; all others are one.

So parts have as many as the assembler makes for an H100, to about a tenth: 64-bit indices become parts of addresses.
"""


def cost(name: str) -> int:
    """Return the number of machine instructions for one of PTX."""
    return next((each for pattern, each in COSTS if re.match(pattern, name)), 1)


class Cycles(NamedTuple):
    """What a part takes, in cycles of a multiprocessor, each as if it was all."""

    issue: float
    products: float
    shared: float
    l2: float
    longest: float

    @property
    def total(self) -> float:
        return max(self)


def cycles(part: Part, gpu: Gpu) -> Cycles:
    """Reckon a part; warps are dealt out to the schedulers in turn."""
    weighted = np.sum([cost(name) * counts for name, counts in part.issued.items()], axis=0)
    products = np.sum([counts for name, counts in part.issued.items() if name.startswith("mma")], axis=0)

    def busiest(counts: Any) -> float:
        by_scheduler = np.zeros(SCHEDULERS)
        np.add.at(by_scheduler, np.arange(np.size(counts)) % SCHEDULERS, counts)
        return float(by_scheduler.max())

    return Cycles(
        busiest(weighted), gpu.product * busiest(products), part.shared, part.bytes_of_l2 / gpu.l2, 2 * weighted.max()
    )


class Epoch(NamedTuple):
    """A network's kernel, and what a batch of it takes."""

    layout: Any
    parts: dict[str, Cycles]

    def milliseconds(self, batch_size: int, gpu: Gpu) -> float:
        per_batch = sum(each.total + gpu.barrier for each in self.parts.values())
        return float(-(-IMAGES // batch_size) * per_batch / gpu.ghz / 1e6)


def reckon(sizes: tuple[int, ...], batch_size: int, gpu: Gpu, *, tensor_cores: bool) -> Epoch:
    """Reckon a batch of a network with sigmoids, the squared error and plain steps."""
    from gpunn.kernels.cuda.epoch.layout import CudaLayout, KernelSpec
    from gpunn.kernels.cuda.epoch.run import compile_epoch
    from tests.cuda_compiler import ptx, types_of

    layout = CudaLayout(sizes, batch_size=batch_size, threads=512, capacity=gpu.shared_bytes, tensor_cores=tensor_cores)
    kernel = compile_epoch(layout, KernelSpec(("sigmoid",) * (len(sizes) - 1)))
    counted = []
    for batches in (2, 3):
        arguments = _arguments(layout, batch_size, batches)
        program = Program.read(ptx(kernel, types_of(arguments), gpu.capability))
        block = Block(program, layout.threads, arguments, layout.shared_bytes)
        block.run()
        counted.append(block.parts)
    fewer, more = counted
    names = _names(layout)
    return Epoch(
        layout, {names[n]: cycles(_difference(more[n], fewer[n]), gpu) for n in more if more[n].runs > fewer[n].runs}
    )


def _arguments(layout: Any, batch_size: int, batches: int) -> list[Any]:
    """Return what `compile_epoch`'s kernel is given to train one network on MNIST."""
    split, rng, n = load_mnist().train, np.random.default_rng(0), batch_size * batches
    shapes = [(n_out, n_in) for n_in, n_out in pairwise(layout.sizes)]
    weights = [rng.normal(size=shape, scale=shape[1] ** -0.5).astype(np.float32) for shape in shapes]
    packed = layout.pack(weights, [np.zeros(n_out, np.float32) for n_out, _ in shapes])[None]
    images = np.zeros((n, 4 * layout.n_words), np.uint8)
    images[:, : layout.sizes[0]] = split.images[:n]
    numbers = PLAIN.numbers(0, np.full(batches, 0.5), 0.0).astype(np.float32)[None]
    none = np.zeros((1, 1), np.float32)
    collected = np.zeros_like(packed) if layout.collects_outside else none
    order, counts, sizes = np.arange(n)[None], np.array([n]), np.array([batch_size])
    losses = np.zeros((1, layout.threads))
    return [
        images.view(np.uint32),
        split.labels[:n].copy(),
        order,
        counts,
        sizes,
        numbers,
        packed,
        collected,
        none,
        np.zeros((1, 1), np.uint32),
        losses,
    ]


def _difference(more: Part, fewer: Part) -> Part:
    issued = {name: counts - fewer.issued[name] for name, counts in more.issued.items()}
    return Part(issued, more.shared - fewer.shared, more.bytes_of_l2 - fewer.bytes_of_l2)


def _names(layout: Any) -> list[str]:
    """Return what the parts between barriers are."""
    columns = layout.layers[0].width // 4
    apart = layout.tensor_cores or layout.threads // (layout.groups * columns) > 1
    first = ["images fetched, and multiplied", "sums of parts"][: 1 + apart]
    upper = range(2, len(layout.layers) + 1)
    forward, backward = [f"layer {n}" for n in upper], [f"delta of layer {n - 1}" for n in upper][::-1]
    return ["the beginning", "the first images", *first, *forward, *backward, "update", "images stored"]


def lines(name: str, batch_size: int, gpu: Gpu, *, tensor_cores: bool) -> Iterator[str]:
    """Yield the table of a network's parts."""
    found = reckon(tuple(map(int, name.split("-"))), batch_size, gpu, tensor_cores=tensor_cores)
    floor = found.milliseconds(batch_size, gpu)
    where = "shared memory" if found.layout.in_shared else "L2"
    how = "tensor cores" if tensor_cores else "no tensor cores"
    yield (
        f"{name}, batch {batch_size}, {how}, weights in {where}, on one multiprocessor of an {gpu.name}: "
        f"{floor:.2f} ms an epoch, expected {EXPECTED * floor:.2f} (reckoned)"
    )
    yield f"    {'cycles of a batch':34}{'issue':>8}{'products':>10}{'shared':>8}{'L2':>8}{'longest':>9}{'part':>8}"
    for part, each in found.parts.items():
        numbers = f"{each.issue:8.0f}{each.products:10.0f}{each.shared:8.0f}{each.l2:8.0f}{each.longest:9.0f}"
        yield f"    {part:34}{numbers}{each.total + gpu.barrier:8.0f}"


@click.command()
@click.option("--networks", default="784-16-10,784-128-10", show_default=True)
@click.option("--batches", default="32", show_default=True)
@click.option("--before/--without-before", default=True, help="The kernel without tensor cores too.")
def main(networks: str, batches: str, before: bool) -> None:
    """Reckon epochs of 60,000 images."""
    for name in networks.split(","):
        for batch_size in map(int, batches.split(",")):
            for tensor_cores in (False, True)[not before :]:
                for line in lines(name, batch_size, H100, tensor_cores=tensor_cores):
                    click.echo(line)


if __name__ == "__main__":
    main()
