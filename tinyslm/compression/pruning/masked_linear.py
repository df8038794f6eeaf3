"""Linear layer with a pruning mask: removed weights are exactly 0 and stay 0 during training.

Steps that create it: `tinyslm/recipes/pruning/`; it becomes dense with `FoldMasks`. Lesson:
`lessons/07_pruning_weights.py`.
"""

from typing import ClassVar

import numpy as np

from tinyslm import ops
from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import require_same_shape
from tinyslm.errors import DataError
from tinyslm.modules import Linear, LinearLayer
from tinyslm.tree import Array, constant


@differentiable
def masked_linear(x: Array, weight: Array, mask: Array, bias: Array | None = None) -> Array:
    """Masked linear layer: y = x (W * M)^T + b. The gradient of a removed weight is exactly 0.

    Parameters
    ----------
    x : ndarray, shape (..., in)
        Inputs.
    weight : ndarray, shape (out, in)
        Weight matrix W.
    mask : ndarray of bool, shape (out, in)
        M, True where a weight is kept.
    bias : ndarray, shape (out,), optional
        b.

    Returns
    -------
    ndarray, shape (..., out)
        Outputs y.

    Raises
    ------
    DataError
        If `mask` does not hold booleans, or another array is not float32 or float64.

    Examples
    --------
    >>> masked_linear(np.array([1.0, 2.0]), np.array([[3.0, 4.0]]), np.array([[True, False]]))
    array([3.])
    """
    if mask.dtype != bool:
        raise DataError(f"mask must hold booleans (True: the weight is kept), found {mask.dtype}")
    y, linear_vjp = ops.linear.with_vjp(x, weight * mask, bias)

    def vjp(dy):
        dx, dweight, dbias = linear_vjp(dy)
        return dx, dweight * mask, None, dbias

    return y, vjp


class MaskedLinear(LinearLayer):
    """A `Linear` with some weights removed. A removed weight is stored as 0.0.

    Under SGD, momentum and AdamW with weight decay a removed weight stays 0.0: its gradient, moments and decay are 0.
    Muon changes it.
    The layer multiplies by the dense matrix: a mask saves neither memory nor time.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix, 0.0 where `mask` is False.
    mask : ndarray of bool, shape (out, in)
        True where a weight is kept.
    bias : ndarray, shape (out,), optional
        Bias.

    Examples
    --------
    >>> layer = MaskedLinear.from_linear(Linear(np.array([[3.0, 4.0]])), np.array([[True, False]]))
    >>> layer.weight, layer(np.array([1.0, 2.0]))
    (array([[3., 0.]]), array([3.]))
    """

    storage: ClassVar[str] = "some weights removed"
    is_dense: ClassVar[bool] = True

    weight: Array
    mask: Array = constant()
    bias: Array | None = None

    @staticmethod
    def array_forms(shape, settings, arrays):
        """The weight, its mask and the bias."""
        return Linear.array_forms(shape, settings, arrays) | {"mask": (np.bool_, shape)}

    @classmethod
    def from_linear(cls, linear: Linear, mask: Array) -> "MaskedLinear":
        """The layer without the weights where mask is False. mask: (out, in) booleans. Raises DataError otherwise."""
        weight, mask = linear.dense_weight(), np.asarray(mask)
        require_same_shape("mask", mask, weight.shape)
        if mask.dtype != bool:
            raise DataError(f"mask must hold booleans (True: the weight is kept), found {mask.dtype}")
        return cls(np.where(mask, weight, weight.dtype.type(0)), mask, linear.bias)

    def to_linear(self) -> Linear:
        """A dense `Linear` with zeros. Use it after training: it does not multiply by the mask at each call."""
        return Linear(self.dense_weight(), self.bias)

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        return masked_linear(x, self.weight, self.mask, self.bias)

    def dense_weight(self) -> Array:
        """The effective weight matrix (out, in), with zeros."""
        return self.weight * self.mask

    def num_bits(self) -> int:
        """Bits of the kept weights, one mask bit for each weight, and the bits of the bias."""
        removed = np.count_nonzero(~self.mask) * self.weight.itemsize * 8
        return super().num_bits() - int(removed)
