"""Reading a model from a directory: config.json and one or several safetensors files."""

import os
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from tinyslm.checkpoints.canonical_tensors import (
    is_tied,
    optional_parts,
    with_bias_of_head,
    with_current_names,
    without_copies,
    without_head,
)
from tinyslm.checkpoints.compressed_modules import SECTION, restore
from tinyslm.checkpoints.families import family_of
from tinyslm.checkpoints.json_files import read_json, shown
from tinyslm.checkpoints.mask_packing import without_packing
from tinyslm.checkpoints.safetensors import FLOATING, read_safetensors
from tinyslm.checkpoints.tensor_mapping import REPLACEABLE, places
from tinyslm.checkpoints.weight_formats import FORMS
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.models import shape_model
from tinyslm.modules import MixtureOfExperts
from tinyslm.parallel import map_in_threads
from tinyslm.tree import map_arrays, map_modules, named_arrays, named_modules

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def load_model(path, weights="float32"):
    """The model in a Hugging Face directory. Files are mapped, and read a few rows at a time.

    weights: how those of linear layers and embeddings are held.
    "float32": as arrays in memory.
    "int8": as `recipes.Quantize` leaves them, one byte each. There is never more than that model in memory.
    "mapped": in their files, which must stay as they are, in the precision they have there; widened when they multiply.
    Everything else becomes float32: norms, biases, routers of mixtures. Modules that were compressed when they were
    saved stay as they were.

    Raises CheckpointError where a file or tensor is missing, damaged, unknown or of the wrong shape, ConfigError where
    config.json holds what cannot be honoured.
    """
    if weights not in FORMS:
        raise ConfigError(f"weights is {shown(weights)}, expected one of {', '.join(FORMS)}")
    return _read(path, FORMS[weights])


def outline_model(path):
    """The model of `load_model` with zeros that take no memory for its numbers: of the files only headers are read.

    Raises as `load_model`, but for damage that shows only in the numbers. A mask does not tell here what it removes.
    """
    return _read(path)


def _read(path, hold=None):
    """The model with its weights held by one of FORMS, or in outline."""
    directory = Path(path)
    if not os.path.isdir(directory):
        problem = "is a file, expected a directory" if os.path.exists(directory) else "no such directory"
        raise CheckpointError(f"{directory}: {problem} with {CONFIG} and {WEIGHTS}")
    where = directory / CONFIG
    values = read_json(where)
    family = family_of(values, where)
    config = family.read_config(values, where)
    family = family.for_config(config)
    replaced = _replaced_entries(values, where)
    stored = stored_tensors(directory)
    tensors = without_copies(with_current_names(stored, family), family)
    _check_counts(config, tensors, where)

    dense = [name for name in tensors if name.rpartition(".")[0] not in replaced]
    bare = not any(name.startswith(family.base) for name in dense)
    tied = "head" not in replaced and is_tied(tensors, config.tie_word_embeddings, family, bare)
    config = replace(config, without_prefix=bare, tie_word_embeddings=tied, **optional_parts(tensors, family, bare))
    if family.renamed:
        config = replace(config, gamma_beta_names=any(name.endswith(tuple(family.renamed)) for name in stored))
    tensors = (without_head if tied else with_bias_of_head)(tensors, family, bare)
    return _fill(family, config, replaced, tensors, where, hold)


def stored_tensors(directory):
    """{name: tensor} of all the weight files of a directory, none of them read yet."""
    directory = Path(directory)
    if os.path.exists(directory / WEIGHTS) or not os.path.exists(directory / INDEX):
        if not os.path.exists(directory / WEIGHTS) and any(directory.glob("model-*.safetensors")):
            raise CheckpointError(f"{directory / INDEX}: no such file, which tells what is in the other weight files")
        return read_safetensors(directory / WEIGHTS)
    where = directory / INDEX
    files = read_json(where).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(f"{where}: weight_map is {shown(files)}, expected an object of file names")
    shards = {}
    for name in sorted(set(files.values())):
        if Path(name).name != name or name in ("", "..", "."):
            raise CheckpointError(f"{where}: names the file {shown(name)}, expected one in the same directory")
        if not os.path.exists(directory / name):
            raise CheckpointError(f"{where}: names the file {shown(name)}, but there is no such file")
        shards[name] = read_safetensors(directory / name)
    tensors = {}
    for name, file in files.items():
        if name not in shards[file]:
            raise CheckpointError(f"{directory / file}: tensor {shown(name)} is missing, which {INDEX} expects in it")
        tensors[name] = shards[file][name]
    return tensors


