"""Conservation laws of gradients: where a factor can move between two arrays without changing the function, the
products of either array with its gradient are equal. They hold for any loss, and test every vjp on the way at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import decoder_configs, generic_model, seeds
from tinyslm.autodiff import value_and_grad
from tinyslm.compression.factorization import LowRankLinear, truncated_svd
from tinyslm.compression.pruning import MaskedLinear, magnitude_mask, slice_neurons
from tinyslm.compression.quantization import FakeQuantizedLinear
from tinyslm.models import next_token_loss
from tinyslm.modules import Attention, FeedForward, Linear
from tinyslm.tree import map_modules, named_arrays, named_modules, named_parameters

KINDS = ("dense", "masked", "sliced", "low rank")


def compressed(model, kind):
    """The model after one technique, so that the laws meet other arrays than those of the dense one."""
    if kind == "sliced":

        def slice_layer(path, layer):
            keep = np.arange(0, layer.down.in_features, 2)
            up, down, gate = slice_neurons(layer.up, layer.down, layer.gate, keep)
            return layer.replace(up=up, down=down, gate=gate)

        return map_modules(slice_layer, model, FeedForward)
    if kind == "dense":
        return model

    def change(path, linear):
        if "layers" not in path or path.endswith("router"):
            return linear
        if kind == "masked":
            return MaskedLinear.from_linear(linear, magnitude_mask(linear.weight, 0.3))
        return LowRankLinear(*truncated_svd(linear.weight, 3), linear.bias)

    return map_modules(change, model, Linear)


def products(model, seed):
    """{path: array times its gradient} for the loss on random tokens."""
    token_ids = np.random.default_rng(seed).integers(0, model.config.vocab_size, (2, 7))
    gradients = named_arrays(value_and_grad(next_token_loss)(model, token_ids)[1])
    arrays = named_parameters(model)
    return {path: gradients[path] * array for path, array in arrays.items()}


def by_unit(found, path, axis, units):
    """The sum of products of a linear layer for each unit of its outputs (axis 0: with the bias) or inputs (axis 1)."""
    suffix = {0: ".left", 1: ".right"}[axis] if f"{path}.left" in found else ".weight"
    total = np.moveaxis(found[path + suffix], axis, 0).reshape(units, -1).sum(axis=1)
    if axis == 0 and f"{path}.bias" in found:
        total = total + found[f"{path}.bias"].reshape(units, -1).sum(axis=1)
    return total


def assert_equal(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9 * max(np.max(np.abs(one)), 1))


@given(decoder_configs(gated=True), st.sampled_from(KINDS), seeds)
def test_of_up_and_down_for_every_neuron(config, kind, seed):
    model = compressed(generic_model(config, seed), kind)
    found = products(model, seed)
    for path, layer in named_modules(model, FeedForward).items():
        units = layer.down.in_features
        assert_equal(by_unit(found, f"{path}.up", 0, units), by_unit(found, f"{path}.down", 1, units))


@given(decoder_configs(), st.sampled_from(("dense", "masked", "low rank")), seeds)
def test_of_values_and_outputs_for_every_key_value_head(config, kind, seed):
    model = compressed(generic_model(config, seed), kind)
    found = products(model, seed)
    for path in named_modules(model, Attention):
        groups = config.num_key_value_heads
        assert_equal(by_unit(found, f"{path}.value", 0, groups), by_unit(found, f"{path}.output", 1, groups))


@given(decoder_configs(query_key_norm=False), st.sampled_from(("dense", "masked", "low rank")), seeds)
def test_of_queries_and_keys_for_every_key_value_head(config, kind, seed):
    """With rotary positions too: what turns a vector does not change its size."""
    model = compressed(generic_model(config, seed), kind)
    found = products(model, seed)
    for path in named_modules(model, Attention):
        groups = config.num_key_value_heads
        assert_equal(by_unit(found, f"{path}.query", 0, groups), by_unit(found, f"{path}.key", 0, groups))


@given(decoder_configs(), seeds)
def test_of_two_factors_for_every_component(config, seed):
    model = compressed(generic_model(config, seed), "low rank")
    found = products(model, seed)
    for path in named_modules(model, LowRankLinear):
        assert_equal(found[f"{path}.left"].sum(axis=0), found[f"{path}.right"].sum(axis=1))


@given(decoder_configs(query_key_norm=False), st.integers(2, 8), st.floats(0.3, 1.2), seeds)
def test_of_queries_and_keys_that_are_rounded_where_the_gradients_of_their_scales_count_too(config, bits, factor, seed):
    """Rounded weights grow with weights and scale together, so that both shares of a gradient that passes rounding by
    add up to what the rounded weight itself would have."""

    def fake(path, linear):
        if not path.endswith((".query", ".key")):
            return linear
        layer = FakeQuantizedLinear.from_linear(linear, bits=bits)
        return layer.replace(factor=factor * layer.factor)

    model = map_modules(fake, generic_model(config, seed), Linear)
    found = products(model, seed)
    balance = np.sqrt(config.hidden_size * (2 ** (bits - 1) - 1))  # by which the gradient of a scale is divided
    for path in named_modules(model, Attention):
        totals = []
        for name in ("query", "key"):
            rows = found[f"{path}.{name}.weight"].sum(axis=1) + balance * found[f"{path}.{name}.factor"][:, 0]
            rows = rows + found.get(f"{path}.{name}.bias", 0)
            totals.append(rows.reshape(config.num_key_value_heads, -1).sum(axis=1))
        assert_equal(*totals)


@given(decoder_configs(num_experts=0, experts_per_token=0), seeds)
def test_the_gradient_of_a_gate_on_a_neuron_is_that_of_its_column_of_down(config, seed):
    """dL/dm_i at m = 1, where m multiplies what enters down."""
    model = generic_model(config, seed)
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(0, config.vocab_size, (2, 5))
    neuron = rng.integers(config.intermediate_size)

    def loss(gate):
        def multiply(path, layer):
            weight = layer.down.weight.copy()
            weight[:, neuron] *= gate
            return layer.replace(down=layer.down.replace(weight=weight)) if path.startswith("layers.0.") else layer

        return next_token_loss(map_modules(multiply, model, FeedForward), token_ids)

    gradients = named_arrays(value_and_grad(next_token_loss)(model, token_ids)[1])
    path = "layers.0.feed_forward.down.weight"
    exact = np.sum(gradients[path][:, neuron] * named_arrays(model)[path][:, neuron])
    difference = (loss(1 + 1e-5) - loss(1 - 1e-5)) / 2e-5
    assert exact == pytest.approx(difference, rel=1e-5, abs=1e-8)
