"""Mixtral: Mistral with a mixture of experts for the feed-forward layer."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama, mistral
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.models import DecoderConfig

MOST_EXPERTS = 10_000

DEFAULTS = mistral.DEFAULTS | {
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "sliding_window": None,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
EXPERTS = {
    "layers.{i}.feed_forward.router": "model.layers.{i}.block_sparse_moe.gate",
    "layers.{i}.feed_forward.experts.{e}.gate": "model.layers.{i}.block_sparse_moe.experts.{e}.w1",
    "layers.{i}.feed_forward.experts.{e}.down": "model.layers.{i}.block_sparse_moe.experts.{e}.w2",
    "layers.{i}.feed_forward.experts.{e}.up": "model.layers.{i}.block_sparse_moe.experts.{e}.w3",
}


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of DecoderConfig."""
    experts = keys.count("num_local_experts", MOST_EXPERTS)
    return mistral.read(keys) | {
        "num_experts": experts,
        "experts_per_token": keys.count("num_experts_per_tok", experts),
    }


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    return mistral.write(config) | {
        "num_local_experts": config.num_experts,
        "num_experts_per_tok": config.experts_per_token,
    }


FAMILY = replace(
    llama.FAMILY,
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    defaults=DEFAULTS,
    tensors=llama.OUTSIDE | llama.ATTENTION | EXPERTS,
    read=read,
    write=write,
)
