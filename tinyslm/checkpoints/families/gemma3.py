"""Gemma 3, text: Gemma 2 without soft-capped scores, with QK norm and two rotary bases.

Every sixth layer has full attention and rotary base 1e6; the others have a sliding window and rotary base 1e4. Models
with image input (model_type "gemma3") are not supported.
"""

from dataclasses import replace

from tinyslm.checkpoints.families import gemma2, llama, qwen3
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_windows
from tinyslm.checkpoints.families.rope import read_rope, write_rope
from tinyslm.models import DecoderConfig

DEFAULTS = gemma2.DEFAULTS | {
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "sliding_window_pattern": 6,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,  # transformers ignores this key
}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in `gemma2.FIELDS`."""
    pattern = keys.count("sliding_window_pattern")
    windows = read_windows(keys, lambda layer: SLIDING if (layer + 1) % pattern else FULL)
    full, sliding = _read_ropes(keys, llama.read_head_dim(keys))
    ropes = tuple(full if window is None else sliding for window in windows["windows"])
    return gemma2.read_shared(keys) | windows | {"query_key_norm": True, "ropes": ropes}


def _read_ropes(keys, head_dim):
    """The rotations of full and sliding layers. Current files have a table for each; old ones have top-level keys."""
    tables = keys.table("rope_parameters") or ConfigReader({FULL: keys.get("rope_scaling")}, {}, keys.where)
    full = keys.with_values(rope_parameters=tables.get(FULL))
    local_base = keys.theta("rope_local_base_freq") if tables.get(SLIDING) is None else keys.get("rope_local_base_freq")
    sliding = keys.with_values(rope_parameters=tables.get(SLIDING), rope_scaling=None, rope_theta=local_base)
    return read_rope(full, head_dim), read_rope(sliding, head_dim)


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in `gemma2.FIELDS`."""
    ropes = {
        FULL if window is None else SLIDING: rope for window, rope in zip(config.windows, config.ropes, strict=True)
    }
    parameters = {kind: rope and write_rope(rope, config.head_dim) for kind, rope in ropes.items()}
    return gemma2.write_shared(config) | {"rope_parameters": parameters}


FAMILY = replace(
    gemma2.FAMILY,
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    defaults=DEFAULTS,
    tensors=gemma2.FAMILY.tensors | qwen3.HEAD_NORMS,
    read=read,
    write=write,
)
