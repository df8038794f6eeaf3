"""Forms of the weights in memory: dense float32, 8-bit quantized, mapped from the file, or in their stored form.

Each function creates a module from two arguments: a Linear or Embedding with the shapes of the arrays, and the stored
tensors {name of the array: StoredTensor or EncodedTensor}.
"""

from collections.abc import Iterable

import numpy as np

from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.mapped_layers import MappedEmbedding, MappedLinear
from tinyslm.compression.quantization import QuantizedEmbedding, QuantizedLinear, quantize
from tinyslm.errors import CheckpointError, ConfigError, DataError
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
    """The module with a memory-mapped weight. Raises ConfigError for a quantized weight that cannot be mapped."""
    is_embedding = isinstance(module, Embedding)
    matrix, bias = tensors["table" if is_embedding else "weight"], _bias(tensors)
    if not isinstance(matrix, EncodedTensor):
        return MappedEmbedding(matrix.bits) if is_embedding else MappedLinear(matrix.bits, bias)
    layer = matrix.mapped_embedding() if is_embedding else matrix.mapped_layer(bias)
    if layer is None:
        raise ConfigError(
            f"{matrix.file}: tensor {shown(matrix.name)} is quantized ({matrix.storage.format}) and cannot be "
            'mapped; use the weights "stored", "int8" or "float32"'
        )
    return layer


def stored(module, tensors):
    """The layer that keeps the quantized form of the file, where there is one. Otherwise the dense module."""
    weight = tensors.get("weight")
    layer = weight.layer(_bias(tensors)) if isinstance(weight, EncodedTensor) else None
    return dense(module, tensors) if layer is None else layer


def _codes_and_scale(tensor):
    """`quantized_rows` of a stored matrix. Raises CheckpointError that names its file."""
    try:
        return quantized_rows(tensor.tiles(), tensor.shape)
    except DataError as problem:
        raise CheckpointError(f"{tensor.file}: tensor {shown(tensor.name)}: {problem}") from None


def quantized_rows(tiles: Iterable[tuple[slice, np.ndarray]], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The (n, K) int8 codes and (n, 1) float32 scale of a matrix with this shape (n, K), given by tiles of its rows.

    Rows are independent, so a tile of rows is quantized at a time, and the matrix is never in memory as float32.
    """
    codes, scale = np.empty(shape, np.int8), np.empty((shape[0], 1), np.float32)
    for rows, tile in tiles:
        part = quantize(tile, axis=0)
        codes[rows], scale[rows] = part.codes, part.scale
    release_freed_memory()  # the tiles, between matrices that stay
    return codes, scale


def _bias(tensors):
    return tensors["bias"].read(np.float32) if "bias" in tensors else None


FORMS = {"float32": dense, "int8": quantized, "mapped": mapped, "stored": stored}
