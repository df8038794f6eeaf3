"""Small models of each family, and ways of damaging their checkpoints, for the tests of this directory."""

import json

import numpy as np

from tests.strategies import generic_model
from tinyslm.checkpoints import read_safetensors, write_safetensors
from tinyslm.checkpoints.families import FAMILIES
from tinyslm.tree import named_arrays

SMALL = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
SMALL_GPT2 = {"vocab_size": 50, "n_embd": 24, "n_head": 3, "n_layer": 2, "n_positions": 64}
LONGROPE = {
    "rope_type": "longrope",
    "partial_rotary_factor": 0.6,
    "short_factor": [1.0, 1.1, 1.2],
    "long_factor": [1, 2, 3],
    "original_max_position_embeddings": 6,
}
CHOICES = {  # where a family can choose, what the others cannot
    "gemma": {"head_dim": 10, "attention_bias": True},
    "gemma2": {"head_dim": 10, "attention_bias": True, "sliding_window": 4, "query_pre_attn_scalar": 20},
    "gemma3_text": {"head_dim": 10, "sliding_window": 4, "sliding_window_pattern": 2, "final_logit_softcapping": 3.0},
    "gpt2": {},
    "gpt_neox": {"rotary_pct": 0.34},
    "granite": {
        "embedding_multiplier": 1.7,
        "attention_multiplier": 0.3,
        "residual_multiplier": 0.6,
        "logits_scaling": 1.5,
        "mlp_bias": True,
    },
    "llama": {"attention_bias": True, "mlp_bias": True},
    "ministral": {"head_dim": 10, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
    "mistral": {"sliding_window": 4},
    "mixtral": {"num_local_experts": 3},
    "olmo2": {"head_dim": 10},
    "phi": {"partial_rotary_factor": 0.67, "qk_layernorm": True},
    "phi3": {"hidden_size": 40, "rope_parameters": LONGROPE, "original_max_position_embeddings": 6},
    "qwen3": {"head_dim": 10, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3_moe": {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "mlp_only_layers": [1]},
    "smollm3": {"attention_bias": True, "mlp_bias": True, "no_rope_layers": [0, 1]},
    "stablelm": {"partial_rotary_factor": 0.67, "use_qkv_bias": True},
}
FAMILY_NAMES = tuple(CHOICES)
T5 = {"d_model": 24, "d_kv": 10, "d_ff": 40, "num_layers": 2, "num_heads": 3, "relative_attention_num_buckets": 8}
CHOICES |= {  # those that are not decoders
    "bert": {"type_vocab_size": 3},
    "distilbert": {"dim": 24, "hidden_dim": 40, "n_layers": 2, "n_heads": 4},
    "modernbert": {
        "local_attention": 4,
        "layer_types": ["full_attention", "sliding_attention"],
        "attention_bias": True,
    },
    "t5": T5 | {"feed_forward_proj": "gated-gelu", "relative_attention_max_distance": 16},
}
ALL_FAMILIES = tuple(family for family in CHOICES if family not in ("gpt_neox", "stablelm"))  # see below
UNTIED_FAMILIES = ("phi",)  # whose head has a bias
CHOICES |= {  # those whose computations others have too
    "ministral3": {"head_dim": 10, "sliding_window": 4},
    "camembert": {},
    "mpnet": {},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 3},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
}


def read(model_type, **values):
    """The config of a small model of a family, from its config.json with these keys changed."""
    small = SMALL_GPT2 if model_type == "gpt2" else SMALL
    return FAMILIES[model_type].read_config(small | values, "config.json")


def small_model(family, seed=0, **values):
    """A model of two layers in generic position, with what its family can choose."""
    if family in UNTIED_FAMILIES:
        values["tie_word_embeddings"] = False
    config = read(family, **{"num_hidden_layers": 2, "pad_token_id": 0} | CHOICES[family] | values)
    return generic_model(config, seed, np.float32)


def assert_same_model(found, wanted):
    """The same configuration, kinds of modules, and arrays bit for bit."""
    assert found.config == wanted.config
    assert repr(found) == repr(wanted)
    arrays, expected = named_arrays(found), named_arrays(wanted)
    assert list(arrays) == list(expected)
    for path, array in arrays.items():
        assert (array.dtype, array.shape) == (expected[path].dtype, expected[path].shape), path
        assert array.tobytes() == expected[path].tobytes(), path
        assert array.flags.writeable and array.flags.c_contiguous and type(array) is np.ndarray, path


def change_config(directory, **changes):
    """Change keys of a config.json; None removes the key."""
    path = directory / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def change_tensors(directory, changes):
    """Change tensors of a checkpoint: {name: array}; None removes the tensor."""
    path = directory / "model.safetensors"
    arrays = {name: tensor.read() for name, tensor in read_safetensors(path).items()} | changes
    write_safetensors(path, {name: array for name, array in arrays.items() if array is not None})
