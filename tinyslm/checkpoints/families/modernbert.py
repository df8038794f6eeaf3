"""ModernBERT: pre-norm encoder with rotary positions, gated feed-forward layers, and local attention in most layers.

"local_attention" is the number of tokens in a window, half of them on each side; the token itself is one more. Query,
key and value share one tensor, and so do gate and up. Layers with full and with local attention have different rotary
bases. Old files name the layers with full attention by "global_attn_every_n_layers".
"""

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.checkpoints.families.layer_types import FULL, SLIDING, read_windows
from tinyslm.checkpoints.families.phi3 import GATE_UP, QUERY_KEY_VALUE
from tinyslm.checkpoints.families.rope import read_rope, write_rope
from tinyslm.models import EncoderConfig
from tinyslm.ops import Rope

TENSORS = {
    "embedding": "model.embeddings.tok_embeddings",
    "embedding_norm": "model.embeddings.norm",
    "layers.{i}.attention_norm": "model.layers.{i}.attn_norm",
    QUERY_KEY_VALUE: "model.layers.{i}.attn.Wqkv",
    "layers.{i}.attention.output": "model.layers.{i}.attn.Wo",
    "layers.{i}.feed_forward_norm": "model.layers.{i}.mlp_norm",
    GATE_UP: "model.layers.{i}.mlp.Wi",
    "layers.{i}.feed_forward.down": "model.layers.{i}.mlp.Wo",
    "norm": "model.final_norm",
    "masked_lm_head.transform": "head.dense",
    "masked_lm_head.norm": "head.norm",
    "masked_lm_head": "decoder",
    "head": "decoder",
}
BASES = {FULL: "global_rope_theta", SLIDING: "local_rope_theta"}  # keys of old files
DEFAULTS = {
    "layer_types": None,
    "global_attn_every_n_layers": 3,
    "local_attention": 128,
    BASES[FULL]: 160_000.0,
    BASES[SLIDING]: 10_000.0,
}


FIELDS = {
    "vocab_size": ("vocab_size", ConfigReader.count, 50368),
    "hidden_size": ("hidden_size", ConfigReader.count, 768),
    "intermediate_size": ("intermediate_size", ConfigReader.count, 1152),
    "num_hidden_layers": ("num_hidden_layers", ConfigReader.layers, 22),
    "num_attention_heads": ("num_attention_heads", ConfigReader.count, 12),
    "max_position_embeddings": ("max_position_embeddings", ConfigReader.count, 8192),
    "norm_eps": ("norm_eps", ConfigReader.norm_eps, 1e-5),
    "norm_bias": ("norm_bias", ConfigReader.flag, False),
    "activation": ("hidden_activation", ConfigReader.activation, "gelu"),
    "attention_bias": ("attention_bias", ConfigReader.flag, False),
    "feed_forward_bias": ("mlp_bias", ConfigReader.flag, False),
    "transform_activation": ("classifier_activation", ConfigReader.activation, "gelu"),
    "transform_bias": ("classifier_bias", ConfigReader.flag, False),
    "decoder_bias": ("decoder_bias", ConfigReader.flag, True),
    "tie_word_embeddings": ("tie_word_embeddings", ConfigReader.flag, True),
    "pad_token_id": ("pad_token_id", ConfigReader.token, 50283),
}


def read(keys: ConfigReader) -> dict:
    """The fields of EncoderConfig that are not in FIELDS."""
    head_dim = keys.head_dim("hidden_size", "num_attention_heads")
    interval = keys.count("global_attn_every_n_layers")
    local = keys.with_values(sliding_window=keys.count("local_attention") // 2 + 1)
    windows = read_windows(local, lambda layer: SLIDING if layer % interval else FULL)["windows"]
    ropes = {kind: _read_rope(keys, kind, head_dim) for kind in BASES}
    return {
        "head_dim": head_dim,
        "learned_positions": False,
        "windows": windows,
        "ropes": tuple(ropes[_kind(window)] for window in windows),
        "pre_norm": True,
        "gated": True,
    }


def _kind(window):
    return FULL if window is None else SLIDING


def _read_rope(keys, kind, head_dim) -> Rope:
    """The rotation of one kind of layers."""
    tables = keys.table("rope_parameters")
    table = None if tables is None else tables.get(kind)
    return read_rope(keys.with_values(rope_parameters=table, rope_theta=keys.get(BASES[kind])), head_dim)


def write(config: EncoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    kinds = [_kind(window) for window in config.windows]
    ropes = {kind: rope and write_rope(rope, config.head_dim) for kind, rope in zip(kinds, config.ropes, strict=True)}
    window = next(filter(None, config.windows), None)
    local = {} if window is None else {"local_attention": max(2 * (window - 1), 1)}
    return {"layer_types": kinds, "rope_parameters": ropes} | local


FAMILY = Family(
    model_type="modernbert",
    architecture="ModernBertForMaskedLM",
    headless_architecture="ModernBertModel",
    tensors=TENSORS,
    fields=FIELDS,
    read=read,
    write=write,
    defaults=DEFAULTS,
    base="model.",
    config=EncoderConfig,
    optional={"masked_head": ("head.", "masked_lm_head.")},
    shared_head="head.",
)
