"""Tensors of GGUF files whose numbers are quantized in blocks of 32 or 256 consecutive numbers of a row.

Q8_0: 32 codes of 8 bits with one scale in float16. Q4_0: 32 codes of 4 bits with one scale. The package `gguf`
dequantizes all other types.
Source: https://github.com/ggml-org/ggml, src/ggml-common.h.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.encoded_tensor import AffineEncoding, EncodedTensor, Encoding, Storage
from tinyslm.checkpoints.gguf.container import Entry
from tinyslm.checkpoints.gguf.dequantization import dequantize_blocks
from tinyslm.checkpoints.gguf.mapped_blocks import MappedBlocksEmbedding, MappedBlocksLinear
from tinyslm.checkpoints.safetensors import DTYPES, StoredTensor
from tinyslm.compression.quantization import QuantizedArray
from tinyslm.tree import Array


def gguf_tensor(file: Path, entry: Entry, order: Array | None = None) -> StoredTensor | EncodedTensor:
    """The tensor of an entry, not read yet.

    order: the row of the file for each row of the tensor; None: all rows in order. Plain numbers in another order are
    copied.
    """
    kind, shape = entry.type, entry.shape
    if kind.block == 1:
        numbers = entry.content.view(DTYPES[kind.name]).reshape(shape)
        return StoredTensor(file, entry.name, kind.name, shape, numbers if order is None else numbers[order])
    rows = (int(np.prod(shape[:-1])), shape[-1])
    encoding = ENCODINGS.get(kind.name, BlockEncoding)(entry, rows, order)
    return EncodedTensor(file, entry.name, rows, encoding)


class BlockEncoding(Encoding):
    """Rows of blocks of any type."""

    def __init__(self, entry: Entry, shape: tuple[int, int], order: Array | None):
        kind = entry.type
        self.type_name, self.shape, self.order = kind.name, shape, order
        self.blocks = entry.content.reshape(shape[0], shape[1] // kind.block * kind.size)  # (rows, bytes of a row)
        bits = next(int(letter) for letter in kind.name if letter.isdigit())  # of a code, without scales
        self.storage = Storage(kind.name, bits, f"blocks of {kind.block}")

    def arrays(self) -> list[Array]:
        """The blocks, mapped from the file."""
        return [self.blocks]

    def stored_rows(self, rows: slice) -> Array:
        """The bytes of some rows: (n, bytes of a row)."""
        return self.blocks[rows if self.order is None else self.order[rows]]

    def dequantize(self, rows: slice) -> Array:
        """The numbers of some rows: (n, in) float32."""
        return dequantize_blocks(self.stored_rows(rows), self.type_name)

    def mapped_layer(self, rows: slice, bias: Array | None) -> MappedBlocksLinear:
        """A linear layer with the blocks in the file. Rows in another order are copied."""
        return MappedBlocksLinear(self.stored_rows(rows), bias, self.type_name, self.shape[1])

    def mapped_embedding(self, rows: slice) -> MappedBlocksEmbedding:
        """An embedding with the blocks in the file."""
        return MappedBlocksEmbedding(self.stored_rows(rows), self.type_name, self.shape[1])


class ScaledBlocks(AffineEncoding, BlockEncoding):
    """Blocks of 32 codes with one scale: number = scale * code."""

    bits: int
    unpack: Callable[[Array], Array]  # (..., bytes) -> (..., 32) codes

    def dequantize(self, rows: slice) -> Array:
        """The numbers of some rows: (n, in) float32."""
        with np.errstate(invalid="ignore"):  # as in `dequantize_blocks`
            return super().dequantize(rows)

    def codes(self, rows: slice) -> QuantizedArray:
        """The codes and scales of some rows."""
        blocks = self.stored_rows(rows).reshape(-1, self.shape[1] // 32, 2 + 4 * self.bits)  # (n, in / 32, bytes)
        scale = blocks[..., :2].copy().view("<f2")[..., 0].astype(np.float32)  # (n, in / 32)
        codes = self.unpack(blocks[..., 2:]).reshape(len(blocks), self.shape[1])
        return QuantizedArray(codes, scale, bits=self.bits, group_size=32)


class Q8Blocks(ScaledBlocks):
    """Q8_0: a scale and 32 codes of 8 bits."""

    bits = 8

    def unpack(self, codes):
        """The bytes are the codes."""
        return codes.view(np.int8)


class Q4Blocks(ScaledBlocks):
    """Q4_0: a scale and 32 codes of 4 bits plus 8, first the lower halves of 16 bytes, then the upper halves."""

    bits = 4

    def unpack(self, codes):
        """(..., 16) bytes -> (..., 32) codes from -8 to 7."""
        return np.concatenate([codes & 15, codes >> 4], axis=-1).view(np.int8) - np.int8(8)


ENCODINGS: dict[str, Any] = {"Q8_0": Q8Blocks, "Q4_0": Q4Blocks}  # of the others: BlockEncoding
