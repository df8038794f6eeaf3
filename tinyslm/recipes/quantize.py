"""Quantization applied to a model: every weight matrix in 8 bits, or in fewer."""

from dataclasses import dataclass

from tinyslm.compression.quantization import (
    CodebookLinear,
    QuantizedEmbedding,
    QuantizedLinear,
    float4_levels,
    linear_in_bits,
    normal_float4_levels,
    quantize,
)
from tinyslm.errors import ConfigError
from tinyslm.modules import Embedding, Linear
from tinyslm.recipes.calibration import is_compressible, require_dense
from tinyslm.tree import map_modules

LEVELS = {"nf4": normal_float4_levels, "fp4": float4_levels}


@dataclass(frozen=True)
class Quantize:
    """Store the weights of linear layers and embeddings as integers; norms, biases and routers stay as they are.

    bits: 2 to 8, of the linear layers in the blocks: what lies outside of them always has 8;  symmetric: zero point 0,
    otherwise the range of each row is used in full;  per_channel: one scale per output row, otherwise one per matrix;
    group_size: in the blocks one scale per so many neighbours in a row, which it must divide;  integer_products:
    activations are rounded too, to 8 bits per token, and the linear layers multiply integers (W8A8), otherwise weights
    are widened when they are used.
    """

    bits: int = 8
    symmetric: bool = True
    per_channel: bool = True
    group_size: int | None = None
    integer_products: bool = False

    def __call__(self, model, calibration=None, progress=None):
        require_dense(model)
        if self.integer_products and self.group_size is not None:
            raise ConfigError("integer_products need one scale per row: leave out group_size")

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
            return linear_in_bits(weight, linear.bias, integer_products=self.integer_products)

        return quantize_others(map_modules(quantize_linear, model, Linear))


@dataclass(frozen=True)
class QuantizeFormat:
    """Store the weights of linear layers in the blocks in a 4-bit format whose levels do not lie evenly.

    format: "nf4" (NormalFloat-4) or "fp4" (E2M1);  block_size: neighbours in a row that share a scale, which it must
    divide. The scales take 8 bits (double quantization). Outside the blocks there are 8-bit integers, routers stay
    exact. Source: Dettmers et al. 2023 (QLoRA), section 3.
    """

    format: str = "nf4"
    block_size: int = 64

    def __call__(self, model, calibration=None, progress=None):
        require_dense(model)
        if self.format not in LEVELS:
            raise ConfigError(f"format is {self.format!r}, expected one of {', '.join(LEVELS)}")
        levels = LEVELS[self.format]()

        def quantize_linear(path, linear):
            if not is_compressible(path):
                return linear
            return CodebookLinear.from_linear(linear, levels, block_size=self.block_size)

        return quantize_others(map_modules(quantize_linear, model, Linear))


def quantize_others(model):
    """8-bit weights for embeddings and for linear layers that are still dense: those outside the blocks."""

    def quantize_dense(path, layer):
        if isinstance(layer, Embedding):
            return QuantizedEmbedding.from_embedding(layer)
        return layer if path.endswith(".router") else QuantizedLinear.from_linear(layer)

    return map_modules(quantize_dense, model, Linear | Embedding)
