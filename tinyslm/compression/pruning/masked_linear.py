"""A linear layer with some weights removed, which stay removed while the others are trained."""

from typing import ClassVar

import numpy as np

from tinyslm import ops
from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import require_same_shape
from tinyslm.errors import DataError
from tinyslm.modules import Linear, LinearLayer
from tinyslm.tree import Array, constant


@differentiable
def masked_linear(x, weight, mask, bias=None):
    """y = x (W * M)^T + b, where the gradient of a removed weight is exactly 0.

    x: (..., in);  weight: (out, in);  mask: (out, in) booleans;  bias: (out,) or None;  returns (..., out).
    """
    y, linear_vjp = ops.linear.with_vjp(x, weight * mask, bias)

    def vjp(dy):
        dx, dweight, dbias = linear_vjp(dy)
        return dx, dweight * mask, None, dbias

    return y, vjp


class MaskedLinear(LinearLayer):
    """A `Linear` of whose weights only those with mask True exist. weight: (out, in), 0.0 where removed.

    A removed weight that is stored as 0.0 stays 0.0 under SGD, momentum and AdamW with decay: its gradient, its moments
    and its decay are all 0. Size and speed are those of the dense matrix.
    """

    storage: ClassVar[str] = "some weights removed"

    weight: Array
    mask: Array = constant()
    bias: Array | None = None

    @staticmethod
    def array_forms(shape, settings, arrays):
        """The weight, its mask and the bias."""
        return Linear.array_forms(shape, settings, arrays) | {"mask": (np.bool_, shape)}

    @classmethod
    def from_linear(cls, linear, mask):
        """The layer with the weights where mask is False removed. mask: (out, in) booleans."""
        weight, mask = linear.dense_weight(), np.asarray(mask)
        require_same_shape("mask", mask, weight.shape)
        if mask.dtype != bool:
            raise DataError(f"mask must hold booleans (True: the weight stays), found {mask.dtype}")
        return cls(np.where(mask, weight, weight.dtype.type(0)), mask, linear.bias)

    def to_linear(self):
        """A dense `Linear` with zeros, for use after training: it does not multiply by the mask each time."""
        return Linear(self.dense_weight(), self.bias)

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        return masked_linear(x, self.weight, self.mask, self.bias)

    def dense_weight(self) -> Array:
        """The (out, in) matrix with zeros that this layer multiplies by."""
        return self.weight * self.mask

    def num_bits(self) -> int:
        """The weights that the mask keeps, one bit of the mask for each weight, and the bias."""
        dropped = np.count_nonzero(~self.mask) * self.weight.itemsize * 8
        return super().num_bits() - dropped
