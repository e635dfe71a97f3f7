"""The fused operations of training: signatures and argument checks."""

import functools
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .checks import FLOAT32, Arrays, HostArrays, check_name, fraction, number, single, word
from .formulas.activations import ACTIVATIONS
from .formulas.losses import LOSSES
from .formulas.steps import N_MOMENTS, N_NUMBERS, Numbers

UINT32 = np.dtype(np.uint32)
UINT8, INT64, FLOAT64 = np.dtype(np.uint8), np.dtype(np.int64), np.dtype(np.float64)


class Kernels(Protocol):
    """Interface of a module of kernels: the fused operations of training, for arrays of one kind.

    Results go to `out`, which may be the first input and must not overlap another. Arrays are C-contiguous. All
    floating arrays have the dtype of `out`, float32; the oracle of the tests takes float64 too. Wrong types and dtypes
    raise `TypeError`; wrong shapes, strides, overlaps, unknown names and numbers out of range raise `ValueError`.
    Nothing is cast or copied silently.

    Activation functions f are named as in `gpunn.kernels.formulas.activations.ACTIVATIONS`; losses are "squared_error",
    "binary_cross_entropy" and "cross_entropy".
    """

    def gather_scale(self, images: NDArray[Any], rows: NDArray[np.int64], *, out: NDArray[Any]) -> None:
        """Write the images of a batch to `out` as activations: out[r] = images[rows[r]] / 255.

        `images` (n, n_0), `rows` (m,) in 0 to n - 1, `out` (m, n_0). Images are uint8; floats of the dtype of `out` are
        copied, not divided. A row out of range raises `IndexError`.
        """

    def bias_activate(
        self, z: NDArray[Any], bias: NDArray[Any], activation: str = "sigmoid", *, out: NDArray[Any]
    ) -> None:
        """Compute out = f(z + bias); NaN stays NaN, overflows don't warn. `z` and `out` (m, n), `bias` (n,)."""

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

        - "squared_error": out = 2 factor (a - y) f'(z), the losses are sum_j (a_j - y_j)^2; `output` is a, the
          activations.
        - "binary_cross_entropy": out = factor (sigma(z) - y), the losses are
          sum_j max(z_j, 0) - y_j z_j + ln(1 + exp(-|z_j|)); `output` is z, the logits, and `activation` is ignored.
        - "cross_entropy": out = factor (softmax(z) - y), the losses are sum_j y_j (ln sum_k exp(z_k) - z_j); likewise.

        `output` and `out` (m, n_L); `targets` are rows y (m, n_L), or uint8 labels (m,), each below n_L, which stand
        for one-hot rows; rows for "cross_entropy" sum to 1. `factor` is 1 over the size of the batch, of which these
        may be a part; `total` (1,) float64. A label out of range raises `IndexError`. A logit of minus infinity makes
        the loss NaN.
        """

    def drop(self, activations: NDArray[Any], key: int, first: int, share: float, *, out: NDArray[Any]) -> None:
        """Compute out = activations times dropout's mask.

        The mask is 0 with probability `share`, otherwise 1 / (1 - share). `activations` and `out` (m, n); `key` is a
        32-bit number for layer and epoch, `first` the position in the epoch of the first row's example. They determine
        the mask on every device, by the hash of `gpunn.dropout`. Backward applies the same function to delta.
        """

    def optimizer_step(
        self,
        parameter: NDArray[Any],
        gradient: NDArray[Any],
        numbers: Numbers,
        rule: str = "descent",
        *moments: NDArray[Any],
        out: NDArray[Any],
    ) -> None:
        """Make an optimiser's step: `out` is the new parameter, and `moments` are changed in place.

        `rule` is one of `gpunn.kernels.formulas.steps.RULES`, which have the formulas. `moments` are none for
        "descent", the velocity for "momentum" and "nesterov", the means of gradients and of their squares for "adam".
        All arrays have the same shape; `numbers` are floats, rounded to the dtype of `out`.
        """

    def descend_sums(
        self, parameter: NDArray[Any], gradients: NDArray[Any], learning_rate: float, *, out: NDArray[Any]
    ) -> None:
        """Compute out = parameter - learning_rate * sum of the rows of `gradients`, (m, n); the others are (n,)."""

    def column_sums(self, rows: NDArray[Any], *, out: NDArray[Any]) -> None:
        """Compute out = sum of the `rows`, (m, n); `out` (n,)."""


class Contract:
    """Argument checks of `Kernels`, for arrays of any kind.

    Each method is named after an operation, takes its arguments, and returns its arrays in the form that kernels take,
    `out` last. Raises the errors of `Kernels`.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays

    def gather_scale(self, images: Any, rows: Any, out: Any) -> list[Any]:
        images, rows, out = found = self._arrays.accept(images=images, rows=rows, out=out)
        self._arrays.check_output(out, [images, rows], ndim=2)
        dtype = out.dtype if images.dtype == out.dtype else UINT8
        self._arrays.check_array("images", images, dtype, (*images.shape[:1], out.shape[1]))
        self._arrays.check_array("rows", rows, INT64, out.shape[:1])
        self._arrays.check_below("rows", rows, images.shape[0])
        return found

    def bias_activate(self, z: Any, bias: Any, activation: str, out: Any) -> list[Any]:
        check_name("activation", activation, ACTIVATIONS)
        z, bias, out = found = self._arrays.accept(z=z, bias=bias, out=out)
        self._arrays.check_output(out, [bias], first=z, ndim=2)
        self._arrays.check_array("z", z, out.dtype, out.shape)
        self._arrays.check_array("bias", bias, out.dtype, out.shape[1:])
        return found

    def hidden_delta(self, delta: Any, activations: Any, activation: str, out: Any) -> list[Any]:
        check_name("activation", activation, ACTIVATIONS)
        delta, activations, out = found = self._arrays.accept(delta=delta, activations=activations, out=out)
        self._arrays.check_output(out, [activations], first=delta, ndim=2)
        self._arrays.check_array("delta", delta, out.dtype, out.shape)
        self._arrays.check_array("activations", activations, out.dtype, out.shape)
        return found

    def output_delta(
        self, output: Any, targets: Any, factor: float, total: Any, activation: str, loss: str, out: Any
    ) -> list[Any]:
        self._arrays.check_number("factor", factor)
        check_name("activation", activation, ACTIVATIONS)
        check_name("loss", loss, LOSSES)
        output, targets, total, out = found = self._arrays.accept(output=output, targets=targets, total=total, out=out)
        self._arrays.check_output(out, [targets, total], first=output, ndim=2)
        self._arrays.check_array("output", output, out.dtype, out.shape)
        self._arrays.check_array("total", total, FLOAT64, (1,))
        if len(targets.shape) == 1:
            self._arrays.check_array("labels", targets, UINT8, out.shape[:1])
            self._arrays.check_below("labels", targets, out.shape[1])
        else:
            self._arrays.check_array("targets", targets, out.dtype, out.shape)
        return found

    def drop(self, activations: Any, key: int, first: int, share: float, out: Any) -> list[Any]:
        self._arrays.check_number("key", key, word, UINT32)
        self._arrays.check_number("first", first, word, UINT32)
        fraction("share", share)
        activations, out = found = self._arrays.accept(activations=activations, out=out)
        self._arrays.check_output(out, [], first=activations, ndim=2)
        self._arrays.check_array("activations", activations, out.dtype, out.shape)
        return found

    def optimizer_step(
        self, parameter: Any, gradient: Any, numbers: Numbers, rule: str, *moments: Any, out: Any
    ) -> list[Any]:
        if self._arrays.holds_numbers(numbers):
            self._arrays.check_numbers("numbers", numbers, FLOAT32, N_NUMBERS)
        else:
            singles(numbers)
        check_name("rule", rule, N_MOMENTS)
        if len(moments) != N_MOMENTS[rule]:
            raise ValueError(f"rule {rule} needs {N_MOMENTS[rule]} moments, got {len(moments)}")
        names = ("parameter", "gradient", "first moment", "second moment")
        named = dict(zip(names, (parameter, gradient, *moments), strict=False))
        *arrays, out = found = self._arrays.accept(**named, out=out)
        self._arrays.check_output(out, arrays[1:], first=arrays[0])
        for name, array in zip(named, arrays, strict=True):
            self._arrays.check_array(name, array, out.dtype, out.shape)
        for index, name in enumerate(named):
            if index >= 2:  # a moment, which is changed in place
                self._arrays.check_output(arrays[index], arrays[:index], name=name)
        return found

    def descend_sums(self, parameter: Any, gradients: Any, learning_rate: float, out: Any) -> list[Any]:
        number("learning rate", learning_rate)
        parameter, gradients, out = found = self._arrays.accept(parameter=parameter, gradients=gradients, out=out)
        self._arrays.check_output(out, [gradients], first=parameter, ndim=1)
        self._arrays.check_array("parameter", parameter, out.dtype, out.shape)
        self._arrays.check_array("gradients", gradients, out.dtype, (*gradients.shape[:1], *out.shape))
        return found

    def column_sums(self, rows: Any, out: Any) -> list[Any]:
        rows, out = found = self._arrays.accept(rows=rows, out=out)
        self._arrays.check_output(out, [rows], ndim=1)
        self._arrays.check_array("rows", rows, out.dtype, (*rows.shape[:1], *out.shape))
        return found


ON_HOST = Contract(HostArrays())
"""For NumPy's float32 arrays."""


def singles(numbers: Numbers) -> tuple[np.float32, ...]:
    """Return a step's `numbers` rounded to float32; raises `TypeError` unless they are numbers."""
    try:
        return _last_singles(*numbers)
    except TypeError:  # not hashable, or no numbers
        return _singles(*numbers)


def _singles(*numbers: float) -> tuple[np.float32, ...]:
    return tuple(single(name, value) for name, value in zip(Numbers._fields, numbers, strict=True))


_last_singles = functools.lru_cache(maxsize=8, typed=True)(_singles)
"""All arrays of a step have the same numbers; True isn't 1."""
