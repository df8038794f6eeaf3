"""MPNet: BERT with relative position biases, the positions of RoBERTa, and no token types.

All layers share one table of relative position biases. The padding token of the positions is 1, whatever
`pad_token_id` is. The transform of the masked-LM head always has the activation "gelu".
"""

from tinyslm.checkpoints.families import bert, roberta
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import EncoderConfig

TENSORS = {
    "embedding": "mpnet.embeddings.word_embeddings",
    "position_embedding": "mpnet.embeddings.position_embeddings",
    "embedding_norm": "mpnet.embeddings.LayerNorm",
    "relative_positions": "mpnet.encoder.relative_attention_bias",
    "layers.{i}.attention.query": "mpnet.encoder.layer.{i}.attention.attn.q",
    "layers.{i}.attention.key": "mpnet.encoder.layer.{i}.attention.attn.k",
    "layers.{i}.attention.value": "mpnet.encoder.layer.{i}.attention.attn.v",
    "layers.{i}.attention.output": "mpnet.encoder.layer.{i}.attention.attn.o",
    "layers.{i}.attention_norm": "mpnet.encoder.layer.{i}.attention.LayerNorm",
    "layers.{i}.feed_forward.up": "mpnet.encoder.layer.{i}.intermediate.dense",
    "layers.{i}.feed_forward.down": "mpnet.encoder.layer.{i}.output.dense",
    "layers.{i}.feed_forward_norm": "mpnet.encoder.layer.{i}.output.LayerNorm",
    "pooler": "mpnet.pooler.dense",
} | roberta.HEAD
PADDING_IDX = 1
BUCKETS = 32  # transformers computes the buckets for this number, whatever the configuration says


FIELDS = {field: entry for field, entry in roberta.FIELDS.items() if field != "type_vocab_size"} | {
    "vocab_size": ("vocab_size", ConfigReader.count, 30527),
    "relative_attention_num_buckets": ("relative_attention_num_buckets", ConfigReader.count, BUCKETS),
}


def read(keys: ConfigReader) -> dict:
    """The fields of EncoderConfig that are not in FIELDS."""
    return bert.read(keys) | roberta.read_positions(keys, PADDING_IDX) | {"transform_activation": "gelu"}


FAMILY = Family(
    model_type="mpnet",
    architecture="MPNetForMaskedLM",
    headless_architecture="MPNetModel",
    tensors=TENSORS,
    fields=FIELDS,
    read=read,
    write=roberta.write,
    defaults=roberta.FAMILY.defaults,
    base="mpnet.",
    config=EncoderConfig,
    ignored=roberta.FAMILY.ignored,
    fixed={"relative_attention_num_buckets": BUCKETS},
    optional={"masked_head": ("lm_head.", "masked_lm_head."), "pooler": ("mpnet.pooler.", "pooler.")},
    tied=bert.FAMILY.tied,
    written_copies={"lm_head.bias": "lm_head.decoder.bias"},
)
