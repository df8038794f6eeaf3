"""Forms of the weights in memory: dense float32, 8-bit quantized, or mapped from the file.

Each function creates a module from two arguments: a Linear or Embedding with the shapes of the arrays, and the stored
tensors {name of the array: StoredTensor}.
"""

import numpy as np

from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.mapped_layers import MappedEmbedding, MappedLinear
from tinyslm.checkpoints.upcasting import TILE_BYTES, upcast_tiles
from tinyslm.compression.quantization import QuantizedEmbedding, QuantizedLinear, quantize
from tinyslm.errors import CheckpointError, DataError
from tinyslm.modules import Embedding
from tinyslm.runtime import release_freed_memory


def dense(module, tensors):
    """The Linear or Embedding with its weights as float32 arrays."""
    return module.replace(**{name: tensor.read(np.float32) for name, tensor in tensors.items()})


def quantized(module, tensors):
    """The quantized module, as `recipes.Quantize` creates it: 8 bits per weight, one scale per output row."""
    if isinstance(module, Embedding):
        return QuantizedEmbedding(*_codes_and_scale(tensors["table"]))
    codes, scale = _codes_and_scale(tensors["weight"])
    return QuantizedLinear(codes, scale, bias=_bias(tensors))


def mapped(module, tensors):
    """The module with a memory-mapped weight."""
    if isinstance(module, Embedding):
        return MappedEmbedding(tensors["table"].bits)
    return MappedLinear(tensors["weight"].bits, _bias(tensors))


def _codes_and_scale(tensor):
    """`quantized_rows` of a stored matrix. Raises CheckpointError that names its file."""
    try:
        return quantized_rows(tensor.bits)
    except DataError as problem:
        raise CheckpointError(f"{tensor.file}: tensor {shown(tensor.name)}: {problem}") from None


def quantized_rows(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The (n, K) int8 codes and (n, 1) float32 scale of a matrix (n, K), stored as in `upcast`.

    Rows are independent, so a tile of rows is quantized at a time, and the matrix is never in memory as float32.
    """
    codes, scale = np.empty(stored.shape, np.int8), np.empty((len(stored), 1), np.float32)
    for rows, tile in upcast_tiles(stored, TILE_BYTES // 2):  # quantization needs arrays of their size
        part = quantize(tile, axis=0)
        codes[rows], scale[rows] = part.codes, part.scale
    release_freed_memory()  # the tiles, between matrices that stay
    return codes, scale


def _bias(tensors):
    return tensors["bias"].read(np.float32) if "bias" in tensors else None


FORMS = {"float32": dense, "int8": quantized, "mapped": mapped}
