"""Affine quantization of a model: weights rounded to the nearest code, without calibration.

Mathematics: `tinyslm/compression/quantization/affine.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.quantization import QuantizedEmbedding, QuantizedLinear, linear_from_codes, quantize
from tinyslm.errors import ConfigError
from tinyslm.modules import Embedding, Linear
from tinyslm.recipes.linear_layers import is_compressible, require_dense
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules


@dataclass(frozen=True)
class Quantize:
    """Store the weights of linear layers and embeddings as integers; norms, biases and routers stay as they are.

    bits: 2 to 8, of the linear layers in the blocks: what lies outside of them always has 8;  symmetric: zero point 0,
    otherwise the range of each row is used in full;  per_channel: one scale per output row, otherwise one per matrix;
    group_size: in the blocks one scale per so many neighbours in a row, which it must divide;  dynamic_activations:
    activations are rounded too, to 8 bits per token, and the linear layers multiply integers (W8A8), otherwise weights
    are widened when they are used.
    """

    bits: int = 8
    symmetric: bool = True
    per_channel: bool = True
    group_size: int | None = None
    dynamic_activations: bool = False

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_dense(model)
        if self.dynamic_activations and self.group_size is not None:
            raise ConfigError("dynamic_activations need one scale per row: leave out group_size")

        def quantize_linear(path, linear):
            if path.endswith(".router"):
                return linear
            inside = is_compressible(path)
            weight = quantize(
                linear.weight,
                bits=self.bits if inside else 8,
                symmetric=self.symmetric,
                axis=0 if self.per_channel and not (inside and self.group_size) else None,
                group_size=self.group_size if inside else None,
            )
            return linear_from_codes(weight, linear.bias, dynamic_activations=self.dynamic_activations)

        return quantize_others(map_modules(quantize_linear, model, Linear))


def quantize_others(model):
    """8-bit weights for embeddings and for linear layers that are still dense: those outside the blocks."""

    def quantize_dense(path, layer):
        if isinstance(layer, Embedding):
            return QuantizedEmbedding.from_embedding(layer)
        return layer if path.endswith(".router") else QuantizedLinear.from_linear(layer)

    return map_modules(quantize_dense, model, Linear | Embedding)
