"""OLMo 2: Llama with norms of the sublayer outputs only, and RMS norms over all query heads and all key heads."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.models import DecoderConfig

DEFAULTS = llama.DEFAULTS | {
    "vocab_size": 50304,
    "rms_norm_eps": 1e-5,
    "bos_token_id": None,
    "eos_token_id": 50279,
    "pad_token_id": 1,
}
INPUT_NORMS = ("layers.{i}.attention_norm", "layers.{i}.feed_forward_norm")
NORMS = {
    "layers.{i}.attention.query_norm": "model.layers.{i}.self_attn.q_norm",
    "layers.{i}.attention.key_norm": "model.layers.{i}.self_attn.k_norm",
    "layers.{i}.attention_output_norm": "model.layers.{i}.post_attention_layernorm",
    "layers.{i}.feed_forward_output_norm": "model.layers.{i}.post_feedforward_layernorm",
}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in `llama.FIELDS`."""
    norms = dict.fromkeys(("query_key_norm", "joint_query_key_norm", "sublayer_output_norm"), True)
    return llama.read_ropes(keys) | llama.read_attention_bias(keys) | norms | {"pre_norm": False}


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in `llama.FIELDS`."""
    return llama.write_ropes(config) | {"attention_bias": config.attention_bias}


FAMILY = replace(
    llama.FAMILY,
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    defaults=DEFAULTS,
    tensors={module: name for module, name in llama.FAMILY.tensors.items() if module not in INPUT_NORMS} | NORMS,
    read=read,
    write=write,
)
