"""Bit packing: codes of 2 to 8 bits stored without unused bits. Lesson: `lessons/09_quantization.py`."""

import functools

import numpy as np

from tinyslm.compression.argument_checks import require_integer, require_same_shape
from tinyslm.errors import DataError


def packed_length(count: int, bits: int) -> int:
    """Number of bytes of `count` codes: ceil(count * bits / 8).

    Parameters
    ----------
    count : int
        Number of codes in a row.
    bits : int
        Bits per code, 2 to 8.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        If `bits` is not a whole number from 2 to 8, or `count` is negative.

    Examples
    --------
    >>> packed_length(7, bits=3)
    3
    """
    require_integer("bits", bits, 2, 8)
    require_integer("count", count, 0, 2**63)
    return -(-count * bits // 8)


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes packed row by row.

    A code is stored as its distance from the smallest code, lowest bit first. Each row begins at a whole byte, so that
    rows can be read separately; the unused bits of a row's last byte are 0.

    Parameters
    ----------
    codes : ndarray of int8, shape (..., n)
        From -2^(bits - 1) to 2^(bits - 1) - 1.
    bits : int
        Bits per code, 2 to 8.

    Returns
    -------
    ndarray of uint8, shape (..., ceil(n * bits / 8))

    Raises
    ------
    ConfigError
        If `bits` is not a whole number from 2 to 8.
    DataError
        If `codes` is not int8, or a code does not fit in this number of bits.

    Examples
    --------
    >>> pack_codes(np.array([-8, 7, 0], np.int8), bits=4)
    array([240,   8], dtype=uint8)
    """
    require_integer("bits", bits, 2, 8)
    codes = np.asarray(codes)
    smallest = -(2 ** (bits - 1))
    if codes.dtype != np.int8 or codes.ndim == 0:
        raise DataError(f"codes must be an array of int8 with at least one axis, found {codes.dtype}{codes.shape}")
    if np.any((codes < smallest) | (codes > -smallest - 1)):
        raise DataError(
            f"codes of {bits} bits are from {smallest} to {-smallest - 1}, found {np.min(codes)} to {np.max(codes)}"
        )
    distances = (codes.astype(np.int16) - smallest).astype(np.uint8)  # (..., n)
    each = np.unpackbits(distances[..., None], axis=-1, count=bits, bitorder="little")  # (..., n, bits)
    row = each.reshape(*codes.shape[:-1], codes.shape[-1] * bits)  # (..., n bits)
    return np.packbits(row, axis=-1, bitorder="little")


def unpack_codes(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Inverse of `pack_codes`.

    Parameters
    ----------
    packed : ndarray of uint8, shape (..., ceil(count * bits / 8))
    bits : int
        Bits per code, 2 to 8.
    count : int
        Number of codes in a row.

    Returns
    -------
    ndarray of int8, shape (..., count)

    Raises
    ------
    ConfigError
        If `bits` is not a whole number from 2 to 8, or `count` is negative.
    DataError
        If `packed` is not uint8, or its rows do not have the length that `count` codes take.

    Examples
    --------
    >>> unpack_codes(np.array([240, 8], np.uint8), bits=4, count=3)
    array([-8,  7,  0], dtype=int8)
    """
    require_integer("bits", bits, 2, 8)
    packed = np.asarray(packed)
    if packed.dtype != np.uint8:
        raise DataError(f"packed must hold uint8, found {packed.dtype}")
    require_same_shape("packed", packed, (*packed.shape[:-1], packed_length(count, bits)))
    if bits in (2, 4):  # a byte holds whole codes: a table of all bytes is far faster
        return np.take(_codes_in_bytes(bits), packed).view(np.int8)[..., :count]
    return _unpack_bits(packed, bits, count)


@functools.cache
def _codes_in_bytes(bits):
    """The 8 / bits codes of each of the 256 bytes, as one unsigned integer of 8 / bits bytes: (256,)."""
    each = 8 // bits
    return _unpack_bits(np.arange(256, dtype=np.uint8)[:, None], bits, each).view(f"u{each}")[:, 0]


def _unpack_bits(packed, bits, count):
    each = np.unpackbits(packed, axis=-1, count=count * bits, bitorder="little")  # (..., count bits)
    each = each.reshape(*packed.shape[:-1], count, bits)
    distances = np.packbits(each, axis=-1, bitorder="little")[..., 0]  # (..., count)
    return (distances.astype(np.int16) - 2 ** (bits - 1)).astype(np.int8)
