"""Phi-3 and Phi-4-mini: Llama with fused query, key and value and fused gate and up; longrope in the 128k models.

The first 128k files call longrope "su"; in this family "yarn" means longrope, too.
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
AS_LLAMA = {module: name for module, name in llama.FAMILY.tensors.items() if module not in QUERY_KEY_VALUE + GATE_UP}
OLD_NAMES = ("su", "yarn")


def _with_current_rope_type(keys, table_key):
    table = keys.table(table_key)
    if table is None:
        return keys
    names = {key: "longrope" for key in ("type", "rope_type") if table.get(key) in OLD_NAMES}
    return keys.having(**{table_key: table.values | names})


def read(keys: ConfigReader) -> dict:
    """Fields of DecoderConfig outside the table of Llama."""
    for table_key in ("rope_parameters", "rope_scaling"):
        keys = _with_current_rope_type(keys, table_key)
    return llama.read_ropes(keys) | read_uniform_window(keys)


def write(config: DecoderConfig) -> dict:
    """Keys of config.json outside the table of Llama."""
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
    tensors=AS_LLAMA | FUSED,
    read=read,
    write=write,
)
