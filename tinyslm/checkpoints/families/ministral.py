"""Ministral: Mistral with full attention in some layers and sliding windows in the others; one rotation for all."""

from dataclasses import replace

from tinyslm.checkpoints.families import llama, mistral
from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.families.layer_types import SLIDING, read_windows, write_windows
from tinyslm.models import DecoderConfig


def read(keys: ConfigReader) -> dict:
    """The fields of DecoderConfig that are not in `llama.FIELDS`."""
    return llama.read_ropes(keys) | read_windows(keys, lambda layer: SLIDING)


def write(config: DecoderConfig) -> dict:
    """The keys of config.json that are not in `llama.FIELDS`."""
    return llama.write_ropes(config) | write_windows(config)


FAMILY = replace(
    llama.FAMILY,
    model_type="ministral",
    architecture="MinistralForCausalLM",
    defaults=mistral.DEFAULTS,
    read=read,
    write=write,
)
