"""Low-rank linear layer: a weight matrix stored as the product of two factors. Lesson: `lessons/10_low_rank.py`."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from tinyslm import ops
from tinyslm.compression.factorization.svd import factorized_parameters, truncated_svd
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array


class LowRankLinear(LinearLayer):
    """Linear layer with two trainable factors, y = (x right^T) left^T + b.

    Parameters
    ----------
    left : ndarray, shape (out, R)
    right : ndarray, shape (R, in)
    bias : ndarray, shape (out,), optional

    Examples
    --------
    >>> layer = LowRankLinear(np.ones((3, 1)), np.array([[1.0, 2.0]]))
    >>> layer(np.array([1.0, 1.0])), layer.rank
    (array([3., 3., 3.]), 1)
    """

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

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., R) -> (..., out). The product left right is never computed."""
        return ops.linear(ops.linear(x, self.right), self.left, self.bias)

    @property
    def in_features(self) -> int:
        return self.right.shape[1]

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    def dense_weight(self) -> Array:
        """The product left right, (out, in)."""
        return self.left @ self.right

    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of the two factors."""
        return [self.left.shape, self.right.shape]

    def num_non_zeros(self) -> int:
        """Non-zero entries of both factors and the bias."""
        return sum(int(np.count_nonzero(array)) for array in (self.left, self.right, self.bias) if array is not None)


def factorize_linear(linear: LinearLayer, rank: int, decompose: Callable = truncated_svd) -> LinearLayer:
    """Low-rank form of a linear layer, or the layer itself if the two factors would not have fewer parameters.

    Parameters
    ----------
    linear : LinearLayer
        The result has the same bias.
    rank : int
        Number of components kept, from 1 to min(out, in).
    decompose : callable
        Function (weight, rank) -> (left, right).

    Returns
    -------
    LowRankLinear or the type of `linear`

    Raises
    ------
    ConfigError
        If rank is out of range.
    DataError
        If the weight is not finite.

    Examples
    --------
    >>> from tinyslm.modules import Linear
    >>> factorize_linear(Linear(np.diag([2.0, 3.0, 4.0, 5.0])), 1).shapes()
    [(4, 1), (1, 4)]
    """
    weight = linear.dense_weight()
    if factorized_parameters(weight.shape, rank) == weight.size:
        return linear
    return LowRankLinear(*decompose(weight, rank), linear.bias)
