"""Reading of a model from a directory with config.json and one or several safetensors files, or from a GGUF file."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyslm.checkpoints.alternating_rows import AlternatingRows
from tinyslm.checkpoints.canonical_tensors import (
    is_tied,
    optional_parts,
    with_current_names,
    with_head_bias,
    without_copies,
    without_head,
    without_repeated_prefix,
)
from tinyslm.checkpoints.compressed_modules import restore, weight_shape
from tinyslm.checkpoints.directory_contents import instead_of_model
from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.families import family_of
from tinyslm.checkpoints.families.multimodal import language_model_tensors, language_model_values
from tinyslm.checkpoints.gguf.finding import find_gguf
from tinyslm.checkpoints.gguf.model_file import read_model_file
from tinyslm.checkpoints.json_files import read_json, shown
from tinyslm.checkpoints.mask_packing import unpack_outline
from tinyslm.checkpoints.own_section import REPLACED, SECTION, own_section
from tinyslm.checkpoints.quantized import with_quantized
from tinyslm.checkpoints.safetensors import FLOATING, STORED_AS, StoredTensor, read_safetensors
from tinyslm.checkpoints.tensor_mapping import REPLACEABLE, tensor_mappings
from tinyslm.checkpoints.unread_tensors import check_not_quantized, check_unread, is_task_head
from tinyslm.checkpoints.weight_formats import FORMS
from tinyslm.errors import CheckpointError, CheckpointWarning, ConfigError
from tinyslm.models import shape_model
from tinyslm.models.source import Source
from tinyslm.modules import Embedding, Linear, MixtureOfExperts
from tinyslm.parallel import map_in_threads
from tinyslm.tree import Module, map_arrays, map_modules, named_arrays, named_modules

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def load_model(path: str | Path, weights: str = "float32") -> Module:
    """The model in a Hugging Face directory or a GGUF file. Files are memory-mapped, and read a tile of rows at a time.

    weights: the form of the weights of linear layers and embeddings in memory:
    "float32": dense arrays.
    "int8": quantized as by `recipes.Quantize`, one byte each. Loading needs no more memory than the loaded model.
    "mapped": memory-mapped in the stored precision, and upcast for each product. The files must not change.
    "stored": quantized weights in the layer that holds exactly these numbers, other weights as dense arrays.
    Norms, biases and routers of mixtures are always float32. Compressed modules keep the form in which they were saved.

    Raises CheckpointError for a file or tensor that is missing, damaged, unknown or of the wrong shape, ConfigError for
    a value in config.json that is wrong or not supported.
    """
    if weights not in FORMS:
        raise ConfigError(f"weights is {shown(weights)}, expected one of {', '.join(FORMS)}")
    return _read(path, FORMS[weights])


def outline_model(path: str | Path) -> Module:
    """The outline of a model: `load_model` with zeros that need no memory. Reads only the headers of the files.

    Raises the errors of `load_model`, except for damaged numbers. The masks of an outline are all False.
    """
    return _read(path)


def _read(path, make_module=None):
    """The model with its weights in one of FORMS, or its outline if `make_module` is None."""
    file = find_gguf(path)
    if file is not None:
        return _read_gguf(file, make_module)
    directory = Path(path)
    if not os.path.isdir(directory):
        problem = "is a file, expected a directory" if os.path.exists(directory) else "no such directory"
        raise CheckpointError(f"{directory}: {problem} with {CONFIG} and {WEIGHTS}")
    where = directory / CONFIG
    if not os.path.exists(where) and (found := instead_of_model(directory)):
        raise CheckpointError(f"{directory}: {found}")
    whole = read_json(where)
    values = language_model_values(whole, where)
    family = family_of(values, where)
    config = family.read_config(values, where)
    family = family.for_config(config)
    compressed = own_section(values, where).get(REPLACED, {})  # {path: entry of a compressed module}
    stored = with_quantized(stored_tensors(directory), whole, where)
    if values is not whole:
        stored = language_model_tensors(stored, _architecture(whole))
    stored = without_repeated_prefix(stored, family)
    tensors = without_copies(with_current_names(stored, family), family)
    _check_counts(config, tensors, where)

    dense = [name for name in tensors if name.rpartition(".")[0] not in compressed]
    without_prefix = not any(name.startswith(family.base) for name in dense)
    tied = "head" not in compressed and is_tied(tensors, config.tie_word_embeddings, family, without_prefix)
    flags = optional_parts(tensors, family, without_prefix)
    if family.renamed:
        flags["gamma_beta_names"] = any(name.endswith(tuple(family.renamed)) for name in stored)
    source = Source(directory.absolute(), _most_common_dtype([tensors[name] for name in dense]))
    config = replace(config, without_prefix=without_prefix, tie_word_embeddings=tied, source=source, **flags)
    tensors = (without_head if tied else with_head_bias)(tensors, family, without_prefix)
    return _fill(family, config, compressed, tensors, where, make_module, _architecture(whole))


def _read_gguf(path, make_module):
    """The model in a GGUF file, as of `_read`."""
    model = read_model_file(path, is_outline=make_module is None)
    config = model.family.read_config(model.settings, path)
    _check_counts(config, model.tensors, path)
    config = replace(config, source=Source(path.absolute(), _most_common_dtype(model.tensors.values())))
    return _fill(model.family.for_config(config), config, {}, model.tensors, path, make_module, None)


def _most_common_dtype(tensors):
    """The dtype of config.json that most of the dense bytes have; "float32" without tensors of such a dtype."""
    dense = [tensor for tensor in tensors if isinstance(tensor, StoredTensor)]
    sizes = {name: sum(tensor.nbytes for tensor in dense if tensor.dtype == dtype) for name, dtype in STORED_AS.items()}
    return max(sizes, key=lambda name: sizes[name])


def weight_tensors(directory: str | Path) -> dict[str, StoredTensor | EncodedTensor]:
    """The tensors as of `stored_tensors`, with one EncodedTensor for the parts of each quantized weight."""
    tensors, where = stored_tensors(directory), Path(directory) / CONFIG
    return with_quantized(tensors, read_json(where), where) if where.exists() else tensors


def stored_tensors(directory: str | Path) -> dict[str, StoredTensor | EncodedTensor]:
    """{name: tensor} of all weight files of a directory, or of a GGUF file. Reads only the headers.

    The index names the files. The tensors are those that are in the files, as in transformers.
    """
    file = find_gguf(directory)
    if file is not None:
        return read_model_file(file, is_outline=True).tensors
    directory = Path(directory)
    if os.path.exists(directory / WEIGHTS):
        return {**read_safetensors(directory / WEIGHTS)}
    if not os.path.exists(directory / INDEX):
        if any(directory.glob("model-*.safetensors")):
            raise CheckpointError(f"{directory / INDEX}: no such file; it must list the other weight files")
        found = instead_of_model(directory)
        raise CheckpointError(f"{directory}: {found}" if found else f"{directory / WEIGHTS}: no such file")
    where = directory / INDEX
    files = read_json(where).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(f"{where}: weight_map is {shown(files)}, expected an object of file names")
    tensors = {}
    for name in sorted(set(files.values())):
        if Path(name).name != name or name in ("", "..", "."):
            raise CheckpointError(f"{where}: names the file {shown(name)}, expected one in the same directory")
        if not os.path.exists(directory / name):
            raise CheckpointError(f"{where}: names the file {shown(name)}, but there is no such file")
        shard = read_safetensors(directory / name)
        twice = next(iter(shard.keys() & tensors.keys()), None)
        if twice is not None:
            raise CheckpointError(f"{directory / name}: tensor {shown(twice)} is also in {tensors[twice].file.name}")
        tensors |= shard
    return tensors


def _check_counts(config, tensors, where):
    """Raise ConfigError if config.json has more layers or experts than the files have tensors.

    Without this check, a wrong number could allocate all memory.
    """
    dense = sum(getattr(config, "dense_layers", ()))
    parts = (config.num_hidden_layers + config.num_decoder_layers - dense) * max(config.num_experts, 1) + dense
    if parts > len(tensors):
        raise ConfigError(f"{where}: has {parts} layers or experts, but the files have only {len(tensors)} tensors")


def _architecture(values):
    """The class of the model in transformers that a config.json names, or None."""
    names = values.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None


def _fill(family, config, compressed, tensors, where, make_module, architecture):
    """The model with the values of the tensors, or with zeros if `make_module` is None (outline)."""
    outline = shape_model(config)
    replaceable = named_modules(outline, REPLACEABLE)
    for path in compressed.keys() - replaceable.keys():
        raise ConfigError(
            f"{where}: {SECTION}.replaced names {shown(path)}, which does not exist in this {config.family} model"
        )
    arrays = {path: array for path, array in named_arrays(outline).items() if path.rpartition(".")[0] not in compressed}
    shapes = {path: array.shape for path, array in arrays.items()}
    modules, unread = _restored(compressed, replaceable, tensors, where, is_outline=make_module is None)
    stored = {}
    container = where.parent if where.name == CONFIG else where
    mappings = tensor_mappings(family, shapes, config.without_prefix)
    _check_prefix(mappings, unread, family)
    check_not_quantized(unread)
    for name, mapping in mappings.items():
        tensor = unread.pop(name, None)
        shape = mapping.stored_shape(shapes, tensor is not None and tensor.rows_are_outputs)
        _check(tensor, name, shape, container, unread)
        stored |= mapping.split(tensor, shapes)
    check_unread(unread, family, architecture)
    numbers = {}
    if make_module is not None:
        modules |= _modules_in_format(make_module, outline, stored)
        numbers = {path: tensor.read(np.float32) for path, tensor in stored.items()}
    model = map_modules(lambda path, module: modules.get(path, module), outline, REPLACEABLE)
    return map_arrays(lambda path, array: numbers.get(path, array), model)


def _check_prefix(expected, tensors, family):
    """Raise CheckpointError if a tensor is missing, and stored under its name behind a prefix."""
    name = next((name for name in expected if name not in tensors), None)
    for found, tensor in tensors.items() if name else ():
        for known in (family.base + name.removeprefix(family.base), name):
            if found.endswith(f".{known}"):
                prefix = found.removesuffix(known)
                raise CheckpointError(
                    f"{tensor.file}: tensor {shown(found)} has the prefix {shown(prefix)} before {shown(known)}; save "
                    "the model inside, or rename its tensors"
                )


def _modules_in_format(make_module, outline, stored):
    """{path: module} of linear layers and embeddings in the form of `make_module`. Removes their tensors from `stored`.

    Routers are excluded: they are small, and rounding them can change the choice of experts.
    """
    routers = {f"{path}.router" for path in named_modules(outline, MixtureOfExperts)}
    plain = {path: module for path, module in named_modules(outline, REPLACEABLE).items() if path not in routers}
    tensors = {}
    for path in list(stored):
        module, _, name = path.rpartition(".")
        if module in plain:
            tensors.setdefault(module, {})[name] = stored.pop(path)
    modules = map_in_threads(lambda path: make_module(plain[path], tensors[path]), tensors)
    made = dict(zip(tensors, modules, strict=True))
    if make_module is FORMS["stored"]:
        _warn_of_dequantized(made, tensors)
    return made


def _warn_of_dequantized(modules, tensors):
    """Warn about quantized weights that no layer holds. tensors: {path of a module: {name of an array: tensor}}."""
    encoded = {}
    for path, found in tensors.items():
        for part in found.values():
            tensor = part.tensor if isinstance(part, AlternatingRows) else part
            if isinstance(tensor, EncodedTensor):
                encoded[path] = tensor
    dense = [path for path in encoded if isinstance(modules[path], Linear | Embedding)]
    if dense:
        first = encoded[dense[0]]
        warnings.warn(
            f"{first.file.parent}: {len(dense)} of {len(encoded)} quantized weights are dequantized, because no layer "
            f"holds their form exactly: {shown(first.name)} ({first.storage.format})"
            f"{', ...' if len(dense) > 1 else ''}",
            CheckpointWarning,
            stacklevel=2,
        )


def _restored(compressed, replaceable, tensors, where, is_outline):
    """({path: compressed module}, {name: tensor} of the tensors that belong to no compressed module)."""
    fields, others = {path: {} for path in compressed}, {}
    for name, tensor in tensors.items():
        path, _, field = name.rpartition(".")
        if path in fields:
            fields[path][field] = tensor.zeros() if is_outline else tensor.read()
        else:
            others[name] = tensor
    modules = {}
    for path, entry in compressed.items():
        plain, arrays = replaceable[path], fields[path]
        if is_outline:
            arrays = unpack_outline(arrays, weight_shape(plain), f"{where}: {SECTION}.replaced.{path}")
        modules[path] = restore(path, entry, arrays, plain, where)
    return modules, others


def _check(tensor, name, shape, container, others):
    """Raise CheckpointError if the tensor is None, or of another shape or kind of dtype.

    container: the directory or file;  others: its tensors that are not read yet. Both are for the message.
    """
    if tensor is None:
        heads = [shown(other) for other in others if is_task_head(other)]
        instead = f"; the file holds the head of another task ({heads[0]})" if heads else ""
        raise CheckpointError(f"{container}: tensor {shown(name)} of shape {shape} is missing{instead}")
    if tensor.shape != shape:
        raise CheckpointError(f"{tensor.file}: tensor {shown(name)}: shape is {tensor.shape}, expected {shape}")
    if tensor.dtype not in FLOATING:
        raise CheckpointError(
            f"{tensor.file}: tensor {shown(name)}: dtype is {tensor.dtype}, expected {' '.join(FLOATING)}"
        )
