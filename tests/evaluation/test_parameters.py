"""Counting from shapes, against counting another way: by hand, on smaller models, and on the compressed arrays."""

import numpy as np
import pytest
from hypothesis import given

from tests.strategies import decoder_configs, encoder_configs, encoder_decoder_configs, generic_model
from tinyslm.errors import ConfigError
from tinyslm.evaluation import footprint
from tinyslm.evaluation.parameters import (
    active_parameters,
    bytes_as,
    count_parameters,
    parameters_by_part,
    part_of,
)
from tinyslm.models import shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.modules import MixtureOfExperts
from tinyslm.recipes import Quantize
from tinyslm.tree import map_modules, named_arrays


@given(config=decoder_configs() | encoder_configs() | encoder_decoder_configs())
def test_the_parts_are_the_whole_and_each_holds_what_its_name_says(config):
    model = shape_model(config)
    parts = parameters_by_part(model)
    assert sum(parts.values()) == count_parameters(model) == sum(a.size for a in named_arrays(model).values())
    layers = config.num_hidden_layers + config.num_decoder_layers
    attentions = layers + config.num_decoder_layers
    C, H, G, D = (
        config.hidden_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
    )
    one = 2 * C * H * D + 2 * C * G * D
    one += (H + 2 * G) * D * config.attention_bias + C * config.attention_output_bias
    stacks = 2 if config.num_decoder_layers else 1
    tables = stacks * getattr(config, "relative_attention_num_buckets", 0) * H
    assert parts["attention"] == attentions * one + tables

    def feed_forward(F):
        return (2 + config.gated) * C * F + ((1 + config.gated) * F + C) * config.feed_forward_bias

    mixtures = layers - sum(getattr(config, "dense_layers", ())) if config.num_experts else 0
    F = getattr(config, "expert_intermediate_size", None) or config.intermediate_size
    of_mixtures = mixtures * config.num_experts * (feed_forward(F) + C)
    assert parts["feed-forward"] == (layers - mixtures) * feed_forward(config.intermediate_size) + of_mixtures


@given(config=decoder_configs(num_experts=3, experts_per_token=2))
def test_active_parameters_are_those_of_a_model_with_only_the_chosen_experts(config):
    model = shape_model(config)

    def without_one(path, mixture):
        return mixture.replace(experts=mixture.experts[: mixture.experts_per_token])

    assert active_parameters(model) == count_parameters(map_modules(without_one, model, MixtureOfExperts))


@given(config=decoder_configs(num_experts=0, experts_per_token=0) | encoder_configs())
def test_without_experts_every_parameter_is_used(config):
    assert active_parameters(shape_model(config)) == count_parameters(shape_model(config))


@given(config=decoder_configs() | encoder_configs() | encoder_decoder_configs())
def test_bytes_are_those_that_the_arrays_take(config):
    model = generic_model(config, dtype=np.float32)
    assert bytes_as(model, "float32") == footprint(model).bytes == 2 * bytes_as(model, "bfloat16")
    assert bytes_as(shape_model(config), "int8") == bytes_as(model, "int8") == footprint(Quantize()(model)).bytes


def test_an_unknown_dtype():
    with pytest.raises(ConfigError, match="'float8', expected float32, bfloat16 or int8"):
        bytes_as(shape_model(CATALOGUE["gpt2"]), "float8")


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("embedding.table", "embedding"),
        ("position_embedding.table", "embedding"),
        ("embedding_norm.weight", "norms"),
        ("layers.0.attention.query_norm.weight", "norms"),
        ("layers.0.attention.output.weight", "attention"),
        ("decoder.layers.0.cross_attention.key.weight", "attention"),
        ("encoder.relative_positions.table", "attention"),
        ("layers.0.feed_forward.experts.1.up.weight", "feed-forward"),
        ("layers.0.feed_forward.router.weight", "feed-forward"),
        ("head.weight", "head"),
        ("masked_lm_head.transform.weight", "head"),
        ("pooler.weight", "head"),
    ],
)
def test_part_of(path, part):
    assert part_of(path) == part
