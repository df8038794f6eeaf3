"""Bit packing: exact round trip, packed size, rows that can be read separately."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.quantization import pack_codes, packed_length, unpack_codes
from tinyslm.errors import ConfigError, DataError

bit_counts = st.integers(2, 8)


def draw_codes(rng, bits, shape):
    return rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(np.int8)


@given(generators(), bit_counts, st.integers(1, 20), st.integers(0, 3))
def test_what_is_packed_comes_back(rng, bits, count, rows):
    for shape in ((count,), (rows, count), (rows, 2, count)):
        codes = draw_codes(rng, bits, shape)
        packed = pack_codes(codes, bits)
        assert packed.dtype == np.uint8
        assert packed.shape == (*shape[:-1], packed_length(count, bits))
        found = unpack_codes(packed, bits, count)
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, codes)


@given(generators(), bit_counts, st.integers(1, 20))
def test_bytes_are_the_bits_of_the_codes_one_behind_the_other(rng, bits, count):
    """As one large number: sum of (code - smallest) * 2^(bits * i)."""
    codes = draw_codes(rng, bits, (count,))
    number = sum((int(code) + 2 ** (bits - 1)) << (bits * i) for i, code in enumerate(codes))
    packed = pack_codes(codes, bits)
    assert packed.tobytes() == number.to_bytes(len(packed), "little")
    assert len(packed) == np.ceil(count * bits / 8) == packed_length(count, bits)


@given(generators(), bit_counts, st.integers(1, 20))
def test_rows_can_be_read_apart(rng, bits, count):
    codes = draw_codes(rng, bits, (4, count))
    packed = pack_codes(codes, bits)
    for row in range(4):
        np.testing.assert_array_equal(packed[row], pack_codes(codes[row], bits))
        np.testing.assert_array_equal(unpack_codes(packed[row : row + 1], bits, count), codes[row : row + 1])


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="codes of 4 bits are from -8 to 7"):
        pack_codes(np.array([8], np.int8), 4)
    with pytest.raises(DataError, match="codes of 4 bits"):
        pack_codes(np.array([-9], np.int8), 4)
    with pytest.raises(DataError, match="int8"):
        pack_codes(np.array([1]), 4)
    with pytest.raises(ConfigError, match="bits"):
        pack_codes(np.array([1], np.int8), 9)
    with pytest.raises(DataError, match="packed must have shape"):
        unpack_codes(np.zeros((2, 3), np.uint8), 4, 7)


@pytest.mark.parametrize("bits", [1, 9, 4.0, True])
def test_every_function_refuses_other_numbers_of_bits(bits):
    for call in (
        lambda: packed_length(3, bits),
        lambda: pack_codes(np.zeros(3, np.int8), bits),
        lambda: unpack_codes(np.zeros(3, np.uint8), bits, 3),
    ):
        with pytest.raises(ConfigError, match="bits must be a whole number from 2 to 8"):
            call()


@pytest.mark.parametrize("bits", range(2, 9))
def test_one_code_beyond_either_end_among_good_ones_is_refused(bits):
    smallest, largest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    codes = np.array([[smallest, 0], [largest, -1]], np.int8)
    np.testing.assert_array_equal(unpack_codes(pack_codes(codes, bits), bits, 2), codes)
    for beyond in (smallest - 1, largest + 1):
        if -128 <= beyond <= 127:
            codes[0, 1] = beyond
            with pytest.raises(DataError, match=f"codes of {bits} bits are from {smallest} to {largest}, found"):
                pack_codes(codes, bits)


def test_counts_of_codes_begin_at_zero():
    for bits in range(2, 9):
        assert packed_length(0, bits) == 0 and pack_codes(np.zeros((3, 0), np.int8), bits).shape == (3, 0)
        empty = unpack_codes(np.zeros((3, 0), np.uint8), bits, 0)
        assert empty.shape == (3, 0) and empty.dtype == np.int8
        for count in (-1, 1.0):
            with pytest.raises(ConfigError, match="count must be a whole number from 0"):
                packed_length(count, bits)
    assert packed_length(2**63, 8) == 2**63
    with pytest.raises(ConfigError, match="count"):
        packed_length(2**63 + 1, 8)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [5, 7, 8])
def test_rows_of_another_length_or_type_are_refused(bits, count):
    length = packed_length(count, bits)
    for wrong in (length - 1, length + 1):
        with pytest.raises(DataError, match=rf"packed must have shape \(2, {length}\), found \(2, {wrong}\)"):
            unpack_codes(np.zeros((2, wrong), np.uint8), bits, count)
    with pytest.raises(DataError, match="packed must hold uint8, found int8"):
        unpack_codes(np.zeros((2, length), np.int8), bits, count)
    with pytest.raises(DataError, match="found int64"):
        unpack_codes([[0] * length] * 2, bits, count)


def test_codes_are_an_array_of_int8_with_an_axis():
    for wrong in (np.int8(3), np.zeros(2, np.uint8), np.zeros(2, np.int16), [1, 2]):
        with pytest.raises(DataError, match="codes must be an array of int8 with at least one axis"):
            pack_codes(wrong, 4)


def test_the_number_of_bits_is_checked_before_the_arrays():
    with pytest.raises(ConfigError, match="bits"):
        unpack_codes(np.zeros(3), 9, 3)
    with pytest.raises(ConfigError, match="bits"):
        pack_codes(np.zeros(3), 9)
