"""A configuration that cannot be honoured is refused, with the field and the value."""

import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import decoder_configs, generic_model, seeds
from tinyslm.errors import ConfigError
from tinyslm.models import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from tinyslm.models.config_checks import FACTOR, RANGES, ROPE_RANGES, SIZE
from tinyslm.ops import Rope


def config(**changes):
    fields = {
        "vocab_size": 23,
        "hidden_size": 10,
        "intermediate_size": 14,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "max_position_embeddings": 20,
    }
    return DecoderConfig(family="llama", **fields | changes)


def longrope(**changes):
    settings = {"original_length": 16, "short_factors": (1.0,) * 3, "long_factors": (2.0,) * 3}
    return Rope(100.0, 6, "longrope", **settings | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0, expected an integer from 1 to 1073741824"),
        ({"hidden_size": 2**30 + 1}, "hidden_size is 1073741825, expected an integer from 1 to 1073741824"),
        ({"num_hidden_layers": 10_001}, "num_hidden_layers is 10001, expected an integer from 1 to 10000"),
        ({"head_dim": 2**28 + 2}, "head_dim is 268435458, expected at most 1073741824 dimensions in all 4 heads"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"vocab_size": 2.5}, "vocab_size is 2.5"),
        ({"num_hidden_layers": None}, "num_hidden_layers is None"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"norm": "batch"}, "norm is 'batch', expected 'rms' or 'layer'"),
        ({"norm": "layer", "norm_offset": 1.0}, "norm_offset is only for norm 'rms'"),
        ({"joint_query_key_norm": True}, "joint_query_key_norm needs query_key_norm"),
        ({"shared_norm": True}, "shared_norm is only for parallel_blocks"),
        ({"pre_norm": False}, "without pre_norm, sublayer_output_norm is needed"),
        ({"parallel_blocks": True, "sublayer_output_norm": True}, "parallel_blocks have neither sublayer_output_norm"),
        ({"parallel_blocks": True, "residual_multiplier": 0.5}, "parallel_blocks have neither .* residual_multiplier"),
        ({"head_bias": True}, "head_bias needs an untied head"),
        ({"activation": "swish"}, "activation 'swish' is not one of silu, "),
        ({"ropes": (None,)}, "ropes has 1 entries for 2 layers"),
        ({"windows": (3, 3, 3)}, "windows has 3 entries for 2 layers"),
        ({"windows": (3, 0)}, "a window of 0 tokens, expected an integer from 1 to 1073741824, or None"),
        ({"windows": (3, 2.5)}, "a window of 2.5 tokens"),
        ({"ropes": (None, Rope(100.0, 5))}, "rope rotates 5 dimensions, expected an even number up to head_dim 6"),
        ({"ropes": (None, Rope(100.0, 8))}, "rope rotates 8 dimensions"),
        ({"ropes": (longrope(long_factors=(1.0,) * 6), None)}, "longrope has 6 factors for 6 rotary dimensions"),
        ({"ropes": (longrope(long_factors=(1.0, 0.0, 1.0)),) * 2}, "a longrope factor is 0.0, expected a number from"),
        ({"ropes": (longrope(short_factors=(1.0, 1.0, "1")),) * 2}, "a longrope factor is '1', expected a number from"),
        ({"ropes": (longrope(original_length=1),) * 2}, "original_length of rope is 1, expected an integer from 2 to"),
        (
            {"ropes": (Rope(100.0, 6, "llama3", 8.0, 4.0, 4.0, 16), None)},
            "high_frequency_factor of rope is 4.0, expected more than low, which is 4.0",
        ),
        ({"num_experts": 2, "experts_per_token": 3}, "experts_per_token 3 with num_experts 2"),
        ({"num_experts": 2}, "experts_per_token 0 with num_experts 2"),
        ({"num_experts": 10_001, "experts_per_token": 1}, "num_experts is 10001, expected an integer from 1 to 10000"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ConfigError, match=f"configuration of a llama model: .*{message}"):
        config(**changes)


def outside(allowed):
    """Numbers beside a range of floating-point numbers, and values that are no numbers."""
    below, above = math.nextafter(allowed.low, -math.inf), math.nextafter(allowed.high, math.inf)
    return [below, above, -1.0, 1e300, math.nan, math.inf, 10**400, "1", True]


