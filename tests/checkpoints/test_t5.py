"""The two forms of T5 in files of today and of before, and what their configurations may not say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from tests.checkpoints.models import assert_same_model, change_config, change_tensors
from tests.strategies import encoder_decoder_configs, generic_model, seeds
from tinyslm.autodiff import value_and_grad
from tinyslm.checkpoints import checkpoint_tensors, load_model, save_model
from tinyslm.checkpoints.families import FAMILIES
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.evaluation import footprint
from tinyslm.models import EncoderDecoderConfig, sequence_to_sequence_loss, shape_model
from tinyslm.modules import Linear
from tinyslm.tree import map_modules, named_arrays

CONFIG = EncoderDecoderConfig("t5", 23, 16, 14, 2, 3, 3, 4, 8, 9, activation="gelu_new", gated=True, eos_token_id=1)
ORIGINAL = replace(CONFIG, activation="relu", gated=False, output_scale=0.25)
SMALL = {"vocab_size": 50, "d_model": 16, "d_ff": 20, "d_kv": 6, "num_layers": 2, "num_heads": 3}


def read(**values):
    return FAMILIES["t5"].read_config(SMALL | values, "config.json")


def saved(tmp_path, config=CONFIG):
    model = generic_model(config, dtype=np.float32)
    save_model(tmp_path / "saved", model)
    return model, tmp_path / "saved"


@given(encoder_decoder_configs(family="t5"), seeds)
def test_round_trip(tmp_path_factory, config, seed):
    """Bit for bit, and the names are those of the model; an activation that has no name there is refused."""
    model, path = generic_model(config, seed, np.float32), tmp_path_factory.mktemp("t5") / "saved"
    if config.gated and config.activation == "gelu":  # gated-gelu is the approximation by tanh
        with pytest.raises(ConfigError, match="activation is 'gelu', but a t5 checkpoint can only hold 'gelu_new'"):
            save_model(path, model)
        return
    save_model(path, model)
    assert_same_model(load_model(path), model)


def test_names_of_both_forms():
    gated, original = (checkpoint_tensors(generic_model(config)) for config in (CONFIG, ORIGINAL))
    inner = {name for name in gated if name.endswith(("wi_0.weight", "wi_1.weight"))}
    assert len(inner) == 2 * (2 + 3)
    assert original.keys() == (gated.keys() - inner) | {name[: -len("_0.weight")] + ".weight" for name in inner}
    assert original["decoder.block.2.layer.2.DenseReluDense.wi.weight"].shape == (14, 16)
    assert original["encoder.block.1.layer.1.layer_norm.weight"].shape == (16,)
    assert original["decoder.block.0.layer.1.EncDecAttention.k.weight"].shape == (12, 16)
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert [name for name in original if "bias" in name] == [f"encoder.{bias}", f"decoder.{bias}"]


def test_gate_and_up_are_where_they_belong():
    """gelu(wi_0 x) * (wi_1 x)."""
    model = generic_model(CONFIG)
    layer, tensors = model.decoder.layers[1].feed_forward, checkpoint_tensors(model)
    assert tensors["decoder.block.1.layer.2.DenseReluDense.wi_0.weight"] is layer.gate.weight
    assert tensors["decoder.block.1.layer.2.DenseReluDense.wi_1.weight"] is layer.up.weight


def test_missing_keys_mean_the_defaults_of_the_class():
    config = FAMILIES["t5"].read_config({}, "config.json")
    assert (config.vocab_size, config.hidden_size, config.head_dim, config.intermediate_size) == (32128, 512, 64, 2048)
    assert (config.num_hidden_layers, config.num_decoder_layers, config.num_attention_heads) == (6, 6, 8)
    assert (config.relative_attention_num_buckets, config.relative_attention_max_distance) == (32, 128)
    assert (config.activation, config.gated, config.norm_eps) == ("relu", False, 1e-6)
    assert config.output_scale == 512**-0.5 and config.tie_word_embeddings
    assert (config.decoder_start_token_id, config.pad_token_id, config.eos_token_id) == (0, 0, 1)
    assert (read().num_decoder_layers, read(num_decoder_layers=5).num_decoder_layers) == (2, 5)
    assert read(pad_token_id=3).decoder_start_token_id == 3


FLAN = {"d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


@pytest.mark.parametrize(("values", "parameters"), [({}, 60_506_624), (FLAN, 76_961_152)])
def test_published_sizes(values, parameters):
    """T5-small and Flan-T5-small; one token read and one written pass every weight but the embedding's once."""
    model = shape_model(FAMILIES["t5"].read_config(values, "config.json"))
    found = footprint(model)
    assert found.parameters == parameters
    beside = [path for path in named_arrays(model) if path.endswith(("norm.weight", "positions.table"))]
    not_multiplied = sum(named_arrays(model)[path].size for path in beside) + (not model.tied_head) * 32128 * 512
    assert found.multiply_adds == parameters - not_multiplied


