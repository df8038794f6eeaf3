"""Checkpoint layouts, one file per family: keys of config.json and tensor names, for reading and writing."""

from dataclasses import replace

from tinyslm.checkpoints.families import (
    bert,
    camembert,
    distilbert,
    gemma,
    gemma2,
    gemma3,
    gpt2,
    gpt_neox,
    granite,
    llama,
    ministral,
    ministral3,
    mistral,
    mixtral,
    modernbert,
    mpnet,
    olmo2,
    phi,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    roberta,
    smollm3,
    stablelm,
    t5,
    xlm_roberta,
)
from tinyslm.checkpoints.families.family import Family
from tinyslm.checkpoints.families.multimodal import TEXT_FAMILIES
from tinyslm.checkpoints.families.unsupported import MISSING_MECHANISMS
from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError

MODULES = (
    bert,
    camembert,
    distilbert,
    gemma,
    gemma2,
    gemma3,
    gpt2,
    gpt_neox,
    granite,
    llama,
    ministral,
    ministral3,
    mistral,
    mixtral,
    modernbert,
    mpnet,
    olmo2,
    phi,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    roberta,
    smollm3,
    stablelm,
    t5,
    xlm_roberta,
)
FAMILIES = {module.FAMILY.model_type: module.FAMILY for module in MODULES}


def find_family(model_type, where) -> Family:
    """The family of a model_type.

    Raises ConfigError naming `where`, and for a known family the missing mechanism, otherwise the families there are.
    """
    name = model_type if isinstance(model_type, str) else None
    if name in MISSING_MECHANISMS:
        raise ConfigError(f"{where}: model_type {name!r} is not supported: it needs {MISSING_MECHANISMS[name]}")
    if name not in FAMILIES:
        found, known = "missing" if model_type is None else shown(model_type), sorted([*FAMILIES, *TEXT_FAMILIES])
        raise ConfigError(f"{where}: model_type is {found}, expected one of {', '.join(known)}")
    return FAMILIES[name]


def family_of(values, where) -> Family:
    """The family of a config.json. Raises ConfigError like `find_family`."""
    if values.get("model_type") == "mistral" and mistral.has_full_and_sliding_layers(values):
        return ministral.FAMILY  # the first Ministral files have the model_type of Mistral
    return find_family(values.get("model_type"), where)


def written_config(family, config) -> dict:
    """config.json of a configuration in a family. Raises ConfigError, which names the families that can hold it."""
    try:
        return family.write_config(config)
    except ConfigError as problem:
        others = [name for name in FAMILIES if name != family.model_type and _holds(name, config)]
        advice = (
            f"set family={' or '.join(map(repr, others))} in the configuration" if others else "no other family can"
        )
        raise ConfigError(f"{problem}; {advice}") from None


def _holds(name, config):
    """Whether a config.json of the family with this name can hold the configuration."""
    renamed = replace(config, family=name)
    try:
        FAMILIES[name].for_config(renamed).write_config(renamed)
    except ConfigError:
        return False
    return True


__all__ = ["FAMILIES", "Family", "family_of", "find_family", "written_config"]
