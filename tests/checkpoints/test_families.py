"""config.json in both layouts, with keys missing, and with values that lie."""

import json
from dataclasses import replace

import pytest

from tests.checkpoints.models import FAMILY_NAMES, read
from tests.golden import DIRECTORY, LAYOUTS, golden_names
from tinyslm.checkpoints.families import FAMILIES, family_of, find_family
from tinyslm.checkpoints.families.multimodal import language_model_values
from tinyslm.checkpoints.families.unsupported import MISSING_MECHANISMS
from tinyslm.errors import ConfigError
from tinyslm.models.config_checks import EPS, FACTOR, THETA
from tinyslm.ops import Rope
from tinyslm.ops.rotary import longrope_attention_factor, yarn_attention_factor


@pytest.mark.parametrize("name", golden_names())
def test_both_layouts_mean_the_same_and_are_written_in_the_new_one(name):
    old_and_new = [json.loads((DIRECTORY / name / layout).read_text()) for layout in LAYOUTS]
    old_and_new = [language_model_values(values, "config.json") for values in old_and_new]
    families = [family_of(values, "config.json") for values in old_and_new]
    assert families[0] is families[1]
    family = families[0]
    configs = [family.read_config(values, "config.json") for values in old_and_new]
    if family.model_type == "t5":  # where files of today say that every head is tied, and the tensors decide
        configs[1] = replace(configs[1], tie_word_embeddings=True)
    assert configs[0] == configs[1]
    written = json.loads(json.dumps(family.write_config(configs[0])))
    assert family.read_config(written, "config.json") == configs[0]
    for key in written.keys() & old_and_new[0].keys():  # the values are those that transformers writes
        if written[key] != old_and_new[0][key]:
            if key == "architectures":  # whether a head is there is seen from the tensors
                assert old_and_new[0][key] == [family.headless_architecture]
                continue
            assert key in ("head_dim", "n_inner", "rope_parameters"), key  # which may be null or in part implied
    assert not written.keys() & {"rope_theta", "rope_scaling", "torch_dtype"}


def test_missing_keys_mean_the_defaults_of_the_class():
    assert read("llama").ropes == (Rope(theta=10000.0, dimension=6),) * 3
    assert read("llama").num_key_value_heads == 2
    assert read("llama", num_key_value_heads=None).num_key_value_heads == 4
    assert not read("llama").tie_word_embeddings
    assert read("llama").windows == (None, None, None)
    assert read("mistral").windows == (4096, 4096, 4096)
    assert read("mistral", sliding_window=None).windows == (None, None, None)
    assert read("mixtral").windows == (None, None, None)
    assert read("mixtral").ropes[0].theta == 1e6
    assert (read("mixtral").num_experts, read("mixtral").experts_per_token) == (8, 2)
    gpt2 = read("gpt2")
    assert (gpt2.intermediate_size, gpt2.activation, gpt2.norm_eps) == (96, "gelu_new", 1e-5)
    assert gpt2.tie_word_embeddings and gpt2.eos_token_id == 50256 and gpt2.ropes == (None, None)
    assert FAMILIES["gpt2"].read_config({}, "config.json").vocab_size == 50257


def test_head_dim_null_or_its_own():
    assert read("mixtral", head_dim=None).head_dim == 6
    assert read("mistral", head_dim=10).head_dim == 10


def test_unknown_keys_are_ignored_and_several_ends_are_kept():
    config = read("llama", favourite_colour="green", pretraining_tp=1, eos_token_id=[3, 4], bos_token_id=-1)
    assert config.eos_token_id == (3, 4) and config.bos_token_id is None
    assert FAMILIES["llama"].write_config(config)["eos_token_id"] == [3, 4]


def test_biases_of_llama():
    config = read("llama", attention_bias=True, mlp_bias=True)
    assert config.attention_bias and config.attention_output_bias and config.feed_forward_bias


