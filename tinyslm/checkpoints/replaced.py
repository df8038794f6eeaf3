"""Compressed modules in a checkpoint.

What no family knows is stored under its own path: the arrays of the module at "layers.3.feed_forward.up" as tensors
"layers.3.feed_forward.up.codes" and so on, bit for bit, and its other fields in config.json:

    "tinyslm": {"replaced": {"layers.3.feed_forward.up": {"kind": "QuantizedLinear", "integer_products": true}}}
"""

from dataclasses import MISSING, fields

import numpy as np

from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.packing import PACKING
from tinyslm.compression.factorization.low_rank_linear import LowRankLinear
from tinyslm.compression.pruning.masked_linear import MaskedLinear
from tinyslm.compression.quantization.quantized_embedding import QuantizedEmbedding
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.modules import Linear
from tinyslm.tree import is_array

SECTION = "tinyslm"
KINDS = {kind.__name__: kind for kind in (Linear, LowRankLinear, MaskedLinear, QuantizedEmbedding, QuantizedLinear)}


def describe(path, module):
    """(entry of config.json, {name: array}) of a module. Raises CheckpointError for what cannot be stored."""
    kind = type(module).__name__
    if KINDS.get(kind) is not type(module):
        raise CheckpointError(f"{path} is a {kind}, which cannot be stored; stored can be {', '.join(KINDS)}")
    entry, arrays = {"kind": kind}, {}
    for field in fields(module):
        value = getattr(module, field.name)
        if is_array(value):
            arrays[field.name] = value
        elif value is None or isinstance(value, bool | int | float | str):
            entry[field.name] = value
        else:
            raise CheckpointError(f"{path}.{field.name} is a {type(value).__name__}, which cannot be stored")
    if kind in PACKING:
        return PACKING[kind].pack(entry, arrays)
    return entry, arrays


def restore(path, entry, arrays, shape, where):
    """The module that `describe` saw, in place of a Linear or Embedding whose weight has this shape (out, in).

    Raises ConfigError or CheckpointError, naming `where`, if something is missing, unknown or does not fit.
    """
    where = f"{where}: {SECTION}.replaced.{path}"
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str) or entry["kind"] not in KINDS:
        raise ConfigError(f"{where} is {shown(entry)}, expected an object with a kind of {', '.join(KINDS)}")
    kind = KINDS[entry["kind"]]
    if entry["kind"] in PACKING:
        entry, arrays = PACKING[entry["kind"]].unpack(entry, arrays, shape, where)
    known = {field.name: field for field in fields(kind)}
    settings = {name: value for name, value in entry.items() if name != "kind"}
    for name in [*settings, *arrays]:
        if name not in known or (name in settings and name in arrays):
            raise CheckpointError(f"{where}: {kind.__name__} has no {shown(name)}, or it is given twice")
    for name, field in known.items():
        if name in settings and field.type in (bool, int, float, str) and type(settings[name]) is not field.type:
            raise ConfigError(f"{where}.{name} is {shown(settings[name])}, expected a {field.type.__name__}")
        if name not in settings and name not in arrays and field.default is MISSING:
            raise CheckpointError(f"{where}: the tensor {path}.{name} of a {kind.__name__} is missing")
    module = kind(**settings, **arrays)
    _check_use(module, shape, where)
    return module


def _check_use(module, shape, where):
    """Arrays that do not fit each other show when the module is used once."""
    try:
        multiply = getattr(module, "as_head", module)  # an embedding multiplies where it serves as the head
        found = multiply(np.zeros((1, shape[1]), np.float32)).shape
    except (ValueError, TypeError, IndexError, AttributeError) as problem:
        raise CheckpointError(f"{where}: its tensors do not fit each other or the model ({problem})") from None
    if found != (1, shape[0]):
        raise CheckpointError(f"{where}: has {found[-1]} outputs, expected {shape[0]}")
