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
