"""Language models in multimodal checkpoints: nested in config.json, beside parts for images, which are left out.

Such a model is saved as its text family, without the parts for images.
"""

import warnings
from typing import Any

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import CheckpointError, CheckpointWarning, ConfigError

TEXT_FAMILIES = {"gemma3": ("gemma3_text",), "mistral3": ("mistral", "ministral3")}  # {model_type: those it can hold}
SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
PREFIXES = {  # {prefix in old or current files: prefix of the text family}
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
}
OTHER_PARTS = ("vision_tower", "multi_modal_projector")  # may have "model." before them


def language_model_values(values: dict[str, Any], where) -> dict[str, Any]:
    """The values of the text family in a config.json; the values themselves if it is not of a multimodal model.

    Special tokens may stand beside "text_config". Whether the head is tied always does.
    """
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in TEXT_FAMILIES:
        return values
    found, families = values.get("text_config"), TEXT_FAMILIES[model_type]
    if not isinstance(found, dict):
        what = "missing" if found is None else shown(found)
        raise ConfigError(f"{where}: text_config is {what}, expected an object with the language model of {model_type}")
    text = {key: values[key] for key in SPECIAL_TOKENS if key in values} | {"model_type": families[0]} | found
    if text["model_type"] not in families:
        raise ConfigError(
            f"{where}: text_config: model_type is {shown(text['model_type'])}, expected {' or '.join(families)}"
        )
    return text | {"tie_word_embeddings": values.get("tie_word_embeddings", True)}


def language_model_name(name: str) -> str | None:
    """The name of a tensor in the text family; None for a tensor of another part."""
    if name.removeprefix("model.").partition(".")[0] in OTHER_PARTS:
        return None
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    return PREFIXES.get(prefix, "") + name.removeprefix(prefix)


def language_model_tensors(tensors: dict[str, Any], architecture: str | None = None) -> dict[str, Any]:
    """{name in the text family: tensor} of the language model. Warns about other parts, which are left out.

    architecture: the class of the model in config.json, for the warning.
    """
    kept, others = {}, []
    for name, tensor in tensors.items():
        text_name = language_model_name(name)
        if text_name is None:
            others.append(name)
        elif text_name in kept:
            raise CheckpointError(f"{tensor.file}: tensor {shown(name)} is also stored with another prefix")
        else:
            kept[text_name] = tensor
    if others:
        parts = [part for part in OTHER_PARTS if any(name.removeprefix("model.").startswith(part) for name in others)]
        whose = f" of {shown(architecture)}" if architecture else ""
        warnings.warn(
            f"{tensors[others[0]].file.parent}: the parts for images{whose} are left out: {', '.join(parts)}",
            CheckpointWarning,
            stacklevel=2,
        )
    return kept