LLAMA3 = {"factor": 8, "low_freq_factor": 1.0, "high_freq_factor": 4, "original_max_position_embeddings": 16}
YARN = {"factor": 4, "original_max_position_embeddings": 16, "beta_fast": 2, "beta_slow": 0.5, "truncate": False}
LONGROPE = {"short_factor": [1.0, 1.1, 1.2], "long_factor": [1, 2, 3], "original_max_position_embeddings": 16}
ROPES = {
    "default": ({}, Rope(500.0, 6)),
    "linear": ({"factor": 2}, Rope(500.0, 6, "linear", 2.0)),
    "dynamic": ({"factor": 2}, Rope(500.0, 6, "dynamic", 2.0, original_length=64)),
    "llama3": (LLAMA3, Rope(500.0, 6, "llama3", 8.0, 1.0, 4.0, 16)),
    "yarn": (
        YARN | {"mscale": 0.7, "mscale_all_dim": 1},
        Rope(
            500.0,
            6,
            "yarn",
            4.0,
            original_length=16,
            attention_factor=yarn_attention_factor(4.0, 0.7, 1.0),
            beta_fast=2.0,
            beta_slow=0.5,
            truncate=False,
        ),
    ),
    "longrope": (
        LONGROPE,
        Rope(
            500.0,
            6,
            "longrope",
            original_length=16,
            short_factors=(1.0, 1.1, 1.2),
            long_factors=(1.0, 2.0, 3.0),
            attention_factor=longrope_attention_factor(4, 16),
        ),
    ),
}


@pytest.mark.parametrize("kind", ROPES)
def test_rope_in_both_layouts(kind):
    parameters, wanted = ROPES[kind]
    today = read("llama", rope_parameters={"rope_type": kind, "rope_theta": 500, **parameters})
    before = read("llama", rope_theta=500, rope_scaling={"rope_type": kind, **parameters})
    oldest = read("llama", rope_theta=500.0, rope_scaling={"type": kind, **parameters})
    assert today.ropes == before.ropes == oldest.ropes == (wanted,) * 3
    assert FAMILIES["llama"].read_config(FAMILIES["llama"].write_config(today), "again") == today


def test_defaults_of_yarn():
    """As in transformers: 32 and 1 rotations, whole pairs, the context as original length, and the paper's factor."""
    plain = read("llama", rope_scaling={"type": "yarn", "factor": 4.0}).ropes[0]
    assert plain == Rope(1e4, 6, "yarn", 4.0, original_length=64, attention_factor=yarn_attention_factor(4.0))
    assert (plain.beta_fast, plain.beta_slow, plain.truncate) == (32.0, 1.0, True)
    parameters = {"type": "yarn", "factor": None, "original_max_position_embeddings": 16, "attention_factor": 1.5}
    derived = read("llama", rope_scaling=parameters).ropes[0]
    assert (derived.factor, derived.attention_factor) == (4.0, 1.5)
    assert read("llama", rope_scaling=parameters, original_max_position_embeddings=8).ropes[0].factor == 8.0


def test_the_context_of_dynamic_rope_is_its_factor_times_the_length_in_the_file():
    for factor, context in ((2.5, 160), (0.5, 64), (1e6, 64_000_000)):
        config = read("llama", rope_scaling={"type": "dynamic", "factor": factor})
        assert config.max_position_embeddings == context and config.ropes[0].original_length == 64
        written = FAMILIES["llama"].write_config(config)
        assert written["max_position_embeddings"] == 64
        assert FAMILIES["llama"].read_config(written, "again") == config
    with pytest.raises(ConfigError, match=r"max_position_embeddings is 99, .* can only hold 64000000"):
        FAMILIES["llama"].write_config(replace(config, max_position_embeddings=99))


