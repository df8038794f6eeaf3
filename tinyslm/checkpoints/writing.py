"""Writing of a model as a directory that transformers loads. Compressed models are read back by `load_model` only."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.atomic_write import atomic_directory, flush_to_disk
from tinyslm.checkpoints.carried_files import carry_files
from tinyslm.checkpoints.compressed_modules import describe
from tinyslm.checkpoints.families import FAMILIES, find_family
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.checkpoints.own_section import REPLACED, SECTION
from tinyslm.checkpoints.reading import CONFIG, WEIGHTS
from tinyslm.checkpoints.safetensors import STORED_AS, is_exact, write_safetensors
from tinyslm.checkpoints.tensor_mapping import compressed_modules, tensor_mappings, written_mappings
from tinyslm.errors import CheckpointError, CheckpointWarning, ConfigError
from tinyslm.models import shape_model
from tinyslm.tree import Array, Module, named_arrays, named_modules


def checkpoint_tensors(tree: Module) -> dict[str, Array]:
    """Arrays of a model or of its gradients, under the tensor names of the family's checkpoint.

    Arrays are joined and transposed as in the file. Arrays of compressed modules, for which no family has a tensor, are
    named by their paths. Arrays that are None (gradients of fixed arrays) are left out.

    Parameters
    ----------
    tree : Module
        A model, or a tree of gradients of the same form.

    Returns
    -------
    dict of str to ndarray
        {tensor name: array}.

    Raises
    ------
    CheckpointError
        If the family has no tensor for an array, or the weights are mapped from a file.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> tensors = checkpoint_tensors(random_model(llama_shape(31, 16, 20, 1, 4, 2)))
    >>> tensors["model.layers.0.self_attn.q_proj.weight"].shape
    (16, 16)
    """
    family, outline = _family_and_outline(tree)
    arrays = named_arrays(tree)
    mappings = tensor_mappings(family, arrays, tree.config.without_prefix, compressed_modules(tree, outline))
    return {name: mapping.join(arrays) for name, mapping in mappings.items()}


def save_model(
    path: str | Path,
    model: Module,
    tokenizer: Any = None,
    dtype: str | None = None,
    records: dict[str, Any] | None = None,
) -> None:
    """Write a directory with config.json, model.safetensors and tokenizer.json, completely or not at all.

    The files of CARRIED that are in the directory from which the model was loaded are copied. Warns (CheckpointWarning)
    if transformers does not load a model with this configuration; `load_model` does.

    dtype: dtype of the stored weights: "float32", "float16" or "bfloat16"; compressed modules keep their own dtypes.
    None: for a loaded model the dtype of its file, for each tensor of which this dtype holds every number; otherwise
    float32. Every model is then read back bit for bit.
    tokenizer: an object with `save(path)`, or None.  records: {file name: JSON value} of further files, or None.
    Raises Error if `path` exists and is not empty or cannot be written, ConfigError or CheckpointError for a model that
    the files of its family cannot hold.
    """
    if dtype is not None and dtype not in STORED_AS:
        raise ConfigError(f"dtype is {shown(dtype)}, expected one of {', '.join(STORED_AS)}, or None")
    values, mappings, compressed, refusal = _contents(model)
    arrays = named_arrays(model)
    dense = {name: mapping.join(arrays) for name, mapping in mappings.items() if not mapping.compressed}
    stored_as = _stored_dtypes(dense, dtype, model.config.source)
    values["dtype"] = next((name for name in STORED_AS if STORED_AS[name] in stored_as.values()), "float32")
    tensors = dict(dense)
    for module, (_, fields) in compressed.items():
        tensors |= {f"{module}.{field}": array for field, array in fields.items()}
    if compressed:
        entries = {module: entry for module, (entry, _) in compressed.items()}
        values[SECTION] = values.get(SECTION, {}) | {REPLACED: entries}

    with atomic_directory(path) as directory:
        if model.config.source is not None:
            carry_files(model.config.source.directory, directory)
        write_safetensors(directory / WEIGHTS, tensors, stored_as)
        _write_json(directory / CONFIG, values, indent=2)
        if tokenizer is not None:
            tokenizer.save(str(directory / "tokenizer.json"))
            flush_to_disk(directory / "tokenizer.json")
        for name, value in (records or {}).items():
            _write_json(directory / name, value, indent=1)
    if refusal:
        warnings.warn(
            f"{path}: transformers does not load this model, tinyslm does: {refusal}", CheckpointWarning, stacklevel=2
        )


def check_savable(model: Module) -> None:
    """Raise the error of `save_model` for a model that the files of its family cannot hold. Writes nothing."""
    _contents(model)


def _contents(model):
    """What `save_model` writes, as far as the form of the model determines it.

    Returns config.json, {tensor name: mapping}, {path of a compressed module: (entry, arrays)}, and the reason why
    transformers does not load it, or "".
    Raises ConfigError or CheckpointError for a model that the files of its family cannot hold.
    """
    family, outline = _family_and_outline(model)
    values = family.write_config(outline.config)
    arrays, compressed = named_arrays(model), compressed_modules(model, outline)
    _check_shapes(arrays, named_arrays(outline), compressed)
    mappings = written_mappings(family, arrays, model.config.without_prefix, compressed)
    own_paths = [mapping.paths[0] for mapping in mappings.values() if mapping.compressed]
    modules = named_modules(model)
    described = {path: describe(path, modules[path]) for path in sorted({p.rpartition(".")[0] for p in own_paths})}
    return values, mappings, described, _refusal(family, outline.config)


def _refusal(family, config):
    """Why transformers does not load the configuration, and whether it does as a Mistral, or "".

    The layout of Mistral holds many configurations of the Llama kind, and transformers does not check its sizes.
    """
    reason, other = family.refusal(config), "mistral"
    try:
        FAMILIES[other].write_config(replace(config, family=other))
    except ConfigError:
        return reason
    return reason and f"{reason}; it does if `family` of the configuration is {other!r}"


def _stored_dtypes(arrays, dtype, source):
    """{name: dtype of the format} of arrays that are not of compressed modules. dtype: as of `save_model`."""
    if dtype is None and source is not None:
        kept = STORED_AS[source.dtype]
        return {name: kept if is_exact(array, kept) else "F32" for name, array in arrays.items()}
    return dict.fromkeys(arrays, STORED_AS[dtype or "float32"])


def _write_json(path, value, indent):
    path.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")
    flush_to_disk(path)


def _family_and_outline(tree):
    """The family of a model or its gradients, and a dense model of the same configuration with shapes only.

    Raises CheckpointError for weights that are mapped from a file.
    """
    for path, module in named_modules(tree, MappedLayer).items():
        if named_arrays(module):  # a tree of gradients has none
            raise CheckpointError(
                f"{path} is memory-mapped: copy the directory from which this model was loaded, "
                'or load it with weights="float32" or "int8"'
            )
    family = find_family(tree.config.family, "the model's configuration").for_config(tree.config)
    return family, shape_model(replace(tree.config, tie_word_embeddings=tree.head is None))


def _check_shapes(arrays, expected, compressed):
    """Raise CheckpointError where the model's arrays do not have the shapes of its configuration."""
    for path in expected.keys() | arrays.keys():
        if path.rpartition(".")[0] in compressed:
            continue
        found, wanted = (np.shape(side[path]) if path in side else "nothing" for side in (arrays, expected))
        if found != wanted:
            raise CheckpointError(f"{path} is {found}, but the model's configuration requires {wanted}")
