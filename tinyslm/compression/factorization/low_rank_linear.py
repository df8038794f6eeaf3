"""A linear layer in two steps through a narrow middle."""

from tinyslm import ops
from tinyslm.compression.factorization.svd import factorized_parameters, truncated_svd
from tinyslm.tree import Array, Module


class LowRankLinear(Module):
    """y = (x right^T) left^T + b, both factors trainable. left: (out, R);  right: (R, in);  bias: (out,) or None."""

    left: Array
    right: Array
    bias: Array | None = None

    def __call__(self, x):
        """x: (..., in) -> (..., R) -> (..., out). The product left right is never formed."""
        return ops.linear(ops.linear(x, self.right), self.left, self.bias)

    @property
    def out_features(self) -> int:
        return self.left.shape[0]

    @property
    def in_features(self) -> int:
        return self.right.shape[1]

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    def dense_weight(self) -> Array:
        """The (out, in) matrix that this layer multiplies by, in two steps."""
        return self.left @ self.right

    def multiply_adds(self) -> int:
        """Multiplications (each with an addition) for one token."""
        return self.rank * (self.in_features + self.out_features)


def factorize_linear(linear, rank, decompose=truncated_svd):
    """A `LowRankLinear` of this rank, or the layer itself where two factors would not be smaller.

    decompose: a function (weight, rank) -> (left, right). The bias stays as it is.
    """
    weight = linear.dense_weight()
    if factorized_parameters(weight.shape, rank) == weight.size:
        return linear
    left, right = decompose(weight, rank)
    return LowRankLinear(left, right, linear.bias)
