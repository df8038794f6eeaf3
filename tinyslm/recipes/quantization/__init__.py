"""Quantization steps: weights, and for some steps activations, stored in 2 to 8 bits."""

from tinyslm.recipes.quantization.affine import Quantize
from tinyslm.recipes.quantization.fake_quantize import TrainQuantized
from tinyslm.recipes.quantization.gptq import QuantizeGPTQ
from tinyslm.recipes.quantization.llm_int8 import QuantizeOutlierAware
from tinyslm.recipes.quantization.nf4 import QuantizeFormat
from tinyslm.recipes.quantization.smoothquant import Smooth
from tinyslm.recipes.quantization.static_quantized_linear import QuantizeStatic

__all__ = [
    "Quantize",
    "QuantizeFormat",
    "QuantizeGPTQ",
    "QuantizeOutlierAware",
    "QuantizeStatic",
    "Smooth",
    "TrainQuantized",
]
