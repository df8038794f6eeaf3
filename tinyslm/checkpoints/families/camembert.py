"""CamemBERT: RoBERTa with a French vocabulary. Its tensors have the names of RoBERTa."""

from dataclasses import replace

from tinyslm.checkpoints.families import roberta

FAMILY = replace(
    roberta.FAMILY,
    model_type="camembert",
    architecture="CamembertForMaskedLM",
    headless_architecture="CamembertModel",
    defaults=roberta.FAMILY.defaults | {"vocab_size": 30522},
)
