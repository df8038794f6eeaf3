"""Embedding: one vector per token of the vocabulary, or per position."""

from tinyslm import ops
from tinyslm.tree import Array, Module


class Embedding(Module):
    """table: (V, C). Its transpose can serve as the output head (tied embeddings).

    Every row that is looked up has a gradient, that of a padding token too, which some frameworks set to zero.
    """

    table: Array

    def __call__(self, token_ids):
        """token_ids: (...) integers -> (..., C)."""
        return ops.embedding(token_ids, self.table)

    def as_head(self, x):
        """Logits by comparison with every token's vector: (..., C) -> (..., V)."""
        return ops.linear(x, self.table)
