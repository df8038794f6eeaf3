"""Llama 1 to 3.2 and SmolLM2, and the parts of this layout that later families share."""

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.checkpoints.families.rope import read_rope, write_rope
from tinyslm.models import DecoderConfig

OUTSIDE = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
}
ATTENTION = {
    "layers.{i}.attention_norm": "model.layers.{i}.input_layernorm",
    "layers.{i}.attention.query": "model.layers.{i}.self_attn.q_proj",
    "layers.{i}.attention.key": "model.layers.{i}.self_attn.k_proj",
    "layers.{i}.attention.value": "model.layers.{i}.self_attn.v_proj",
    "layers.{i}.attention.output": "model.layers.{i}.self_attn.o_proj",
    "layers.{i}.feed_forward_norm": "model.layers.{i}.post_attention_layernorm",
}
FEED_FORWARD = {
    "layers.{i}.feed_forward.gate": "model.layers.{i}.mlp.gate_proj",
    "layers.{i}.feed_forward.up": "model.layers.{i}.mlp.up_proj",
    "layers.{i}.feed_forward.down": "model.layers.{i}.mlp.down_proj",
}
DEFAULTS = {"rope_theta": 10000.0, "attention_bias": False, "mlp_bias": False}


def read_key_value_heads(keys: ConfigReader, key: str) -> int:
    """G, the number of query heads by default."""
    return keys.optional_count(key) or keys.count("num_attention_heads")


def read_head_dim(keys: ConfigReader, key: str = "head_dim") -> int:
    """D, hidden_size / num_attention_heads by default."""
    return keys.optional_count(key) or keys.head_dim("hidden_size", "num_attention_heads")


FIELDS = {
    "vocab_size": ("vocab_size", ConfigReader.count, 32000),
    "hidden_size": ("hidden_size", ConfigReader.count, 4096),
    "intermediate_size": ("intermediate_size", ConfigReader.count, 11008),
    "num_hidden_layers": ("num_hidden_layers", ConfigReader.layers, 32),
    "num_attention_heads": ("num_attention_heads", ConfigReader.count, 32),
    "num_key_value_heads": ("num_key_value_heads", read_key_value_heads, None),
    "head_dim": ("head_dim", read_head_dim, None),
    "max_position_embeddings": ("max_position_embeddings", ConfigReader.count, 2048),
    "norm_eps": ("rms_norm_eps", ConfigReader.norm_eps, 1e-6),
    "activation": ("hidden_act", ConfigReader.activation, "silu"),
    "tie_word_embeddings": ("tie_word_embeddings", ConfigReader.flag, False),
    "bos_token_id": ("bos_token_id", ConfigReader.token, 1),
    "eos_token_id": ("eos_token_id", ConfigReader.tokens, 2),
    "pad_token_id": ("pad_token_id", ConfigReader.token, None),
}


def read_ropes(keys: ConfigReader, partial: bool = False) -> dict:
    """One rotation for all layers. partial: as of `read_rope`."""
    return {"ropes": (read_rope(keys, read_head_dim(keys), partial),) * keys.layers("num_hidden_layers")}


def write_ropes(config: DecoderConfig, partial: bool = False) -> dict:
    """The rotation of the layers that have one. partial: whether the fraction of a head is written even if it is 1."""
    rope = next(filter(None, config.ropes), None)
    fraction = {"partial_rotary_factor": 1.0} if partial else {}
    return {"rope_parameters": rope and fraction | write_rope(rope, config.head_dim)}


def read_attention_bias(keys: ConfigReader) -> dict:
    """The biases of all four attention projections have one key."""
    return dict.fromkeys(("attention_bias", "attention_output_bias"), keys.flag("attention_bias"))


def read_biases(keys: ConfigReader) -> dict:
    """One key for the attention biases and one for the feed-forward biases."""
    return read_attention_bias(keys) | {"feed_forward_bias": keys.flag("mlp_bias")}


def write_biases(config: DecoderConfig) -> dict:
    """The keys of `read_biases`."""
    return {"attention_bias": config.attention_bias, "mlp_bias": config.feed_forward_bias}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in FIELDS."""
    return read_ropes(keys) | read_biases(keys)


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    return write_ropes(config) | write_biases(config)


FAMILY = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    defaults=DEFAULTS,
    tensors=OUTSIDE | ATTENTION | FEED_FORWARD,
    fields=FIELDS,
    read=read,
    write=write,
    base="model.",
    ignored=("*.rotary_emb.inv_freq",),
)
