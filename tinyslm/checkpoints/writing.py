"""Writing of a model as a directory that transformers loads. Compressed models are read back by `load_model` only."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.atomic_write import atomic_directory, flush_to_disk
from tinyslm.checkpoints.carried_files import carry_files
from tinyslm.checkpoints.compressed_modules import describe, pending_tensors
from tinyslm.checkpoints.families import FAMILIES, find_family, written_config
from tinyslm.checkpoints.folding import Layout, config_dtype, require_dtype
from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.checkpoints.own_section import REPLACED, SECTION
from tinyslm.checkpoints.reading import CONFIG, WEIGHTS
from tinyslm.checkpoints.safetensors import write_tensors
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
    for path, module in named_modules(tree, MappedLayer).items():
        if named_arrays(module):  # a tree of gradients has none
            raise CheckpointError(f'{path} is memory-mapped: load the model with weights="float32" or "int8"')
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
    require_dtype(dtype)
    layout, refusal = _layout(model)
    dense = {name: layout.pending(name, dtype) for name, mapping in layout.mappings.items() if not mapping.compressed}
    entries, tensors = {}, dict(dense)
    for module, layer in layout.compressed.items():
        entries[module], arrays = describe(module, layer)
        fields = pending_tensors(layer, arrays, f"{path}: tensor {module}")
        tensors |= {f"{module}.{name}": tensor for name, tensor in fields.items()}
    values = layout.values | {"dtype": config_dtype(dense)}
    if entries:
        values[SECTION] = values.get(SECTION, {}) | {REPLACED: entries}

    with atomic_directory(path) as directory:
        if model.config.source is not None:
            carry_files(model.config.source.directory, directory)
        write_tensors(directory / WEIGHTS, tensors)
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
    _layout(model)


def _layout(model):
    """The tensors that `save_model` writes, and the reason why transformers does not load the model, or "".

    `compressed` of the layout are the modules that are stored in their own form.
    Raises ConfigError or CheckpointError for a model that the files of its family cannot hold.
    """
    family, outline = _family_and_outline(model)
    values = written_config(family, outline.config)
    modules, arrays, dense_arrays = named_modules(model), named_arrays(model), named_arrays(outline)
    mapped = {path for path, module in modules.items() if isinstance(module, MappedLayer)}
    compressed = compressed_modules(model, outline).keys() - mapped
    _check_shapes(arrays, dense_arrays, compressed | mapped)
    paths = [path for path in dense_arrays if _module_of(path) not in compressed]
    paths += [path for path in arrays if _module_of(path) in compressed]
    mappings = written_mappings(family, paths, model.config.without_prefix, compressed)
    stored = sorted({_module_of(mapping.paths[0]) for mapping in mappings.values() if mapping.compressed})
    own_form = {path: modules[path] for path in stored}
    for path, module in own_form.items():
        describe(path, module)
    shapes = {path: array.shape for path, array in dense_arrays.items()}
    layout = Layout(model, outline, family, values, shapes, mappings, own_form, modules)
    return layout, _refusal(family, outline.config)


def _module_of(path):
    """Path of the module that has the array at a path."""
    return path.rpartition(".")[0]


def _refusal(family, config):
    """Reason why transformers does not load the configuration, and whether it does as a Mistral, or "".

    The layout of Mistral holds many configurations of the Llama kind, and transformers does not check its sizes.
    """
    reason, other = family.refusal(config), "mistral"
    try:
        FAMILIES[other].write_config(replace(config, family=other))
    except ConfigError:
        return reason
    return reason and f"{reason}; it does if `family` of the configuration is {other!r}"


def _write_json(path, value, indent):
    path.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")
    flush_to_disk(path)


def _family_and_outline(tree):
    """The family of a model or its gradients, and a dense model of the same configuration with shapes only."""
    family = find_family(tree.config.family, "the model's configuration").for_config(tree.config)
    return family, shape_model(replace(tree.config, tie_word_embeddings=tree.head is None))


def _check_shapes(arrays, expected, excluded):
    """Raise CheckpointError where arrays do not have the shapes of the configuration. excluded: paths of modules."""
    for path in expected.keys() | arrays.keys():
        if _module_of(path) in excluded:
            continue
        found, wanted = (np.shape(side[path]) if path in side else "nothing" for side in (arrays, expected))
        if found != wanted:
            raise CheckpointError(f"{path} is {found}, but the model's configuration requires {wanted}")
