"""Phi-1, Phi-1.5 and Phi-2: parallel blocks with one layer norm, partial rotary positions, biases in all layers."""

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import DecoderConfig

DEFAULTS = {
    "vocab_size": 51200,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "hidden_act": "gelu_new",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
    "qk_layernorm": False,
}
FIELDS = llama.FIELDS | {"norm_eps": ("layer_norm_eps", ConfigReader.norm_eps, 1e-5)}
TENSORS = {
    "embedding": "model.embed_tokens",
    "layers.{i}.attention_norm": "model.layers.{i}.input_layernorm",
    "layers.{i}.attention.query": "model.layers.{i}.self_attn.q_proj",
    "layers.{i}.attention.key": "model.layers.{i}.self_attn.k_proj",
    "layers.{i}.attention.value": "model.layers.{i}.self_attn.v_proj",
    "layers.{i}.attention.query_norm": "model.layers.{i}.self_attn.q_layernorm",
    "layers.{i}.attention.key_norm": "model.layers.{i}.self_attn.k_layernorm",
    "layers.{i}.attention.output": "model.layers.{i}.self_attn.dense",
    "layers.{i}.feed_forward.up": "model.layers.{i}.mlp.fc1",
    "layers.{i}.feed_forward.down": "model.layers.{i}.mlp.fc2",
    "norm": "model.final_layernorm",
    "head": "lm_head",
}
ALWAYS = (
    *("parallel_blocks", "shared_norm", "head_bias"),
    *("attention_bias", "attention_output_bias", "feed_forward_bias"),
)


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in FIELDS."""
    norms = {"norm": "layer", "query_key_norm": keys.flag("qk_layernorm")}
    return llama.read_ropes(keys, partial=True) | dict.fromkeys(ALWAYS, True) | norms | {"gated": False}


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    return llama.write_ropes(config, partial=True) | {"qk_layernorm": config.query_key_norm}


FAMILY = Family(
    model_type="phi",
    architecture="PhiForCausalLM",
    defaults=DEFAULTS,
    tensors=TENSORS,
    fields=FIELDS,
    read=read,
    write=write,
    base="model.",
    ignored=("*.rotary_emb.inv_freq",),
    fixed={"tie_word_embeddings": False},  # a tied head has no bias here
)
