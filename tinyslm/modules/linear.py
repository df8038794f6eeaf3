"""Linear: the one way to multiply by a weight, and what every compressed layer can stand in for."""

from tinyslm import ops
from tinyslm.tree import Array, Module


class Linear(Module):
    """y = x W^T + b. weight: (out, in);  bias: (out,) or None."""

    weight: Array
    bias: Array | None = None

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        return ops.linear(x, self.weight, self.bias)

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    def dense_weight(self) -> Array:
        """The (out, in) matrix that this layer multiplies by."""
        return self.weight

    def multiply_adds(self) -> int:
        """Multiplications (each with an addition) for one token."""
        return self.out_features * self.in_features
