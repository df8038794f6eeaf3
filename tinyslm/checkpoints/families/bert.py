"""BERT: blocks that are normalized after each addition, token types, biases everywhere.

Files of models without a masked head lack the prefix "bert."; those of Google on the Hub have older names for the
norms, and a head that tells whether one sentence follows another, which is not read. The bias of the head is a tensor
beside it, of which an untied head has a copy of its own.
"""

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import EncoderConfig
from tinyslm.ops import ACTIVATIONS

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
DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
}


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of EncoderConfig."""
    width, heads = keys.count("hidden_size"), keys.count("num_attention_heads")
    if width % heads:
        keys.refuse("hidden_size", f"a multiple of num_attention_heads, which is {heads}")
    return {
        "vocab_size": keys.count("vocab_size"),
        "hidden_size": width,
        "intermediate_size": keys.count("intermediate_size"),
        "num_hidden_layers": keys.count("num_hidden_layers", llama.MOST_LAYERS),
        "num_attention_heads": heads,
        "head_dim": width // heads,
        "max_position_embeddings": keys.count("max_position_embeddings"),
        "type_vocab_size": keys.count("type_vocab_size"),
        "norm_eps": keys.number("layer_norm_eps", positive=False),
        "activation": keys.choice("hidden_act", ACTIVATIONS),
        "tie_word_embeddings": keys.flag("tie_word_embeddings"),
        "pad_token_id": keys.token("pad_token_id"),
    }


def write(config: EncoderConfig) -> dict:
    """EncoderConfig -> config.json."""
    return {
        "architectures": ["BertForMaskedLM" if config.masked_head else "BertModel"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": config.activation,
        "tie_word_embeddings": config.tie_word_embeddings,
        "pad_token_id": config.pad_token_id,
    }


FAMILY = Family(
    model_type="bert",
    architecture="BertForMaskedLM",
    defaults=DEFAULTS,
    tensors=TENSORS,
    read=read,
    write=write,
    base="bert.",
    config=EncoderConfig,
    ignored=("*embeddings.position_ids", "cls.seq_relationship.*", "cls.predictions.bias"),
    fixed={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    optional={"masked_head": ("cls.predictions.", "masked_lm_head."), "pooler": ("bert.pooler.", "pooler.")},
    tied={"head.weight": "embedding.table", "head.bias": "masked_lm_head.bias"},
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)
