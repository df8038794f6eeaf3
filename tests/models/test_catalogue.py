"""The catalogue against the numbers that were published with the models, and against transformers where it is there."""

import json
import time

import numpy as np
import pytest

from tinyslm.checkpoints.families import find_family
from tinyslm.evaluation.parameters import active_parameters, count_parameters, parameters_by_part
from tinyslm.models import shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.tree import named_arrays

PUBLISHED = {
    "gpt2": 124_439_808,
    "pythia-160m": 162_322_944,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "smollm3-3b": 3_075_098_624,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen3-0.6b": 596_049_920,
    "qwen3-30b-a3b": 30_532_122_624,
    "olmo-2-1b": 1_484_916_736,
    "granite-3.1-2b": 2_533_531_648,
    "stablelm-2-1.6b": 1_644_515_328,
    "phi-2": 2_779_683_840,
    "phi-3-mini-4k": 3_821_079_552,
    "phi-3-mini-128k": 3_821_079_552,
    "phi-4-mini": 3_836_021_760,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-2b": 2_614_341_888,
    "gemma-3-1b": 999_885_952,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "ministral-8b": 8_019_808_256,
    "ministral-3-3b": 3_429_006_336,
    "mixtral-8x7b": 46_702_792_704,
    "bert-base": 109_514_298,
    "distilbert": 66_985_530,
    "roberta-base": 124_697_433,
    "xlm-roberta-base": 278_295_186,
    "mpnet-base": 109_518_527,
    "modernbert-base": 149_655_232,
    "t5-small": 60_506_624,
    "flan-t5-small": 76_961_152,
}
CHOICES = (
    *("norm", "norm_offset", "query_key_norm", "joint_query_key_norm", "pre_norm", "sublayer_output_norm"),
    *("parallel_blocks", "shared_norm", "activation", "gated"),
    *("attention_bias", "attention_output_bias", "feed_forward_bias", "head_bias"),
    *("norm_bias", "transform_bias", "decoder_bias", "learned_positions", "padding_idx", "transform_activation"),
    *("attention_scale", "attention_softcap", "logit_softcap", "experts_per_token", "masked_head", "pooler"),
)
NOT_THE_DEFAULTS = ("flan-t5-small", "granite-3.1-2b", "stablelm-2-1.6b")  # of the class of transformers
LARGE_VOCABULARIES = (  # for their size
    *("gpt2", "pythia-160m", "qwen3-0.6b", "distilbert", "t5-small", "flan-t5-small"),
    *("roberta-base", "xlm-roberta-base", "modernbert-base"),
)


def test_every_model_has_a_published_total():
    assert list(CATALOGUE) == list(PUBLISHED)


@pytest.mark.parametrize("name", CATALOGUE)
def test_parameters_are_the_published_ones(name):
    assert count_parameters(shape_model(CATALOGUE[name])) == PUBLISHED[name]


def test_qwen3_30b_uses_3_3_of_30_5_billions():
    unused = 48 * (128 - 8) * 3 * 2048 * 768
    used = active_parameters(shape_model(CATALOGUE["qwen3-30b-a3b"]))
    assert used == PUBLISHED["qwen3-30b-a3b"] - unused == 3_353_032_704


def test_mixtral_uses_12_9_of_46_7_billions():
    V, C, F, layers, H, G, D, E, used = 32000, 4096, 14336, 32, 32, 8, 128, 8, 2
    attention = 2 * C * H * D + 2 * C * G * D
    by_hand = 2 * V * C + layers * (attention + used * 3 * C * F + E * C + 2 * C) + C
    model = shape_model(CATALOGUE["mixtral-8x7b"])
    assert active_parameters(model) == by_hand == 12_879_925_248
    assert (round(by_hand / 1e9, 1), round(count_parameters(model) / 1e9, 1)) == (12.9, 46.7)


@pytest.mark.parametrize("name", CATALOGUE)
def test_feed_forward_layers_hold_the_majority(name):
    """Of what is in the layers always; of the whole wherever the vocabulary is not large for the model's size."""
    parts = parameters_by_part(shape_model(CATALOGUE[name]))
    assert parts["feed-forward"] > parts["attention"] + parts["norms"]
    assert (2 * parts["feed-forward"] > sum(parts.values())) == (name not in LARGE_VOCABULARIES)


def test_shapes_take_neither_memory_nor_time():
    began = time.process_time()
    arrays = named_arrays(shape_model(CATALOGUE["mixtral-8x7b"])).values()
    assert time.process_time() - began < 1
    assert all(not any(array.strides) for array in arrays)


