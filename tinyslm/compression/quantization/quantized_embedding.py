"""An embedding table in one byte per number, which can also serve as the output head."""

from typing import ClassVar

import numpy as np

from tinyslm.compression.quantization.affine import quantize
from tinyslm.compression.quantization.quantized_linear import weight_only_linear
from tinyslm.modules import WeightLayer
from tinyslm.tree import Array, constant


class QuantizedEmbedding(WeightLayer):
    """An `Embedding` with 8-bit numbers and one scale per token. codes: (V, C) int8;  scale: (V, 1)."""

    storage: ClassVar[str] = "8 bits per number"
    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    scale: Array = constant()

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Codes, and one scale per row."""
        return {"codes": (np.int8, shape), "scale": (np.floating, (shape[0], 1))}

    @classmethod
    def from_embedding(cls, embedding):
        """The table rounded to 8 bits, symmetric around 0."""
        table = quantize(embedding.table, axis=0)
        return cls(table.codes, table.scale)

    @property
    def table(self) -> Array:
        """The (V, C) table that the codes stand for."""
        return self.codes * self.scale

    def dense_weight(self) -> Array:
        """The (V, C) table that the codes stand for."""
        return self.table

    def __call__(self, token_ids):
        """token_ids: (...) integers -> (..., C)."""
        return self.codes[token_ids] * self.scale[token_ids]

    def as_head(self, x):
        """Logits by comparison with every token's vector: (..., C) -> (..., V)."""
        return weight_only_linear(x, self.codes, self.scale)
