"""Linear layers and embeddings with memory-mapped weights, for models that are larger than the memory.

A weight is memory-mapped as it is stored, in float16, bfloat16 or float32, and upcast a tile of rows at a time in each
product. The model then needs memory for a few tiles only. It needs more time: every weight is read again for every
token, from the system's file cache if the file fits there, otherwise from the disk. The weights are read-only and are
not trained.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.checkpoints.upcasting import release_pages, upcast, upcast_array, upcast_tiles
from tinyslm.modules import LinearLayer, WeightLayer
from tinyslm.ops.tiles import input_gradient_in_tiles, multiply_in_tiles
from tinyslm.tree import Array, constant


@differentiable
def linear_in_tiles(x, stored, bias=None, *, tiles_of=upcast_tiles):
    """Linear map y = x W^T + b, where W is upcast a tile of rows at a time.

    x: (..., in);  stored: (out, ...), the stored form of the rows of W;  bias: (out,) or None;  tiles_of: a function
    that yields (rows, these rows of W) of some stored rows;  returns (..., out) in the dtype of x.
    """
    rows = x.reshape(-1, x.shape[-1])  # (N, in)

    def tiles(share):
        return tiles_of(stored[share])

    y = multiply_in_tiles(rows, tiles, len(stored))  # (N, out)
    if bias is not None:
        y += bias

    def vjp(dy):
        dy = dy.reshape(-1, len(stored))  # (N, out)
        dx = input_gradient_in_tiles(dy, tiles, x.shape[-1], x.dtype)  # (N, in)
        dbias = None if bias is None else np.sum(dy, axis=0)  # (out,)
        return dx.reshape(x.shape), None, dbias

    return y.reshape(*x.shape[:-1], len(stored)), vjp


class MappedLayer(WeightLayer):
    """Base class of layers with a memory-mapped weight matrix. `matrix` is the name of its field."""

    def tiles(self) -> Iterator[tuple[slice, Array]]:
        """Yield (rows, these rows of the matrix in float32). The next tile can overwrite the array."""
        return upcast_tiles(getattr(self, self.matrix))

    def dense_weight(self) -> Array:
        """The whole weight matrix in memory, float32."""
        return upcast_array(getattr(self, self.matrix))

    def num_non_zeros(self) -> int:
        """Number of non-zeros of the matrix, counted a tile at a time, and of the bias."""
        bias = getattr(self, "bias", None)
        return sum(int(np.count_nonzero(tile)) for _, tile in self.tiles()) + int(
            0 if bias is None else np.count_nonzero(bias)
        )

    def num_bytes(self) -> int:
        """Bytes in memory: of the bias, and of a matrix copied from the file (AlternatingRows). Mapped arrays are 0."""
        matrix, bias = getattr(self, self.matrix), getattr(self, "bias", None)
        return (matrix.nbytes if matrix.flags.owndata else 0) + (0 if bias is None else bias.nbytes)


class MappedLinear(MappedLayer, LinearLayer):
    """A `Linear` with a memory-mapped weight. weight: (out, in), bfloat16 as its bits (uint16);  bias: (out,)
    float32 in memory, or None."""

    weight: Array = constant()
    bias: Array | None = constant(default=None)

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        return linear_in_tiles(x, self.weight, self.bias)


class MappedEmbedding(MappedLayer):
    """An `Embedding` with a memory-mapped table. table: (V, C), bfloat16 as its bits (uint16)."""

    matrix: ClassVar[str] = "table"

    table: Array = constant()

    def __call__(self, token_ids):
        """token_ids: (...) integers -> (..., C). Reads only the rows of these tokens."""
        rows = self.table[token_ids]  # (..., C)
        release_pages(self.table)
        return upcast(rows, np.empty(rows.shape, np.float32))

    def as_head(self, x):
        """Logits: the product with every row of the table, (..., C) -> (..., V)."""
        return linear_in_tiles(x, self.table)