@pytest.mark.parametrize(
    ("values", "scaled"),
    [
        ({}, True),
        ({"tie_word_embeddings": True}, True),
        ({"tie_word_embeddings": False}, False),
        ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False),
        ({"tie_word_embeddings": False, "scale_decoder_outputs": True}, True),
    ],
)
def test_what_scales_the_outputs(values, scaled):
    assert read(**values).output_scale == (0.25 if scaled else 1.0)


@pytest.mark.parametrize(
    ("name", "activation", "gated"),
    [("relu", "relu", False), ("gated-gelu", "gelu_new", True), ("gated-silu", "silu", True), ("gelu", "gelu", False)],
)
def test_feed_forward_layers(name, activation, gated):
    config = read(feed_forward_proj=name)
    assert (config.activation, config.gated) == (activation, gated)
    assert FAMILIES["t5"].write_config(config)["feed_forward_proj"] == name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"feed_forward_proj": "gated-swish"}, "feed_forward_proj is 'gated-swish', expected one of"),
        ({"feed_forward_proj": "double-relu"}, "feed_forward_proj"),
        ({"dense_act_fn": "silu"}, "dense_act_fn is 'silu', expected 'relu', which follows from feed_forward_proj"),
        ({"is_gated_act": True}, "is_gated_act is True, expected False"),
        ({"num_decoder_layers": 0}, "num_decoder_layers is 0"),
        ({"d_kv": 2**30}, "d_kv is 1073741824, expected an integer from 1 to"),
        ({"relative_attention_num_buckets": 2}, "relative_attention_num_buckets is 2"),
        ({"relative_attention_max_distance": 16}, "relative_attention_max_distance is 16"),
        ({"scale_decoder_outputs": "no"}, "scale_decoder_outputs is 'no', expected true or false"),
        ({"decoder_start_token_id": 50}, "decoder_start_token_id is 50"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder is False"),
    ],
)
def test_values_that_cannot_be_honoured(values, message):
    with pytest.raises(ConfigError, match=f"config.json: .*{message}"):
        read(**values)


def test_a_config_that_says_tied_with_a_head_of_its_own(tmp_path):
    """As transformers writes it today."""
    model, path = saved(tmp_path, replace(CONFIG, tie_word_embeddings=False))
    change_config(path, tie_word_embeddings=True)
    assert_same_model(load_model(path), model)


def test_copies_of_the_embedding(tmp_path):
    model, path = saved(tmp_path)
    table = model.embedding.table
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    copies = {f"{stack}.embed_tokens.weight": table for stack in ("encoder", "decoder")}
    change_tensors(path, copies | {"lm_head.weight": table, unused: table[:8, :3].copy()})
    assert_same_model(load_model(path), model)
    change_tensors(path, {"shared.weight": None, "lm_head.weight": None})
    assert_same_model(load_model(path), model)
    change_tensors(path, {"decoder.embed_tokens.weight": table + 1})
    with pytest.raises(CheckpointError, match=r"'decoder.embed_tokens.weight' differs from 'shared.weight'"):
        load_model(path)


def test_more_layers_than_tensors_are_a_lie(tmp_path):
    _, path = saved(tmp_path)
    for key in ("num_layers", "num_decoder_layers"):
        change_config(path, **{"num_layers": 2, "num_decoder_layers": 3} | {key: 200})
        with pytest.raises(ConfigError, match=r"has 20[23] layers"):
            load_model(path)
    change_config(path, num_layers=2, num_decoder_layers=4)
    with pytest.raises(CheckpointError, match=r"decoder.block.3.layer.0.layer_norm.weight' of shape .* is missing"):
        load_model(path)


@pytest.mark.parametrize("config", [CONFIG, ORIGINAL])
def test_compressed_layers(tmp_path, config):
    """Every linear layer of both stacks, cross attention's too; gradients have the names of what is still there."""
    model = generic_model(config, dtype=np.float32)
    compressed = map_modules(lambda path, linear: QuantizedLinear.from_linear(linear), model, Linear)
    save_model(tmp_path / "saved", compressed)
    assert_same_model(load_model(tmp_path / "saved"), compressed)
    gate_only = map_modules(
        lambda path, linear: QuantizedLinear.from_linear(linear) if path.endswith("gate") else linear, model, Linear
    )
    tokens = np.array([[3, 1, 4]])
    _, gradients = value_and_grad(sequence_to_sequence_loss)(gate_only, tokens, tokens)
    assert checkpoint_tensors(gradients).keys() <= checkpoint_tensors(model).keys()
    assert len(named_arrays(gradients)) == len(named_arrays(model)) - 5 * config.gated
