"""Quantization: codes of 2 to 8 bits, exact integer products, calibration, and the layers that store codes.

Applied to models: `tinyslm/recipes/quantization/`. Lesson: `lessons/09_quantization.py`.
"""

from tinyslm.compression.quantization.affine import QuantizedArray, affine_parameters, code_range, encode, quantize
from tinyslm.compression.quantization.bit_packing import pack_codes, packed_length, unpack_codes
from tinyslm.compression.quantization.codebook_linear import AbsmaxCodebookLinear, CodebookLinear
from tinyslm.compression.quantization.fake_quantize import FakeQuantizedLinear, fake_quantize, fake_quantize_tokens
from tinyslm.compression.quantization.gptq import gptq
from tinyslm.compression.quantization.integer_matmul import affine_matmul, integer_matmul, quantize_tokens
from tinyslm.compression.quantization.llm_int8 import OutlierLinear, outlier_features, outlier_linear
from tinyslm.compression.quantization.nf4 import (
    double_quantize,
    float4_levels,
    integer4_levels,
    normal_float4_levels,
    quantize_to_levels,
)
from tinyslm.compression.quantization.packed_linear import PackedLinear, linear_from_codes
from tinyslm.compression.quantization.packed_n_m_linear import PackedNMLinear
from tinyslm.compression.quantization.quantized_embedding import QuantizedEmbedding
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear, integer_linear, weight_only_linear
from tinyslm.compression.quantization.ranges import choose_range, entropy_threshold, join_ranges
from tinyslm.compression.quantization.requantization import fixed_point, requantize
from tinyslm.compression.quantization.smoothquant import column_maxima, smooth_gain, smooth_weight, smoothing_scales
from tinyslm.compression.quantization.static_quantized_linear import StaticQuantizedLinear, static_linear

__all__ = [
    "AbsmaxCodebookLinear",
    "CodebookLinear",
    "FakeQuantizedLinear",
    "OutlierLinear",
    "PackedLinear",
    "PackedNMLinear",
    "QuantizedArray",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "StaticQuantizedLinear",
    "affine_matmul",
    "affine_parameters",
    "choose_range",
    "code_range",
    "column_maxima",
    "double_quantize",
    "encode",
    "entropy_threshold",
    "fake_quantize",
    "fake_quantize_tokens",
    "fixed_point",
    "float4_levels",
    "gptq",
    "integer4_levels",
    "integer_linear",
    "integer_matmul",
    "join_ranges",
    "linear_from_codes",
    "normal_float4_levels",
    "outlier_features",
    "outlier_linear",
    "pack_codes",
    "packed_length",
    "quantize",
    "quantize_to_levels",
    "quantize_tokens",
    "requantize",
    "smooth_gain",
    "smooth_weight",
    "smoothing_scales",
    "static_linear",
    "unpack_codes",
    "weight_only_linear",
]
