"""Packed codes with an N:M pattern: the same weights as with dense codes, and fewer bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.pruning import n_m_mask
from tinyslm.compression.quantization import PackedNMLinear, gptq, linear_from_codes, quantize
from tinyslm.errors import ConfigError, DataError


@st.composite
def patterned(draw):
    """(weight (out, in) with an N:M pattern, its mask, "n:m", settings of `quantize`)."""
    rng, m = draw(generators()), draw(st.integers(2, 6))
    n, groups = draw(st.integers(1, m - 1)), draw(st.integers(1, 4))
    weight = rng.standard_normal((draw(st.integers(1, 5)), groups * m)).astype(draw(st.sampled_from(["f4", "f8"])))
    mask = n_m_mask(np.abs(weight), n, m)
    scales = draw(st.sampled_from([{"axis": 0}, {"axis": None}, {"group_size": m}]))
    settings = {"bits": draw(st.integers(2, 8)), "symmetric": draw(st.booleans()), **scales}
    return np.where(mask, weight, 0).astype(weight.dtype), mask, f"{n}:{m}", settings


@given(patterned(), st.booleans())
def test_the_layer_has_the_weights_and_outputs_of_dense_codes(case, biased):
    weight, _, pattern, settings = case
    bias = np.arange(len(weight)).astype(weight.dtype) if biased else None
    dense = linear_from_codes(quantize(weight, **settings), bias)
    layer = PackedNMLinear.from_codes(dense, pattern)
    np.testing.assert_array_equal(layer.dense_weight(), dense.dense_weight())
    assert layer.dense_weight().dtype == weight.dtype and layer.bias is dense.bias
    found, expected = layer.quantized_weight(), dense.quantized_weight()
    np.testing.assert_array_equal(found.codes, expected.codes)
    assert found.codes.dtype == np.int8 and found.bits == expected.bits
    x = np.linspace(-1, 1, 3 * weight.shape[1]).reshape(3, -1).astype(weight.dtype)
    np.testing.assert_allclose(layer(x), dense(x), rtol=1e-5, atol=1e-5)
    assert layer.num_parameters() == dense.num_parameters() and layer.num_non_zeros() == dense.num_non_zeros()
    assert layer.shapes() == [weight.shape] and layer.multiply_adds() == weight.size


def test_two_of_four_weights_of_four_bits_take_three_bits_each():
    weight = np.random.default_rng(0).standard_normal((64, 128)).astype(np.float32)
    weight *= n_m_mask(np.abs(weight), 2, 4)
    dense = linear_from_codes(quantize(weight, bits=4, axis=0))
    layer = PackedNMLinear.from_codes(dense, "2:4")
    scales = 64 * 32
    assert dense.num_bits() == 4 * weight.size + scales and layer.num_bits() == 3 * weight.size + scales


def test_codes_without_the_pattern_are_refused():
    dense = linear_from_codes(quantize(np.ones((2, 8), np.float32), bits=4, axis=0))
    with pytest.raises(DataError, match=r"do not have the pattern 2:4"):
        PackedNMLinear.from_codes(dense, "2:4")
    with pytest.raises(ConfigError, match="pattern"):
        PackedNMLinear.from_codes(dense, "4:2")


@given(patterned(), generators(), st.booleans())
def test_gptq_keeps_a_mask_and_is_not_worse_than_rounding(case, rng, act_order):
    weight, mask, _, settings = case
    settings = {**settings, "group_size": settings.get("group_size")}
    settings.pop("axis", None)
    x = rng.standard_normal((3 * weight.shape[1], weight.shape[1])) * np.geomspace(0.1, 3, weight.shape[1])
    gram = x.T @ x
    ordered = {"act_order": act_order, "static_groups": act_order}
    found = gptq(weight, gram, mask=mask, damping=1e-6, **settings, **ordered).dequantize()
    assert not np.any(found[~mask])
    whole = np.ones(mask.shape, bool)
    every, plain = (gptq(weight, gram, mask=m, damping=1e-6, **settings, **ordered) for m in (whole, None))
    np.testing.assert_array_equal(every.codes, plain.codes)
    arbitrary = np.where(mask, weight, 7)  # what a removed weight was has no effect
    again = gptq(arbitrary, gram, mask=mask, damping=1e-6, **settings, **ordered)
    np.testing.assert_array_equal(again.dequantize(), found)


def test_the_weights_that_are_left_compensate():
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((32, 64))
    x = rng.standard_normal((500, 64)) @ rng.standard_normal((64, 64))
    gram, mask = x.T @ x, n_m_mask(np.abs(weight), 2, 4)
    weight = np.where(mask, weight, 0)

    def error(array):
        difference = array.dequantize() - weight
        return np.sum(difference @ gram * difference)

    rounded = quantize(weight, bits=3, axis=0)
    assert not np.any(rounded.dequantize()[~mask])
    assert error(gptq(weight, gram, bits=3, mask=mask)) < 0.9 * error(rounded)
