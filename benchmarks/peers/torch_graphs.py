"""PyTorch with CUDA graphs: the operations of `torch_eager`, recorded once and launched together.

A graph replays exactly what was recorded, so everything that changes lies in buffers on the GPU: the order of the
epoch, and the positions in it of the batch that is due, which the graph itself moves on. One graph holds `TOGETHER`
batches, since a replay has its price too, one holds a single batch for those that are left over, and one the smaller
last batch.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from numpy.typing import NDArray

from benchmarks.peers.base import Peer, Place
from benchmarks.peers.torch_eager import Training
from gpunn import Split
from gpunn.engines import Parameters, Recipe

TOGETHER = 16


def record(work: Callable[[], None]) -> Callable[[], None]:
    """Return a function that repeats on the GPU, in one launch, what `work` does there; `work` itself isn't done."""
    graph = torch.cuda.CUDAGraph()
    # Other libraries in this process may have threads that call CUDA; what they do is none of the graph's business.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    replay: Callable[[], None] = graph.replay
    return replay


def rehearse(work: Callable[[], None]) -> None:
    """Do `work` a few times beside the current stream, so that nothing is left to be set up when it is recorded."""
    beside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call,unused-ignore]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(beside)


@final
class TorchGraphs(Peer):
    """A loop over replays."""

    name = "torch.graphs"
    threads_can_be_set = False
    takes_parts = False

    def __init__(self, start: Parameters, split: Split, recipe: Recipe, place: Place) -> None:
        self._training = Training(start, split, recipe, place.device)
        self._device = device = self._training.device
        n, m = len(split), min(recipe.batch_size, len(split))
        self._order = torch.zeros(n, dtype=torch.int64, device=device)
        self._first = torch.arange(m, device=device)
        self._positions = self._first.clone()
        self._last = self._order[n // m * m :]
        self._total = torch.zeros((), dtype=torch.float64, device=device)

        self._training.set_precision()
        with torch.cuda.device(device), torch.no_grad():
            rehearse(self._rehearsal)
            together, alone = divmod(n // m, TOGETHER)
            self._replays: list[tuple[Callable[[], None], int]] = []
            for times, work in ((together, self._many_batches), (alone, self._one_batch)):
                if times > 0:
                    self._replays.append((record(work), times))
            if len(self._last) > 0:
                self._replays.append((record(self._last_batch), 1))
            self.reset()

    def reset(self) -> None:
        self._training.reset()
        torch.cuda.synchronize()

    def run_epoch(self, order: NDArray[Any]) -> float:
        with torch.cuda.device(self._device), torch.no_grad():
            self._order.copy_(torch.from_numpy(order))
            self._positions.copy_(self._first)
            self._total.zero_()
            for replay, times in self._replays:
                for _ in range(times):
                    replay()
            return float(self._total.item()) / len(order)

    def _rehearsal(self) -> None:
        self._positions.copy_(self._first)
        self._one_batch()
        if len(self._last) > 0:
            self._last_batch()

    def _many_batches(self) -> None:
        for _ in range(TOGETHER):
            self._one_batch()

    def _one_batch(self) -> None:
        self._train_on(self._order.index_select(0, self._positions))
        self._positions += len(self._first)

    def _last_batch(self) -> None:
        self._train_on(self._last)

    def _train_on(self, batch: Any) -> None:
        training = self._training
        X, Y = training.images.index_select(0, batch), training.targets.index_select(0, batch)
        self._total += training.step(X, Y)

    def parameters(self) -> Parameters:
        return self._training.parameters()
