"""DistilBERT: BERT without token types and pooler, with other keys and tensor names.

The eps of its norms is a constant, not a key. Sinusoidal position tables are stored like learned ones.
"""

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import EncoderConfig

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


FIELDS = {
    "vocab_size": ("vocab_size", ConfigReader.count, 30522),
    "hidden_size": ("dim", ConfigReader.count, 768),
    "intermediate_size": ("hidden_dim", ConfigReader.count, 3072),
    "num_hidden_layers": ("n_layers", ConfigReader.layers, 6),
    "num_attention_heads": ("n_heads", ConfigReader.count, 12),
    "max_position_embeddings": ("max_position_embeddings", ConfigReader.count, 512),
    "activation": ("activation", ConfigReader.activation, "gelu"),
    "tie_word_embeddings": ("tie_word_embeddings", ConfigReader.flag, True),
    "pad_token_id": ("pad_token_id", ConfigReader.token, 0),
}


def read(keys: ConfigReader) -> dict:
    """The fields of EncoderConfig that are not in FIELDS."""
    return {"head_dim": keys.head_dim("dim", "n_heads"), "norm_eps": NORM_EPS}


FAMILY = Family(
    model_type="distilbert",
    architecture="DistilBertForMaskedLM",
    headless_architecture="DistilBertModel",
    tensors=TENSORS,
    fields=FIELDS,
    read=read,
    base="distilbert.",
    config=EncoderConfig,
    ignored=("*embeddings.position_ids",),
    optional={"masked_head": ("vocab_", "masked_lm_head.")},
)
