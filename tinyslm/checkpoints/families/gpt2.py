"""GPT-2: learned positions, layer norms, biases everywhere; query, key and value in one tensor; weights as (in, out).

Files on the Hub lack the prefix "transformer." and hold the causal mask as a tensor.
"""

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import DecoderConfig
from tinyslm.ops import ACTIVATIONS

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
DEFAULTS = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "pad_token_id": None,
}
BIASES = {"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True}


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of DecoderConfig."""
    width, heads = keys.count("n_embd"), keys.count("n_head")
    if width % heads:
        keys.refuse("n_embd", f"a multiple of n_head, which is {heads}")
    return BIASES | {
        "vocab_size": keys.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": keys.optional_count("n_inner") or 4 * width,
        "num_hidden_layers": keys.count("n_layer", llama.MOST_LAYERS),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": width // heads,
        "max_position_embeddings": keys.count("n_positions"),
        "learned_positions": True,
        "norm": "layer",
        "norm_eps": keys.number("layer_norm_epsilon", positive=False),
        "activation": keys.choice("activation_function", ACTIVATIONS),
        "gated": False,
        "tie_word_embeddings": keys.flag("tie_word_embeddings"),
        "bos_token_id": keys.token("bos_token_id"),
        "eos_token_id": keys.tokens("eos_token_id"),
        "pad_token_id": keys.token("pad_token_id"),
    }


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    eos = config.eos_token_id
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.max_position_embeddings,
        "n_embd": config.hidden_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "n_inner": config.intermediate_size,
        "activation_function": config.activation,
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(eos) if isinstance(eos, tuple) else eos,
        "pad_token_id": config.pad_token_id,
    }


FAMILY = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    defaults=DEFAULTS,
    tensors=LINEAR | OTHERS,
    read=read,
    write=write,
    base="transformer.",
    transposed=frozenset(LINEAR.values()),
    ignored=("*.attn.bias", "*.attn.masked_bias"),
    fixed={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
)
