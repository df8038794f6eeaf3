"""Writing of a model as a GGUF file. One tensor at a time is in memory beside the model."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyslm.checkpoints.atomic_write import atomic_file, check_parent
from tinyslm.checkpoints.families import find_family
from tinyslm.checkpoints.gguf.container import TYPE_NUMBERS
from tinyslm.checkpoints.gguf.metadata import (
    ARCHITECTURES,
    WITH_WINDOWS,
    check_settings,
    exported_config,
    settings_metadata,
    settings_tensors,
)
from tinyslm.checkpoints.gguf.quantization import (
    BLOCK,
    blocks_of_codes,
    encode_numbers,
    encode_tiles,
    holds_exactly,
    largest_change,
    stored_bytes,
    type_of_codes,
)
from tinyslm.checkpoints.gguf.tensor_names import REORDERED, REORDERED_FAMILIES, row_order, with_gguf_names
from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.checkpoints.safetensors import STORED_AS
from tinyslm.checkpoints.tensor_mapping import tensor_mappings
from tinyslm.compression.quantization import QuantizedArray, QuantizedEmbedding, StaticQuantizedLinear
from tinyslm.errors import CheckpointError, ConfigError, Error
from tinyslm.models import shape_model
from tinyslm.modules import Embedding, Linear, LinearLayer, WeightLayer
from tinyslm.tree import named_arrays, named_modules

PLAIN = (Embedding, Linear, MappedLayer)  # layers whose matrix is stored as numbers
FLOATING_TYPES = ("F32", "F16", "BF16")
BLOCK_TYPES = ("Q8_0", "Q4_0", "Q4_1")
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "BF16": 32}  # "general.file_type" of llama.cpp
FALLBACK = "F16"  # of matrices whose rows are not whole blocks, as in llama.cpp
OUTPUT, EMBEDDING, POSITIONS = "output.weight", "token_embd.weight", "position_embd.weight"


class Plan(NamedTuple):
    """Plan of one tensor. paths: of its arrays in the model, which are joined;  codes: keep those of layers."""

    name: str
    paths: tuple[str, ...]
    shape: tuple[int, ...]
    type: str
    codes: bool = False


@dataclass
class Layers:
    """Compressed layers of one kind. The sizes are bytes of their matrices in the model, and in the file."""

    kind: str
    type: str
    codes: bool  # whether their codes are kept; otherwise their matrices are dense in the file
    count: int = 0
    own_bytes: int = 0
    written_bytes: int = 0


class Export(NamedTuple):
    """Report of an export. types: {type: (tensors, bytes)};  notes: sentences about what differs from the model."""

    architecture: str
    types: dict[str, tuple[int, int]]
    layers: list[Layers]
    notes: list[str]


def check_new_file(path: str | Path) -> None:
    """Raise Error unless a new file can be written: nothing is there, and the directory can be written."""
    if os.path.lexists(path):
        raise Error(f"{path}: exists already; choose another path or remove it first")
    check_parent(path)


def save_gguf(
    path: str | Path,
    model: Any,
    dtype: str | None = None,
    vocabulary: dict[str, Any] | None = None,
    progress: Callable[[list[Plan]], Iterable[Plan]] = iter,
) -> Export:
    """Write a model as a GGUF file, completely or not at all.

    dtype: type of the matrices, one of FLOATING_TYPES and BLOCK_TYPES. Norms and biases are F32. Layers that hold codes
    keep them in Q8_0, Q4_0 or Q4_1 where these hold them, unless `dtype` is a floating-point type. With 4 bits, the
    matrix of the logits is Q8_0. None: the dtype of the file from which the model was loaded for each matrix of which
    it holds every number, otherwise F32.
    vocabulary: metadata of the tokenizer, whole keys; None: the file has none.
    progress: called with the tensors, gives them one after the other.
    Raises ConfigError for a family or setting that a GGUF file cannot hold, or without the package gguf;
    CheckpointError for numbers that a type cannot hold; Error if the file exists or cannot be written.
    """
    if dtype not in (None, *FLOATING_TYPES, *BLOCK_TYPES):
        raise ConfigError(f"dtype is {dtype!r}, expected one of {', '.join(FLOATING_TYPES + BLOCK_TYPES)}, or None")
    path = Path(path)
    check_new_file(path)
    config = replace(exported_config(model.config, path), tie_word_embeddings=model.head is None)
    plans, modules = _plans(config, model, dtype, path), named_modules(model)
    metadata = settings_metadata(config) | (vocabulary or {"tokenizer.ggml.model": "no_vocab"})
    check_settings(config, metadata, {plan.name: plan.shape for plan in plans}, path)
    notes = [*_notes(model.config, plans, dtype), *_rounding_notes(modules, plans)]
    export = Export(ARCHITECTURES[config.family][0], _sizes(plans), _layers(modules, plans), notes)
    most = max(export.types, key=lambda name: export.types[name][1])
    metadata |= {"general.file_type": FILE_TYPES[most], "general.quantization_version": 2}
    writer_class = _gguf_writer()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        writer = writer_class(file.name, metadata.pop("general.architecture"))
        try:
            _write(writer, metadata, config, modules, plans, progress)
        finally:
            writer.close()
    return export


def _gguf_writer():
    """The class of the package `gguf` that writes files. Raises ConfigError if it is not installed."""
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise ConfigError('writing GGUF files needs the package gguf: pip install "tinyslm[gguf]"') from None
    return GGUFWriter


def _plans(config, model, dtype, path):
    """The tensors in their order. Raises CheckpointError for arrays of other shapes than those of `config`."""
    family = with_gguf_names(find_family(config.family, path)).for_config(config)
    shapes = {name: array.shape for name, array in named_arrays(shape_model(config)).items()}
    modules = named_modules(model)
    _check_shapes(model, modules, shapes)
    plans = []
    for name, mapping in tensor_mappings(family, shapes).items():
        plan = Plan(name, mapping.paths, mapping.stored_shape(shapes), "F32")
        if len(plan.shape) == 2 and name != POSITIONS:
            plan = _with_type(plan, modules, dtype, config)
        plans.append(plan)
    return plans


def _check_shapes(model, modules, expected):
    """Raise CheckpointError for an array of another shape than expected, and for one that the file cannot hold."""
    for path in named_arrays(model):
        owner, _, name = path.rpartition(".")
        is_matrix = isinstance(modules[owner], WeightLayer) and name != "bias"
        if not is_matrix and path not in expected:
            raise CheckpointError(f"{path}: a GGUF file of a model of this configuration has no such array")
    for path, wanted in expected.items():
        owner, _, name = path.rpartition(".")
        found = _shape(modules.get(owner), name)
        if found != wanted:
            raise CheckpointError(f"{path} is {found}, but the model's configuration requires {wanted}")


def _shape(module, name):
    """The shape of the matrix of a layer, in whatever form it is stored, or of another array."""
    if isinstance(module, LinearLayer) and name == "weight":
        return module.out_features, module.in_features
    if isinstance(module, WeightLayer) and name != "bias":
        return module.shapes()[0]
    array = getattr(module, name, None)
    return "nothing" if array is None else array.shape


def _with_type(plan, modules, dtype, config):
    """The plan of a matrix with the type of its numbers or codes."""
    if dtype not in FLOATING_TYPES:
        kinds = {_codes_type(modules[path.rpartition(".")[0]]) for path in plan.paths}
        if None not in kinds and len(kinds) == 1:
            return plan._replace(type=kinds.pop(), codes=True)
    kind = dtype or _kept_type(plan, modules, config)
    is_output = plan.name == OUTPUT or (plan.name == EMBEDDING and config.tie_word_embeddings)
    if is_output and kind in ("Q4_0", "Q4_1"):
        kind = "Q8_0"
    return plan._replace(type=FALLBACK if kind in BLOCK_TYPES and plan.shape[1] % BLOCK else kind)


def _kept_type(plan, modules, config):
    """The dtype of the file from which the model was loaded if it holds all numbers of a matrix, otherwise F32."""
    kept = STORED_AS[config.source.dtype] if config.source is not None else "F32"
    if kept == "F32":
        return kept
    owners = (modules[path.rpartition(".")[0]] for path in plan.paths)
    return kept if all(holds_exactly(tile, kept) for owner in owners for tile in _tiles(owner)) else "F32"


def _tiles(owner):
    """The matrix of a layer: rows of it, one after the other, if it is mapped from a file."""
    if isinstance(owner, MappedLayer):
        return (tile for _, tile in owner.tiles())
    return [owner.dense_weight()]


def _codes(module):
    """The codes of a quantized layer, or None."""
    if isinstance(module, QuantizedEmbedding):
        return QuantizedArray(module.codes, module.scale)
    return module.quantized_weight() if hasattr(module, "quantized_weight") else None


def _codes_type(module):
    """The type that holds the codes of a layer, or None."""
    codes = _codes(module)
    return None if codes is None else type_of_codes(codes)


def _write(writer, metadata, config, modules, plans, progress):
    """Write header and tensors with a writer of the package `gguf`."""
    from gguf import GGMLQuantizationType

    for key, value in metadata.items():
        _add_value(writer, key, value)
    settings = settings_tensors(config)
    for name, array in settings.items():
        writer.add_tensor_info(name, array.shape, array.dtype, array.nbytes)
    for plan in plans:
        kind, size = GGMLQuantizationType(TYPE_NUMBERS[plan.type]), stored_bytes(plan.shape, plan.type)
        writer.add_tensor_info(plan.name, plan.shape, np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for array in settings.values():
        writer.write_tensor_data(array)
    for plan in progress(plans):
        writer.write_tensor_data(_stored(plan, config, modules, f"tensor {plan.name!r}"))


def _add_value(writer, key, value):
    """Add a value of the metadata, with the type that llama.cpp expects."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_array(key, value)


