"""Storage of compressed modules in a checkpoint.

No family has tensors for a compressed module, so its arrays are stored under its path in the model, bit for bit. For
example, the module at "layers.3.feed_forward.up" has the tensor "layers.3.feed_forward.up.codes". Its other fields are
in config.json:

    "tinyslm": {"replaced": {"layers.3.feed_forward.up": {"kind": "QuantizedLinear", "dynamic_activations": true}}}
"""

from dataclasses import fields

import numpy as np

from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.mask_packing import pack_mask, unpack_mask
from tinyslm.checkpoints.own_section import SECTION
from tinyslm.checkpoints.safetensors import pending
from tinyslm.compression.factorization.low_rank_linear import LowRankLinear
from tinyslm.compression.pruning.masked_linear import MaskedLinear
from tinyslm.compression.pruning.sparse_linear import BitmapLinear, CsrLinear, NMLinear
from tinyslm.compression.quantization.codebook_linear import AbsmaxCodebookLinear, CodebookLinear
from tinyslm.compression.quantization.llm_int8 import OutlierLinear
from tinyslm.compression.quantization.packed_linear import PackedLinear
from tinyslm.compression.quantization.packed_n_m_linear import PackedNMLinear
from tinyslm.compression.quantization.quantized_embedding import QuantizedEmbedding
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear
from tinyslm.compression.quantization.static_quantized_linear import StaticQuantizedLinear
from tinyslm.errors import CheckpointError, ConfigError, Error
from tinyslm.former_names import rename_hint
from tinyslm.modules import Embedding, Linear
from tinyslm.tree import is_array, named_arrays

SETTINGS = (bool, int, float, str)  # types of the fields that config.json holds; all other fields are arrays
KINDS = {
    kind.__name__: kind
    for kind in (
        AbsmaxCodebookLinear,
        BitmapLinear,
        CodebookLinear,
        CsrLinear,
        Linear,
        LowRankLinear,
        MaskedLinear,
        NMLinear,
        OutlierLinear,
        PackedLinear,
        PackedNMLinear,
        QuantizedEmbedding,
        QuantizedLinear,
        StaticQuantizedLinear,
    )
}


def describe(path, module):
    """(entry of config.json, {name: array}) of a module. Raises CheckpointError for a module that cannot be stored."""
    kind = type(module).__name__
    if KINDS.get(kind) is not type(module):
        raise CheckpointError(f"{path} is a {kind}, which cannot be stored; expected one of {', '.join(KINDS)}")
    entry, arrays = {"kind": kind}, {}
    for field in fields(module):
        value = getattr(module, field.name)
        if is_array(value):
            arrays[field.name] = value
        elif value is None or isinstance(value, SETTINGS):
            entry[field.name] = value
        else:
            raise CheckpointError(f"{path}.{field.name} is a {type(value).__name__}, which cannot be stored")
    return entry, arrays


def pending_tensors(module, arrays, where):
    """{name: tensor to be written} of the arrays of a compressed module."""
    tensors = {name: pending(array, f"{where}.{name}") for name, array in arrays.items()}
    return pack_mask(tensors, module.weight, module.mask) if isinstance(module, MaskedLinear) else tensors


def restore(path, entry, arrays, plain, where):
    """The compressed module of an entry and its arrays, the reverse of `describe`.

    plain: the Linear or Embedding that it replaces. Raises ConfigError or CheckpointError, naming `where`, for a
    field or array that is missing, unknown or of the wrong type or shape.
    """
    where = f"{where}: {SECTION}.replaced.{path}"
    kinds = [name for name, kind in KINDS.items() if hasattr(kind, "as_head") == isinstance(plain, Embedding)]
    if not isinstance(entry, dict) or entry.get("kind") not in kinds:
        raise ConfigError(f"{where} is {shown(entry)}, expected an object with a kind of {', '.join(kinds)}")
    kind = KINDS[entry["kind"]]
    if entry["kind"] == "MaskedLinear":
        arrays = unpack_mask(arrays, weight_shape(plain), where)
    known = {field.name: field for field in fields(kind)}
    settings = {name: value for name, value in entry.items() if name != "kind"}
    for name in [*settings, *arrays]:
        if name not in known or (name in settings and name in arrays):
            raise CheckpointError(
                f"{where}: {kind.__name__} has no {shown(name)}{rename_hint(name) or ', or it is given twice'}"
            )
    for name, field in known.items():
        if field.type in SETTINGS:
            if name in settings and type(settings[name]) is not field.type:
                raise ConfigError(f"{where}.{name} is {shown(settings[name])}, expected a {field.type.__name__}")
        elif settings.get(name) is not None:
            raise ConfigError(f"{where}.{name} is {shown(settings[name])}, expected null, or a tensor in the file")
    _check_arrays(kind, arrays, settings, path, plain, where)
    return kind(**settings, **arrays)


def weight_shape(plain) -> tuple[int, int]:
    """The shape (out, in) of the matrix of a Linear or Embedding."""
    return next(iter(named_arrays(plain).values())).shape


def _check_arrays(kind, arrays, settings, path, plain, where):
    """Raise CheckpointError unless every array is present and has the dtype and shape of this kind of layer."""
    optional = {field.name: field.default is None for field in fields(kind)}
    try:
        forms = kind.array_forms(weight_shape(plain), settings, arrays)
    except Error as problem:
        raise ConfigError(f"{where}: {problem}") from None
    for name, (number, wanted) in forms.items():
        is_null = optional[name] and name in settings
        needed = plain.bias is not None if name == "bias" else not is_null
        if name in arrays and not needed:
            raise CheckpointError(f"{where}: the tensor {path}.{name} was not expected: this layer has no {name}")
        if name not in arrays and needed:
            raise CheckpointError(f"{where}: the tensor {path}.{name} of a {kind.__name__} is missing")
        if name in arrays and not (np.issubdtype(arrays[name].dtype, number) and arrays[name].shape == wanted):
            found = f"{arrays[name].dtype}{arrays[name].shape}"
            raise CheckpointError(f"{where}: the tensor {path}.{name} is {found}, expected {number.__name__}{wanted}")
