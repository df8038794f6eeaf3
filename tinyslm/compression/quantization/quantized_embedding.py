"""Embedding table with 8-bit numbers, which can also be the output head.

Applied to models: `tinyslm/recipes/quantization/affine.py`. Lesson: `lessons/09_quantization.py`.
"""

from typing import ClassVar

import numpy as np

from tinyslm.compression.quantization.affine import quantize
from tinyslm.compression.quantization.quantized_linear import weight_only_linear
from tinyslm.modules import Embedding, WeightLayer
from tinyslm.tree import Array, constant


class QuantizedEmbedding(WeightLayer):
    """`Embedding` with 8-bit numbers and one scale per token.

    Parameters
    ----------
    codes : ndarray of int8, shape (V, C)
    scale : ndarray, shape (V, 1)

    Examples
    --------
    >>> layer = QuantizedEmbedding.from_embedding(Embedding(np.array([[1.0, -0.5], [0.0, 2.0]])))
    >>> layer(np.array([1]))
    array([[0., 2.]])
    """

    storage: ClassVar[str] = "8 bits per number"
    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    scale: Array = constant()

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Codes, and one scale per row."""
        return {"codes": (np.int8, shape), "scale": (np.floating, (shape[0], 1))}

    @classmethod
    def from_embedding(cls, embedding: Embedding) -> "QuantizedEmbedding":
        """The table rounded to 8 bits, zero point 0."""
        table = quantize(embedding.table, axis=0)
        return cls(table.codes, table.scale)

    @property
    def table(self) -> Array:
        """The dequantized table (V, C)."""
        return self.codes * self.scale

    def dense_weight(self) -> Array:
        """The dequantized table (V, C)."""
        return self.table

    def __call__(self, token_ids: Array) -> Array:
        """token_ids: (...) integers -> (..., C)."""
        return self.codes[token_ids] * self.scale[token_ids]

    def as_head(self, x: Array) -> Array:
        """Logits, the products with every token's vector: (..., C) -> (..., V)."""
        return weight_only_linear(x, self.codes, self.scale)
