"""The place of a batch in its epoch, kept on the GPU, so that all batches of one size are the same launches."""

from typing import Any

from .arrays import ARRAYS
from .jit import cuda, kernel
from .launch import TEAM_THREADS, Call, Operation

NO_IMAGE = -1
"""The number of an image for which there is no place left in the order."""


@Operation
def next_batch(
    order: Any, labels: Any, table: Any, place: Any, *, rows: Any, classes: Any, first: Any, numbers: Any
) -> list[Call]:
    """Take the next batch of `m` examples from an epoch's order, and move on.

    `order` (n,) int64 and `labels` (n,) uint8, those of the examples in that order; `table` (any, k) float32, a row of
    numbers for each batch; `place` (2,) int64, the number of the batch and the position of its first example in the
    order, both 0 at first, and changed in place. The results are `rows` (m,) int64 and `classes` (m,) uint8, the
    batch's part of the order and its labels; `first` (1,) uint32, the position of its first example; `numbers` (k,)
    float32, its row of the table. Beyond the end `rows` are -1, and `numbers` are kept.
    """
    names = ("order", "labels", "table", "place", "rows", "classes", "first", "numbers")
    found = ARRAYS.accept(**dict(zip(names, (order, labels, table, place, rows, classes, first, numbers), strict=True)))
    return [Call(_next_batch, 1, min(TEAM_THREADS, 32 * -(-found[4].size // 32)), tuple(found))]


# One block does it, as the last thing in it is to move on, when all threads have read the place.
@kernel
def _next_batch(
    order: Any, labels: Any, table: Any, place: Any, rows: Any, classes: Any, first: Any, numbers: Any
) -> None:
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    number, begin = place[0], place[1]
    cuda.syncthreads()
    if t == 0:
        place[0], place[1] = number + 1, begin + rows.size
        first[0] = begin
    if number < table.shape[0]:
        k = t
        while k < numbers.size:
            numbers[k] = table[number, k]
            k += threads
    i = t
    while i < rows.size:
        if begin + i < order.size:
            rows[i], classes[i] = order[begin + i], labels[begin + i]
        else:
            rows[i] = NO_IMAGE
        i += threads