NUMBERS = {name: allowed for name, allowed in RANGES.items() if not allowed.integer and name != "output_scale"}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_outside_their_range(name):
    for value in NUMBERS[name][:2]:
        assert getattr(config(**{name: value}), name) == value
    for value in outside(NUMBERS[name]):
        with pytest.raises(ConfigError, match=re.escape(f"{name} is {value!r}, expected {NUMBERS[name]}")):
            config(**{name: value})


@pytest.mark.parametrize("name", ROPE_RANGES)
def test_numbers_of_a_rope_outside_their_range(name):
    settings = {"theta": 100.0, "dimension": 6, "original_length": 8}
    for value in ROPE_RANGES[name][:2]:
        assert getattr(config(ropes=(Rope(**settings | {name: value}), None)).ropes[0], name) == value
    for value in outside(ROPE_RANGES[name]):
        with pytest.raises(ConfigError, match=re.escape(f"{name} of rope is {value!r}, expected {ROPE_RANGES[name]}")):
            config(ropes=(None, Rope(**settings | {name: value})))


def ends(allowed):
    return st.sampled_from([allowed.low, 1.0, allowed.high])


@st.composite
def extreme_ropes(draw, head_dim):
    """A rotation of every kind with numbers at the ends of their ranges."""
    settings = {name: draw(ends(allowed)) for name, allowed in ROPE_RANGES.items()}
    settings["low_frequency_factor"] = settings["high_frequency_factor"] / 2
    if settings["low_frequency_factor"] < FACTOR.low:
        settings |= {"low_frequency_factor": FACTOR.low, "high_frequency_factor": math.nextafter(FACTOR.low, 1)}
    factors = draw(st.lists(ends(FACTOR), min_size=head_dim // 2, max_size=head_dim // 2))
    settings |= {"short_factors": tuple(factors), "long_factors": tuple(factors[::-1])}
    original_length = draw(st.sampled_from([2, 8, SIZE.high]))
    scaling = draw(st.sampled_from(["default", "linear", "llama3", "longrope", "yarn", "dynamic"]))
    if settings["query_scale_beta"]:
        settings["attention_factor"] = min(settings["attention_factor"], 1e3)
    if scaling == "yarn":
        settings["theta"] = max(settings["theta"], math.nextafter(1, 2))
    return Rope(dimension=head_dim, scaling=scaling, original_length=original_length, **settings)


@given(st.data(), seeds)
def test_numbers_at_the_ends_of_their_ranges_compute(data, seed):
    """With random weights of order 1 and a token whose embedding is zero: finite logits, and no warning."""
    numbers = {name: data.draw(ends(allowed), name) for name, allowed in NUMBERS.items() if name != "norm_offset"}
    drawn = data.draw(decoder_configs(learned_positions=False, max_position_embeddings=SIZE.high, **numbers))
    ropes = tuple(data.draw(extreme_ropes(drawn.head_dim), "rope") for _ in drawn.ropes)
    model = generic_model(replace(drawn, ropes=ropes), seed, np.float32)
    model.embedding.table[0] = 0
    for first in (0, SIZE.high - 9):
        with warnings.catch_warnings(action="error"):
            logits = model(np.arange(9)[None], position_ids=np.arange(first, first + 9))
        assert np.isfinite(logits).all()


def test_the_other_kinds_of_configurations_have_the_same_ranges():
    with pytest.raises(ConfigError, match=r"norm_eps is 0, expected a number from 1e-30 to 1$"):
        EncoderConfig("bert", 23, 10, 14, 2, 3, 4, 20, norm_eps=0)
    with pytest.raises(ConfigError, match=r"num_decoder_layers is 10001, expected an integer from 1 to 10000$"):
        EncoderDecoderConfig("t5", 23, 10, 14, 2, 10_001, 3, 4, 8, 9)
    with pytest.raises(ConfigError, match=r"output_scale is 0.0, expected a number from 1e-06 to 1e\+06$"):
        EncoderDecoderConfig("t5", 23, 10, 14, 2, 3, 3, 4, 8, 9, output_scale=0.0)


def test_per_layer_fields_are_filled():
    assert config().windows == config().ropes == (None, None)
    assert config().dense_layers == (False, False)


def test_which_layers_have_experts():
    some = config(num_experts=3, experts_per_token=2, dense_layers=(True, False))
    assert [some.has_experts(layer) for layer in range(2)] == [False, True]
    assert not config().has_experts(0)
    assert replace(config(), num_hidden_layers=3, ropes=(), windows=()).dense_layers == (False,) * 3


def test_the_scale_is_one_over_the_root_of_the_head_size_unless_given():
    assert config().scale == 6**-0.5
    assert config(attention_scale=0.25).scale == 0.25
