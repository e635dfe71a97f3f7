"""The fused operations of training, and what each of them demands of its arguments.

Arrays have one dtype, fitting shapes and C order, and don't overlap the output; numbers are numbers, and names known.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def check_type(name: str, array: Any) -> None:
    """Raise `TypeError` where `array` isn't NumPy's; masks would be passed over, and a matrix multiplies otherwise."""
    if type(array) is np.ndarray:
        return
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray | np.matrix):
        raise TypeError(f"found {name} of type {type(array).__name__}, expected a NumPy array")


def check_array(name: str, array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise `TypeError` or `ValueError` where `array` isn't a C-contiguous array of `dtype` and `shape`."""
    if type(array) is not np.ndarray:
        check_type(name, array)
    if array.dtype != dtype:
        raise TypeError(f"found {name} of dtype {array.dtype}, expected {dtype}")
    if array.shape != shape:
        raise ValueError(f"found {name} of shape {array.shape}, expected {shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"found {name} with strides {array.strides}, expected a C-contiguous array")


def check_output(
    out: NDArray[Any],
    others: Sequence[NDArray[Any]],
    *,
    ndim: int | None = None,
    dtypes: Sequence[np.dtype[Any]] = FLOATS,
) -> None:
    """Raise where `out` isn't a writable array of `dtypes` and `ndim` dimensions, apart from `others` in memory."""
    if type(out) is not np.ndarray:
        check_type("out", out)
    if out.dtype not in dtypes:
        raise TypeError(f"found out of {out.dtype}, expected a {' or '.join(map(str, dtypes))} array")
    if ndim is not None and out.ndim != ndim:
        raise ValueError(f"found out of shape {out.shape}, expected {ndim} dimensions")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("found an out that is read-only or not C-contiguous, expected neither")
    for other in others:
        if np.may_share_memory(out, other):
            raise ValueError("found out overlapping an input, expected one of its own (or exactly the first input)")


def check_step(
    parameter: NDArray[Any],
    gradient: NDArray[Any],
    *moments: NDArray[Any],
    out: NDArray[Any],
    dtypes: Sequence[np.dtype[Any]] = FLOATS,
) -> None:
    """Raise where an optimiser's step can't put `out`, of `dtypes`, for `parameter`, and change `moments` in place."""
    others = [gradient, *moments]
    check_output(out, others if parameter is out else [parameter, *others], dtypes=dtypes)
    names = ("parameter", "gradient", "first moment", "second moment")
    for name, array in zip(names, [parameter, *others], strict=False):
        check_array(name, array, out.dtype, out.shape)
    for number, moment in enumerate(moments):
        check_output(moment, [gradient, *moments[:number]], dtypes=dtypes)


def check_below(name: str, numbers: NDArray[Any], limit: int) -> None:
    """Raise `IndexError` where one of `numbers` isn't in 0 to `limit` - 1."""
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < limit):
        raise IndexError(f"found {name} from {numbers.min()} to {numbers.max()}, expected 0 to {limit - 1}")


# Named, as a union would be made anew at each call.
REALS, WHOLES, TRUTHS = (int, np.integer, np.floating), (int, np.integer), (bool, np.bool_)


def number(name: str, value: Any) -> float:
    """Return `value` as a float, which may be NaN or infinite; raise `TypeError` where it isn't a number."""
    if isinstance(value, float):
        return value
    if not isinstance(value, REALS) or isinstance(value, bool):
        raise TypeError(f"found {name} of type {type(value).__name__}, expected a number")
    return float(value)


def number_above(name: str, value: Any, least: float) -> float:
    """Return `value` as `number` does; raise `ValueError` where it isn't above `least`."""
    found = number(name, value)
    if not found > least:
        raise ValueError(f"found {name} {found:g}, expected a number above {least:g}")
    return found


def share_of_one(name: str, value: Any) -> float:
    """Return `value` as `number` does; raise `ValueError` where it isn't from 0 to below 1."""
    found = number(name, value)
    if not 0 <= found < 1:
        raise ValueError(f"found {name} {found:g}, expected 0 or more, and below 1")
    return found


def word(name: str, value: Any) -> int:
    """Return `value`, a whole number of 32 bits; raise `TypeError` or `ValueError` where it isn't one."""
    if not isinstance(value, WHOLES) or isinstance(value, bool):
        raise TypeError(f"found {name} of type {type(value).__name__}, expected a whole number")
    if not 0 <= value < 2**32:
        raise ValueError(f"found {name} {value}, expected 0 to {2**32 - 1}")
    return int(value)


def truth(name: str, value: Any) -> bool:
    """Return `value`; raise `TypeError` where it is neither True nor False."""
    if not isinstance(value, TRUTHS):
        raise TypeError(f"found {name} of type {type(value).__name__}, expected True or False")
    return bool(value)


def check_name(what: str, name: Any, known: Iterable[str]) -> None:
    """Raise `TypeError` where `name` isn't a text, and `ValueError` where it isn't among those `known`."""
    if not isinstance(name, str):
        raise TypeError(f"found the {what} {name!r}, expected its name")
    if name not in known:
        raise ValueError(f"found the {what} {name!r}, expected {', '.join(known)}")


LARGEST = float(np.finfo(np.float32).max)


def single(name: str, value: Any) -> np.float32:
    """Return `value` rounded to float32, or the infinity that it is there, of which NumPy would warn.

    Raises `TypeError` where it isn't a number.
    """
    if type(value) is float and -LARGEST <= value <= LARGEST:  # which takes no time
        return np.float32(value)
    value = number(name, value)
    if not math.isfinite(value):
        return np.float32(value)
    with np.errstate(over="ignore"):
        return np.float32(value)


