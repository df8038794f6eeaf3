"""Layers whose weights stay in the file: for models that are larger than the memory.

A weight is mapped from its file as it is stored, in float16, bfloat16 or float32, and widened a tile of rows at a time
when it multiplies. Nothing of it stays in memory in between, so a model costs a few tiles of memory. What it
costs instead is time: everything is read again for every token, from the system's copy of the file where that fits into
what memory is left, else from the disk. These weights are read-only and are not trained.
"""

from typing import ClassVar

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.checkpoints.upcasting import release_pages, upcast, upcast_array, upcast_tiles
from tinyslm.modules import LinearLayer, WeightLayer
from tinyslm.ops.linear import rows_times_weight
from tinyslm.parallel import map_shares
from tinyslm.tree import Array, constant


@differentiable
def linear_in_tiles(x, stored, bias=None):
    """y = x W^T + b, where W is widened a few rows at a time.

    x: (..., in);  stored: (out, in), as in `widen`;  bias: (out,) or None;  returns (..., out) in the dtype of x.
    Each thread widens and multiplies rows of its own; their products are different columns of y.
    """
    inputs = x.reshape(-1, x.shape[-1])  # (N, in)
    y = np.empty((inputs.shape[0], stored.shape[0]), x.dtype)

    def multiply(share):
        for rows, tile in upcast_tiles(stored[share]):
            rows_times_weight(inputs, tile, out=y[:, share][:, rows])  # (N, tile)

    map_shares(multiply, stored.shape[0])
    if bias is not None:
        y += bias

    def vjp(dy):
        dy = dy.reshape(-1, stored.shape[0])  # (N, out)
        dx = np.zeros_like(inputs)
        for rows, tile in upcast_tiles(stored):
            dx += dy[:, rows] @ tile  # (N, in)
        dbias = None if bias is None else np.sum(dy, axis=0)  # (out,)
        return dx.reshape(x.shape), None, dbias

    return y.reshape(*x.shape[:-1], stored.shape[0]), vjp


class MappedLinear(LinearLayer):
    """A `Linear` whose weight stays in the file. weight: (out, in), bfloat16 as its bits (uint16);  bias: (out,)
    float32 in memory, or None."""

    weight: Array = constant()
    bias: Array | None = constant(default=None)

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        return linear_in_tiles(x, self.weight, self.bias)

    def dense_weight(self) -> Array:
        """The (out, in) matrix that this layer multiplies by, in memory."""
        return upcast_array(self.weight)

    def num_non_zeros(self) -> int:
        """Counted a tile at a time."""
        bias = 0 if self.bias is None else np.count_nonzero(self.bias)
        return bias + _non_zeros(self.weight)

    def num_bytes(self) -> int:
        """Of the bias: the weight is in the file."""
        return 0 if self.bias is None else self.bias.nbytes


class MappedEmbedding(WeightLayer):
    """An `Embedding` whose table stays in the file. table: (V, C), bfloat16 as its bits (uint16)."""

    matrix: ClassVar[str] = "table"

    table: Array = constant()

    def dense_weight(self) -> Array:
        """The (V, C) table, in memory."""
        return upcast_array(self.table)

    def num_non_zeros(self) -> int:
        """Counted a tile at a time."""
        return _non_zeros(self.table)

    def num_bytes(self) -> int:
        """None: the table is in the file."""
        return 0

    def __call__(self, token_ids):
        """token_ids: (...) integers -> (..., C). Only the rows that are looked up are read."""
        rows = self.table[token_ids]  # (..., C)
        release_pages(self.table)
        return upcast(rows, np.empty(rows.shape, np.float32))

    def as_head(self, x):
        """Logits by comparison with every token's vector: (..., C) -> (..., V)."""
        return linear_in_tiles(x, self.table)


def _non_zeros(stored):
    return sum(np.count_nonzero(tile) for _, tile in upcast_tiles(stored))
