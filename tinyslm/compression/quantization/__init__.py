"""Quantization: numbers in a few bits, an exact product of such numbers, and the layer that uses them."""

from tinyslm.compression.quantization.affine import QuantizedArray, affine_parameters, code_range, encode, quantize
from tinyslm.compression.quantization.integer_matmul import affine_matmul, integer_matmul, quantize_tokens
from tinyslm.compression.quantization.quantized_embedding import QuantizedEmbedding
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear, integer_linear, weight_only_linear

__all__ = [
    "QuantizedArray",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "affine_matmul",
    "affine_parameters",
    "code_range",
    "encode",
    "integer_linear",
    "integer_matmul",
    "quantize",
    "quantize_tokens",
    "weight_only_linear",
]
