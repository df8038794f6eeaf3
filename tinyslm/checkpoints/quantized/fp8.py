"""Weights in 8-bit floating point (FP8) with scales, outside of compressed-tensors.

    weight             (out, in)                          F8_E4M3 or F8_E5M2
    weight_scale_inv   (ceil(out / 128), ceil(in / 128))  scale of each block, as in DeepSeek V3 and Qwen3-FP8; or
    weight_scale       () or (1,), or (out, 1)            scale of the matrix, or of each row

Despite the name, numbers are multiplied by weight_scale_inv. Scales of the inputs (input_scale, activation_scale)
are left out: the weights are exact, and the activations are not quantized.
Source: https://github.com/huggingface/transformers (integrations/finegrained_fp8.py) and
https://github.com/vllm-project/vllm (model_executor/layers/quantization/fp8.py).
"""

from typing import Any

from tinyslm.checkpoints.encoded_tensor import Storage
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.quantized.parts import FLOATS, Parts, Settings, with_encoded
from tinyslm.checkpoints.quantized.scaled_floats import DTYPES, ScaledFloatEncoding
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.errors import ConfigError

FIELDS = ("weight_scale_inv", "weight_scale", "input_scale", "input_scale_ub", "activation_scale")


def read(tensors: dict[str, StoredTensor], settings: Settings) -> dict[str, Any]:
    """The tensors, with one EncodedTensor for the parts of each quantized weight."""
    block = settings.values.get("weight_block_size")
    if block is not None and not (
        isinstance(block, list) and len(block) == 2 and all(type(size) is int and size > 0 for size in block)
    ):
        raise ConfigError(
            f"{settings.prefix}weight_block_size is {shown(block)}, expected two whole numbers above 0, or null"
        )
    return with_encoded(tensors, FIELDS, DTYPES, lambda parts: _encode(parts, block))


def _encode(parts: Parts, block):
    weight, rows, columns = parts.take_matrix("weight", DTYPES)
    if block is not None:
        blocks = (-(-rows // block[0]), -(-columns // block[1]))
        scale, named = parts.take("weight_scale_inv", FLOATS, blocks), f"blocks of {block[0]}x{block[1]}"
        return ScaledFloatEncoding((rows, columns), Storage("FP8", 8, named), weight, scale, *block)
    name = "weight_scale_inv" if "weight_scale_inv" in parts else "weight_scale"
    scale = parts.take(name, FLOATS)
    if scale.bits.size == 1:
        return ScaledFloatEncoding((rows, columns), Storage("FP8", 8, "matrix"), weight, scale, rows, columns)
    scale = parts.take(name, FLOATS, (rows, 1))
    return ScaledFloatEncoding((rows, columns), Storage("FP8", 8, "row"), weight, scale, 1, columns)
