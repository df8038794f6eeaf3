"""GPT-NeoX and Pythia: parallel blocks with two layer norms, partial rotary positions, biases in all linear layers.

One tensor holds the rows of query, key and value of the first head, then those of the second head, and so on.
"use_parallel_residual": false means blocks in which the feed-forward layer follows the attention.
"""

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import DecoderConfig

QUERY_KEY_VALUE = ("layers.{i}.attention.query", "layers.{i}.attention.key", "layers.{i}.attention.value")
FUSED = "gpt_neox.layers.{i}.attention.query_key_value"
TENSORS = {
    "embedding": "gpt_neox.embed_in",
    "layers.{i}.attention_norm": "gpt_neox.layers.{i}.input_layernorm",
    QUERY_KEY_VALUE: FUSED,
    "layers.{i}.attention.output": "gpt_neox.layers.{i}.attention.dense",
    "layers.{i}.feed_forward_norm": "gpt_neox.layers.{i}.post_attention_layernorm",
    "layers.{i}.feed_forward.up": "gpt_neox.layers.{i}.mlp.dense_h_to_4h",
    "layers.{i}.feed_forward.down": "gpt_neox.layers.{i}.mlp.dense_4h_to_h",
    "norm": "gpt_neox.final_layer_norm",
    "head": "embed_out",
}
FIELDS = {
    "vocab_size": ("vocab_size", ConfigReader.count, 50432),
    "hidden_size": ("hidden_size", ConfigReader.count, 6144),
    "intermediate_size": ("intermediate_size", ConfigReader.count, 24576),
    "num_hidden_layers": ("num_hidden_layers", ConfigReader.layers, 44),
    "num_attention_heads": ("num_attention_heads", ConfigReader.count, 64),
    "max_position_embeddings": ("max_position_embeddings", ConfigReader.count, 2048),
    "norm_eps": ("layer_norm_eps", ConfigReader.norm_eps, 1e-5),
    "activation": ("hidden_act", ConfigReader.activation, "gelu"),
    "parallel_blocks": ("use_parallel_residual", ConfigReader.flag, True),
    "tie_word_embeddings": ("tie_word_embeddings", ConfigReader.flag, False),
    "bos_token_id": ("bos_token_id", ConfigReader.token, 0),
    "eos_token_id": ("eos_token_id", ConfigReader.tokens, 2),
    "pad_token_id": ("pad_token_id", ConfigReader.token, None),
}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in FIELDS."""
    head_dim = keys.head_dim("hidden_size", "num_attention_heads")
    rotation = {"rope_theta": keys.theta("rotary_emb_base"), "partial_rotary_factor": keys.fraction("rotary_pct")}
    ropes = llama.read_ropes(keys.with_values(head_dim=head_dim, **rotation), partial=True)
    others = {"norm": "layer", "gated": False, "feed_forward_bias": True}
    heads = {"num_key_value_heads": keys.count("num_attention_heads"), "head_dim": head_dim}
    return ropes | llama.read_attention_bias(keys) | heads | others


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    return llama.write_ropes(config, partial=True) | {"attention_bias": config.attention_bias}


FAMILY = Family(
    model_type="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    defaults={"rotary_emb_base": 10000, "rotary_pct": 0.25, "attention_bias": True},
    tensors=TENSORS,
    fields=FIELDS,
    read=read,
    write=write,
    base="gpt_neox.",
    by_head=frozenset({FUSED}),
    copies={"lm_head.weight": "embed_out.weight"},
    ignored=("*.attention.bias", "*.attention.masked_bias", "*.rotary_emb.inv_freq"),
)
