"""Weights quantized by compressed-tensors, the format of LLM Compressor and vLLM.

    weight              (out, in)                 codes in int8, or numbers in 8-bit floating point; or
    weight_packed       (out, in * bits / 32)     codes of 2 to 8 bits, packed along the inputs, with
    weight_shape        (2,)                      out and in
    weight_scale        (1,), (out, 1), (out, groups), or one per block of rows and inputs
    weight_zero_point   as weight_scale, int8; packed along the outputs beside weight_packed
    weight_g_idx        (in,)                     group of every input; missing if the groups are neighbouring inputs
    input_scale, input_zero_point                 fixed range of the inputs, if they are quantized statically

The key quantization_config.config_groups says bits, groups and the quantization of the inputs.
Dynamic inputs have the scale max(abs(x)) / 127 here, and max(abs(x)) / 127.5 in the library.
Source: https://github.com/neuralmagic/compressed-tensors.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.checkpoints.encoded_tensor import AffineEncoding, Storage
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.quantized.grouped_codes import GroupedEncoding, Groups, unpack_rows, unpack_words, words_of
from tinyslm.checkpoints.quantized.parts import FLOATS, Parts, Settings, finite, groups_of, scales_named, with_encoded
from tinyslm.checkpoints.quantized.scaled_floats import DTYPES as FLOAT8
from tinyslm.checkpoints.quantized.scaled_floats import ScaledFloatEncoding
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.compression.quantization import QuantizedArray, StaticQuantizedLinear
from tinyslm.errors import CheckpointError, ConfigError

WEIGHT_FIELDS = ("weight_packed", "weight_shape", "weight_scale", "weight_zero_point", "weight_g_idx")
INPUT_FIELDS = ("input_scale", "input_zero_point")
FORMATS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision", "dense")
STRATEGIES = ("tensor", "channel", "group", "block")
ADVICE = "; decompress the model with the library compressed-tensors"


@dataclass(frozen=True)
class Scheme:
    """One entry of config_groups. group_size, block: None without groups or blocks of rows and inputs."""

    is_float: bool
    bits: int
    symmetric: bool
    strategy: str
    group_size: int | None
    block: list[int] | None
    dynamic_activations: bool  # inputs are quantized to 8-bit integers per token
    targets: tuple[str, ...] = ()  # names of modules, patterns of names, or classes such as "Linear"


def read(tensors: dict[str, StoredTensor], settings: Settings) -> dict[str, Any]:
    """The tensors, with one EncodedTensor for the parts of each quantized weight."""
    settings.choice("format", FORMATS, "pack-quantized", ADVICE)
    settings.choice("quantization_status", ("compressed",), "compressed", "; save the model in compressed form")
    groups = settings.section("config_groups")
    if groups is None or not groups.values:
        raise ConfigError(f"{settings.prefix}config_groups is missing, expected an object of quantization schemes")
    schemes = [_scheme(groups, name) for name in groups.values]

    def encode(parts):
        problems = []
        for scheme in _candidates(schemes, parts):
            try:
                return _encode(parts, scheme)
            except CheckpointError as problem:
                problems.append(problem)
        raise problems[0]

    return with_encoded(tensors, (*WEIGHT_FIELDS, *INPUT_FIELDS), ("I8", *FLOAT8), encode)


def _candidates(schemes, parts):
    """The schemes that can be those of a module, first those that fit its tensors.

    They have its name, otherwise a class or a pattern, otherwise any target: names in a file can differ from those of
    the configuration. Patterns are not matched: one in a file can take any time.
    """
    named = [scheme for scheme in schemes if parts.module in scheme.targets]
    general = [scheme for scheme in schemes if any(map(_is_general, scheme.targets))]
    return sorted(named or general or schemes, key=lambda scheme: scheme.symmetric == ("weight_zero_point" in parts))


def _is_general(target):
    """Whether a target is a pattern of names or the name of a class."""
    return target.startswith("re:") or "." not in target


def _scheme(groups, name):
    group = groups.section(name)
    weights = None if group is None else group.section("weights")
    if group is None or weights is None:
        raise ConfigError(f"{groups.prefix}{name} has no object 'weights', expected the quantization of the weights")
    if group.values.get("format") is not None:
        group.choice("format", FORMATS, advice=ADVICE)
    is_float = weights.choice("type", ("int", "float"), "int", ADVICE) == "float"
    strategy = weights.choice("strategy", STRATEGIES, _strategy(weights), ADVICE)
    block = weights.values.get("block_structure") if strategy == "block" else None
    if strategy == "block" and not (
        isinstance(block, list) and len(block) == 2 and all(type(size) is int and size > 0 for size in block)
    ):
        raise ConfigError(f"{weights.prefix}block_structure is {shown(block)}, expected two whole numbers above 0")
    inputs = group.section("input_activations")
    return Scheme(
        is_float,
        weights.choice("num_bits", (8,), 8, ADVICE) if is_float else weights.integer("num_bits", 2, 8, 8),
        weights.choice("symmetric", (True, False), True),
        strategy,
        weights.group_size() if strategy == "group" else None,
        block,
        inputs is not None and not is_float and _is_dynamic_int8(inputs),
        tuple(target for target in _targets(group) if isinstance(target, str)),
    )


def _targets(group):
    """The list "targets" of an entry of config_groups; empty if it is no list."""
    targets = group.values.get("targets")
    return targets if isinstance(targets, list) else []


def _strategy(weights):
    """The strategy where the key is missing or null."""
    return "tensor" if weights.values.get("group_size") is None else "group"


def _is_dynamic_int8(inputs):
    values = inputs.values
    return (
        values.get("dynamic") is True
        and values.get("type", "int") == "int"
        and values.get("num_bits", 8) == 8
        and values.get("symmetric", True) is True
        and values.get("strategy") == "token"
    )


def _encode(parts: Parts, scheme):
    if "weight_packed" in parts and not scheme.is_float:
        return _encode_packed(parts, scheme)
    if "weight_g_idx" in parts:
        raise CheckpointError(
            f"{parts.file}: {shown(parts.module)} has weight_g_idx beside numbers that are not packed{ADVICE}"
        )
    return _encode_float(parts, scheme) if scheme.is_float else _encode_int(parts, scheme)


def _encode_float(parts, scheme):
    weight, rows, columns = parts.take_matrix("weight", FLOAT8)
    if scheme.strategy == "tensor":
        block = (rows, columns)
    elif scheme.block is not None:
        block = tuple(scheme.block)
    else:
        block = (1, columns // groups_of(parts, columns, scheme.group_size))
    shape = (1,) if scheme.strategy == "tensor" else (-(-rows // block[0]), -(-columns // block[1]))
    scale = parts.take("weight_scale", FLOATS, shape)
    named = {"tensor": "matrix", "block": f"blocks of {block[0]}x{block[1]}"}
    storage = Storage("FP8", 8, named.get(scheme.strategy, scales_named(scheme.group_size)))
    return ScaledFloatEncoding((rows, columns), storage, weight, scale, *block)


def _encode_int(parts, scheme):
    if scheme.block is not None:
        raise CheckpointError(f"{parts.file}: {shown(parts.module)} has integer codes in blocks of rows{ADVICE}")
    weight, rows, columns = parts.take_matrix("weight", ("I8",))
    shape = (1,) if scheme.strategy == "tensor" else (rows, groups_of(parts, columns, scheme.group_size))
    scale = parts.take("weight_scale", FLOATS, shape)
    zero_point = None if scheme.symmetric else parts.take("weight_zero_point", ("I8",), shape)
    input_scale = input_zero_point = None
    if "input_scale" in parts:
        input_scale = parts.take("input_scale", FLOATS, (1,))
        input_zero_point = parts.take("input_zero_point", ("I8",), (1,)) if "input_zero_point" in parts else None
    named = "matrix" if scheme.strategy == "tensor" else scales_named(scheme.group_size)
    storage = Storage("int", scheme.bits, named, scheme.symmetric)
    return IntEncoding((rows, columns), storage, scheme, weight, scale, zero_point, input_scale, input_zero_point)


@dataclass(frozen=True)
class IntEncoding(AffineEncoding):
    """One matrix with a code in each byte. input_scale, input_zero_point: of inputs that are quantized statically."""

    shape: tuple[int, int]
    storage: Storage
    scheme: Scheme
    weight: StoredTensor
    scale: StoredTensor
    zero_point: StoredTensor | None
    input_scale: StoredTensor | None
    input_zero_point: StoredTensor | None

    @property
    def dynamic_activations(self) -> bool:  # type: ignore[override]
        """Whether the inputs are quantized to 8 bits per token."""
        return self.scheme.dynamic_activations and self.scheme.group_size is None

    def arrays(self):
        """Codes, scales and zero points."""
        optional = (self.zero_point, self.input_scale, self.input_zero_point)
        return [tensor.bits for tensor in (self.weight, self.scale, *optional) if tensor is not None]

    def codes(self, rows):
        """The codes of some rows. Raises CheckpointError for a code beyond the number of bits."""
        codes, most = self.weight.part(rows).read(), 2 ** (self.scheme.bits - 1)
        if self.scheme.bits < 8 and np.any((codes < -most) | (codes >= most)):
            raise CheckpointError(
                f"{self.weight.file}: tensor {shown(self.weight.name)} holds {np.min(codes)} to {np.max(codes)}, "
                f"expected codes of {self.scheme.bits} bits, from {-most} to {most - 1}"
            )
        if self.scale.shape == (1,):
            scale = finite(self.scale).reshape(())
            zero_point = None if self.zero_point is None else self.zero_point.read(np.int32).reshape(())
        else:
            scale = finite(self.scale, rows)
            zero_point = None if self.zero_point is None else self.zero_point.part(rows).read(np.int32)
        group_size = self.scheme.group_size if scale.ndim and scale.shape[1] > 1 else None
        return QuantizedArray(codes, scale, zero_point, self.scheme.bits, group_size)

    def layer(self, rows, bias):
        """A `StaticQuantizedLinear` if the inputs have a fixed range, otherwise as of `AffineEncoding`."""
        is_static = self.input_scale is not None and self.scheme.bits == 8 and self.scheme.symmetric
        if not is_static or self.scheme.group_size is not None:
            return super().layer(rows, bias)
        weight = self.codes(rows)
        scale = np.broadcast_to(weight.scale, (len(weight.codes), 1)).copy()
        input_scale = finite(self.input_scale).reshape(())
        zero_point = np.zeros((), np.int32)
        if self.input_zero_point is not None:
            zero_point = self.input_zero_point.read(np.int32).reshape(())
        correction = zero_point * np.sum(weight.codes, axis=1, dtype=np.int32)  # (out,)
        return StaticQuantizedLinear(weight.codes, scale, correction, input_scale, zero_point, bias)


def _encode_packed(parts, scheme):
    packed = parts.take("weight_packed", ("I32",), (None, None))
    size = parts.take("weight_shape", ("I64", "I32"), (2,))
    rows, columns = size.read().tolist()
    if rows != packed.shape[0] or columns < 1:
        raise CheckpointError(
            f"{size.file}: tensor {shown(size.name)} holds {[rows, columns]}, expected {packed.shape[0]} rows"
        )
    packed = parts.take("weight_packed", ("I32",), (rows, words_of(columns, scheme.bits)))
    groups = groups_of(parts, columns, scheme.group_size)
    is_whole = scheme.strategy == "tensor"
    scale = parts.take("weight_scale", FLOATS, (1,) if is_whole else (rows, groups))
    zero_point = None
    if not scheme.symmetric:
        dtype, shape = ("I8", (1,)) if is_whole else ("I32", (words_of(rows, scheme.bits), groups))
        zero_point = parts.take("weight_zero_point", (dtype,), shape)
    group_of_input = parts.take("weight_g_idx", ("I32", "I64"), (columns,)) if "weight_g_idx" in parts else None
    storage = Storage("int", scheme.bits, "matrix" if is_whole else scales_named(scheme.group_size), scheme.symmetric)
    return PackedEncoding((rows, columns), storage, scheme.bits, group_of_input, groups, packed, scale, zero_point)


@dataclass(frozen=True)
class PackedEncoding(GroupedEncoding):
    """One matrix with packed codes."""

    packed: StoredTensor
    scale: StoredTensor
    zero_point: StoredTensor | None

    def arrays(self):
        """Codes, scales, zero points and group indices."""
        optional = (self.zero_point, self.group_of_input)
        return [tensor.bits for tensor in (self.packed, self.scale, *optional) if tensor is not None]

    def groups(self, rows):
        """The codes of some rows."""
        codes = unpack_words(self.packed.bits[rows], self.bits, self.shape[1])  # (n, in)
        if self.scale.shape == (1,):
            scale = np.broadcast_to(finite(self.scale), (len(codes), 1))
        else:
            scale = finite(self.scale, rows)  # (n, groups)
        if self.zero_point is None:
            return Groups(codes, scale, None)
        if self.zero_point.dtype == "I8":
            zero_point = np.broadcast_to(self.zero_point.read(np.int32), (len(codes), 1))
        else:
            zero_point = unpack_rows(self.zero_point.bits.T, self.bits, rows).astype(np.int32)
        return Groups(codes, scale, zero_point)
