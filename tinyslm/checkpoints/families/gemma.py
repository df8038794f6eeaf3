"""Gemma: Llama with norm gains stored as w - 1, embeddings scaled by sqrt(C), and GELU in its tanh form.

The key "hidden_activation" has priority over "hidden_act". The first files have only "hidden_act", with the value
"gelu", and mean the tanh form.
"""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.models import DecoderConfig

DEFAULTS = llama.DEFAULTS | {
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def read_activation(keys: ConfigReader, key: str) -> str:
    """The activation, under "hidden_activation" or `key`. "gelu" under "hidden_act" means its tanh form."""
    if key == "hidden_activation" or keys.get("hidden_activation") is not None:
        return keys.activation("hidden_activation")
    activation = keys.activation(key)
    return "gelu_pytorch_tanh" if activation == "gelu" else activation


FIELDS = llama.FIELDS | {"activation": ("hidden_act", read_activation, "gelu_pytorch_tanh")}


def read_shared(keys: ConfigReader) -> dict:
    """The fields that are not in FIELDS and that all generations of Gemma have."""
    if keys.get("use_bidirectional_attention"):
        keys.refuse("use_bidirectional_attention", "false (nothing else is supported)")
    scale = keys.count("hidden_size") ** 0.5
    return llama.read_attention_bias(keys) | {"norm_offset": 1.0, "embedding_scale": scale}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in FIELDS."""
    return llama.read_ropes(keys) | read_shared(keys)


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    exact = {"hidden_activation": "gelu"} if config.activation == "gelu" else {}
    return llama.write_ropes(config) | {"attention_bias": config.attention_bias} | exact


FAMILY = replace(
    llama.FAMILY,
    model_type="gemma",
    architecture="GemmaForCausalLM",
    defaults=DEFAULTS,
    fields=FIELDS,
    read=read,
    write=write,
)
