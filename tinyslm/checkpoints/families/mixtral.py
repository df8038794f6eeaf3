"""Mixtral: Mistral with a mixture of experts in place of the feed-forward layer."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama, mistral
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.models.config_checks import EXPERT_COUNT

DEFAULTS = mistral.DEFAULTS | {
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "sliding_window": None,
}
EXPERTS = {
    "layers.{i}.feed_forward.router": "model.layers.{i}.block_sparse_moe.gate",
    "layers.{i}.feed_forward.experts.{e}.gate": "model.layers.{i}.block_sparse_moe.experts.{e}.w1",
    "layers.{i}.feed_forward.experts.{e}.down": "model.layers.{i}.block_sparse_moe.experts.{e}.w2",
    "layers.{i}.feed_forward.experts.{e}.up": "model.layers.{i}.block_sparse_moe.experts.{e}.w3",
}


def read_experts(keys: ConfigReader, key: str) -> int:
    """E."""
    return keys.in_range(key, EXPERT_COUNT)


def read_experts_per_token(keys: ConfigReader, key: str) -> int:
    """The number of experts that compute each token, at most E."""
    return keys.count(key, keys.count("num_local_experts"))


FIELDS = llama.FIELDS | {
    "num_experts": ("num_local_experts", read_experts, 8),
    "experts_per_token": ("num_experts_per_tok", read_experts_per_token, 2),
}


FAMILY = replace(
    mistral.FAMILY,
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    defaults=DEFAULTS,
    tensors=llama.OUTSIDE | llama.ATTENTION | EXPERTS,
    fields=FIELDS,
)
