"""Models from a configuration: the exact initial weights, and shapes without memory."""

from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import decoder_configs, encoder_configs, encoder_decoder_configs, seeds
from tinyslm.models import EncoderConfig, EncoderDecoderConfig, random_model, shape_model
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


def linear(path, outputs, inputs, bias):
    """{path: shape} of a linear layer."""
    return {f"{path}.weight": (outputs, inputs)} | ({f"{path}.bias": (outputs,)} if bias else {})


def norm(path, config, size):
    """{path: shape} of a norm."""
    has_bias = config.norm == "layer" and getattr(config, "norm_bias", True)
    return {f"{path}.weight": (size,)} | ({f"{path}.bias": (size,)} if has_bias else {})


def feed_forward(path, config, size=None):
    """{path: shape} of a feed-forward layer. size: F, of the configuration by default."""
    C, F, bias = config.hidden_size, size or config.intermediate_size, config.feed_forward_bias
    gate = linear(f"{path}.gate", F, C, bias) if config.gated else {}
    return linear(f"{path}.up", F, C, bias) | linear(f"{path}.down", C, F, bias) | gate


def attention(path, config):
    """{path: shape} of the four projections."""
    C, D = config.hidden_size, config.head_dim
    shapes = linear(f"{path}.query", config.num_attention_heads * D, C, config.attention_bias)
    for name in ("key", "value"):
        shapes |= linear(f"{path}.{name}", config.num_key_value_heads * D, C, config.attention_bias)
    return shapes | linear(f"{path}.output", C, config.num_attention_heads * D, config.attention_output_bias)


def blocks(path, config, layers, norms):
    """{path: shape} of all attention and feed-forward layers of a stack, and of these norms in each block."""
    shapes = {}
    for i in range(layers):
        block = f"{path}layers.{i}"
        shapes |= attention(f"{block}.attention", config)
        if config.num_experts and not config.dense_layers[i]:
            shapes |= linear(f"{block}.feed_forward.router", config.num_experts, config.hidden_size, False)
            for e in range(config.num_experts):
                shapes |= feed_forward(f"{block}.feed_forward.experts.{e}", config, config.expert_intermediate_size)
        else:
            shapes |= feed_forward(f"{block}.feed_forward", config)
        for name in norms:
            shapes |= norm(f"{block}.{name}", config, config.hidden_size)
    return shapes


def shapes_of(config):
    """{path: shape} of all arrays of a model without its masked-LM head and pooler."""
    V, C, tied = config.vocab_size, config.hidden_size, config.tie_word_embeddings
    shapes = {"embedding.table": (V, C)} | ({} if tied else {"head.weight": (V, C)})
    shapes |= {"head.bias": (V,)} if getattr(config, "head_bias", False) else {}
    norms = ["attention_norm", "feed_forward_norm"]
    if isinstance(config, EncoderDecoderConfig):
        for stack, layers in (("encoder", config.num_hidden_layers), ("decoder", config.num_decoder_layers)):
            cross = ["cross_attention_norm"] if stack == "decoder" else []
            shapes |= blocks(f"{stack}.", config, layers, norms + cross) | norm(f"{stack}.norm", config, C)
            for i in range(layers if cross else 0):
                shapes |= attention(f"decoder.layers.{i}.cross_attention", config)
            shapes[f"{stack}.relative_positions.table"] = (
                config.relative_attention_num_buckets,
                config.num_attention_heads,
            )
        return shapes
    if config.learned_positions:
        shapes["position_embedding.table"] = (config.max_position_embeddings, C)
    if isinstance(config, EncoderConfig):
        shapes |= {} if config.type_vocab_size is None else {"token_type_embedding.table": (config.type_vocab_size, C)}
        if config.relative_attention_num_buckets:
            shapes["relative_positions.table"] = (config.relative_attention_num_buckets, config.num_attention_heads)
        shapes |= norm("embedding_norm", config, C) | blocks("", config, config.num_hidden_layers, norms)
        if config.pre_norm:  # the first block reads the normalized embeddings
            first = [path for path in shapes if path.startswith("layers.0.attention_norm.")]
            shapes = {path: shape for path, shape in shapes.items() if path not in first} | norm("norm", config, C)
        return shapes
    norms = norms[: 0 if not config.pre_norm else 1 if config.shared_norm else 2]
    if config.sublayer_output_norm:
        norms += ["attention_output_norm", "feed_forward_output_norm"]
    shapes |= norm("norm", config, C) | blocks("", config, config.num_hidden_layers, norms)
    for i in range(config.num_hidden_layers if config.query_key_norm else 0):
        for name, heads in (("query_norm", config.num_attention_heads), ("key_norm", config.num_key_value_heads)):
            size = config.head_dim * (heads if config.joint_query_key_norm else 1)
            shapes |= norm(f"layers.{i}.attention.{name}", config, size)
    return shapes


@given(ANY_KIND)
def test_a_model_has_the_arrays_of_its_configuration_and_no_others(config):
    wanted = shapes_of(config)
    if isinstance(config, EncoderConfig):
        V, C = config.vocab_size, config.hidden_size
        if config.masked_head:
            wanted |= linear("masked_lm_head.transform", C, C, config.transform_bias)
            wanted |= norm("masked_lm_head.norm", config, C)
            if config.decoder_bias:
                wanted["masked_lm_head.bias" if config.tie_word_embeddings else "head.bias"] = (V,)
        if config.pooler:
            wanted |= linear("pooler", C, C, True)
    assert {path: array.shape for path, array in named_arrays(shape_model(config)).items()} == wanted
