"""Phi-3 and Phi-4-mini: Llama with fused query-key-value and gate-up projections; longrope in the 128k models.

The config.json of early 128k models has the rope type "su" for longrope. In this family "yarn" also means longrope.
"""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import read_uniform_window
from tinyslm.models import DecoderConfig

DEFAULTS = llama.DEFAULTS | {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 32000,
    "pad_token_id": 32000,
    "sliding_window": None,
}
QUERY_KEY_VALUE = tuple(f"layers.{{i}}.attention.{each}" for each in ("query", "key", "value"))
GATE_UP = ("layers.{i}.feed_forward.gate", "layers.{i}.feed_forward.up")
FUSED = {
    QUERY_KEY_VALUE: "model.layers.{i}.self_attn.qkv_proj",
    GATE_UP: "model.layers.{i}.mlp.gate_up_proj",
}
NOT_FUSED = {module: name for module, name in llama.FAMILY.tensors.items() if module not in QUERY_KEY_VALUE + GATE_UP}
LONGROPE_NAMES = ("su", "yarn")


def _with_current_rope_type(keys, table_key):
    """The keys with the rope type "longrope" in place of its former names in the object `table_key`."""
    table = keys.table(table_key)
    if table is None:
        return keys
    names = {key: "longrope" for key in ("type", "rope_type") if table.get(key) in LONGROPE_NAMES}
    return keys.with_values(**{table_key: table.values | names})


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in `llama.FIELDS`."""
    for table_key in ("rope_parameters", "rope_scaling"):
        keys = _with_current_rope_type(keys, table_key)
    return llama.read_ropes(keys, partial=True) | read_uniform_window(keys)


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in `llama.FIELDS`."""
    rope = next(filter(None, config.ropes), None)
    return llama.write_ropes(config) | {
        "sliding_window": config.windows[0],
        "original_max_position_embeddings": (rope and rope.original_length) or config.max_position_embeddings,
    }


FAMILY = replace(
    llama.FAMILY,
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    defaults=DEFAULTS,
    tensors=NOT_FUSED | FUSED,
    read=read,
    write=write,
)
