"""StableLM 3B and StableLM 2: Llama with layer norms and partial rotary positions (25 % of the dimensions of a head).

The largest StableLM 2 has a norm of its own for each query and key head ("qk_layernorm"), which is not supported.
"""

from dataclasses import replace

from tinyslm.checkpoints.families import llama
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.models import DecoderConfig

DEFAULTS = {
    "vocab_size": 50304,
    "hidden_size": 2560,
    "intermediate_size": 6912,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.25,
    "use_parallel_residual": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
FIELDS = {field: entry for field, entry in llama.FIELDS.items() if field != "head_dim"} | {
    "norm_eps": ("layer_norm_eps", ConfigReader.norm_eps, 1e-5),
    "attention_bias": ("use_qkv_bias", ConfigReader.flag, False),
}


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in FIELDS."""
    head_dim = keys.head_dim("hidden_size", "num_attention_heads")
    ropes = llama.read_ropes(keys.with_values(head_dim=head_dim), partial=True)
    blocks = dict.fromkeys(("parallel_blocks", "shared_norm"), keys.flag("use_parallel_residual"))
    return ropes | blocks | {"head_dim": head_dim, "norm": "layer"}


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in FIELDS."""
    return llama.write_ropes(config, partial=True) | {"use_parallel_residual": config.parallel_blocks}


FAMILY = replace(
    llama.FAMILY,
    model_type="stablelm",
    architecture="StableLmForCausalLM",
    defaults=DEFAULTS,
    fields=FIELDS,
    read=read,
    write=write,
    fixed={"qk_layernorm": False},
)
