"""DistilBERT: BERT without token types and pooler, with other keys and names, and an eps that no key tells.

Tables of sinusoidal positions are stored like learned ones.
"""

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import EncoderConfig
from tinyslm.ops import ACTIVATIONS

TENSORS = {
    "embedding": "distilbert.embeddings.word_embeddings",
    "position_embedding": "distilbert.embeddings.position_embeddings",
    "embedding_norm": "distilbert.embeddings.LayerNorm",
    "layers.{i}.attention.query": "distilbert.transformer.layer.{i}.attention.q_lin",
    "layers.{i}.attention.key": "distilbert.transformer.layer.{i}.attention.k_lin",
    "layers.{i}.attention.value": "distilbert.transformer.layer.{i}.attention.v_lin",
    "layers.{i}.attention.output": "distilbert.transformer.layer.{i}.attention.out_lin",
    "layers.{i}.attention_norm": "distilbert.transformer.layer.{i}.sa_layer_norm",
    "layers.{i}.feed_forward.up": "distilbert.transformer.layer.{i}.ffn.lin1",
    "layers.{i}.feed_forward.down": "distilbert.transformer.layer.{i}.ffn.lin2",
    "layers.{i}.feed_forward_norm": "distilbert.transformer.layer.{i}.output_layer_norm",
    "masked_lm_head.transform": "vocab_transform",
    "masked_lm_head.norm": "vocab_layer_norm",
    "masked_lm_head": "vocab_projector",
    "head": "vocab_projector",
}
NORM_EPS = 1e-12
DEFAULTS = {
    "vocab_size": 30522,
    "dim": 768,
    "hidden_dim": 3072,
    "n_layers": 6,
    "n_heads": 12,
    "activation": "gelu",
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
}


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of EncoderConfig."""
    width, heads = keys.count("dim"), keys.count("n_heads")
    if width % heads:
        keys.refuse("dim", f"a multiple of n_heads, which is {heads}")
    return {
        "vocab_size": keys.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": keys.count("hidden_dim"),
        "num_hidden_layers": keys.count("n_layers", llama.MOST_LAYERS),
        "num_attention_heads": heads,
        "head_dim": width // heads,
        "max_position_embeddings": keys.count("max_position_embeddings"),
        "norm_eps": NORM_EPS,
        "activation": keys.choice("activation", ACTIVATIONS),
        "tie_word_embeddings": keys.flag("tie_word_embeddings"),
        "pad_token_id": keys.token("pad_token_id"),
    }


def write(config: EncoderConfig) -> dict:
    """EncoderConfig -> config.json."""
    return {
        "architectures": ["DistilBertForMaskedLM" if config.masked_head else "DistilBertModel"],
        "vocab_size": config.vocab_size,
        "dim": config.hidden_size,
        "hidden_dim": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "activation": config.activation,
        "tie_word_embeddings": config.tie_word_embeddings,
        "pad_token_id": config.pad_token_id,
    }


FAMILY = Family(
    model_type="distilbert",
    architecture="DistilBertForMaskedLM",
    defaults=DEFAULTS,
    tensors=TENSORS,
    read=read,
    write=write,
    base="distilbert.",
    config=EncoderConfig,
    ignored=("*embeddings.position_ids",),
    optional={"masked_head": ("vocab_", "masked_lm_head.")},
)
