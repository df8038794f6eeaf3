"""Sizes are counted, so they can be counted again: by hand, from the arrays, and from the bytes of a saved file."""

from dataclasses import replace

import numpy as np
import pytest

from tests.strategies import generic_model
from tinyslm.checkpoints import save_model
from tinyslm.compression.factorization.low_rank_linear import factorize_linear
from tinyslm.compression.pruning import MaskedLinear, magnitude_mask
from tinyslm.compression.quantization import (
    CodebookLinear,
    QuantizedLinear,
    StaticQuantizedLinear,
    linear_from_codes,
    normal_float4_levels,
    quantize,
)
from tinyslm.compression.quantization.quantized_embedding import QuantizedEmbedding
from tinyslm.evaluation import footprint
from tinyslm.models import DecoderConfig, EncoderConfig
from tinyslm.modules import FeedForward, Linear
from tinyslm.ops import Rope
from tinyslm.tree import map_modules, named_arrays, named_modules

V, C, F, H, G, D = 40, 16, 24, 4, 2, 8
CONFIG = DecoderConfig("llama", V, C, F, 2, H, G, D, 32, ropes=(Rope(100.0, D),) * 2)
EXPERTS = replace(CONFIG, family="mixtral", num_experts=4, experts_per_token=2, tie_word_embeddings=False)
ATTENTION = C * H * D * 2 + C * G * D * 2
LAYER = ATTENTION + 3 * C * F


def dense(config=CONFIG):
    return generic_model(config, dtype=np.float32)


def in_layers(change, model=None):
    """The model with `change(linear)` in place of every linear layer of its blocks."""
    model = dense() if model is None else model
    return map_modules(lambda path, linear: change(linear), model, Linear)


def masked(linear):
    return MaskedLinear.from_linear(linear, magnitude_mask(linear.weight, 0.5))


def packed(linear, **settings):
    return linear_from_codes(quantize(linear.weight, **settings), linear.bias)


MODELS = {
    "dense": dense(),
    "untied": dense(replace(CONFIG, tie_word_embeddings=False)),
    "experts": dense(EXPERTS),
    "masked": in_layers(masked),
    "low rank": in_layers(lambda linear: factorize_linear(linear, 3)),
    "symmetric": in_layers(lambda linear: QuantizedLinear.from_linear(linear)),
    "asymmetric": in_layers(lambda linear: QuantizedLinear.from_linear(linear, symmetric=False)),
    "per tensor": in_layers(lambda linear: QuantizedLinear.from_linear(linear, per_channel=False)),
    "4 bits": in_layers(lambda linear: packed(linear, bits=4, axis=0)),
    "groups": in_layers(lambda linear: packed(linear, bits=3, symmetric=False, group_size=4)),
    "levels": in_layers(lambda linear: CodebookLinear.from_linear(linear, normal_float4_levels(), block_size=4)),
    "static": in_layers(lambda linear: StaticQuantizedLinear.from_linear(linear, -1, 2)),
    "embedding": dense().replace(embedding=QuantizedEmbedding.from_embedding(dense().embedding)),
    "masked experts": in_layers(masked, dense(EXPERTS)),
}