def _replaced_entries(values, where):
    section = values.get(SECTION, {})
    entries = section.get("replaced", {}) if isinstance(section, dict) else None
    if not isinstance(entries, dict):
        raise ConfigError(f"{where}: {SECTION} is {shown(section)}, expected an object with the object 'replaced'")
    return entries


def _check_counts(config, tensors, where):
    """A model with more layers or experts than the files have tensors is a lie, and would fill the memory."""
    parts = (config.num_hidden_layers + config.num_decoder_layers) * max(config.num_experts, 1)
    if parts > len(tensors):
        raise ConfigError(f"{where}: claims {parts} layers or experts, but there are {len(tensors)} tensors in all")


def _fill(family, config, replaced, tensors, where, hold):
    """The model of a configuration with the numbers of the tensors, or in outline (hold is None) with zeros."""
    skeleton = shape_model(config)
    plain = named_modules(skeleton, REPLACEABLE)
    for path in replaced.keys() - plain.keys():
        raise ConfigError(f"{where}: {SECTION}.replaced names {shown(path)}, which this {config.family} model has not")
    shapes = {
        path: array.shape for path, array in named_arrays(skeleton).items() if path.rpartition(".")[0] not in replaced
    }
    outline = hold is None
    modules, unread = _restored(replaced, plain, tensors, where, outline)
    stored = {}
    for name, place in places(family, shapes, config.without_prefix).items():
        wanted = [shapes[path] for path in place.paths]
        tensor = _checked(unread.pop(name, None), name, place.stored_shape(wanted), where.parent)
        stored |= zip(place.paths, place.split(tensor, [shape[0] for shape in wanted]), strict=True)
    for name, tensor in unread.items():
        if not any(fnmatchcase(name, pattern) for pattern in family.ignored):
            raise CheckpointError(
                f"{tensor.file}: unknown tensor {shown(name)}, which this {config.family} model has not"
            )
    arrays = {}
    if not outline:
        modules |= _held(hold, skeleton, stored)
        arrays = {path: tensor.read(np.float32) for path, tensor in stored.items()}
    model = map_modules(lambda path, module: modules.get(path, module), skeleton, REPLACEABLE)
    return map_arrays(lambda path, array: arrays.get(path, array), model)


def _held(hold, skeleton, stored):
    """{path: module} of the linear layers and embeddings with their weights, which are taken out of `stored`.

    Not of routers: their few weights decide everything, and are always float32.
    """
    routers = {f"{path}.router" for path in named_modules(skeleton, MixtureOfExperts)}
    plain = {path: module for path, module in named_modules(skeleton, REPLACEABLE).items() if path not in routers}
    tensors = {}
    for path in list(stored):
        module, _, name = path.rpartition(".")
        if module in plain:
            tensors.setdefault(module, {})[name] = stored.pop(path)
    held = map_in_threads(lambda path: hold(plain[path], tensors[path]), tensors)
    return dict(zip(tensors, held, strict=True))


def _restored(replaced, plain, tensors, where, outline):
    """({path: what stands in for a plain module}, {name: tensor} of the tensors that no such module needs)."""
    below, others = {path: {} for path in replaced}, {}
    for name, tensor in tensors.items():
        path, _, field = name.rpartition(".")
        if path in below:
            below[path][field] = tensor
        else:
            others[name] = tensor
    modules = {}
    for path, entry in replaced.items():
        if outline:
            shape = next(iter(named_arrays(plain[path]).values())).shape  # (out, in)
            arrays = without_packing({field: tensor.zeros() for field, tensor in below[path].items()}, shape)
        else:
            arrays = {field: tensor.read() for field, tensor in below[path].items()}
        modules[path] = restore(path, entry, arrays, plain[path], where)
    return modules, others


def _checked(tensor, name, shape, directory):
    if tensor is None:
        raise CheckpointError(f"{directory}: tensor {shown(name)} of shape {shape} is missing")
    if tensor.shape != shape:
        raise CheckpointError(f"{tensor.file}: tensor {shown(name)}: shape is {tensor.shape}, expected {shape}")
    if tensor.dtype not in FLOATING:
        raise CheckpointError(
            f"{tensor.file}: tensor {shown(name)}: dtype is {tensor.dtype}, expected {' '.join(FLOATING)}"
        )
    return tensor