def test_partial_rotation_and_the_original_length_at_the_top():
    config = read("phi3", head_dim=8, partial_rotary_factor=0.5)
    assert config.ropes[0].dimension == 4
    today = read("phi3", head_dim=8, rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5})
    assert today == config
    config = read("llama", rope_scaling={"type": "longrope", **LONGROPE}, original_max_position_embeddings=32)
    assert config.ropes[0].original_length == 32
    assert config.ropes[0].attention_factor == longrope_attention_factor(2, 32)


PARTIAL = ("gpt_neox", "phi", "phi3", "stablelm")


@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name not in ("gpt2", *PARTIAL)])
def test_other_families_ignore_partial_rotation(family):
    """As in transformers. A model that rotates a part of each head cannot be saved as such a family."""
    plain = read(family)
    assert read(family, partial_rotary_factor=0.5) == plain
    if family != "gemma3_text":  # which has a table for each kind of layer
        table = {"rope_theta": 1e4, "rope_type": "default"}
        assert read(family, rope_parameters=table | {"partial_rotary_factor": 0.5}) == read(
            family, rope_parameters=table
        )
    partial = replace(plain, ropes=tuple(rope and replace(rope, dimension=2) for rope in plain.ropes))
    with pytest.raises(ConfigError, match=f"a {family} checkpoint can only hold"):
        FAMILIES[family].write_config(partial)


def test_biases_and_windows_of_qwen2():
    config = read("qwen2", sliding_window=4, max_window_layers=2)
    assert config.attention_bias and not config.attention_output_bias and config.windows == (None,) * 3
    assert read("qwen2", use_sliding_window=True, max_window_layers=2).windows == (None, None, 4096)
    assert read("qwen2", use_sliding_window=True, max_window_layers=0).windows == (4096,) * 3


@pytest.mark.parametrize(
    ("values", "dense"),
    [
        ({}, ()),
        ({"mlp_only_layers": [1, 2]}, (1, 2)),
        ({"decoder_sparse_step": 2}, (0, 2)),
        ({"decoder_sparse_step": 3, "mlp_only_layers": [2, 99]}, (0, 1, 2)),
    ],
)
def test_dense_layers_of_qwen3_moe(values, dense):
    config = read("qwen3_moe", **values)
    assert config.dense_layers == tuple(layer in dense for layer in range(3))
    written = FAMILIES["qwen3_moe"].write_config(config)
    assert (written["decoder_sparse_step"], written["mlp_only_layers"]) == (1, list(dense))
    assert FAMILIES["qwen3_moe"].read_config(written, "again") == config


def test_experts_of_qwen3_moe():
    config = read("qwen3_moe")
    assert (config.num_experts, config.experts_per_token, config.expert_intermediate_size) == (128, 8, 768)
    assert not config.normalized_routing and read("qwen3_moe", norm_topk_prob=True).normalized_routing
    for key in ("num_experts", "num_local_experts"):
        assert read("qwen3_moe", **{key: 9}).num_experts == 9
    assert read("qwen3_moe", use_sliding_window=True, sliding_window=4).windows == (4,) * 3
    assert read("qwen3_moe", sliding_window=4).windows == (None,) * 3


def test_rotation_of_ministral3():
    """Without settings those of the class; with settings the growth of the queries is among them, in both layouts."""
    usual = read("ministral3", max_position_embeddings=262144).ropes[0]
    assert usual == Rope(1e6, 128, "yarn", 16.0, original_length=16384, query_scale_beta=0.1)
    values = {"type": "yarn", **YARN, "llama_4_scaling_beta": 0.25}
    config = read("ministral3", rope_theta=500, rope_scaling=values)
    assert (
        config.ropes
        == (
            replace(
                ROPES["yarn"][1], dimension=128, attention_factor=yarn_attention_factor(4.0), query_scale_beta=0.25
            ),
        )
        * 3
    )
    assert read("ministral3", rope_parameters={"rope_theta": 500, **values}) == config
    assert FAMILIES["ministral3"].read_config(FAMILIES["ministral3"].write_config(config), "again") == config
    with pytest.raises(ConfigError, match=r"ropes is .* but a llama checkpoint can only hold"):
        FAMILIES["llama"].write_config(replace(config, family="llama"))


