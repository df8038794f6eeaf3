"""RMS normalization and layer normalization as modules."""

from tinyslm import ops
from tinyslm.tree import Array, Module


class RMSNorm(Module):
    """RMS normalization. weight: (C,), the stored gain; the gain is offset + weight, with offset 1 for Gemma."""

    weight: Array
    eps: float = 1e-6
    offset: float = 0.0

    def __call__(self, x: Array) -> Array:
        """x: (..., C) -> (..., C)."""
        return ops.rms_norm(x, self.weight, eps=self.eps, offset=self.offset)


class LayerNorm(Module):
    """Layer normalization. weight: (C,), the gain;  bias: (C,) or None."""

    weight: Array
    bias: Array | None = None
    eps: float = 1e-5

    def __call__(self, x: Array) -> Array:
        """x: (..., C) -> (..., C)."""
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)
