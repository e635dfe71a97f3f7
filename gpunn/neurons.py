"""Three neurons that came before back-propagation, each with the paper it comes from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpunn.checks import check_number, check_whole
from gpunn.datasets.arrays import as_array, as_floats
from gpunn.errors import DataError

__all__ = ["Hebbian", "McCullochPitts", "Perceptron", "Update"]


@dataclass(frozen=True)
class McCullochPitts:
    """A neuron that fires if at least `threshold` of its excitatory inputs are active, and no inhibitory one is.

    Of n inputs, the threshold n makes it AND, and 1 makes it OR. `inhibitory` are the positions of inhibitory inputs,
    from 0: with threshold 1, and input 1 inhibitory, it computes "input 0 and not input 1".

    Raises `ConfigurationError` for a threshold below 1 or a negative position.

    Source: W. McCulloch and W. Pitts, "A Logical Calculus of the Ideas Immanent in Nervous Activity", 1943, whose
    assumptions are these: all or none, a fixed number of active synapses, and inhibition that nothing outweighs.
    """

    threshold: int
    inhibitory: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_whole("threshold", self.threshold, 1)
        for position in self.inhibitory:
            check_whole("position of an inhibitory input", position, 0)

    def fires(self, inputs: ArrayLike) -> NDArray[np.bool_]:
        """Return whether it fires, bool (m,), for `inputs` (m, n) of 0 and 1, or bool () for a single row (n,).

        Raises `DataError` for other inputs, and if there are too few for the inhibitory positions.
        """
        X = _binary("inputs", inputs)
        if X.ndim not in (1, 2) or X.shape[-1] <= max(self.inhibitory, default=-1):
            raise DataError(
                f"found inputs of shape {X.shape}, expected (m, n) or (n,) with n > {max(self.inhibitory, default=-1)}"
            )
        inhibits = np.zeros(X.shape[-1], np.bool_)
        inhibits[list(self.inhibitory)] = True
        fires: NDArray[np.bool_] = X[..., ~inhibits].sum(axis=-1) >= self.threshold
        return fires & ~X[..., inhibits].any(axis=-1)


@final
class Hebbian:
    """A neuron whose connections grow when both ends are active: dw = `rate` x y, for an input x and its own output y.

    It fires (y = 1) if w x >= `threshold`, otherwise y = 0. `weights` (n,), float64, are a copy of what is given.

    Raises `ConfigurationError` for a rate that isn't positive, and `DataError` for weights that aren't finite numbers,
    (n,).

    Source: D. Hebb, "The Organization of Behavior", 1949, chapter 4, which has the rule in words: a cell that takes
    part in firing another one becomes more efficient at it. The formula is the usual reading of it.
    """

    def __init__(self, weights: ArrayLike, *, threshold: float = 1.0, rate: float = 0.25) -> None:
        check_number("threshold", threshold)
        check_number("rate", rate, above=0)
        self.weights: NDArray[np.float64] = np.array(as_floats("weights", as_array("weights", weights), np.float64))
        if self.weights.ndim != 1:
            raise DataError(f"found weights of shape {self.weights.shape}, expected (n,), one for each input")
        self.threshold, self.rate = float(threshold), float(rate)

    def drive(self, inputs: ArrayLike) -> float:
        """Return w x, what `inputs` x (n,) add up to; raises `DataError` for another shape."""
        return float(self.weights @ _row(inputs, len(self.weights)))

    def fires(self, inputs: ArrayLike) -> bool:
        """Whether `inputs` (n,) make it fire."""
        return self.drive(inputs) >= self.threshold

    def learn(self, inputs: ArrayLike) -> bool:
        """Show `inputs` (n,), change the weights by the rule, and return whether it fired."""
        x, fired = _row(inputs, len(self.weights)), self.fires(inputs)
        self.weights += self.rate * x * fired
        return fired


class Update(NamedTuple):
    """A correction of a perceptron, and what it led to: copies, which later ones leave alone."""

    epoch: int
    """Pass over the examples, from 1."""
    example: int
    """Row of the example that was misjudged."""
    weights: NDArray[np.float64]
    """Weights after the correction, (n,)."""
    bias: float
    """Bias after the correction."""


@final
class Perceptron:
    """A neuron that fires (1) if w x + b > 0, and is corrected by `rate` (y - fired) x whenever it errs.

    `weights` (n,), float64, and `bias` start at 0. If a plane separates the two classes, it finds one after a finite
    number of corrections; otherwise it never stops correcting.

    Raises `ConfigurationError` for a number of inputs below 1 or a rate that isn't positive.

    Source: F. Rosenblatt, "The Perceptron: A Probabilistic Model for Information Storage and Organization in the
    Brain", 1958; the error-correction rule and its convergence are in his "Principles of Neurodynamics", 1962,
    chapter 5. Here the inputs are the association cells themselves.
    """

    def __init__(self, n_inputs: int, *, rate: float = 1.0) -> None:
        check_whole("n_inputs", n_inputs, 1)
        check_number("rate", rate, above=0)
        self.weights: NDArray[np.float64] = np.zeros(n_inputs)
        self.bias = 0.0
        self.rate = float(rate)

    def predict(self, inputs: ArrayLike) -> NDArray[np.int64]:
        """Return 0 or 1 for each row of `inputs` (m, n), int64 (m,); raises `DataError` for another shape."""
        return (self._rows(inputs) @ self.weights + self.bias > 0).astype(np.int64)

    def learn(self, inputs: ArrayLike, labels: ArrayLike, *, epochs: int = 100) -> Iterator[Update]:
        """Go through the examples in their order, at most `epochs` times, and yield each correction once it is made.

        It ends early after a pass without mistakes. `inputs` are (m, n), `labels` (m,) of 0 and 1. Weights and bias
        are up to date whenever a correction is yielded. Raises `DataError` for other inputs or labels, and
        `ConfigurationError` for a number of epochs below 1, both at once.
        """
        check_whole("epochs", epochs, 1)
        X, y = self._rows(inputs), _binary("labels", labels)
        if y.shape != (len(X),):
            raise DataError(f"found labels of shape {y.shape}, expected ({len(X)},), one for each row of inputs")
        return self._corrections(X, y.astype(np.int64), epochs)

    def _corrections(self, X: NDArray[np.float64], y: NDArray[np.int64], epochs: int) -> Iterator[Update]:
        for epoch in range(1, epochs + 1):
            mistakes = 0
            for example, (x, wanted) in enumerate(zip(X, y, strict=True)):
                error = int(wanted) - int(self.predict(x[np.newaxis])[0])
                if error:
                    mistakes += 1
                    self.weights = self.weights + self.rate * error * x
                    self.bias += self.rate * error
                    yield Update(epoch, example, self.weights.copy(), self.bias)
            if not mistakes:
                return

    def _rows(self, inputs: ArrayLike) -> NDArray[np.float64]:
        X: NDArray[np.float64] = as_floats("inputs", as_array("inputs", inputs), np.float64)
        if X.ndim != 2 or X.shape[1] != len(self.weights):
            raise DataError(f"found inputs of shape {X.shape}, expected (m, {len(self.weights)})")
        return X


def _binary(what: str, found: ArrayLike) -> NDArray[Any]:
    array = as_array(what, found)
    if not np.isin(array, (0, 1)).all():
        raise DataError(f"found {what} other than 0 and 1, expected only these")
    return array


def _row(inputs: ArrayLike, n: int) -> NDArray[np.float64]:
    x: NDArray[np.float64] = as_floats("inputs", as_array("inputs", inputs), np.float64)
    if x.shape != (n,):
        raise DataError(f"found inputs of shape {x.shape}, expected ({n},)")
    return x
