"""One small file per family: how its config.json and tensor names translate into ours, and back."""

from tinyslm.checkpoints.families import gpt2, llama, mistral, mixtral
from tinyslm.checkpoints.families.family import Family
from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError

FAMILIES = {module.FAMILY.model_type: module.FAMILY for module in (gpt2, llama, mistral, mixtral)}


def find_family(model_type, where) -> Family:
    """The family of a model_type. Raises ConfigError naming `where` and the families there are."""
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ConfigError(f"{where}: model_type is {shown(model_type)}, expected one of {', '.join(FAMILIES)}")
    return family


__all__ = ["FAMILIES", "Family", "find_family"]
