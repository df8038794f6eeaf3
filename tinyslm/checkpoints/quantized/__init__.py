"""Weights that other libraries quantized, in safetensors files: one module per format.

The format is in config.json, under the key "quantization_config" ("compression_config" in older files). A weight is
quantized if the file has the tensors of its format, so the modules that a configuration excludes need no list.
"""

from pathlib import Path
from typing import Any

from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.quantized import awq, bitsandbytes, compressed_tensors, fp8, gptq
from tinyslm.checkpoints.quantized.parts import Settings
from tinyslm.checkpoints.safetensors import StoredTensor

KEYS = ("quantization_config", "compression_config")
METHODS = {
    "compressed-tensors": compressed_tensors,
    "gptq": gptq,
    "awq": awq,
    "bitsandbytes": bitsandbytes,
    "fp8": fp8,
    "fbgemm_fp8": fp8,
}
ADVICE = "; dequantize the model with the library that wrote it, or use the checkpoint from which it was made"
CACHE_SCALES = ("k_scale", "v_scale", "q_scale")  # of a quantized key/value cache, which has no effect on the weights

__all__ = ["with_quantized"]


def with_quantized(
    tensors: dict[str, Any], values: dict[str, Any], where: str | Path
) -> dict[str, StoredTensor | EncodedTensor]:
    """The tensors of a file, with one EncodedTensor "MODULE.weight" for the parts of each quantized weight.

    tensors: {name: StoredTensor};  values: the content of config.json;  where: its path. Reads no codes and no scales.
    Raises ConfigError for a format or a setting that is not supported, CheckpointError for a part of a weight that is
    missing or of the wrong dtype or shape.
    """
    settings = _settings(values, where)
    if settings is None:
        return dict(tensors)
    method = settings.choice("quant_method", tuple(METHODS), _method(settings), ADVICE)
    weights = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in CACHE_SCALES}
    return METHODS[method].read(weights, settings)


def _settings(values, where):
    """The settings of the format in config.json, or None for a dense model."""
    whole = Settings(values, f"{where}: ")
    for key in KEYS:
        found = whole.section(key)
        if found is not None:
            sparsity = found.section("sparsity_config")
            if sparsity is not None:
                sparsity.choice("format", ("dense",), "dense", compressed_tensors.ADVICE)
            return found.section("quantization_config") or found  # one inside the other in files of older versions
    return None


def _method(settings):
    """The method where the key is missing: the first versions of bitsandbytes had other keys only."""
    return "bitsandbytes" if {"load_in_4bit", "load_in_8bit"} & settings.values.keys() else None
