"""GPT-2: learned positions, layer norms, biases in all linear layers.

Query, key and value share one tensor; weights are stored as (in, out). Files on the Hub lack the prefix "transformer."
and hold the causal mask as a tensor, which is not read.
"""

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import DecoderConfig

QUERY_KEY_VALUE = ("layers.{i}.attention.query", "layers.{i}.attention.key", "layers.{i}.attention.value")
LINEAR = {
    QUERY_KEY_VALUE: "transformer.h.{i}.attn.c_attn",
    "layers.{i}.attention.output": "transformer.h.{i}.attn.c_proj",
    "layers.{i}.feed_forward.up": "transformer.h.{i}.mlp.c_fc",
    "layers.{i}.feed_forward.down": "transformer.h.{i}.mlp.c_proj",
}
OTHERS = {
    "embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "layers.{i}.attention_norm": "transformer.h.{i}.ln_1",
    "layers.{i}.feed_forward_norm": "transformer.h.{i}.ln_2",
    "norm": "transformer.ln_f",
    "head": "lm_head",
}


def read_intermediate_size(keys: ConfigReader, key: str) -> int:
    """F, 4 * C by default."""
    return keys.optional_count(key) or 4 * keys.count("n_embd")


FIELDS = {
    "vocab_size": ("vocab_size", ConfigReader.count, 50257),
    "max_position_embeddings": ("n_positions", ConfigReader.count, 1024),
    "hidden_size": ("n_embd", ConfigReader.count, 768),
    "num_hidden_layers": ("n_layer", ConfigReader.layers, 12),
    "num_attention_heads": ("n_head", ConfigReader.count, 12),
    "intermediate_size": ("n_inner", read_intermediate_size, None),
    "activation": ("activation_function", ConfigReader.activation, "gelu_new"),
    "norm_eps": ("layer_norm_epsilon", ConfigReader.norm_eps, 1e-5),
    "tie_word_embeddings": ("tie_word_embeddings", ConfigReader.flag, True),
    "bos_token_id": ("bos_token_id", ConfigReader.token, 50256),
    "eos_token_id": ("eos_token_id", ConfigReader.tokens, 50256),
    "pad_token_id": ("pad_token_id", ConfigReader.token, None),
}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in FIELDS."""
    biases = dict.fromkeys(("attention_bias", "attention_output_bias", "feed_forward_bias"), True)
    return biases | {
        "num_key_value_heads": keys.count("n_head"),
        "head_dim": keys.head_dim("n_embd", "n_head"),
        "learned_positions": True,
        "norm": "layer",
        "gated": False,
        "attention_scale": None if keys.flag("scale_attn_weights") else 1.0,
    }


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    return {} if config.attention_scale is None else {"scale_attn_weights": False}


FAMILY = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    tensors=LINEAR | OTHERS,
    fields=FIELDS,
    read=read,
    write=write,
    base="transformer.",
    transposed=frozenset(LINEAR.values()),
    ignored=("*.attn.bias", "*.attn.masked_bias"),
    defaults={"scale_attn_weights": True},
    fixed={
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
)