TEXT = {"model_type": "gemma3_text", "num_hidden_layers": 3}


def test_language_models_of_multimodal_checkpoints():
    """Tokens may stand beside it; whether the head is tied is stated beside it, and true by default."""
    values = {"model_type": "gemma3", "eos_token_id": [1, 106], "tie_word_embeddings": False, "text_config": TEXT}
    found = language_model_values(values, "config.json")
    config = family_of(found, "config.json").read_config(found, "config.json")
    assert config == FAMILIES["gemma3_text"].read_config(
        TEXT | {"eos_token_id": [1, 106], "tie_word_embeddings": False}, "config.json"
    )
    found = language_model_values({"model_type": "mistral3", "text_config": {"tie_word_embeddings": False}}, "")
    assert (found["model_type"], found["tie_word_embeddings"]) == ("mistral", True)
    inner = language_model_values({"model_type": "gemma3", "eos_token_id": 5, "text_config": {"eos_token_id": 7}}, "")
    assert inner["eos_token_id"] == 7
    assert language_model_values(TEXT, "") is TEXT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "text_config is missing, expected an object with the language model of gemma3"),
        ({"text_config": [TEXT]}, r"text_config is \[.*\], expected an object"),
        ({"text_config": {"model_type": "llama"}}, "text_config: model_type is 'llama', expected gemma3_text"),
        ({"text_config": {"model_type": ["llama"]}}, r"text_config: model_type is \['llama'\], expected gemma3_text"),
    ],
)
def test_lies_about_language_models_are_refused(values, message):
    with pytest.raises(ConfigError, match=f"^config.json: {message}"):
        language_model_values({"model_type": "gemma3"} | values, "config.json")


