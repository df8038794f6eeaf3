"""A configuration that cannot be honoured is refused, with the field and the value."""

import pytest

from tinyslm.errors import ConfigError
from tinyslm.models import DecoderConfig
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0, expected a positive integer"),
        ({"vocab_size": 2.5}, "vocab_size is 2.5"),
        ({"num_hidden_layers": None}, "num_hidden_layers is None"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"norm": "batch"}, "norm is 'batch', expected 'rms' or 'layer'"),
        ({"norm": "layer", "norm_offset": 1.0}, "norm_offset is only for norm 'rms'"),
        ({"activation": "swish"}, "activation 'swish' is not one of silu, "),
        ({"ropes": (None,)}, "ropes has 1 entries for 2 layers"),
        ({"windows": (3, 3, 3)}, "windows has 3 entries for 2 layers"),
        ({"windows": (3, 0)}, "a window of 0 tokens"),
        ({"ropes": (None, Rope(100.0, 5))}, "rope rotates 5 dimensions, expected an even number up to head_dim 6"),
        ({"ropes": (None, Rope(100.0, 8))}, "rope rotates 8 dimensions"),
        (
            {"ropes": (Rope(100.0, 6, "longrope", short_factors=(1.0,) * 3, long_factors=(1.0,) * 6), None)},
            "longrope has 6 factors for 6 rotary dimensions",
        ),
        ({"num_experts": 2, "experts_per_token": 3}, "experts_per_token 3 with num_experts 2"),
        ({"num_experts": 2}, "experts_per_token 0 with num_experts 2"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ConfigError, match=f"configuration of a llama model: .*{message}"):
        config(**changes)


def test_per_layer_fields_are_filled():
    assert config().windows == config().ropes == (None, None)


def test_the_scale_is_one_over_the_root_of_the_head_size_unless_given():
    assert config().scale == 6**-0.5
    assert config(attention_scale=0.25).scale == 0.25
