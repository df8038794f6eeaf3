"""Granite 3: Llama with factors of embeddings, attention scores and sublayer outputs, and a divisor of the logits."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader

FIELDS = llama.FIELDS | {
    "embedding_scale": ("embedding_multiplier", ConfigReader.factor, 1.0),
    "attention_scale": ("attention_multiplier", ConfigReader.factor, 1.0),
    "residual_multiplier": ("residual_multiplier", ConfigReader.factor, 1.0),
    "logits_scaling": ("logits_scaling", ConfigReader.factor, 1.0),
}

FAMILY = replace(llama.FAMILY, model_type="granite", architecture="GraniteForCausalLM", fields=FIELDS)
