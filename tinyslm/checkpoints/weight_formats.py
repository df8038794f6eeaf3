"""In what form the weights of a model are held in memory: what becomes of stored tensors when a model is loaded."""

import numpy as np

from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.mapped_layers import MappedEmbedding, MappedLinear
from tinyslm.checkpoints.upcasting import upcast_tiles
from tinyslm.compression.quantization import QuantizedEmbedding, QuantizedLinear, quantize
from tinyslm.errors import CheckpointError, DataError
from tinyslm.modules import Embedding


def dense(module, tensors):
    """The Linear or Embedding itself, with the numbers of its tensors: {name of the array: StoredTensor}."""
    return module.replace(**{name: tensor.read(np.float32) for name, tensor in tensors.items()})


def quantized(module, tensors):
    """What `recipes.Quantize` makes of the dense module: 8 bits per weight, one scale per output row."""
    if isinstance(module, Embedding):
        return QuantizedEmbedding(*_codes_and_scale(tensors["table"]))
    codes, scale = _codes_and_scale(tensors["weight"])
    return QuantizedLinear(codes, scale, bias=_bias(tensors))


def mapped(module, tensors):
    """The module that leaves its weight in the file."""
    if isinstance(module, Embedding):
        return MappedEmbedding(tensors["table"].bits)
    return MappedLinear(tensors["weight"].bits, _bias(tensors))


def _codes_and_scale(tensor):
    """The (n, K) int8 codes and (n, 1) float32 scale of a stored matrix. Rows do not depend on each other: a few at a
    time, so that the matrix is never in memory as float32."""
    codes, scale = np.empty(tensor.shape, np.int8), np.empty((len(tensor.bits), 1), np.float32)
    try:
        for rows, tile in upcast_tiles(tensor.bits):
            part = quantize(tile, axis=0)
            codes[rows], scale[rows] = part.codes, part.scale
    except DataError as problem:
        raise CheckpointError(f"{tensor.file}: tensor {shown(tensor.name)}: {problem}") from None
    return codes, scale


def _bias(tensors):
    return tensors["bias"].read(np.float32) if "bias" in tensors else None


FORMS = {"float32": dense, "int8": quantized, "mapped": mapped}