class Kernels(Protocol):
    """The fused operations of training, for arrays of one kind: what a module of kernels has.

    Results go to `out`, which may be the first input and must not overlap another. All floating arrays have the dtype
    of `out`, float32; the oracle of the tests takes float64 too. Wrong types and dtypes raise `TypeError`; wrong
    shapes, strides and overlaps raise `ValueError`, as do names that no function has, and numbers out of range. Nothing
    is cast or copied silently.

    Activation functions f are named as in `gpunn.kernels.formulas.activations.ACTIVATIONS`; losses are "squared_error",
    "binary_cross_entropy" and "cross_entropy".
    """

    def gather_scale(self, images: NDArray[Any], rows: NDArray[np.int64], *, out: NDArray[Any]) -> None:
        """Put the images of a batch into `out` as activations: out[r] = images[rows[r]] / 255.

        `images` (n, n_0), `rows` (m,) in 0 to n - 1, `out` (m, n_0). Images are uint8; floats of the dtype of `out` are
        taken as they are, undivided. A row out of range raises `IndexError`.
        """

    def bias_activate(
        self, z: NDArray[Any], bias: NDArray[Any], activation: str = "sigmoid", *, out: NDArray[Any]
    ) -> None:
        """Compute out = f(z + bias); NaN stays NaN, nothing overflows aloud. `z` and `out` (m, n), `bias` (n,)."""

    def hidden_delta(
        self, delta: NDArray[Any], activations: NDArray[Any], activation: str = "sigmoid", *, out: NDArray[Any]
    ) -> None:
        """Compute out = delta * f'(z), with f' taken from the activations a = f(z); sigma' = a (1 - a).

        `delta` (W^T of the layer above times its delta), `activations` and `out` (m, n).
        """

    def output_delta(
        self,
        output: NDArray[Any],
        targets: NDArray[Any],
        factor: float,
        total: NDArray[np.float64],
        activation: str = "sigmoid",
        loss: str = "squared_error",
        *,
        out: NDArray[Any],
    ) -> None:
        """Compute delta of the last layer, and add the examples' losses, each without `factor`, to `total[0]`.

        - "squared_error": out = factor (a - y) f'(z), the losses are sum_j (a_j - y_j)^2; `output` is a, the
          activations.
        - "binary_cross_entropy": out = factor (sigma(z) - y), the losses are
          sum_j max(z_j, 0) - y_j z_j + ln(1 + exp(-|z_j|)); `output` is z, the logits, and `activation` plays no part.
        - "cross_entropy": out = factor (softmax(z) - y), the losses are sum_j y_j (ln sum_k exp(z_k) - z_j); likewise.

        `output` and `out` (m, n_L); `targets` are rows y (m, n_L), or uint8 labels (m,), each below n_L, which stand
        for one-hot rows; rows of "cross_entropy" add up to 1. `factor` is 1 over the size of the batch, of which these
        may be a part, and twice that for "squared_error"; `total` (1,) float64. A label out of range raises
        `IndexError`.
        """

    def drop(self, activations: NDArray[Any], key: int, first: int, share: float, *, out: NDArray[Any]) -> None:
        """Compute out = activations times dropout's mask.

        The mask is 0 for a `share` of the places, and 1 / (1 - share) for the others. `activations` and `out` (m, n);
        `key` is a 32-bit number for layer and epoch, and `first` the place in the epoch of the first row's example;
        with them the same places are dropped wherever this is computed, see `gpunn.dropout`, whose hash it is.
        Backward is the same function, of delta.
        """

    def descend(
        self,
        parameter: NDArray[Any],
        gradient: NDArray[Any],
        learning_rate: float,
        l2: float = 0.0,
        *,
        out: NDArray[Any],
    ) -> None:
        """Compute out = parameter - learning_rate (gradient + l2 parameter); the arrays have one shape, any."""

    def descend_sums(
        self, parameter: NDArray[Any], gradients: NDArray[Any], learning_rate: float, *, out: NDArray[Any]
    ) -> None:
        """Compute out = parameter - learning_rate * sum of the rows of `gradients`, (m, n); the others are (n,)."""

    def column_sums(self, rows: NDArray[Any], *, out: NDArray[Any]) -> None:
        """Compute out = sum of the `rows`, (m, n); `out` (n,)."""

    def momentum_step(
        self,
        parameter: NDArray[Any],
        gradient: NDArray[Any],
        velocity: NDArray[Any],
        learning_rate: float,
        momentum: float,
        l2: float = 0.0,
        nesterov: bool = False,
        *,
        out: NDArray[Any],
    ) -> None:
        """Make a step with momentum, see `gpunn.optimizers.SGD`; the arrays have one shape, any.

        With g = gradient + l2 parameter, velocity <- momentum velocity + g, changed in place, and then
        out = parameter - learning_rate velocity, or with `nesterov` parameter - learning_rate (g + momentum velocity).
        """

    def adam_step(
        self,
        parameter: NDArray[Any],
        gradient: NDArray[Any],
        mean: NDArray[Any],
        square: NDArray[Any],
        learning_rate: float,
        root: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        l2: float = 0.0,
        decay: float = 0.0,
        *,
        out: NDArray[Any],
    ) -> None:
        """Make a step of Adam, see `gpunn.optimizers.Adam`; the arrays have one shape, any.

        With g = gradient + l2 parameter, mean <- beta1 mean + (1 - beta1) g and square <- beta2 square + (1 - beta2)
        g^2, both changed in place; then out = (1 - decay) parameter - learning_rate mean / (sqrt(square) / root +
        epsilon). After t steps `learning_rate` is eta / (1 - beta1^t) and `root` sqrt(1 - beta2^t); `decay` is eta
        times the penalty where it shrinks the weights by itself.
        """
