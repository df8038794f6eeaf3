"""Export for Hugging Face transformers: a directory with dense tensors only.

Compressed layers are folded, see `folding`. What transformers does not read is refused with the reason.
"""

import json
from pathlib import Path
from typing import Any

from tinyslm.checkpoints.atomic_write import atomic_directory, flush_to_disk
from tinyslm.checkpoints.carried_files import carry_files
from tinyslm.checkpoints.folding import Exported, Layout, config_dtype, dense_layout, folded_layers, require_dtype
from tinyslm.checkpoints.reading import CONFIG, WEIGHTS
from tinyslm.checkpoints.safetensors import PendingTensor, write_tensors
from tinyslm.tree import Module


def export_transformers(path: str | Path, model: Module, tokenizer: Any = None, dtype: str | None = None) -> Exported:
    """Write a directory that transformers loads, completely or not at all.

    dtype: of the tensors, "float32", "float16" or "bfloat16"; None: the dtype of the file of a loaded model for tensors
    whose numbers it holds exactly, otherwise float32.
    tokenizer: an object with `save(path)`, or None.
    Raises Error if `path` exists and is not empty or cannot be written, ConfigError
    or CheckpointError for a model that transformers does not read, or numbers too large for the dtype.
    """
    require_dtype(dtype)
    layout = dense_layout(model)
    tensors = {name: layout.pending(name, dtype) for name in layout.mappings}
    write_directory(path, layout, tensors, {}, tokenizer)
    return Exported(folded_layers(layout, tensors), {}, [])


def write_directory(
    path: str | Path, layout: Layout, tensors: dict[str, PendingTensor], settings: dict[str, Any], tokenizer: Any
) -> None:
    """Write config.json, the tensors, the tokenizer and the carried files. settings: further keys of config.json."""
    values = layout.values | {"dtype": config_dtype(tensors)} | settings
    with atomic_directory(path) as directory:
        if layout.model.config.source is not None:
            carry_files(layout.model.config.source.directory, directory)
        write_tensors(directory / WEIGHTS, tensors)
        (directory / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        flush_to_disk(directory / CONFIG)
        if tokenizer is not None:
            tokenizer.save(str(directory / "tokenizer.json"))
            flush_to_disk(directory / "tokenizer.json")
