"""Matrices in the types of GGUF files: numbers rounded by the package `gguf`, or the codes of a quantized layer.

The reverse of `blocks` and `dequantization`. A block of 32 codes has one scale in float16:

    Q8_0   scale, 32 codes of 8 bits                         number = scale * code
    Q4_0   scale, 32 codes of 4 bits, stored plus 8          number = scale * (stored - 8)
    Q4_1   scale, minimum, 32 codes of 4 bits, stored plus 8 number = scale * stored + minimum

Source: https://github.com/ggml-org/ggml, src/ggml-common.h.
"""

from collections.abc import Iterable

import numpy as np

from tinyslm.checkpoints.gguf.container import TYPE_NUMBERS, TYPES
from tinyslm.checkpoints.safetensors import is_exact, round_to_bfloat16
from tinyslm.compression.quantization import QuantizedArray
from tinyslm.errors import CheckpointError
from tinyslm.ops.tiles import row_slices
from tinyslm.tree import Array

BLOCK = 32  # numbers with a common scale
TILE_BYTES = 2**23  # of float32 numbers


def type_of_codes(weight: QuantizedArray) -> str | None:
    """The type that holds the codes of a matrix as they are, or None.

    Scales of groups of a multiple of 32, of rows or of the whole matrix are repeated for each block.
    """
    has_zero_points = weight.zero_point is not None and bool(np.any(weight.zero_point))
    if weight.codes.shape[1] % BLOCK or (weight.group_size or BLOCK) % BLOCK or (has_zero_points and weight.bits > 4):
        return None
    with np.errstate(over="ignore"):
        if not np.isfinite(np.asarray(weight.scale).astype(np.float16)).all():
            return None
    return "Q4_1" if has_zero_points else "Q4_0" if weight.bits <= 4 else "Q8_0"


def blocks_of_codes(weight: QuantizedArray) -> Array:
    """The blocks of a matrix in the type of `type_of_codes`: (rows, bytes of a row).

    The codes are kept. The scales are rounded to float16.
    """
    rows, columns = weight.codes.shape
    scale = _per_block(weight.scale, rows, columns).astype("<f2")  # (rows, blocks, 1)
    codes = weight.codes.reshape(rows, -1, BLOCK)
    heads = [scale]
    if weight.bits <= 4:
        codes = (codes + np.int8(8)).view(np.uint8)
        codes = codes[..., : BLOCK // 2] | codes[..., BLOCK // 2 :] << 4  # (rows, blocks, 16)
        if type_of_codes(weight) == "Q4_1":
            zero_point = _per_block(weight.zero_point, rows, columns)
            heads.append((-scale.astype(np.float32) * (zero_point + 8)).astype("<f2"))
    parts = [*heads, np.ascontiguousarray(codes)]
    return np.concatenate([part.view(np.uint8) for part in parts], axis=-1).reshape(rows, -1)


def largest_change(scale: Array) -> float:
    """The largest relative change of scales that are rounded to float16."""
    scale = np.asarray(scale, np.float64).reshape(-1)
    used = scale[scale != 0]
    return float(np.max(np.abs(used.astype(np.float16) - used) / np.abs(used), initial=0.0))


def _per_block(values, rows, columns):
    """(), (rows, 1) or (rows, groups) -> (rows, blocks, 1)."""
    values = np.asarray(values)
    groups = values.shape[1] if values.ndim == 2 else 1
    repeated = np.repeat(np.broadcast_to(values, (rows, groups)), columns // BLOCK // groups, axis=1)
    return np.ascontiguousarray(repeated)[..., None]


def stored_bytes(shape: tuple[int, ...], type_name: str) -> int:
    """Bytes of a tensor of this shape in the file."""
    kind = TYPES[TYPE_NUMBERS[type_name]]
    return int(np.prod(shape)) // kind.block * kind.size


def holds_exactly(numbers: Array, type_name: str) -> bool:
    """Whether a floating-point type holds every number of a matrix."""
    tiles = row_slices(len(numbers), numbers.nbytes // len(numbers), TILE_BYTES)
    return all(is_exact(numbers[rows], type_name) for rows in tiles)


def encode_numbers(numbers: Array, type_name: str, where: str) -> Array:
    """Numbers as a type stores them, rounded to the nearest, a tile of rows at a time: (rows, bytes of a row).

    Raises CheckpointError, naming `where`, for numbers that are not finite or too large for float16.
    """
    row_bytes = numbers.nbytes // len(numbers)
    tiles = ((rows, numbers[rows]) for rows in row_slices(len(numbers), row_bytes, TILE_BYTES))
    return encode_tiles(tiles, numbers.shape, type_name, where)


def encode_tiles(tiles: Iterable[tuple[slice, Array]], shape: tuple[int, ...], type_name: str, where: str) -> Array:
    """As `encode_numbers`, from (rows, their numbers) one after the other. shape: of all numbers."""
    stored = np.empty((shape[0], stored_bytes(shape, type_name) // shape[0]), np.uint8)
    for rows, numbers in tiles:
        stored[rows] = _encode(numbers, type_name, where).view(np.uint8).reshape(len(numbers), -1)
    return stored


def _encode(numbers, type_name, where):
    """As `encode_numbers`, in one piece."""
    numbers = np.ascontiguousarray(numbers, np.float32)
    if not np.isfinite(numbers).all():
        raise CheckpointError(f"{where}: holds numbers that are not finite; the model is damaged")
    if type_name == "BF16":
        return round_to_bfloat16(numbers)
    if type_name in ("F32", "F16"):
        with np.errstate(over="ignore"):
            stored = numbers.astype("<f4" if type_name == "F32" else "<f2")
        if np.isinf(stored).any():
            raise CheckpointError(
                f"{where}: holds {np.max(np.abs(numbers)):.4g}, too large for F16; export it as BF16 or F32"
            )
        return stored
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize

    return quantize(numbers, GGMLQuantizationType(TYPE_NUMBERS[type_name]))
