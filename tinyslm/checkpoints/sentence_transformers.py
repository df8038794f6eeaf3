"""Settings of a sentence encoder in the files of the sentence-transformers library.

modules.json: the modules in their order, Transformer, Pooling, and Normalize if there is one.
1_Pooling/config.json: which hidden states make the vector of a text.
sentence_bert_config.json: max_seq_length, and whether texts become lower case.
tokenizer_config.json: model_max_length, where there is no max_seq_length.
config_sentence_transformers.json: the prompt before every text.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from tinyslm.checkpoints.json_files import read_json, read_json_list, shown
from tinyslm.errors import ConfigError

MODULES, POOLING = "modules.json", "1_Pooling"
LENGTHS = {"sentence_bert_config.json": "max_seq_length", "tokenizer_config.json": "model_max_length"}
POOLINGS = {  # key of a file: pooling
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
SUPPORTED = "only mean, max and the first token (cls) are supported"


@dataclass(frozen=True)
class SentenceSettings:
    """Settings of sentence embeddings. Without modules.json: the mean of the hidden states, of length 1."""

    pooling: str = "mean"  # or "cls", "max"
    normalize: bool = True  # vectors are divided by their L2 norm
    max_length: int | None = None  # tokens of a text, special tokens included; None: the context of the model
    length_from: str = ""  # the key and file of `max_length`
    lower_case: bool = False  # texts become lower case
    prompt: str = ""  # text before every text


def read_sentence_settings(directory: str | Path) -> SentenceSettings:
    """The settings in the files of a directory.

    Raises CheckpointError for a file that is damaged, ConfigError for a value that is wrong or not supported.
    """
    directory = Path(directory)
    modules = _read_modules(directory)
    dense = modules.get("Dense") or next((path.name for path in directory.glob("*_Dense")), None)
    if dense:
        raise ConfigError(
            f"{directory}: has a Dense layer after the pooling ({shown(dense)}), which is not supported; use the "
            "library sentence-transformers"
        )
    pooling = _read_pooling(directory / modules.get("Pooling", POOLING) / "config.json", is_needed="Pooling" in modules)
    length, length_from = _read_length(directory)
    return SentenceSettings(
        pooling=pooling,
        normalize=not modules or "Normalize" in modules,
        max_length=length,
        length_from=length_from,
        lower_case=_read_if_there(directory / "sentence_bert_config.json").get("do_lower_case") is True,
        prompt=_read_prompt(directory / "config_sentence_transformers.json"),
    )


def _read_modules(directory):
    """{kind: directory} of the modules in modules.json; empty without this file."""
    where = directory / MODULES
    if not where.exists():
        return {}
    modules = {}
    for entry in read_json_list(where):
        kind, path = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(path, str):
            raise ConfigError(f"{where}: holds {shown(entry)}, expected objects with the strings type and path")
        if Path(path).name != path or path == "..":
            raise ConfigError(f"{where}: names the path {shown(path)}, expected one in the same directory")
        modules[kind.rpartition(".")[2]] = path
    kinds = list(modules)
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) and "Dense" not in kinds:
        raise ConfigError(
            f"{where}: has the modules {', '.join(map(shown, kinds))}, expected Transformer, Pooling and at most "
            "Normalize (others are not supported)"
        )
    if modules.get("Transformer"):
        raise ConfigError(
            f"{where}: the Transformer is in {shown(modules['Transformer'])}, expected in the same directory"
        )
    return modules


def _read_pooling(where, is_needed):
    """ "mean", "cls" or "max"."""
    values = read_json(where) if is_needed else _read_if_there(where)
    mode = values.get("pooling_mode")
    chosen = [] if mode is None else [("pooling_mode", mode)]
    chosen += [(key, value) for key, value in values.items() if key.startswith("pooling_mode_") and value is not False]
    for key, value in chosen:
        known = value in POOLINGS.values() if key == "pooling_mode" else key in POOLINGS and value is True
        if not known:
            raise ConfigError(f"{where}: {key} is {shown(value)}, but {SUPPORTED}")
    if len(chosen) > 1:
        raise ConfigError(f"{where}: has {' and '.join(key for key, _ in chosen)}, expected one pooling")
    if not chosen and any(key.startswith("pooling_mode_") for key in values):
        raise ConfigError(f"{where}: every pooling_mode is false, but {SUPPORTED}")
    if values.get("include_prompt") is False:
        raise ConfigError(f"{where}: include_prompt is false, expected true (nothing else is supported)")
    if not chosen:
        return "mean"
    return mode or POOLINGS[chosen[0][0]]


def _read_length(directory):
    """(tokens of a text or None, the key and file that say so)."""
    for name, key in LENGTHS.items():
        length = _read_if_there(directory / name).get(key)
        if length is None:
            continue
        if not isinstance(length, int | float) or isinstance(length, bool) or not length >= 1:
            raise ConfigError(f"{directory / name}: {key} is {shown(length)}, expected a number of tokens or null")
        return (int(length) if length < 2**30 else None), f"{key} of {name}"  # some files have 10^30 for no limit
    return None, ""


def _read_prompt(where):
    """The prompt that is named as the default, or ""."""
    values = _read_if_there(where)
    name, prompts = values.get("default_prompt_name"), values.get("prompts") or {}
    if name is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(name, str) or not isinstance(prompts.get(name), str):
        raise ConfigError(f"{where}: default_prompt_name is {shown(name)}, expected a name in prompts, or null")
    return prompts[name]


def _read_if_there(path):
    """The object in a JSON file; empty without this file."""
    return read_json(path) if os.path.exists(path) else {}
