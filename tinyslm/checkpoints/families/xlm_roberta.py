"""XLM-RoBERTa: RoBERTa with a multilingual vocabulary. Its tensors have the names of RoBERTa."""

from dataclasses import replace

from tinyslm.checkpoints.families import roberta

FAMILY = replace(
    roberta.FAMILY,
    model_type="xlm-roberta",
    architecture="XLMRobertaForMaskedLM",
    headless_architecture="XLMRobertaModel",
    defaults=roberta.FAMILY.defaults | {"vocab_size": 30522},
)
