"""Dequantization of blocks by the package `gguf`."""

import numpy as np

from tinyslm.checkpoints.gguf.container import TYPE_NUMBERS
from tinyslm.errors import ConfigError
from tinyslm.tree import Array


def dequantize_blocks(blocks: Array, type_name: str) -> Array:
    """Numbers of rows of blocks, (n, bytes of a row) -> (n, in) float32, computed by the package `gguf`.

    Raises ConfigError if the package is not installed.
    """
    try:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError:
        raise ConfigError(
            f'tensors of the type {type_name} need the package gguf: pip install "tinyslm[gguf]"'
        ) from None
    with np.errstate(all="ignore"):  # a damaged scale gives nan, which is reported where the model is used
        return dequantize(blocks, GGMLQuantizationType(TYPE_NUMBERS[type_name]))
