"""Llama, and the parts of its layout that most later families share. Llama 1-3.2, SmolLM2."""

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.checkpoints.families.rope import read_rope, write_rope
from tinyslm.models import DecoderConfig
from tinyslm.ops import ACTIVATIONS

MOST_LAYERS = 10_000

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
DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


def read_heads(keys: ConfigReader) -> dict:
    """The sizes of attention; a missing head_dim means that the heads share hidden_size evenly."""
    heads = keys.count("num_attention_heads")
    if keys.get("head_dim") is None and keys.count("hidden_size") % heads:
        keys.refuse("hidden_size", f"a multiple of num_attention_heads, which is {heads}")
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": keys.optional_count("num_key_value_heads") or heads,
        "head_dim": keys.optional_count("head_dim") or keys.count("hidden_size") // heads,
    }


def read_common(keys: ConfigReader) -> dict:
    """The fields that have the same keys in every family like Llama."""
    heads = read_heads(keys)
    layers = keys.count("num_hidden_layers", MOST_LAYERS)
    return heads | {
        "vocab_size": keys.count("vocab_size"),
        "hidden_size": keys.count("hidden_size"),
        "intermediate_size": keys.count("intermediate_size"),
        "num_hidden_layers": layers,
        "max_position_embeddings": keys.count("max_position_embeddings"),
        "ropes": (read_rope(keys, heads["head_dim"]),) * layers,
        "norm_eps": keys.number("rms_norm_eps", positive=False),
        "activation": keys.choice("hidden_act", ACTIVATIONS),
        "tie_word_embeddings": keys.flag("tie_word_embeddings"),
        "bos_token_id": keys.token("bos_token_id"),
        "eos_token_id": keys.tokens("eos_token_id"),
        "pad_token_id": keys.token("pad_token_id"),
    }


def write_common(config: DecoderConfig) -> dict:
    """The reverse of `read_common`."""
    eos, rope = config.eos_token_id, next(filter(None, config.ropes), None)
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rope_parameters": write_rope(rope, config.head_dim) if rope else None,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": config.activation,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(eos) if isinstance(eos, tuple) else eos,
        "pad_token_id": config.pad_token_id,
    }


def read_attention_bias(keys: ConfigReader) -> dict:
    """One key for all four projections of attention."""
    return dict.fromkeys(("attention_bias", "attention_output_bias"), keys.flag("attention_bias"))


def read_biases(keys: ConfigReader) -> dict:
    """One key for attention, and one for the feed-forward layer."""
    return read_attention_bias(keys) | {"feed_forward_bias": keys.flag("mlp_bias")}


def write_biases(config: DecoderConfig) -> dict:
    """The reverse."""
    return {"attention_bias": config.attention_bias, "mlp_bias": config.feed_forward_bias}


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of DecoderConfig."""
    return read_common(keys) | read_biases(keys)


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    return write_common(config) | write_biases(config)


FAMILY = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    defaults=DEFAULTS,
    tensors=OUTSIDE | ATTENTION | FEED_FORWARD,
    read=read,
    write=write,
    base="model.",
    ignored=("*.rotary_emb.inv_freq",),
)
