"""Transforms of the arrays that leave what a model computes as it is, on every kind of model."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests import transforms
from tests.strategies import (
    decoder_configs,
    encoder_configs,
    encoder_decoder_configs,
    generators,
    generic_model,
    seeds,
)
from tinyslm.errors import ConfigError
from tinyslm.models import Decoder, EncoderDecoder
from tinyslm.modules import Block, ParallelBlock
from tinyslm.tree import map_arrays, named_arrays, named_modules

OF_HEADS_AND_NEURONS = {
    "permuted neurons": transforms.permute_neurons,
    "permuted heads": transforms.permute_heads,
    "rescaled neurons": transforms.rescale_neurons,
    "rescaled values": transforms.rescale_values,
    "rescaled queries": transforms.rescale_queries,
}
OF_FEATURES = {
    "outliers": lambda model, rng: transforms.inject_outliers(model, [1, 7], 50.0),
    "folded": lambda model, rng: transforms.fold_gains(model),
    "unfolded": transforms.unfold_gains,
}
ANY_KIND = st.one_of(decoder_configs(), encoder_configs(), encoder_decoder_configs())


def logits(model, seed):
    """For two rows of random tokens, one with padding, where every kind of model reads them."""
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(0, 23, (2, 6))
    inputs = {"decoder_token_ids": rng.integers(0, 23, (2, 5))} if isinstance(model, EncoderDecoder) else {}
    return model(token_ids, np.array([[1] * 6, [1] * 4 + [0] * 2]), **inputs)


def assert_same_function(transformed, model, seed):
    np.testing.assert_allclose(logits(transformed, seed), logits(model, seed), rtol=1e-8, atol=1e-9)


@given(ANY_KIND, st.sampled_from(sorted(OF_HEADS_AND_NEURONS)), seeds)
def test_order_and_size_of_heads_and_neurons_do_not_matter(config, name, seed):
    model = generic_model(config, seed)
    transformed = OF_HEADS_AND_NEURONS[name](model, np.random.default_rng(seed))
    assert transformed.config == model.config
    assert_same_function(transformed, model, seed)


@given(st.one_of(decoder_configs(), encoder_decoder_configs()), st.sampled_from(sorted(OF_FEATURES)), seeds)
def test_the_size_of_features_behind_a_norm_does_not_matter(config, name, seed):
    model = generic_model(config, seed)
    assume(all(np.all(np.abs(transforms.gain_of(norm)) > 0.05) for norm in block_norms(model)))
    transformed = OF_FEATURES[name](model, np.random.default_rng(seed))
    assert transformed.config == model.config
    assert_same_function(transformed, model, seed)


@given(decoder_configs(norm="rms", sublayer_output_norm=False, pre_norm=True), seeds)
def test_the_basis_of_the_residual_stream_does_not_matter_to_rms_norms(config, seed):
    model = generic_model(config, seed)
    assume(all(np.all(np.abs(transforms.gain_of(norm)) > 0.05) for norm in [model.norm, *block_norms(model)]))
    rotated = transforms.rotate(model, np.random.default_rng(seed))
    assert_same_function(rotated, model, seed)
    difference = rotated.embedding.table - model.embedding.table
    assert np.linalg.norm(difference) > 0.1 * np.linalg.norm(model.embedding.table)


def block_norms(model):
    """The norms that `scale_features` scales."""
    blocks = named_modules(model, Block | ParallelBlock).values()
    return [getattr(block, name) for block in blocks for name in transforms.read_norms(block)]


@given(decoder_configs(), seeds)
def test_folded_gains_are_one_and_outliers_are_as_strong_as_asked(config, seed):
    model = generic_model(config, seed)
    assume(all(np.all(np.abs(transforms.gain_of(norm)) > 0.05) for norm in block_norms(model)))
    for norm in block_norms(transforms.fold_gains(model)):
        np.testing.assert_allclose(transforms.gain_of(norm), 1, rtol=1e-12)
    stretched = transforms.inject_outliers(model, [2], 30.0)
    for norm, before in zip(block_norms(stretched), block_norms(model), strict=True):
        ratio = transforms.gain_of(norm) / transforms.gain_of(before)
        np.testing.assert_allclose(ratio, np.where(np.arange(10) == 2, 30, 1), rtol=1e-12)
    undone = transforms.inject_outliers(stretched, [2], 1 / 30.0)
    for path, array in named_arrays(undone).items():
        np.testing.assert_allclose(array, named_arrays(model)[path], rtol=1e-10, atol=1e-13, err_msg=path)


@given(decoder_configs(), st.sampled_from(sorted(OF_HEADS_AND_NEURONS | OF_FEATURES)), seeds)
def test_the_dtype_stays(config, name, seed):
    model = map_arrays(lambda path, array: array.astype(np.float32), generic_model(config, seed))
    transformed = (OF_HEADS_AND_NEURONS | OF_FEATURES)[name](model, np.random.default_rng(seed))
    assert {array.dtype for array in named_arrays(transformed).values()} == {np.dtype(np.float32)}


@given(encoder_configs(pre_norm=False), generators())
def test_models_without_such_norms_are_refused(config, rng):
    model = generic_model(config)
    with pytest.raises(ConfigError, match="residual stream"):
        transforms.inject_outliers(model, [0], 10.0)


@given(decoder_configs(norm="layer", norm_offset=0.0), generators())
def test_layer_norms_are_not_rotated(config, rng):
    model = generic_model(config)
    assert isinstance(model, Decoder)
    with pytest.raises(ConfigError, match="RMS"):
        transforms.rotate(model, rng)
