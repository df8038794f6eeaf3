"""BERT: post-norm encoder with token types and biases in all linear layers.

Files of models without a masked-LM head lack the prefix "bert.". Google's files on the Hub name the norms' arrays gamma
and beta, and have a next-sentence head, which is not read. The bias of the masked-LM head is a separate tensor. Files
with an untied head also contain a copy of this bias.
"""

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import EncoderConfig

TENSORS = {
    "embedding": "bert.embeddings.word_embeddings",
    "position_embedding": "bert.embeddings.position_embeddings",
    "token_type_embedding": "bert.embeddings.token_type_embeddings",
    "embedding_norm": "bert.embeddings.LayerNorm",
    "layers.{i}.attention.query": "bert.encoder.layer.{i}.attention.self.query",
    "layers.{i}.attention.key": "bert.encoder.layer.{i}.attention.self.key",
    "layers.{i}.attention.value": "bert.encoder.layer.{i}.attention.self.value",
    "layers.{i}.attention.output": "bert.encoder.layer.{i}.attention.output.dense",
    "layers.{i}.attention_norm": "bert.encoder.layer.{i}.attention.output.LayerNorm",
    "layers.{i}.feed_forward.up": "bert.encoder.layer.{i}.intermediate.dense",
    "layers.{i}.feed_forward.down": "bert.encoder.layer.{i}.output.dense",
    "layers.{i}.feed_forward_norm": "bert.encoder.layer.{i}.output.LayerNorm",
    "pooler": "bert.pooler.dense",
    "masked_lm_head.transform": "cls.predictions.transform.dense",
    "masked_lm_head.norm": "cls.predictions.transform.LayerNorm",
    "masked_lm_head": "cls.predictions",
    "head": "cls.predictions.decoder",
}


FIELDS = {
    "vocab_size": ("vocab_size", ConfigReader.count, 30522),
    "hidden_size": ("hidden_size", ConfigReader.count, 768),
    "intermediate_size": ("intermediate_size", ConfigReader.count, 3072),
    "num_hidden_layers": ("num_hidden_layers", ConfigReader.layers, 12),
    "num_attention_heads": ("num_attention_heads", ConfigReader.count, 12),
    "max_position_embeddings": ("max_position_embeddings", ConfigReader.count, 512),
    "type_vocab_size": ("type_vocab_size", ConfigReader.count, 2),
    "norm_eps": ("layer_norm_eps", ConfigReader.norm_eps, 1e-12),
    "activation": ("hidden_act", ConfigReader.activation, "gelu"),
    "tie_word_embeddings": ("tie_word_embeddings", ConfigReader.flag, True),
    "pad_token_id": ("pad_token_id", ConfigReader.token, 0),
}


def read(keys: ConfigReader) -> dict:
    """The fields of EncoderConfig that are not in FIELDS."""
    return {"head_dim": keys.head_dim("hidden_size", "num_attention_heads")}


FAMILY = Family(
    model_type="bert",
    architecture="BertForMaskedLM",
    headless_architecture="BertModel",
    tensors=TENSORS,
    fields=FIELDS,
    read=read,
    base="bert.",
    config=EncoderConfig,
    ignored=("*embeddings.position_ids", "cls.seq_relationship.*", "cls.predictions.bias"),
    fixed={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    optional={"masked_head": ("cls.predictions.", "masked_lm_head."), "pooler": ("bert.pooler.", "pooler.")},
    tied={"head.weight": "embedding.table", "head.bias": "masked_lm_head.bias"},
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)
