"""Layers of an inference engine: fused matrices, layers that are called as they are, norms."""

import math

import numpy as np

from tinyslm.errors import NumericOverflow
from tinyslm.tree import Array, Module


class FusedLinear(Module):
    """y = x W^T + b for layers that read the same input, their outputs side by side.

    weight: (out, in);  bias: (out,) or None. The memory order of y is that of W x^T: for several rows, OpenBLAS is
    faster in this order.
    """

    weight: Array
    bias: Array | None

    def __call__(self, x):
        y = (self.weight @ x.T).T
        if self.bias is not None:
            y += self.bias
        return y


class FusedFactors(Module):
    """The same for low-rank layers: x R^T once for all of them, then their left factors.

    right: (sum of the ranks, in);  left: one (out, rank) per layer;  bias: (sum of the outs,) or None.
    """

    right: Array
    left: list[Array]
    bias: Array | None

    def __call__(self, x):
        inner = self.right @ x.T  # (sum of the ranks, B)
        parts, start = [], 0
        for left in self.left:
            stop = start + left.shape[1]
            parts.append(left @ inner[start:stop])  # (out, B)
            start = stop
        y = (parts[0] if len(parts) == 1 else np.concatenate(parts)).T
        if self.bias is not None:
            y += self.bias
        return y


class SeparateLayers(Module):
    """The same for layers that are called as they are. factors: one number per layer."""

    layers: list
    factors: list

    def __call__(self, x):
        outputs = [layer(x) for layer in self.layers]
        outputs = [y if factor == 1 else y * factor for y, factor in zip(outputs, self.factors, strict=True)]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)


class Norm(Module):
    """RMS norm, or layer norm if `centred`: (..., C) -> (..., C). gain, bias: None where they are part of a matrix."""

    eps: float
    centred: bool
    gain: Array | None
    bias: Array | None

    def __call__(self, x):
        if self.centred:
            x = x - x.mean(axis=-1, keepdims=True)
        if len(x) == 1 and x.ndim == 2:  # for one number, Python's arithmetic is faster
            row = x[0]
            rms = math.sqrt(float(row.dot(row)) / len(row) + self.eps)
            overflows = rms == math.inf
        else:
            rms = np.sqrt(np.vecdot(x, x)[..., None] / x.shape[-1] + self.eps)  # (..., 1)
            overflows = math.inf in rms.ravel().tolist()
        if overflows:
            raise NumericOverflow(f"the mean square of a hidden state overflows {x.dtype}")
        y = x / rms
        if self.gain is not None:
            y *= self.gain
        if self.bias is not None:
            y += self.bias
        return y


class TiedHead:
    """Output layer of a compressed embedding table: the products with the vectors of all tokens."""

    def __init__(self, embedding):
        self.embedding = embedding

    def __call__(self, x):
        return self.embedding.as_head(x)
