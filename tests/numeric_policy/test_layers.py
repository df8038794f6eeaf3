"""The policy for numbers in arrays, on the calls of layers: inputs that are encoded, and matrices without entries."""

import numpy as np
import pytest

from tinyslm.compression.factorization import LowRankLinear
from tinyslm.compression.pruning import BitmapLinear, CsrLinear, MaskedLinear, NMLinear
from tinyslm.compression.quantization import (
    AbsmaxCodebookLinear,
    CodebookLinear,
    FakeQuantizedLinear,
    OutlierLinear,
    PackedLinear,
    PackedNMLinear,
    QuantizedLinear,
    StaticQuantizedLinear,
    float4_levels,
    linear_from_codes,
    quantize,
)
from tinyslm.errors import DataError, Error
from tinyslm.modules import Embedding, Linear

ENCODING = {
    "static": lambda linear: StaticQuantizedLinear.from_linear(linear, -1.0, 1.0),
    "dynamic": lambda linear: QuantizedLinear.from_linear(linear, dynamic_activations=True),
    "packed": lambda linear: linear_from_codes(
        quantize(linear.weight, bits=4, axis=0), linear.bias, dynamic_activations=True
    ),
    "outliers": lambda linear: OutlierLinear.from_linear(linear, np.ones(linear.in_features)),
    "fake": lambda linear: FakeQuantizedLinear.from_linear(linear, dynamic_activations=True),
}
LAYERS = ENCODING | {
    "dense": lambda linear: linear,
    "table": lambda linear: Embedding(linear.weight).as_head,
    "masked": lambda linear: MaskedLinear.from_linear(linear, np.ones(linear.weight.shape, bool)),
    "csr": CsrLinear.from_linear,
    "bitmap": BitmapLinear.from_linear,
    "2:4": lambda linear: NMLinear.from_linear(
        linear.replace(weight=np.where(np.arange(linear.in_features) % 4 < 2, linear.weight, 0)), "2:4"
    ),
    "factors": lambda linear: LowRankLinear(linear.weight[:, :2], linear.weight[:2], linear.bias),
    "8 bits": QuantizedLinear.from_linear,
    "4 bits": lambda linear: linear_from_codes(quantize(linear.weight, bits=4, axis=0), linear.bias),
    "2:4, 4 bits": lambda linear: PackedNMLinear.from_codes(
        linear_from_codes(quantize(np.where(np.arange(linear.in_features) % 4 < 2, linear.weight, 0), bits=4, axis=0)),
        "2:4",
    ),
    "levels": lambda linear: CodebookLinear.from_linear(linear, float4_levels(), block_size=4),
    "levels, absmax": lambda linear: AbsmaxCodebookLinear.from_linear(linear, float4_levels(), block_size=4),
    "fake weights": FakeQuantizedLinear.from_linear,
}


def linear(outputs, inputs):
    rng = np.random.default_rng(0)
    return Linear(rng.standard_normal((outputs, inputs)), rng.standard_normal(outputs))


@pytest.mark.parametrize("name", ENCODING)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_that_encode_their_inputs_refuse_a_single_entry_that_is_not_finite(name, value, dtype):
    layer = ENCODING[name](linear(5, 8))
    x = np.ones((3, 8), dtype)
    assert np.all(np.isfinite(layer(x)))
    x[1, 2] = value
    with pytest.raises(DataError, match="cannot quantize"):
        layer(x)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, bool, np.float16])
def test_inputs_that_are_not_float32_or_float64_are_refused(name, dtype):
    layer = LAYERS[name](linear(5, 8))
    for x in (np.ones((3, 8), dtype), np.ones((2, 3, 8), dtype), np.ones(8, dtype)):
        with pytest.raises(DataError, match="float32 or float64"):
            layer(x)


@pytest.mark.parametrize("name", LAYERS)
def test_no_rows_give_no_outputs(name):
    assert LAYERS[name](linear(5, 8))(np.zeros((0, 8))).shape == (0, 5)
    assert LAYERS[name](linear(5, 8))(np.zeros((2, 0, 8))).shape == (2, 0, 5)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_without_inputs_are_refused(name):
    with pytest.raises(Error):
        LAYERS[name](linear(5, 0))(np.zeros((3, 0)))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_without_outputs_are_refused_or_have_none(name):
    try:
        found = LAYERS[name](linear(0, 8))(np.ones((3, 8)))
    except Error:
        return
    assert found.shape == (3, 0)


def test_every_kind_of_packed_layer_is_among_them():
    kinds = {type(make(linear(5, 8))) for name, make in LAYERS.items() if name != "table"}
    assert {PackedLinear, QuantizedLinear, StaticQuantizedLinear, CodebookLinear, PackedNMLinear} < kinds
