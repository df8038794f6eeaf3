"""Ministral: Mistral in which some layers see everything and the others a window; all turn by the same angles."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama, mistral
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import SLIDING, read_windows, write_windows
from tinyslm.models import DecoderConfig


def read(keys: ConfigReader) -> dict:
    """config.json -> fields of DecoderConfig."""
    common = llama.read_common(keys)
    return common | {"windows": read_windows(keys, common["num_hidden_layers"], lambda layer: SLIDING)}


def write(config: DecoderConfig) -> dict:
    """DecoderConfig -> config.json."""
    return llama.write_common(config) | write_windows(config)


FAMILY = replace(
    llama.FAMILY,
    model_type="ministral",
    architecture="MinistralForCausalLM",
    defaults=mistral.DEFAULTS,
    read=read,
    write=write,
)