def _stored(plan, config, modules, where):
    """The tensor of a plan as it is stored."""
    is_reordered = config.family in REORDERED_FAMILIES and plan.name.endswith(REORDERED)
    first = modules[plan.paths[0].rpartition(".")[0]]
    is_one_matrix = len(plan.paths) == 1 and len(plan.shape) == 2 and not plan.codes
    if isinstance(first, MappedLayer) and is_one_matrix and not is_reordered:
        return encode_tiles(first.tiles(), plan.shape, plan.type, where)
    parts = []
    for path in plan.paths:
        owner, _, name = path.rpartition(".")
        module = modules[owner]
        if plan.codes:
            parts.append(blocks_of_codes(_codes(module)))
        elif len(plan.shape) == 2:
            parts.append(module.dense_weight())
        else:
            parts.append(getattr(module, name))
    tensor = np.concatenate(parts) if len(parts) > 1 else parts[0]  # (sum of outputs, ...)
    if is_reordered:
        tensor = tensor[np.argsort(row_order(len(tensor), config.head_dim))]
    if config.norm_offset and plan.name.endswith("norm.weight"):
        tensor = tensor + np.float32(config.norm_offset)
    return np.ascontiguousarray(tensor) if plan.codes else encode_numbers(tensor, plan.type, where)


