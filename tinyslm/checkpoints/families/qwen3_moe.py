"""Qwen3-MoE: Qwen3 with a mixture of experts in place of the feed-forward layer in all or some layers.

A layer has one feed-forward layer of "intermediate_size" if "mlp_only_layers" names it, or if its number, counted from
1, is not a multiple of "decoder_sparse_step". The experts have "moe_intermediate_size".
"""

from dataclasses import replace

from tinyslm.checkpoints.families import llama, mixtral, qwen2, qwen3
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import read_uniform_window
from tinyslm.models import DecoderConfig

DEFAULTS = qwen2.DEFAULTS | {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 24,
    "num_key_value_heads": 4,
    "decoder_sparse_step": 1,
    "mlp_only_layers": None,
}
EXPERTS = {
    "layers.{i}.feed_forward.router": "model.layers.{i}.mlp.gate",
    "layers.{i}.feed_forward.experts.{e}.gate": "model.layers.{i}.mlp.experts.{e}.gate_proj",
    "layers.{i}.feed_forward.experts.{e}.up": "model.layers.{i}.mlp.experts.{e}.up_proj",
    "layers.{i}.feed_forward.experts.{e}.down": "model.layers.{i}.mlp.experts.{e}.down_proj",
}


def read_experts(keys: ConfigReader, key: str) -> int:
    """E, under `key` or, in files that transformers 5 wrote, "num_local_experts"."""
    return mixtral.read_experts(keys, key if keys.get("num_local_experts") is None else "num_local_experts")


def read_experts_per_token(keys: ConfigReader, key: str) -> int:
    """The number of experts that compute each token, at most E."""
    return keys.count(key, read_experts(keys, "num_experts"))


FIELDS = llama.FIELDS | {
    "num_experts": ("num_experts", read_experts, 128),
    "experts_per_token": ("num_experts_per_tok", read_experts_per_token, 8),
    "expert_intermediate_size": ("moe_intermediate_size", ConfigReader.count, 768),
    "normalized_routing": ("norm_topk_prob", ConfigReader.flag, False),
}


def read_dense_layers(keys: ConfigReader) -> dict:
    """Dense layers: for each layer, whether it has one feed-forward layer in place of a mixture."""
    layers, step = keys.layers("num_hidden_layers"), keys.count("decoder_sparse_step")
    named = [] if keys.get("mlp_only_layers") is None else keys.get("mlp_only_layers")
    if not isinstance(named, list) or any(type(layer) is not int for layer in named):
        keys.refuse("mlp_only_layers", "a list of layers")
    return {"dense_layers": tuple(layer in named or (layer + 1) % step != 0 for layer in range(layers))}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in FIELDS."""
    windows = read_uniform_window(keys) if keys.flag("use_sliding_window") else {}
    choices = windows | read_dense_layers(keys) | {"query_key_norm": True}
    return llama.read_ropes(keys) | llama.read_attention_bias(keys) | choices


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    window = config.windows[0]
    return llama.write_ropes(config) | {
        "attention_bias": config.attention_bias,
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [layer for layer, dense in enumerate(config.dense_layers) if dense],
    }


FAMILY = replace(
    llama.FAMILY,
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    defaults=DEFAULTS,
    tensors=qwen3.FAMILY.tensors | EXPERTS,
    fields=FIELDS,
    read=read,
    write=write,
)