def test_windows_of_smollm3():
    """layer_types has priority over use_sliding_window, which is for files without layer_types."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    rotary = {"no_rope_layers": [1, 0, 1], "sliding_window": 4}
    assert read("smollm3", **rotary).windows == (None,) * 3
    assert read("smollm3", use_sliding_window=True, **rotary).windows == (None, 4, None)
    assert read("smollm3", use_sliding_window=True, no_rope_layers=[1, 0, 1]).windows == (None,) * 3
    for switched in (True, False):
        config = read("smollm3", layer_types=kinds, use_sliding_window=switched, **rotary)
        assert config.windows == (4, None, 4)
        assert FAMILIES["smollm3"].read_config(FAMILIES["smollm3"].write_config(config), "again") == config


@pytest.mark.parametrize(
    ("family", "values", "activation"),
    [
        ("gemma", {}, "gelu_pytorch_tanh"),
        ("gemma", {"hidden_act": "gelu"}, "gelu_pytorch_tanh"),
        ("gemma", {"hidden_act": "gelu", "hidden_activation": None}, "gelu_pytorch_tanh"),
        ("gemma", {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}, "gelu_pytorch_tanh"),
        ("gemma", {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu"}, "gelu"),
        ("gemma", {"hidden_act": "silu"}, "silu"),
        ("gemma2", {"hidden_act": "silu"}, "gelu_pytorch_tanh"),
        ("gemma2", {"hidden_activation": "gelu"}, "gelu"),
        ("gemma3_text", {"hidden_act": "silu", "hidden_activation": "gelu"}, "gelu"),
    ],
)
def test_activations_of_gemma(family, values, activation):
    config = read(family, **values)
    assert config.activation == activation
    assert FAMILIES[family].read_config(FAMILIES[family].write_config(config), "again") == config


def test_scores_of_gpt2_without_a_scale():
    config = read("gpt2", scale_attn_weights=False)
    assert (config.scale, read("gpt2").scale) == (1.0, 8**-0.5)
    assert FAMILIES["gpt2"].read_config(FAMILIES["gpt2"].write_config(config), "again") == config
    assert "scale_attn_weights" not in FAMILIES["gpt2"].write_config(read("gpt2"))


def test_partial_rotation_of_gpt_neox_has_keys_of_its_own():
    """As in transformers: the keys of other families are ignored, and an object of today has priority."""
    assert read("gpt_neox", hidden_size=32).ropes == (Rope(1e4, 2),) * 3
    before = read("gpt_neox", hidden_size=32, rotary_pct=0.5, rotary_emb_base=500, rope_theta=7.0, rope_scaling=None)
    assert before.ropes == (Rope(500.0, 4),) * 3
    table = {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}
    assert read("gpt_neox", hidden_size=32, rope_parameters=table, rotary_pct=1.0) == before
    assert read("gpt_neox", hidden_size=32, partial_rotary_factor=0.5).ropes[0].dimension == 2


@pytest.mark.parametrize("family", PARTIAL)
def test_a_rotation_of_whole_heads_is_stated_where_a_part_is_the_default(family):
    plain = read(family, hidden_size=32, head_dim=8)
    whole = replace(plain, ropes=tuple(replace(rope, dimension=8) for rope in plain.ropes))
    assert FAMILIES[family].read_config(FAMILIES[family].write_config(whole), "again") == whole


def test_defaults_of_families_with_other_blocks():
    olmo2, granite, phi = (FAMILIES[name].read_config({}, "config.json") for name in ("olmo2", "granite", "phi"))
    stablelm, neox = (FAMILIES[name].read_config({}, "config.json") for name in ("stablelm", "gpt_neox"))
    assert (olmo2.norm_eps, olmo2.pad_token_id, olmo2.pre_norm, olmo2.sublayer_output_norm) == (1e-5, 1, False, True)
    assert (granite.embedding_scale, granite.scale, granite.residual_multiplier, granite.logits_scaling) == (1,) * 4
    assert (phi.ropes[0].dimension, phi.head_dim, phi.query_key_norm, phi.head_bias) == (32, 64, False, True)
    assert (stablelm.ropes[0].dimension, stablelm.head_dim) == (20, 80)
    assert not (stablelm.parallel_blocks or stablelm.attention_bias or stablelm.attention_output_bias)
    assert (neox.ropes[0].dimension, neox.head_dim, neox.parallel_blocks, neox.shared_norm) == (24, 96, True, False)
    assert neox.attention_bias and neox.attention_output_bias and neox.feed_forward_bias
    assert not any(config.tie_word_embeddings for config in (olmo2, granite, phi, stablelm, neox))


def test_blocks_of_stablelm():
    parallel = read("stablelm", hidden_size=32, use_parallel_residual=True, use_qkv_bias=True)
    assert parallel.parallel_blocks and parallel.shared_norm
    assert parallel.attention_bias and not parallel.attention_output_bias
    assert FAMILIES["stablelm"].read_config(FAMILIES["stablelm"].write_config(parallel), "again") == parallel
    with pytest.raises(ConfigError, match="shared_norm is False, but a stablelm checkpoint can only hold True"):
        FAMILIES["stablelm"].write_config(replace(parallel, shared_norm=False))


LIES = {
    "norms of each head": ("stablelm", {"qk_layernorm": True}, "qk_layernorm is True, expected False"),
    "tied head with a bias": ("phi", {"tie_word_embeddings": True}, "tie_word_embeddings is True, expected False"),
    "parallel": ("gpt_neox", {"use_parallel_residual": None}, "use_parallel_residual is None, expected true or false"),
    "rotary base": ("gpt_neox", {"rotary_emb_base": 0.5}, "rotary_emb_base is 0.5, expected a number from 1 to"),
    "rotary part": ("gpt_neox", {"rotary_pct": 2}, "rotary_pct is 2, expected a number from 0 to 1"),
    "odd rotary part": ("stablelm", {}, "partial_rotary_factor is 0.25, expected .* not 1 of 6"),
    "multiplier": ("granite", {"residual_multiplier": 0}, "residual_multiplier is 0, expected a number from 1e-06"),
    "heads that do not divide": ("llama", {"num_attention_heads": 5}, "hidden_size is 24, expected a multiple of"),
    "key heads that do not divide": ("llama", {"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple"),
    "heads of gpt2": ("gpt2", {"n_head": 5}, "n_embd is 24, expected a multiple of n_head, which is 5"),
    "negative size": ("llama", {"hidden_size": -24}, "hidden_size is -24, expected an integer from 1"),
    "size as text": ("llama", {"hidden_size": "24"}, "hidden_size is '24', expected an integer"),
    "size as fraction": ("llama", {"vocab_size": 50.0}, "vocab_size is 50.0"),
    "size as boolean": ("llama", {"vocab_size": True}, "vocab_size is True"),
    "size null": ("llama", {"vocab_size": None}, "vocab_size is None"),
    "huge size": ("llama", {"vocab_size": 10**15}, "vocab_size is 10+, expected an integer from 1 to"),
    "huge product": ("llama", {"head_dim": 2**30, "num_attention_heads": 2**29}, "head_dim is"),
    "many layers": ("llama", {"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, expected .* to 10000"),
    "odd head": ("llama", {"head_dim": 7}, "head_dim is 7"),
    "eps": ("llama", {"rms_norm_eps": "small"}, "rms_norm_eps is 'small', expected a number"),
    "eps nan": ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
    "huge eps": ("llama", {"rms_norm_eps": 10**400}, "rms_norm_eps is 1000"),
    "activation": ("llama", {"hidden_act": "mish"}, "hidden_act is 'mish', expected one of silu, gelu"),
    "activation list": ("llama", {"hidden_act": ["silu"]}, "hidden_act is"),
    "tied": ("llama", {"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes', expected true or false"),
    "rope type": ("llama", {"rope_scaling": {"rope_type": "axial"}}, "rope_type is 'axial', expected one of default"),
    "rope yarn": ("llama", {"rope_scaling": {"type": "yarn", "factor": 0}}, "rope_scaling: factor is 0, expected a"),
    "rope yarn theta": (
        "llama",
        {"rope_theta": 1, "rope_scaling": {"type": "yarn", "factor": 2}},
        "theta of rope is 1.0, expected more than 1 for yarn",
    ),
    "rope yarn truncate": (
        "llama",
        {"rope_scaling": {"type": "yarn", "factor": 2, "truncate": None}},
        "rope_scaling: truncate is None, expected true or false",
    ),
    "rope dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic"}}, "rope_parameters: factor is missing"),
    "rope dynamic pairs": (
        "llama",
        {"head_dim": 2, "rope_scaling": {"type": "dynamic", "factor": 2}},
        "dynamic rope rotates 2 dimensions",
    ),
    "rope table": ("llama", {"rope_parameters": 3}, "rope_parameters is 3, expected an object"),
    "rope factor": ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling: factor is missing"),
    "rope theta": ("llama", {"rope_theta": 0}, "rope_theta is 0, expected a number from 1 to"),
    "rope order": ("llama", {"rope_scaling": {"type": "llama3", **LLAMA3, "high_freq_factor": 1}}, "high_freq_factor"),
    "rope factors": (
        "llama",
        {"rope_scaling": {"type": "longrope", **LONGROPE, "long_factor": [1, 2]}},
        "long_factor is .*, expected a list of 3 numbers",
    ),
    "rope factor zero": (
        "llama",
        {"rope_scaling": {"type": "longrope", **LONGROPE, "long_factor": [1, 0, 2]}},
        "long_factor: 1 is 0, expected a number from 1e-06 to",
    ),
    "rope original length": (
        "llama",
        {"rope_scaling": {"type": "longrope", **LONGROPE, "original_max_position_embeddings": 1}},
        "original_max_position_embeddings is 1, expected an integer from 2",
    ),
    "rope type number": ("llama", {"rope_scaling": {"type": 0}}, "rope_type is 0, expected one of default"),
    "partial": ("phi3", {"partial_rotary_factor": 3.0}, "partial_rotary_factor is 3.0, expected a number from 0 to 1"),
    "partial odd": ("phi3", {"partial_rotary_factor": 0.6}, "partial_rotary_factor is 0.6, expected .* not 3 of 6"),
    "partial none": ("phi3", {"partial_rotary_factor": 0}, "partial_rotary_factor is 0, expected .* not 0 of 6"),
    "partial odd head": ("phi3", {"head_dim": 7, "partial_rotary_factor": 1}, "partial_rotary_factor is 1, .* 7 of 7"),
    "window": ("mistral", {"sliding_window": 0}, "sliding_window is 0"),
    "layer types": (
        "mistral",
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        "layer_types",
    ),
    "experts": ("mixtral", {"num_experts_per_tok": 9}, "num_experts_per_tok is 9, expected an integer from 1 to 8"),
    "dense layers": ("qwen3_moe", {"mlp_only_layers": 1}, "mlp_only_layers is 1, expected a list of layers"),
    "dense layer": ("qwen3_moe", {"mlp_only_layers": [True]}, "mlp_only_layers is .*, expected a list of layers"),
    "sparse step": ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step is 0, expected an integer from 1"),
    "experts of qwen3_moe": ("qwen3_moe", {"num_experts": 0}, "num_experts is 0, expected an integer from 1"),
    "rope of ministral3": (
        "ministral3",
        {"rope_parameters": {"rope_type": "default", "llama_4_scaling_beta": 0.1}},
        "rope_parameters: rope_type is 'default', expected 'yarn'",
    ),
    "growth of ministral3": (
        "ministral3",
        {"rope_scaling": {"type": "yarn", "factor": 2}},
        "rope_scaling: llama_4_scaling_beta is missing, expected a number",
    ),
    "scale by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
    "scale": ("gpt2", {"scale_attn_weights": 1}, "scale_attn_weights is 1, expected true or false"),
    "sliding layers without a window": (
        "smollm3",
        {"layer_types": ["sliding_attention"] * 3},
        "sliding_window is None, expected the window",
    ),
    "no activation": ("gemma2", {"hidden_activation": None}, "hidden_activation is None, expected one of"),
    "end token": ("llama", {"eos_token_id": [1, "2"]}, "eos_token_id: 1 is '2', expected a token id"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_by_name(lie):
    model_type, values, message = LIES[lie]
    with pytest.raises(ConfigError, match=message) as caught:
        read(model_type, **values)
    assert str(caught.value).startswith("config.json: ")


def in_rope(rope_type, key):
    """A config.json with another value for one key of its rotary positions."""
    llama3 = LLAMA3 | {"low_freq_factor": 0.25}
    settings = {"linear": {"factor": 2}, "llama3": llama3, "longrope": LONGROPE | {"attention_factor": 1}}[rope_type]
    return lambda value: {"rope_parameters": {"rope_theta": 1e4, "rope_type": rope_type, **settings, key: value}}


NUMBERS = [  # the range, a family and a config.json in which a number of this range is chosen
    (EPS, "llama", "rms_norm_eps", lambda value: {"rms_norm_eps": value}),
    (EPS, "bert", "layer_norm_eps", lambda value: {"layer_norm_eps": value}),
    (EPS, "gpt2", "layer_norm_epsilon", lambda value: {"layer_norm_epsilon": value}),
    (EPS, "t5", "layer_norm_epsilon", lambda value: {"layer_norm_epsilon": value}),
    (THETA, "llama", "rope_theta", lambda value: {"rope_theta": value}),
    (THETA, "gemma3_text", "rope_local_base_freq", lambda value: {"rope_local_base_freq": value}),
    (FACTOR, "gemma2", "query_pre_attn_scalar", lambda value: {"query_pre_attn_scalar": value}),
    (FACTOR, "gemma2", "attn_logit_softcapping", lambda value: {"attn_logit_softcapping": value}),
    (FACTOR, "gemma3_text", "final_logit_softcapping", lambda value: {"final_logit_softcapping": value}),
    (FACTOR, "granite", "embedding_multiplier", lambda value: {"embedding_multiplier": value}),
    (FACTOR, "granite", "attention_multiplier", lambda value: {"attention_multiplier": value}),
    (FACTOR, "granite", "residual_multiplier", lambda value: {"residual_multiplier": value}),
    (FACTOR, "granite", "logits_scaling", lambda value: {"logits_scaling": value}),
    (FACTOR, "llama", "rope_parameters: factor", in_rope("linear", "factor")),
    (FACTOR, "llama", "rope_parameters: factor", in_rope("llama3", "factor")),
    (FACTOR, "llama", "rope_parameters: low_freq_factor", in_rope("llama3", "low_freq_factor")),
    (FACTOR, "llama", "rope_parameters: high_freq_factor", in_rope("llama3", "high_freq_factor")),
    (FACTOR, "llama", "rope_parameters: attention_factor", in_rope("longrope", "attention_factor")),
    (
        FACTOR,
        "llama",
        "rope_parameters: short_factor: 0",
        lambda value: in_rope("longrope", "short_factor")([value] * 3),
    ),
    (FACTOR, "llama", "rope_parameters: long_factor: 0", lambda value: in_rope("longrope", "long_factor")([value] * 3)),
]


@pytest.mark.parametrize(("allowed", "model_type", "key", "changed"), NUMBERS, ids=[f"{n[1]} {n[2]}" for n in NUMBERS])
def test_numbers_outside_their_range_are_refused(allowed, model_type, key, changed):
    read(model_type, **changed(0.5 if allowed.low < 0.5 else 2))
    for value in (0, -1.0, 1e-320, allowed.low * (1 - 1e-9), allowed.high * (1 + 1e-9), 1e39, True, "1", [1.0], {}):
        with pytest.raises(ConfigError) as caught:
            read(model_type, **changed(value))
        assert str(caught.value).endswith(f"{key} is {value!r}, expected {allowed}")
        assert str(caught.value).startswith("config.json: ")


@pytest.mark.parametrize(("model_type", "mechanism"), [("deepseek_v3", "multi-head latent"), ("mamba", "state-space")])
def test_a_family_that_needs_another_mechanism_is_refused_with_its_name(model_type, mechanism):
    with pytest.raises(
        ConfigError, match=f"^config.json: model_type '{model_type}' is not supported: it needs {mechanism}"
    ):
        find_family(model_type, "config.json")
    assert not FAMILIES.keys() & MISSING_MECHANISMS.keys()


@pytest.mark.parametrize("model_type", ["parrot", None, 3, ["llama"]])
def test_an_unknown_family_is_refused_with_those_there_are(model_type):
    with pytest.raises(ConfigError, match=r"model_type is .*, expected one of .*, gemma3, .*, llama, .*, t5"):
        find_family(model_type, "config.json")


@pytest.mark.parametrize(
    ("model_type", "change", "message"),
    [
        ("llama", {"windows": (8, 8, 8)}, "windows is .* llama checkpoint can only hold"),
        ("llama", {"logit_softcap": 30.0}, "logit_softcap"),
        ("llama", {"attention_bias": True}, "attention_output_bias"),
        ("mistral", {"windows": (8, None, 8)}, "windows"),
        ("mistral", {"attention_bias": True}, "attention_bias"),
        ("llama", {"ropes": (None, None, None)}, "ropes"),
        ("gpt2", {"num_key_value_heads": 1}, "num_key_value_heads is 1, .* can only hold 3"),
    ],
)
def test_what_a_family_cannot_say_is_refused_when_writing(model_type, change, message):
    config = replace(read(model_type), **change)
    with pytest.raises(ConfigError, match=message):
        FAMILIES[model_type].write_config(config)
