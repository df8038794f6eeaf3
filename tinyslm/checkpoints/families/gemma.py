"""Gemma: Llama with gains stored as w - 1, embeddings times sqrt(hidden_size), and the tanh form of GELU.

Its first files name the activation "gelu", which still means the tanh form.
"""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.models import DecoderConfig
from tinyslm.ops import ACTIVATIONS

DEFAULTS = llama.DEFAULTS | {
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def read_like_gemma(keys: ConfigReader, activation_key: str) -> dict:
    """The fields that all generations of Gemma share, which name their activation by different keys."""
    if keys.get("use_bidirectional_attention"):
        keys.refuse("use_bidirectional_attention", "false (nothing else is supported)")
    activation = keys.choice(activation_key, ACTIVATIONS)
    common = llama.read_common(keys.having(hidden_act="gelu_pytorch_tanh" if activation == "gelu" else activation))
    scale = common["hidden_size"] ** 0.5
    return common | llama.read_attention_bias(keys) | {"norm_offset": 1.0, "embedding_scale": scale}


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of DecoderConfig."""
    return read_like_gemma(keys, "hidden_activation" if keys.get("hidden_activation") else "hidden_act")


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    return llama.write_common(config) | {"attention_bias": config.attention_bias}


FAMILY = replace(
    llama.FAMILY,
    model_type="gemma",
    architecture="GemmaForCausalLM",
    defaults=DEFAULTS,
    read=read,
    write=write,
)
