"""Quantization applied to a model: every weight matrix in 8 bits."""

from dataclasses import dataclass

from tinyslm.compression.quantization import QuantizedEmbedding, QuantizedLinear
from tinyslm.modules import Embedding, Linear
from tinyslm.recipes.calibration import require_dense
from tinyslm.tree import map_modules


@dataclass(frozen=True)
class Quantize:
    """Store the weights of linear layers and embeddings as 8-bit integers; norms and biases stay as they are.

    symmetric: zero point 0, otherwise the range of each row is used in full;  per_channel: one scale per output row,
    otherwise one per matrix;  integer_products: activations are rounded too, per token, and the linear layers multiply
    integers (W8A8), otherwise weights are widened when they are used.
    """

    symmetric: bool = True
    per_channel: bool = True
    integer_products: bool = False

    def __call__(self, model, calibration=None, progress=None):
        require_dense(model)

        def quantize_linear(path, linear):
            if path.endswith(".router"):
                return linear
            return QuantizedLinear.from_linear(
                linear,
                symmetric=self.symmetric,
                per_channel=self.per_channel,
                integer_products=self.integer_products,
            )

        quantized = map_modules(quantize_linear, model, Linear)
        return map_modules(lambda path, embedding: QuantizedEmbedding.from_embedding(embedding), quantized, Embedding)
