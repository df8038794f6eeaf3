"""Models from a configuration: the exact initial weights, and shapes without memory."""

from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import decoder_configs, encoder_configs, encoder_decoder_configs, seeds
from tinyslm.models import random_model, shape_model
from tinyslm.models.builder import BUILDERS, Config
from tinyslm.tree import named_arrays

ANY_KIND = st.one_of(decoder_configs(), encoder_configs(), encoder_decoder_configs())


def deviation_of(path, config, deviation):
    """Standard deviation of an initial weight, by the name of its module."""
    name = path.split(".")[-2]
    if name in ("output", "down"):  # added to the residual stream
        return deviation / np.sqrt(2 * max(config.num_hidden_layers, config.num_decoder_layers))
    if name == "query":
        return deviation / np.sqrt(config.head_dim) / config.scale
    return deviation


@given(ANY_KIND, seeds, st.sampled_from([None, 0.3]), st.sampled_from([np.float32, np.float64]))
def test_initial_weights_are_normal_with_the_documented_deviations(config, seed, deviation, dtype):
    """One generator draws all of them in the order of the fields. Gains are 1, biases are 0."""
    rng = np.random.default_rng(seed)
    for path, array in named_arrays(random_model(config, seed, dtype, deviation)).items():
        assert array.dtype == dtype
        if path.endswith("bias"):
            wanted = np.zeros(array.shape)
        elif "norm" in path:
            wanted = np.full(array.shape, 1 - config.norm_offset)
        else:
            wanted = rng.standard_normal(array.shape, np.float32) * deviation_of(path, config, deviation or 10**-0.5)
        np.testing.assert_allclose(array, wanted, rtol=3e-7, err_msg=path)


@given(ANY_KIND)
def test_shapes_are_zeros_that_take_no_memory(config):
    for array in named_arrays(shape_model(config)).values():
        assert array.dtype == np.float32 and not array.any()
        assert set(array.strides) == {0}


def test_every_kind_of_configuration_has_a_builder():
    assert set(get_args(Config)) == BUILDERS.keys()
