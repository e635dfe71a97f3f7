"""gpunn's own contestants: an engine on a device, called as a peer is, with host arrays."""

from typing import Any, final

from numpy.typing import NDArray

from gpunn import Backend, Split, get_backend
from gpunn.engines import Examples, Parameters, Recipe, choose_engine
from gpunn.equations import Array


@final
class GpunnEngine:
    """Trains a network of its own; `device` and `name` as `gpunn train` takes them.

    `on_device`: the images and labels of `split`, if they are on the device already.

    Raises `ConfigurationError` where the engine can't train these parameters there, and `DeviceError` where the device
    fails.
    """

    def __init__(
        self,
        name: str,
        device: str | Backend,
        start: Parameters,
        split: Split,
        recipe: Recipe,
        *,
        on_device: tuple[Array, Array] | None = None,
    ) -> None:
        self._backend = get_backend(device)
        with self._backend.activate():
            asarray = self._backend.asarray
            images, labels = on_device or (asarray(split.images), asarray(split.labels))
            engine = choose_engine(name, self._backend, start, recipe)
            self._engine = engine(self._backend, start, Examples(images, labels), recipe)
            self._backend.synchronize()

    def run_epoch(self, order: NDArray[Any]) -> float:
        """Train on the examples in `order`, wait for the device, and return the mean loss."""
        with self._backend.activate():
            loss = self._engine.run_epoch(order)
            self._backend.synchronize()
        return loss

    def parameters(self) -> Parameters:
        """Return the parameters as they are now, as host arrays."""
        with self._backend.activate():
            found = self._engine.parameters()
            to_host = self._backend.to_host
            return Parameters([to_host(W) for W in found.weights], [to_host(b) for b in found.biases])