@pytest.mark.parametrize("name", MODELS)
def test_bits_are_what_a_file_holds(tmp_path, name):
    """Its size without the header. Masks are stored as one bit per weight; all of these fill whole bytes."""
    save_model(tmp_path / "model", MODELS[name])
    content = (tmp_path / "model" / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert footprint(MODELS[name]).bits == 8 * (len(content) - header)


@pytest.mark.parametrize("name", MODELS)
def test_bytes_are_what_the_arrays_take_in_memory(name):
    arrays = {id(array): array for array in named_arrays(MODELS[name]).values()}
    assert footprint(MODELS[name]).bytes == sum(array.nbytes for array in arrays.values())


@pytest.mark.parametrize("name", MODELS)
def test_every_count_is_a_python_integer(name):
    """So that a record of it can be written."""
    assert {type(number) for number in vars(footprint(MODELS[name])).values()} == {int}


def test_a_dense_model_by_hand():
    found = footprint(dense())
    assert found.parameters == found.non_zeros == V * C + 2 * (LAYER + 2 * C) + C
    assert found.bits == 32 * found.parameters == 8 * found.bytes
    assert found.multiply_adds == 2 * LAYER + V * C  # the tied table is the head too
    untied = footprint(MODELS["untied"])
    assert untied.parameters == found.parameters + V * C
    assert untied.multiply_adds == found.multiply_adds


def test_an_encoder_by_hand():
    """Its tied head multiplies by the embedding once more; its pooler by no token at all."""
    config = EncoderConfig("bert", V, C, F, 2, H, D, 32, type_vocab_size=3, pooler=True)
    layer = 4 * C * H * D + 2 * C * F
    found = footprint(dense(config))
    assert found.multiply_adds == 2 * layer + C * C + V * C
    biases_and_norms = 2 * (3 * H * D + C + F + C + 4 * C) + 2 * C + C + 2 * C + V
    assert found.parameters == (V + 32 + 3) * C + 2 * layer + (C * C + C) + C * C + biases_and_norms
    assert footprint(dense(replace(config, tie_word_embeddings=False))).multiply_adds == found.multiply_adds
    assert footprint(dense(replace(config, masked_head=False))).multiply_adds == 2 * layer


def test_of_a_mixture_only_the_chosen_experts_multiply():
    found = footprint(dense(EXPERTS))
    assert found.parameters == 2 * V * C + 2 * (ATTENTION + 4 * C + 4 * 3 * C * F + 2 * C) + C
    assert found.multiply_adds == 2 * (ATTENTION + 4 * C + 2 * 3 * C * F) + V * C


def test_removed_weights_are_parameters_but_not_stored():
    found, whole = footprint(MODELS["masked"]), footprint(dense())
    assert (found.parameters, found.multiply_adds) == (whole.parameters, whole.multiply_adds)
    assert found.non_zeros == whole.non_zeros - 2 * LAYER // 2
    assert found.bits == whole.bits - 32 * LAYER + 2 * LAYER  # half the weights, and a bit of mask for each
    assert found.bytes == whole.bytes + 2 * LAYER  # a mask in memory takes a byte per weight


def test_sliced_neurons_are_gone():
    def slice_layer(path, layer):
        up, gate = (linear.replace(weight=linear.weight[:10].copy()) for linear in (layer.up, layer.gate))
        return layer.replace(up=up, gate=gate, down=layer.down.replace(weight=layer.down.weight[:, :10].copy()))

    found, whole = footprint(map_modules(slice_layer, dense(), FeedForward)), footprint(dense())
    gone = 2 * 3 * C * (F - 10)
    assert found.parameters == whole.parameters - gone
    assert found.multiply_adds == whole.multiply_adds - gone
    assert found.bits == 8 * found.bytes == 32 * found.parameters


def test_two_factors_count_as_what_they_are():
    found, whole = footprint(MODELS["low rank"]), footprint(dense())
    factors = sum(3 * (linear.in_features + linear.out_features) for linear in named_modules(dense(), Linear).values())
    assert found.parameters == whole.parameters - 2 * LAYER + factors
    assert found.multiply_adds == factors + V * C


@pytest.mark.parametrize(("name", "bits_per_row"), [("symmetric", 32), ("asymmetric", 64)])
def test_codes_are_parameters_and_scales_are_not(name, bits_per_row):
    found, whole = footprint(MODELS[name]), footprint(dense())
    rows = sum(linear.out_features for linear in named_modules(dense(), Linear).values())
    assert (found.parameters, found.multiply_adds) == (whole.parameters, whole.multiply_adds)
    assert found.bits == whole.bits - 2 * LAYER * 24 + rows * bits_per_row


def test_a_weight_that_rounds_to_zero_is_a_zero_even_where_its_code_is_not():
    """Asymmetric codes of 0.0 are the zero point."""
    weight = np.array([[0.0, 1.0, 3.0, 0.0]], np.float32)
    layer = QuantizedLinear.from_linear(Linear(weight), symmetric=False)
    assert layer.codes[0, 0] != 0
    model = dense()
    model, without = (model.replace(layers=[model.layers[0].replace(feed_forward=x)]) for x in (layer, None))
    assert footprint(model).parameters == footprint(without).parameters + 4
    assert footprint(model).non_zeros == footprint(without).non_zeros + 2


def test_an_array_that_occurs_twice_counts_once():
    model = dense()
    tied = model.replace(head=Linear(model.embedding.table))
    assert footprint(tied) == footprint(model)
    shared = model.replace(layers=[model.layers[0], model.layers[0]])
    assert footprint(shared).parameters == footprint(model).parameters - LAYER - 2 * C
    assert footprint(shared).multiply_adds == footprint(model).multiply_adds
