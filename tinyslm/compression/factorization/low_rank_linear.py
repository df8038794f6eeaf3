"""A linear layer in two steps through a narrow middle."""

from typing import ClassVar

import numpy as np

from tinyslm import ops
from tinyslm.compression.factorization.svd import factorized_parameters, truncated_svd
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array


class LowRankLinear(LinearLayer):
    """y = (x right^T) left^T + b, both factors trainable. left: (out, R);  right: (R, in);  bias: (out,) or None."""

    storage: ClassVar[str] = "two factors"
    matrix: ClassVar[str] = "left"

    left: Array
    right: Array
    bias: Array | None = None

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Two factors with the same rank, and the bias."""
        rank = arrays["right"].shape[0] if np.ndim(arrays.get("right")) == 2 else 0
        return {
            "left": (np.floating, (shape[0], rank)),
            "right": (np.floating, (rank, shape[1])),
            "bias": (np.floating, shape[:1]),
        }

    def __call__(self, x):
        """x: (..., in) -> (..., R) -> (..., out). The product left right is never formed."""
        return ops.linear(ops.linear(x, self.right), self.left, self.bias)

    @property
    def in_features(self) -> int:
        return self.right.shape[1]

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    def dense_weight(self) -> Array:
        """The (out, in) matrix that this layer multiplies by, in two steps."""
        return self.left @ self.right

    def shapes(self) -> list[tuple[int, int]]:
        """Of the two factors."""
        return [self.left.shape, self.right.shape]

    def num_non_zeros(self) -> int:
        """Of both factors and the bias."""
        return sum(np.count_nonzero(array) for array in (self.left, self.right, self.bias) if array is not None)


def factorize_linear(linear, rank, decompose=truncated_svd):
    """A `LowRankLinear` of this rank, or the layer itself where two factors would not be smaller.

    decompose: a function (weight, rank) -> (left, right). The bias stays as it is.
    """
    weight = linear.dense_weight()
    if factorized_parameters(weight.shape, rank) == weight.size:
        return linear
    left, right = decompose(weight, rank)
    return LowRankLinear(left, right, linear.bias)