@pytest.mark.parametrize("name", CATALOGUE)
def test_its_config_json_reads_back(name):
    config = CATALOGUE[name]
    family = find_family(config.family, "catalogue")
    values = json.loads(json.dumps(family.write_config(config)))
    assert family.read_config(values, "config.json") == config


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name not in NOT_THE_DEFAULTS])
def test_choices_are_those_of_the_family(name):
    """Of a config.json that says nothing, which means the defaults of transformers' class: all but the sizes."""
    config = CATALOGUE[name]
    usual = find_family(config.family, "catalogue").read_config({"model_type": config.family}, "config.json")
    for field in CHOICES:
        assert getattr(config, field, None) == getattr(usual, field, None), field


@pytest.mark.parametrize("name", CATALOGUE)
def test_eps(name):
    small = (
        "gemma-2b",
        "gemma-7b",
        "gemma-2-2b",
        "gemma-3-1b",
        "smollm3-3b",
        "qwen2.5-0.5b",
        "qwen2.5-1.5b",
        "qwen3-0.6b",
        "qwen3-30b-a3b",
        "olmo-2-1b",
        "t5-small",
        "flan-t5-small",
    )
    assert CATALOGUE[name].norm_eps == (
        1e-12 if name in ("bert-base", "distilbert") else 1e-6 if name in small else 1e-5
    )


@pytest.mark.parametrize(
    ("name", "windows", "thetas"),
    [
        ("llama-3.2-1b", (None,), (5e5,)),
        ("mistral-7b-v0.1", (4096,), (1e4,)),
        ("ministral-8b", (None, 32768, 32768, 32768), (1e8,)),
        ("gemma-2-2b", (4096, None), (1e4,)),
        ("gemma-3-1b", (512, 512, 512, 512, 512, None), (1e4, 1e4, 1e4, 1e4, 1e4, 1e6)),
        ("smollm3-3b", (None,), (5e6, 5e6, 5e6, None)),
        ("gpt2", (None,), (None,)),
        ("modernbert-base", (None, 65, 65), (160_000.0, 1e4, 1e4)),
        ("olmo-2-1b", (None,), (5e5,)),
        ("granite-3.1-2b", (None,), (5e6,)),
        ("phi-2", (None,), (1e4,)),
    ],
)
def test_what_each_layer_sees_and_how_it_turns(name, windows, thetas):
    config = CATALOGUE[name]
    for layer in range(config.num_hidden_layers):
        rope = config.ropes[layer]
        assert config.windows[layer] == windows[layer % len(windows)]
        assert (rope and rope.theta) == thetas[layer % len(thetas)]


def test_long_ropes():
    short, long, partial = (CATALOGUE[name].ropes[0] for name in ("phi-3-mini-4k", "phi-3-mini-128k", "phi-4-mini"))
    assert (short.scaling, short.dimension) == ("default", 96)
    assert (long.scaling, long.dimension, len(long.long_factors), long.original_length) == ("longrope", 96, 48, 4096)
    np.testing.assert_allclose(long.attention_factor, 1.1902380714238083)
    assert (partial.scaling, partial.dimension, CATALOGUE["phi-4-mini"].head_dim) == ("longrope", 96, 128)


@pytest.mark.parametrize(
    ("name", "dimension"), [("pythia-160m", 16), ("phi-2", 32), ("stablelm-2-1.6b", 16), ("granite-3.1-2b", 64)]
)
def test_rotary_dimensions(name, dimension):
    assert {rope.dimension for rope in CATALOGUE[name].ropes} == {dimension}


def test_factors_of_granite():
    config = CATALOGUE["granite-3.1-2b"]
    factors = (config.embedding_scale, config.scale, config.residual_multiplier, config.logits_scaling)
    assert factors == (12, 0.015625, 0.22, 8)


@pytest.mark.parametrize("name", CATALOGUE)
def test_transformers_builds_as_many_parameters(name):
    """Everything but the weights: on its "meta" device."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = CATALOGUE[name]
    values = find_family(config.family, "catalogue").write_config(config)
    theirs = transformers.AutoConfig.for_model(**values)
    with torch.device("meta"):
        model = getattr(transformers, values["architectures"][0])(theirs)
    found = sum(parameter.numel() for parameter in model.parameters())
    if name == "flan-t5-small":  # every T5 is tied there until a file has a tensor for the head
        found += config.vocab_size * config.hidden_size
    assert found == PUBLISHED[name]
