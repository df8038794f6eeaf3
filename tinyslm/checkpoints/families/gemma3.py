"""Gemma 3, text: Gemma 2 without the cap on scores, with norms on query and key heads, and two rotary bases.

Every sixth layer sees everything and turns slowly (theta 1e6); the others see a window and turn as Gemma did. Models
that read pictures as well (model_type "gemma3") are not supported.
"""

from dataclasses import replace

from tinyslm.checkpoints.families import gemma2, qwen3
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_windows, write_windows
from tinyslm.checkpoints.families.rope import read_rope, write_rope
from tinyslm.models import DecoderConfig

DEFAULTS = gemma2.DEFAULTS | {
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "sliding_window_pattern": 6,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,  # given or not: transformers does not apply it
}


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of DecoderConfig."""
    common = gemma2.read_with_branch_norms(keys.having(rope_parameters=None, rope_scaling=None))
    pattern = keys.count("sliding_window_pattern")
    windows = read_windows(keys, common["num_hidden_layers"], lambda layer: SLIDING if (layer + 1) % pattern else FULL)
    full, sliding = _read_ropes(keys, common["head_dim"])
    return common | {
        "query_key_norm": True,
        "windows": windows,
        "ropes": tuple(full if window is None else sliding for window in windows),
    }


def _read_ropes(keys, head_dim):
    """The rotation of full and of sliding layers: a table for each, before that one table and two keys at the top."""
    tables = keys.table("rope_parameters") or ConfigReader({FULL: keys.get("rope_scaling")}, {}, keys.where)
    full = keys.having(rope_parameters=tables.get(FULL))
    sliding = keys.having(
        rope_parameters=tables.get(SLIDING), rope_scaling=None, rope_theta=keys.get("rope_local_base_freq")
    )
    return read_rope(full, head_dim), read_rope(sliding, head_dim)


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    ropes = {
        FULL if window is None else SLIDING: rope for window, rope in zip(config.windows, config.ropes, strict=True)
    }
    return (
        gemma2.write_with_branch_norms(config)
        | write_windows(config)
        | {"rope_parameters": {kind: rope and write_rope(rope, config.head_dim) for kind, rope in ropes.items()}}
    )


FAMILY = replace(
    gemma2.FAMILY,
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    defaults=DEFAULTS,
    tensors=gemma2.FAMILY.tensors | qwen3.HEAD_NORMS,
    read=read,
    write=write,
)
