"""Embedding: one vector per token of the vocabulary, or per position."""

from typing import ClassVar

import numpy as np

from tinyslm import ops
from tinyslm.modules.weight_layers import WeightLayer
from tinyslm.tree import Array


class Embedding(WeightLayer):
    """Embedding table (V, C). It can also be the weight of the output head (tied embeddings).

    Every row that is looked up has a gradient, also the row of a padding token. Some frameworks set the gradient of the
    padding token's row to zero.
    """

    matrix: ClassVar[str] = "table"

    table: Array

    def __call__(self, token_ids: Array) -> Array:
        """token_ids: (...) integers -> (..., C)."""
        return ops.embedding(token_ids, self.table)

    @staticmethod
    def array_forms(shape, settings, arrays):
        """The table."""
        return {"table": (np.floating, shape)}

    def dense_weight(self) -> Array:
        """The (V, C) table."""
        return self.table

    def as_head(self, x: Array) -> Array:
        """Logits, the dot products with every row of the table: (..., C) -> (..., V)."""
        return ops.linear(x, self.table)
