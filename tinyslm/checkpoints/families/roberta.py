"""RoBERTa: BERT with other positions and another masked-LM head.

Positions count the tokens that are not padding, and the first one is row `pad_token_id` + 1 of the position table. So
"max_position_embeddings", the number of rows, is larger than the context. The transform of the masked-LM head always
has the activation "gelu".
"""

from tinyslm.checkpoints.families import bert
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.family import Family
from tinyslm.models import EncoderConfig

HEAD = {
    "masked_lm_head.transform": "lm_head.dense",
    "masked_lm_head.norm": "lm_head.layer_norm",
    "masked_lm_head": "lm_head",
    "head": "lm_head.decoder",
}
TENSORS = {module: name.replace("bert.", "roberta.", 1) for module, name in bert.TENSORS.items()} | HEAD
CONTEXT = "max_position_embeddings"


FIELDS = {field: entry for field, entry in bert.FIELDS.items() if field != CONTEXT} | {
    "vocab_size": ("vocab_size", ConfigReader.count, 50265),
    "pad_token_id": ("pad_token_id", ConfigReader.token, 1),
}


def read(keys: ConfigReader) -> dict:
    """The fields of EncoderConfig that are not in FIELDS."""
    padding_idx = keys.token("pad_token_id")
    if padding_idx is None:
        keys.refuse("pad_token_id", "a token id, after which positions begin")
    return bert.read(keys) | read_positions(keys, padding_idx) | {"transform_activation": "gelu"}


def read_positions(keys: ConfigReader, padding_idx: int) -> dict:
    """The context and the padding token, from the number of rows of the position table."""
    rows = keys.count(CONTEXT)
    if rows <= padding_idx + 1:
        keys.refuse(CONTEXT, f"more than {padding_idx + 1}: positions begin after the padding token {padding_idx}")
    return {CONTEXT: rows - padding_idx - 1, "padding_idx": padding_idx}


def write(config: EncoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    first = 0 if config.padding_idx is None else config.padding_idx + 1
    return {CONTEXT: config.max_position_embeddings + first}


FAMILY = Family(
    model_type="roberta",
    architecture="RobertaForMaskedLM",
    headless_architecture="RobertaModel",
    tensors=TENSORS,
    fields=FIELDS,
    read=read,
    write=write,
    defaults={CONTEXT: 512},
    base="roberta.",
    config=EncoderConfig,
    ignored=("*embeddings.position_ids", "lm_head.bias"),
    fixed=bert.FAMILY.fixed,
    optional={"masked_head": ("lm_head.", "masked_lm_head."), "pooler": ("roberta.pooler.", "pooler.")},
    tied=bert.FAMILY.tied,
    written_copies={"lm_head.bias": "lm_head.decoder.bias"},
)
