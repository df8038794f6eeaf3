"""Linear layers and embeddings with blocks that stay in the GGUF file, for models that are larger than the memory.

A tile of rows is dequantized at a time in each product, as in `mapped_layers`.
"""

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import numpy as np

from tinyslm.checkpoints.gguf.dequantization import dequantize_blocks
from tinyslm.checkpoints.mapped_layers import MappedLayer, linear_in_tiles
from tinyslm.checkpoints.upcasting import TILE_BYTES, release_pages
from tinyslm.modules import LinearLayer
from tinyslm.ops.tiles import row_slices
from tinyslm.tree import Array, constant


def block_tiles(blocks: Array, type_name: str, columns: int) -> Iterator[tuple[slice, Array]]:
    """Yield (rows, dequantized rows in float32). blocks: (n, bytes of a row), of `columns` numbers each."""
    for rows in row_slices(len(blocks), 4 * columns, TILE_BYTES):
        yield rows, dequantize_blocks(blocks[rows], type_name)
    release_pages(blocks)


class MappedBlocks(MappedLayer):
    """Base class of layers with blocks in a file. A subclass has the fields `type_name` and `in_features`."""

    def tiles(self):
        """Yield (rows, dequantized rows) of the matrix."""
        return block_tiles(getattr(self, self.matrix), self.type_name, self.in_features)

    def dense_weight(self):
        """The whole matrix in memory, float32."""
        weight = np.empty(self.shapes()[0], np.float32)
        for rows, tile in self.tiles():
            weight[rows] = tile
        return weight

    def shapes(self):
        """Shape (rows, columns) of the matrix, in a list."""
        return [(len(getattr(self, self.matrix)), self.in_features)]

    def product(self, x, bias=None):
        """x: (..., in) -> (..., rows)."""
        tiles = partial(block_tiles, type_name=self.type_name, columns=self.in_features)
        return linear_in_tiles(x, getattr(self, self.matrix), bias, tiles_of=tiles)


class MappedBlocksLinear(MappedBlocks, LinearLayer):
    """A `Linear` with blocks in a file. weight: (out, bytes of a row) uint8;  bias: (out,) float32, or None."""

    weight: Array = constant()
    bias: Array | None = constant(default=None)
    type_name: str = ""
    in_features: int = 0

    def __call__(self, x):
        """x: (..., in) -> (..., out)."""
        return self.product(x, self.bias)


class MappedBlocksEmbedding(MappedBlocks):
    """An `Embedding` with blocks in a file. table: (V, bytes of a row) uint8;  in_features: the width C."""

    matrix: ClassVar[str] = "table"

    table: Array = constant()
    type_name: str = ""
    in_features: int = 0

    def __call__(self, token_ids):
        """token_ids: (...) integers -> (..., C). Reads only the rows of these tokens."""
        token_ids = np.asarray(token_ids)
        rows = dequantize_blocks(self.table[token_ids.reshape(-1)], self.type_name)  # (N, C)
        release_pages(self.table)
        return rows.reshape(*token_ids.shape, self.in_features)

    def as_head(self, x):
        """Logits: the product with every row of the table, (..., C) -> (..., V)."""
        return self.product(x)
