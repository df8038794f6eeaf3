"""A linear layer while its rank is being learned."""

from typing import ClassVar

from tinyslm import ops
from tinyslm.compression.factorization.llrc import rank_mask
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant


class MaskedRankLinear(LinearLayer):
    """y = x (left diag(mask) right)^T + b, in training only. The logits of the mask are the only thing that learns.

    logits, noise: (r,);  left: (out, r), singular values included;  right: (r, in);  bias: (out,) or None.
    """

    matrix: ClassVar[str] = "left"

    logits: Array
    left: Array = constant()
    right: Array = constant()
    noise: Array = constant()
    temperature: float
    bias: Array | None = constant(default=None)

    def __call__(self, x):
        """x: (..., in) -> (..., out). The product of the factors is formed: for more tokens than components that takes
        less than two products with each token, and the gradient of the mask is s_i u_i^T G v_i, with G of the product.
        """
        mask = rank_mask(self.logits, self.noise, self.temperature)  # (r,)
        weight = ops.linear(self.left * mask, self.right.T)  # (out, in)
        return ops.linear(x, weight, self.bias)

    @property
    def in_features(self) -> int:
        return self.right.shape[1]

    def dense_weight(self) -> Array:
        """The (out, in) matrix of the components that the mask keeps."""
        return (self.left * rank_mask(self.logits, self.noise, self.temperature)) @ self.right
