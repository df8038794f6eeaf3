"""Reading a model from a directory: config.json and one or several safetensors files."""

import os
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from tinyslm.checkpoints.families import family_of
from tinyslm.checkpoints.json_files import read_json, shown
from tinyslm.checkpoints.layout import REPLACEABLE, places
from tinyslm.checkpoints.replaced import SECTION, restore
from tinyslm.checkpoints.safetensors import FLOATING, read_safetensors
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.models import shape_model
from tinyslm.tree import map_arrays, map_modules, named_arrays, named_modules

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def load_model(path):
    """The model in a Hugging Face directory, its weights as float32 arrays in memory; compressed ones as they were.

    Raises CheckpointError where a file or tensor is missing, damaged, unknown or of the wrong shape, ConfigError where
    config.json holds what cannot be honoured.
    """
    directory = Path(path)
    if not os.path.isdir(directory):
        problem = "is a file, expected a directory" if os.path.exists(directory) else "no such directory"
        raise CheckpointError(f"{directory}: {problem} with {CONFIG} and {WEIGHTS}")
    where = directory / CONFIG
    values = read_json(where)
    family = family_of(values, where)
    config = family.read_config(values, where)
    replaced = _replaced_entries(values, where)
    tensors = _with_names_of_today(stored_tensors(directory), family)
    _check_counts(config, tensors, where)

    dense = [name for name in tensors if name.rpartition(".")[0] not in replaced]
    bare = not any(name.startswith(family.base) for name in dense)
    tied = "head" not in replaced and _is_tied(tensors, config.tie_word_embeddings, family, bare)
    config = replace(config, bare_names=bare, tie_word_embeddings=tied, **_parts(tensors, family, bare))
    if tied:
        tensors = _without_head(tensors, family, bare)
    return _fill(family, config, replaced, tensors, where)


def stored_tensors(directory):
    """{name: tensor} of all the weight files of a directory, none of them read yet."""
    directory = Path(directory)
    if os.path.exists(directory / WEIGHTS) or not os.path.exists(directory / INDEX):
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
            raise CheckpointError(f"{directory / name}: no such file, but {INDEX} expects tensors in it")
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
    parts = config.num_hidden_layers * max(config.num_experts, 1)
    if parts > len(tensors):
        raise ConfigError(f"{where}: claims {parts} layers or experts, but there are {len(tensors)} tensors in all")


def _with_names_of_today(tensors, family):
    """The tensors by the endings that their names have today."""

    def renamed(name):
        before, _, ending = name.rpartition(".")
        return f"{before}.{family.renamed[ending]}" if ending in family.renamed else name

    return {renamed(name): tensor for name, tensor in tensors.items()}


def _parts(tensors, family, bare):
    """The flags of the configuration that say which of its optional parts a model has: those with tensors."""
    flags = {}
    for flag, (stored, module) in family.optional.items():
        beginnings = (stored.removeprefix(family.base) if bare else stored, module)  # as stored, or compressed
        flags[flag] = any(name.startswith(beginnings) for name in tensors)
    return flags


def _name(path, family, bare):
    """What a family calls one array outside the layers."""
    return next(iter(places(family, [path], bare)))


def _is_tied(tensors, says_tied, family, bare):
    """Whether the embedding serves as the head. Two different matrices do not, whatever config.json says."""
    head = tensors.get(_name("head.weight", family, bare))
    embedding = tensors.get(_name("embedding.table", family, bare))
    if head is None or embedding is None:
        return says_tied
    return says_tied and head.dtype == embedding.dtype and np.array_equal(head.bits, embedding.bits)


def _without_head(tensors, family, bare):
    """The tensors of a tied model, with the one matrix under the name of the embedding."""
    head, embedding = _name("head.weight", family, bare), _name("embedding.table", family, bare)
    kept = {name: tensor for name, tensor in tensors.items() if name != head}
    if head in tensors:
        kept.setdefault(embedding, tensors[head])
    return kept


def _fill(family, config, replaced, tensors, where):
    """The model of a configuration with the numbers of the tensors."""
    skeleton = shape_model(config)
    plain = named_modules(skeleton, REPLACEABLE)
    for path in replaced.keys() - plain.keys():
        raise ConfigError(f"{where}: {SECTION}.replaced names {shown(path)}, which this {config.family} model has not")
    shapes = {
        path: array.shape for path, array in named_arrays(skeleton).items() if path.rpartition(".")[0] not in replaced
    }
    unread = dict(tensors)
    modules = {path: _restored(path, entry, plain[path], unread, where) for path, entry in replaced.items()}
    arrays = {}
    for name, place in places(family, shapes, config.bare_names).items():
        wanted = [shapes[path] for path in place.paths]
        tensor = _checked(unread.pop(name, None), name, place.stored_shape(wanted), where.parent)
        parts = place.split(tensor.read(np.float32), [shape[0] for shape in wanted])
        arrays |= zip(place.paths, parts, strict=True)
    for name, tensor in unread.items():
        if not any(fnmatchcase(name, pattern) for pattern in family.ignored):
            raise CheckpointError(
                f"{tensor.file}: unknown tensor {shown(name)}, which this {config.family} model has not"
            )
    model = map_modules(lambda path, module: modules.get(path, module), skeleton, REPLACEABLE)
    return map_arrays(lambda path, array: arrays.get(path, array), model)


def _restored(path, entry, plain, unread, where):
    """What stands in for a plain module, from the tensors below its path, which are taken out of `unread`."""
    names = [name for name in unread if name.rpartition(".")[0] == path]
    arrays = {name.rpartition(".")[2]: unread.pop(name).read() for name in names}
    shape = next(iter(named_arrays(plain).values())).shape  # (out, in)
    return restore(path, entry, arrays, shape, where)


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