def _sizes(plans):
    """{type: (tensors, bytes)}, the largest first."""
    counts, sizes = Counter(plan.type for plan in plans), Counter()
    for plan in plans:
        sizes[plan.type] += stored_bytes(plan.shape, plan.type)
    return {name: (counts[name], size) for name, size in sizes.most_common()}


def _notes(config, plans, dtype):
    """Sentences on the differences from the model."""
    notes = []
    window, longest = min(filter(None, config.windows), default=None), config.max_position_embeddings
    if window is not None and config.family not in WITH_WINDOWS:
        notes.append(
            f"the longest context is {min(longest, window)} tokens, that of the sliding window: the architecture has "
            "no windows"
        )
    if window is not None and config.family == "phi3" and window < longest:
        notes.append(f"llama.cpp ignores the sliding window of this family: texts of over {window} tokens differ there")
    original = next((rope.original_length for rope in config.ropes if rope and rope.scaling == "longrope"), longest)
    if config.family == "phi3" and original < longest:
        notes.append(
            f"llama.cpp uses the frequencies for long texts if it is started with a context of over {original} tokens, "
            "also for short texts"
        )
    if fallen := [plan for plan in plans if plan.type == FALLBACK and dtype in BLOCK_TYPES]:
        notes.append(
            f"{_count(len(fallen), 'matrix', 'matrices')} in {FALLBACK}, such as {fallen[0].name}: rows of "
            f"{fallen[0].shape[1]} numbers are not whole blocks of {BLOCK}"
        )
    return notes


def _compressed(modules, plans):
    """Yield (plan, module) of the matrices of compressed layers."""
    for plan in plans:
        for path in plan.paths if len(plan.shape) == 2 else ():
            module = modules[path.rpartition(".")[0]]
            if not isinstance(module, PLAIN):
                yield plan, module


def _layers(modules, plans):
    """Compressed layers, those of one kind and type together."""
    found: dict[tuple, Layers] = {}
    for plan, module in _compressed(modules, plans):
        key = type(module).__name__, plan.type, plan.codes
        layers = found.setdefault(key, Layers(*key))
        layers.count += 1
        layers.own_bytes += _matrix_bytes(module)
        layers.written_bytes += stored_bytes((module.shapes()[0][0], plan.shape[1]), plan.type)
    return list(found.values())


def _rounding_notes(modules, plans):
    """Sentences on the rounding in the file and in llama.cpp."""
    notes, compressed = [], list(_compressed(modules, plans))
    change = max((largest_change(_codes(module).scale) for plan, module in compressed if plan.codes), default=0)
    if change:
        minima = ", and so are the minima of Q4_1" if any(plan.type == "Q4_1" for plan, _ in compressed) else ""
        notes.append(f"scales are rounded to float16, by at most {change:.2g} of their size{minima}")
    rounding = sum(
        isinstance(module, StaticQuantizedLinear) or getattr(module, "dynamic_activations", False)
        for _, module in compressed
    )
    if rounding:
        notes.append(f"the rounding of the inputs of {_count(rounding, 'layer', 'layers')} is not in the file")
    if blocks := [name for name in BLOCK_TYPES if any(plan.type == name for plan in plans)]:
        notes.append(
            f"llama.cpp rounds the inputs of matrices in {' and '.join(blocks)} to 8 bits in blocks of {BLOCK}, so its "
            "results differ slightly; those of matrices in F32 are not rounded"
        )
    return notes


def _matrix_bytes(module):
    """Bytes of the stored form of a layer's matrix."""
    bias = getattr(module, "bias", None)
    return module.num_bits() // 8 - (0 if bias is None else bias.nbytes)


def _count(number, one, many):
    """ "1 matrix", "2 matrices"."""
    return f"{number} {one if number == 1 else many}"
