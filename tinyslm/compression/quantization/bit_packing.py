"""Codes of fewer than 8 bits without the bits that they do not need."""

import functools

import numpy as np

from tinyslm.compression.argument_checks import require_integer, require_same_shape
from tinyslm.errors import DataError


def packed_length(count, bits):
    """The bytes that `count` codes of this many bits take: ceil(count * bits / 8)."""
    return -(-count * bits // 8)


def pack_codes(codes, bits):
    """The codes of each row one behind the other: (..., n) int8 -> (..., ceil(n * bits / 8)) uint8.

    codes: from -2^(bits - 1) to 2^(bits - 1) - 1, stored as their distance from the smallest;  bits: 2 to 8. The lowest
    bit comes first, and a row begins at a whole byte, so that rows can be read apart; what is left of a row's last
    byte is 0.
    """
    require_integer("bits", bits, 2, 8)
    codes = np.asarray(codes)
    smallest = -(2 ** (bits - 1))
    if codes.dtype != np.int8 or codes.ndim == 0:
        raise DataError(f"codes must be an array of int8 with at least one axis, found {codes.dtype}{codes.shape}")
    if np.any((codes < smallest) | (codes > -smallest - 1)):
        raise DataError(f"codes of {bits} bits are from {smallest} to {-smallest - 1}, found others")
    distances = (codes.astype(np.int16) - smallest).astype(np.uint8)  # (..., n)
    each = np.unpackbits(distances[..., None], axis=-1, count=bits, bitorder="little")  # (..., n, bits)
    row = each.reshape(*codes.shape[:-1], codes.shape[-1] * bits)  # (..., n bits)
    return np.packbits(row, axis=-1, bitorder="little")


def unpack_codes(packed, bits, count):
    """The reverse: (..., ceil(count * bits / 8)) uint8 -> (..., count) int8."""
    require_integer("bits", bits, 2, 8)
    packed = np.asarray(packed)
    require_same_shape("packed", packed, (*packed.shape[:-1], packed_length(count, bits)))
    if bits in (2, 4):  # a byte holds whole codes: look them up, far faster
        return np.take(_codes_in_bytes(bits), packed).view(np.int8)[..., :count]
    return _unpack_bits(packed, bits, count)


@functools.cache
def _codes_in_bytes(bits):
    """The 8 / bits codes that each of the 256 bytes holds, side by side as one number of so many bytes: (256,)."""
    each = 8 // bits
    return _unpack_bits(np.arange(256, dtype=np.uint8)[:, None], bits, each).view(f"u{each}")[:, 0]


def _unpack_bits(packed, bits, count):
    each = np.unpackbits(packed, axis=-1, count=count * bits, bitorder="little")  # (..., count bits)
    each = each.reshape(*packed.shape[:-1], count, bits)
    distances = np.packbits(each, axis=-1, bitorder="little")[..., 0]  # (..., count)
    return (distances.astype(np.int16) - 2 ** (bits - 1)).astype(np.int8)
