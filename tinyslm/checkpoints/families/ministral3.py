"""Ministral 3: Mistral with yarn, and queries that grow with their position (`query_scales`).

Its published checkpoints also read images: their model_type is "mistral3", and this is the language model in them.
"""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import read_uniform_window
from tinyslm.checkpoints.families.rope import read_rope, write_rope
from tinyslm.models import DecoderConfig
from tinyslm.models.config_checks import ROPE_RANGES

DEFAULTS = llama.DEFAULTS | {
    "vocab_size": 131072,
    "intermediate_size": 14336,
    "num_hidden_layers": 34,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262144,
    "rms_norm_eps": 1e-5,
    "sliding_window": None,
    "pad_token_id": 11,
}
DEFAULT_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in `llama.FIELDS`."""
    table = "rope_parameters" if keys.get("rope_parameters") is not None else "rope_scaling"
    if keys.get(table) is None:
        keys = keys.with_values(**{table: DEFAULT_ROPE})
    rope = read_rope(keys, llama.read_head_dim(keys))
    if rope.scaling != "yarn":
        keys.table(table).refuse("rope_type", "'yarn' (nothing else is supported)")
    beta = keys.table(table).in_range("llama_4_scaling_beta", ROPE_RANGES["query_scale_beta"])
    ropes = (replace(rope, query_scale_beta=beta),) * keys.layers("num_hidden_layers")
    return {"ropes": ropes} | read_uniform_window(keys)


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in `llama.FIELDS`."""
    rope, parameters = config.ropes[0], None
    if rope is not None:
        parameters = write_rope(rope, config.head_dim) | {"llama_4_scaling_beta": rope.query_scale_beta}
    return {"rope_parameters": parameters, "sliding_window": config.windows[0]}


FAMILY = replace(
    llama.FAMILY,
    model_type="ministral3",
    architecture="Ministral3ForCausalLM",
    defaults=DEFAULTS,
    read=read,
    write=write,
)
