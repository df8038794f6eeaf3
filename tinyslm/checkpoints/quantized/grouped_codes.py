"""Encodings with integer codes whose scales belong to groups of inputs, and the unpacking of 32-bit words."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tinyslm.checkpoints.encoded_tensor import AffineEncoding, Storage
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.compression.quantization import QuantizedArray, packed_length, unpack_codes
from tinyslm.errors import CheckpointError
from tinyslm.tree import Array

PER_BLOCK = 32  # codes of b bits that fill b words of 32 bits


class Groups(NamedTuple):
    """Codes with one scale and zero point per row and group. The groups can have any order, see `GroupedEncoding`."""

    codes: Array  # (n, in) int8
    scale: Array  # (n, groups) float32
    zero_point: Array | None  # (n, groups) int32


@dataclass(frozen=True)
class GroupedEncoding(AffineEncoding):
    """Base class of encodings with a scale per row and group of inputs.

    bits: per code;  group_of_input: tensor of (in,) integers, or None if the groups are neighbouring inputs;
    num_groups: of a row.
    """

    shape: tuple[int, int]
    storage: Storage
    bits: int
    group_of_input: StoredTensor | None
    num_groups: int

    @abstractmethod
    def groups(self, rows: slice) -> Groups:
        """The codes of some rows."""

    def codes(self, rows):
        """The codes of some rows, for groups of neighbouring inputs."""
        codes, scale, zero_point = self.groups(rows)
        group_size = None if scale.shape[1] == 1 else codes.shape[1] // scale.shape[1]
        return QuantizedArray(codes, scale, zero_point, self.bits, group_size)

    def dequantize(self, rows):
        """scale (code - zero point) in float32, with the scale and zero point of the group of each input."""
        index = self._group_index()
        if index is None:
            return self.codes(rows).dequantize()
        codes, scale, zero_point = self.groups(rows)
        steps = codes.astype(np.float32)  # (n, in)
        if zero_point is not None:
            steps -= zero_point[:, index]
        steps *= scale[:, index]
        return steps

    def layer(self, rows, bias):
        """As of `AffineEncoding`; None if the groups are not neighbouring inputs."""
        return super().layer(rows, bias) if self._group_index() is None else None

    def _group_index(self):
        """The group of every input, (in,), or None if the groups are neighbouring inputs in order."""
        tensor, count = self.group_of_input, self.num_groups
        if tensor is None:
            return None
        index = tensor.read()
        if np.any((index < 0) | (index >= count)):
            raise CheckpointError(
                f"{tensor.file}: tensor {shown(tensor.name)} holds {np.min(index)} to {np.max(index)}, expected groups "
                f"from 0 to {count - 1}"
            )
        size = len(index) // count
        return None if np.array_equal(index, np.arange(len(index)) // size) else index


def unpack_words(words: Array, bits: int, count: int) -> Array:
    """Codes in 32-bit words, lowest bits first: (..., w) int32 -> (..., count) int8, less 2^(bits - 1)."""
    content = np.ascontiguousarray(words).view(np.uint8)[..., : packed_length(count, bits)]
    return unpack_codes(content, bits, count)


def unpack_rows(words: Array, bits: int, rows: slice) -> Array:
    """Codes of some rows where the words hold neighbouring rows: (groups, w) int32 -> (n, groups) int8."""
    first = rows.start // PER_BLOCK
    some = words[:, first * bits : -(-rows.stop // PER_BLOCK) * bits]
    codes = unpack_words(some, bits, some.shape[1] * 32 // bits)  # (groups, at least n)
    return codes[:, rows.start - PER_BLOCK * first : rows.stop - PER_BLOCK * first].T


def words_of(count: int, bits: int) -> int:
    """Number of 32-bit words for some codes."""
    return -(-count * bits // 32)
