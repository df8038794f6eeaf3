"""A model in a GGUF file, in the form in which safetensors directories are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.families import Family, find_family
from tinyslm.checkpoints.gguf.blocks import gguf_tensor
from tinyslm.checkpoints.gguf.container import Container, read_container
from tinyslm.checkpoints.gguf.settings import read_settings
from tinyslm.checkpoints.gguf.tensor_names import REORDERED, REORDERED_FAMILIES, row_order, with_gguf_names
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.errors import CheckpointError

Tensors = dict[str, StoredTensor | EncodedTensor]


@dataclass(frozen=True)
class ModelFile:
    """settings: the keys of a config.json;  family: with the names of the tensors in the file;  tensors: not read."""

    settings: dict[str, Any]
    family: Family
    tensors: Tensors


def read_model_file(path: str | Path, is_outline: bool = False) -> ModelFile:
    """The model in a GGUF file. Reads the header, and the gains of norms if they are stored in another form.

    is_outline: read the header only. The tensors then have the right shapes, but can hold other numbers.
    Raises CheckpointError for a damaged file, ConfigError for an architecture or setting that is not supported.
    """
    container = read_container(path)
    kind = container.metadata.get("general.type", "model")
    if not isinstance(kind, str) or kind != "model":
        raise CheckpointError(f"{container.path}: general.type is {shown(kind)}, expected 'model'")
    tensors = gguf_tensors(container)
    settings = read_settings(container, tensors)
    family = with_gguf_names(find_family(settings["model_type"], container.path))
    if not is_outline and settings["model_type"] in REORDERED_FAMILIES:
        tensors |= _reordered(container, tensors, settings["head_dim"])
    if not is_outline and settings["model_type"].startswith("gemma"):
        tensors |= _without_offset(tensors)
    return ModelFile(settings, family, tensors)


def gguf_tensors(container: Container) -> Tensors:
    """The tensors as they are in the file."""
    return {name: gguf_tensor(container.path, entry) for name, entry in container.tensors.items()}


def _reordered(container, tensors, head_dim):
    """The queries and keys with their rows in the order of this library."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(REORDERED) and head_dim % 2 == 0 and tensor.shape[0] % head_dim == 0:
            order = row_order(tensor.shape[0], head_dim)
            found[name] = gguf_tensor(container.path, container.tensors[name], order)
    return found


def _without_offset(tensors):
    """The gains of norms, with 1 subtracted."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith("norm.weight") and len(tensor.shape) == 1:
            gains = tensor.read(np.float32) - np.float32(1)
            found[name] = StoredTensor(tensor.file, name, "F32", gains.shape, gains)
    return found
