"""The second copy of a network's weights, for backward, see `gpunn.kernels.network_cpu`."""

from typing import Any

from .compilation import compiled
from .dense import ONE, SIXTEEN
from .lanes import transposed
from .memory import at, load_rows, put, store_rows
from .network_cpu import COLUMNS, goes_without_copy, layer_at
from .simd import LANES
from .threads import share


@compiled
def mirror(net: Any, thread: int, threads: int, everywhere: bool) -> None:
    """Make the weights for backward what those for forward are; or not `everywhere`, where `backward` needs them."""
    for number in range(1, net.n_layers):
        layer = layer_at(net, number)
        if goes_without_copy(layer) and not everywhere:
            continue
        begin, end = share(layer.width_in, COLUMNS, thread, threads)
        # Square by square, as both sides are read or written along a row.
        for left in range(begin, min(end, layer.n_in), LANES):
            for top in range(0, layer.n_out, LANES):
                forward = layer.forward + left * layer.width + top
                backward = layer.backward + top * layer.width_in + left
                if left + LANES <= layer.n_in and top + LANES <= layer.n_out:
                    square = load_rows(net.parameters, forward, layer.width, SIXTEEN, ONE)
                    store_rows(net.parameters, backward, layer.width_in, SIXTEEN, transposed(square))
                    continue
                for j in range(min(LANES, layer.n_out - top)):
                    for k in range(min(LANES, layer.n_in - left)):
                        weight = at(net.parameters, forward + k * layer.width + j)
                        put(net.parameters, backward + j * layer.width_in + k, weight)
