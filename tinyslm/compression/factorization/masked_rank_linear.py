"""Linear layer with a trainable mask over its components, used while LLRC learns ranks.

Masks and losses: `tinyslm/compression/factorization/llrc.py`. Lesson: `lessons/10_low_rank.py`.
"""

from typing import ClassVar

from tinyslm import ops
from tinyslm.compression.factorization.llrc import rank_mask
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant


class MaskedRankLinear(LinearLayer):
    """Linear layer y = x (left diag(mask) right)^T + b, for training only. Only the logits of the mask are trainable.

    Parameters
    ----------
    logits : ndarray, shape (r,)
        One logit per component; see `rank_mask`.
    left : ndarray, shape (out, r)
        Contains the singular values.
    right : ndarray, shape (r, in)
    noise : ndarray, shape (r,)
        Added to the logits.
    temperature : float
        Of the gradient of the mask.
    bias : ndarray, shape (out,), optional

    Examples
    --------
    >>> import numpy as np
    >>> layer = MaskedRankLinear(np.array([5.0, -5.0]), np.eye(2), np.eye(2), np.zeros(2), 1.0)
    >>> layer.dense_weight()
    array([[1., 0.],
           [0., 0.]])
    """

    matrix: ClassVar[str] = "left"

    logits: Array
    left: Array = constant()
    right: Array = constant()
    noise: Array = constant()
    temperature: float
    bias: Array | None = constant(default=None)

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out).

        The masked product of the factors is computed: with more tokens than components this is cheaper than two
        products per token. The gradient of mask entry i is s_i u_i^T G v_i, with the gradient G of the product.
        """
        mask = rank_mask(self.logits, self.noise, self.temperature)  # (r,)
        weight = ops.linear(self.left * mask, self.right.T)  # (out, in)
        return ops.linear(x, weight, self.bias)

    @property
    def in_features(self) -> int:
        return self.right.shape[1]

    def dense_weight(self) -> Array:
        """The (out, in) sum of the components that the mask keeps."""
        return (self.left * rank_mask(self.logits, self.noise, self.temperature)) @ self.right
