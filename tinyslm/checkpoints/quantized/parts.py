"""The tensors that make up a quantized weight, and the settings of its format in config.json, with their checks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.encoded_tensor import EncodedTensor, Encoding
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.tree import Array

FLOATS = ("F32", "F16", "BF16")  # dtypes of scales
MOST_BITS = 8


@dataclass(frozen=True)
class Settings:
    """An object in config.json, such as "quantization_config"."""

    values: dict[str, Any]
    prefix: str  # the file and the keys around, before the name of a key in a message

    def choice(self, key, choices, default=None, advice=""):
        """A value that is one of the choices. Raises ConfigError."""
        value = self.values.get(key, default)
        if not any(type(value) is type(each) and value == each for each in choices):
            expected = " or ".join(map(shown, choices))
            raise ConfigError(f"{self.prefix}{key} is {shown(value)}, expected {expected}{advice}")
        return value

    def integer(self, key, least, most, default=None):
        """A whole number. Raises ConfigError."""
        value = self.values.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise ConfigError(f"{self.prefix}{key} is {shown(value)}, expected a whole number from {least} to {most}")
        return value

    def number(self, key, least, most, default=None):
        """A number. Raises ConfigError."""
        value: Any = self.values.get(key, default)
        if type(value) not in (int, float) or not least <= value <= most:
            raise ConfigError(f"{self.prefix}{key} is {shown(value)}, expected a number from {least:g} to {most:g}")
        return float(value)

    def group_size(self, default=None):
        """Number of inputs that share a scale; None for -1 and null, one scale per row. Raises ConfigError."""
        value = self.values.get("group_size", default)
        if value is None or (value == -1 and type(value) is int):
            return None
        if type(value) is not int or value < 1:
            raise ConfigError(f"{self.prefix}group_size is {shown(value)}, expected a whole number above 0, or -1")
        return value

    def section(self, key):
        """An object inside, or None if it is missing or null. Raises ConfigError."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise ConfigError(f"{self.prefix}{key} is {shown(value)}, expected an object")
        return None if value is None else Settings(value, f"{self.prefix}{key}.")


@dataclass(frozen=True)
class Parts:
    """The tensors of one quantized module, by the last parts of their names."""

    module: str
    tensors: dict[str, StoredTensor]

    @property
    def file(self) -> Path:
        """A file that holds some of them."""
        return next(iter(self.tensors.values())).file

    def __contains__(self, field):
        return field in self.tensors

    def take(self, field, dtypes: Iterable[str], shape: tuple | None = None) -> StoredTensor:
        """The tensor of this name. Raises CheckpointError if it is missing, or of another dtype or shape.

        shape: None in place of a size allows any size.
        """
        name = f"{self.module}.{field}"
        tensor = self.tensors.get(field)
        if tensor is None:
            raise CheckpointError(
                f"{self.file}: tensor {shown(name)} is missing; {shown(next(iter(self.tensors.values())).name)} cannot "
                "be read without it"
            )
        if tensor.dtype not in dtypes:
            raise CheckpointError(
                f"{tensor.file}: tensor {shown(name)}: dtype is {tensor.dtype}, expected {' or '.join(dtypes)}"
            )
        if shape is not None and not _matches(tensor.shape, shape):
            expected = str(shape).replace("None", "any")
            raise CheckpointError(f"{tensor.file}: tensor {shown(name)}: shape is {tensor.shape}, expected {expected}")
        return tensor

    def take_matrix(self, field, dtypes: Iterable[str]) -> tuple[StoredTensor, int, int]:
        """(tensor, rows, columns) as of `take`."""
        tensor = self.take(field, dtypes, (None, None))
        rows, columns = tensor.shape
        return tensor, rows, columns


def _matches(shape, wanted):
    """Whether a shape has the wanted sizes. None in place of a size allows any size."""
    return len(shape) == len(wanted) and all(size in (None, n) for n, size in zip(shape, wanted, strict=True))


def with_encoded(
    tensors: dict[str, StoredTensor],
    fields: Iterable[str],
    code_dtypes: Iterable[str],
    encode: Callable[[Parts], Encoding],
) -> dict[str, StoredTensor | EncodedTensor]:
    """The tensors with one EncodedTensor "MODULE.weight" in place of the parts of each quantized module.

    fields: ends of the names of parts besides "weight", without the dot before them;  code_dtypes: dtypes of a
    "weight" that is quantized;  encode: the encoding of the parts of a module.
    """
    modules: dict[str, dict[str, StoredTensor]] = {}
    kept: dict[str, StoredTensor | EncodedTensor] = {}
    for name, tensor in tensors.items():
        field = next((field for field in fields if name.endswith(f".{field}")), None)
        if field is None and name.endswith(".weight") and tensor.dtype in code_dtypes:
            field = "weight"
        if field is None:
            kept[name] = tensor
        else:
            modules.setdefault(name.removesuffix(f".{field}"), {})[field] = tensor
    for module, found in modules.items():
        name = f"{module}.weight"
        if "weight" not in found and name in tensors:
            found["weight"] = tensors[name]
        parts = Parts(module, found)
        encoding = encode(parts)
        kept[name] = EncodedTensor(parts.file, name, encoding.shape, encoding)
    return kept


def finite(tensor: StoredTensor, rows: Any = ...) -> Array:
    """Some rows of a tensor of scales in float32. Raises CheckpointError for nan and infinity."""
    scales = tensor.part(rows).read(np.float32) if isinstance(rows, slice) else tensor.read(np.float32)
    if not np.all(np.isfinite(scales)):
        raise CheckpointError(f"{tensor.file}: tensor {shown(tensor.name)} holds nan or infinity; load the file again")
    return scales


def groups_of(parts: Parts, columns: int, group_size: int | None) -> int:
    """Number of groups per row of a matrix with `columns` inputs. Raises CheckpointError if it is not whole."""
    if group_size is None:
        return 1
    if columns % group_size:
        raise CheckpointError(
            f"{parts.file}: {shown(parts.module)} has {columns} inputs, expected a multiple of group_size {group_size}"
        )
    return columns // group_size


def scales_named(group_size: int | None) -> str:
    """Name of the set of numbers that share a scale: a row, or groups of some size."""
    return "row" if group_size is None else f"groups of {group_size}"
