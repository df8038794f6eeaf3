"""Export as compressed-tensors, the format of LLM Compressor and vLLM: quantized layers keep their codes.

The tensors are those of `compressed_tensors`, which reads them back. Weights alone have the format "pack-quantized",
weights with quantized inputs "int-quantized". The scales are those of the layers: one per row, or one per group.

Dense are: embeddings, the head and a pooler (other programs expect them so); layers in forms that the library does not
have, such as low-rank; layers that are no `Linear` in transformers, such as those of GPT-2. Versions of the library
after 0.14 read no sparse format, so a pattern such as 2:4 is kept as zeros.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyslm.checkpoints.folding import Exported, Layout, dense_layout, folded_layers, require_dtype, stored_dtype
from tinyslm.checkpoints.quantized.grouped_codes import words_of
from tinyslm.checkpoints.safetensors import PendingTensor
from tinyslm.checkpoints.transformers_export import write_directory
from tinyslm.compression.quantization import (
    PackedLinear,
    PackedNMLinear,
    QuantizedLinear,
    StaticQuantizedLinear,
    pack_codes,
)
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.modules import Linear
from tinyslm.tree import Array, Module, named_modules

WITH_CODES = (PackedLinear, PackedNMLinear, QuantizedLinear, StaticQuantizedLinear)
EXPERT = re.compile(r"\.experts\.\d+\.")
EXPERTS_TARGET = r"re:.*\.experts\..*"
NEEDS_WEIGHTS = ("modernbert", "t5")  # whose classes in transformers initialize the weight of every Linear by name
NOT_REPRESENTED = "compressed-tensors has no such form"


class Scheme(NamedTuple):
    """One entry of config_groups.

    group_size: None for one scale per row;  inputs: "", "dynamic" or "static";  packed: False for weights alone whose
    codes are stored in one byte each.
    """

    bits: int
    symmetric: bool
    group_size: int | None
    inputs: str
    packed: bool = True

    def __str__(self):
        """The form of the codes, for a report."""
        zero_points = "" if self.symmetric else " with zero points"
        scales = "a scale per row" if self.group_size is None else f"groups of {self.group_size}"
        inputs = f", {self.inputs} inputs of 8 bits" if self.inputs else ""
        return f"{self.bits} bits{zero_points}, {scales}{inputs}"

    @property
    def format(self) -> str:
        """Name of the storage format of the codes."""
        if self.inputs:
            return "int-quantized"
        return "pack-quantized" if self.packed else "naive-quantized"

    def settings(self, targets: list[str]) -> dict[str, Any]:
        """The entry of config_groups for some modules."""
        inputs = None
        if self.inputs:
            is_dynamic = self.inputs == "dynamic"
            inputs = {"num_bits": 8, "type": "int", "symmetric": is_dynamic, "dynamic": is_dynamic}
            inputs["strategy"] = "token" if is_dynamic else "tensor"
        weights = {
            "num_bits": self.bits,
            "type": "int",
            "symmetric": self.symmetric,
            "strategy": "channel" if self.group_size is None else "group",
            "group_size": self.group_size,
            "dynamic": False,
        }
        return {
            "targets": targets,
            "weights": weights,
            "input_activations": inputs,
            "output_activations": None,
            "format": self.format,
        }


class Codes(NamedTuple):
    """The quantized matrix of one tensor in the file, of which the layers hold parts. Codes are read when written."""

    scheme: Scheme
    scale: Array  # (out, groups)
    zero_point: Array | None  # (out, groups)
    input_scale: Array | None  # ()
    input_zero_point: Array | None  # ()


class Unsupported(Exception):
    """Reasons for which layers cannot keep their codes."""


def export_compressed_tensors(
    path: str | Path, model: Module, tokenizer: Any = None, dtype: str | None = None
) -> Exported:
    """Write a directory that transformers loads with the library compressed-tensors, completely or not at all.

    dtype: of scales and of dense tensors, "float32", "float16" or "bfloat16"; None: the dtype of the file of a loaded
    model for tensors whose numbers it holds exactly, otherwise float32.
    tokenizer: an object with `save(path)`, or None.
    Raises Error if `path` exists and is not empty or cannot be written, ConfigError or CheckpointError for a model that
    transformers does not read, or without a layer that keeps its codes, or for numbers that the dtype does not hold.
    """
    require_dtype(dtype)
    layout = dense_layout(model, without_prefix=not getattr(model.config, "masked_head", True))
    codes, reasons = _codes(layout)
    if not codes:
        kinds = ", ".join(sorted({type(layer).__name__ for layer in layout.compressed.values()})) or "dense layers only"
        why = "".join(sorted({f"; {reason}" for reason in reasons.values() if reason != NOT_REPRESENTED}))
        raise ConfigError(
            f"no layer has codes that compressed-tensors holds, found {kinds}{why}; export the model to transformers"
        )
    tensors = {}
    for name in layout.mappings:
        if name in codes:
            tensors |= _quantized_tensors(layout, name, codes[name], dtype)
        else:
            tensors[name] = layout.pending(name, dtype)
    write_directory(path, layout, tensors, {"quantization_config": _settings(layout, codes)}, tokenizer)
    schemes = [found.scheme for found in codes.values()]
    return Exported(folded_layers(layout, tensors, reasons), dict(Counter(map(str, schemes))), _notes(schemes, dtype))


def _notes(schemes, dtype):
    """Sentences on the differences of other programs, and on rounding."""
    notes = []
    if any(scheme.inputs == "dynamic" for scheme in schemes):
        notes.append("dynamic inputs have the scale max(abs(x)) / 127 here, and max(abs(x)) / 127.5 in the library")
    if dtype in ("float16", "bfloat16"):
        notes.append(f"the scales of the codes are rounded to {dtype}")
    return notes


def _codes(layout: Layout) -> tuple[dict[str, Codes], dict[str, str]]:
    """({tensor name: its codes}, {path of a compressed layer without codes in the file: why})."""
    codes: dict[str, Codes] = {}
    reasons: dict[str, str] = {}
    for name, mapping in layout.mappings.items():
        paths = [path.rpartition(".")[0] for path in mapping.paths]
        if not name.endswith(".weight") or not any(path in layout.compressed for path in paths):
            continue
        try:
            if mapping.transposed:
                raise Unsupported(f"transformers has no Linear in {layout.family.model_type}")
            if any("layers" not in path.split(".") for path in paths):
                raise Unsupported("other programs expect what is outside the blocks to be dense")
            codes[name] = _joined(layout.layers(name))
        except Unsupported as problem:
            reasons |= {path: str(problem) for path in paths if path in layout.compressed}
    codes = _with_few_schemes(codes, layout.family.model_type)
    _check_experts(layout, codes)
    return codes, reasons


def _with_few_schemes(codes: dict[str, Codes], model_type: str) -> dict[str, Codes]:
    """The codes with schemes that transformers reads.

    If some tensors of one form have zero points, all get them. A model with one scheme is dequantized when it is
    loaded. With several, transformers reads no packed zero points, and no packed codes of the families NEEDS_WEIGHTS:
    they have one byte each.
    """
    with_points = {found.scheme._replace(symmetric=True) for found in codes.values() if not found.scheme.symmetric}
    for name, found in codes.items():
        if found.scheme in with_points:
            zero_point = np.zeros(found.scale.shape, np.int32)
            codes[name] = found._replace(scheme=found.scheme._replace(symmetric=False), zero_point=zero_point)
    is_packed = model_type not in NEEDS_WEIGHTS
    if len({found.scheme for found in codes.values()}) > 1:
        for name, found in codes.items():
            codes[name] = found._replace(scheme=found.scheme._replace(packed=is_packed and found.scheme.symmetric))
    return codes


def _check_experts(layout, codes):
    """Raise ConfigError unless transformers reads the experts: it joins their codes and dequantizes them."""
    experts = {name for name in layout.mappings if EXPERT.search(name) and name.endswith(".weight")}
    schemes = {codes[name].scheme if name in codes else None for name in experts}
    scheme = next(iter(schemes), None)
    if codes and experts and (len(schemes) > 1 or scheme is None or scheme.inputs or not scheme.symmetric):
        raise ConfigError(
            "transformers reads experts from compressed-tensors only if all have codes of one form, without zero "
            "points and without quantized inputs: quantize them so, or export the model to transformers"
        )


def _joined(layers) -> Codes:
    """The codes of layers whose outputs follow each other in one tensor. Raises Unsupported."""
    if not all(type(layer) in WITH_CODES for layer in layers):
        raise Unsupported(NOT_REPRESENTED)
    bits, inputs = {getattr(layer, "bits", 8) for layer in layers}, {_inputs(layer) for layer in layers}
    scales = [_per_row(layer.scale, layer.out_features) for layer in layers]
    if len(bits) > 1 or len(inputs) > 1 or len({scale.shape[1] for scale in scales}) > 1:
        raise Unsupported("the layers of one tensor have different forms")
    (width,), (given,) = bits, inputs
    scale = np.concatenate(scales)  # (out, groups)
    points = [getattr(layer, "zero_point", None) for layer in layers]
    zero_point = None
    if any(point is not None and np.any(point) for point in points):
        zero_point = np.concatenate(
            [
                _per_row(np.zeros((), np.int32) if point is None else point, len(part), part.shape[1])
                for point, part in zip(points, scales, strict=True)
            ]
        )
        if np.any((zero_point < -(2 ** (width - 1))) | (zero_point >= 2 ** (width - 1))):
            raise Unsupported("a zero point is beyond the codes")
    first = layers[0]
    if given == "static" and any(
        (layer.input_scale, layer.input_zero_point) != (first.input_scale, first.input_zero_point) for layer in layers
    ):
        raise Unsupported("the layers of one tensor have different ranges of the inputs")
    group_size = first.in_features // scale.shape[1] if scale.shape[1] > 1 else None
    is_static = given == "static"
    return Codes(
        Scheme(width, zero_point is None, group_size, given),
        scale,
        zero_point,
        first.input_scale if is_static else None,
        first.input_zero_point if is_static else None,
    )


def _inputs(layer):
    """The scheme by which the layer quantizes its inputs."""
    if isinstance(layer, StaticQuantizedLinear):
        return "static"
    return "dynamic" if getattr(layer, "dynamic_activations", False) else ""


def _per_row(values, rows, groups=1):
    """Scales or zero points with one per row, (out, groups), also of one for the matrix."""
    return np.broadcast_to(values, (rows, groups)) if np.ndim(values) == 0 else values


def _quantized_tensors(layout, name, codes: Codes, dtype):
    """{tensor name: tensor} in place of the weight "MODULE.weight"."""
    mapping, scheme = layout.mappings[name], codes.scheme
    rows, columns = layout.shape(name)

    def join(arrays):
        return mapping.join(dict(zip(mapping.paths, arrays, strict=True)))

    def weight():
        return [join([layer.quantized_weight().codes for layer in layout.layers(name)])]

    def packed():
        return [pack_words(part, scheme.bits) for part in weight()]

    def split(values):  # the rows of each layer, which `join` brings into the order of the tensor
        stops = np.cumsum([layout.shapes[path][0] for path in mapping.paths])[:-1]
        return join(np.split(values, stops))

    tensors = {"weight_scale": _scale(f"{name}: the scales", split(codes.scale), dtype, layout.model.config.source)}
    zero_point = None if codes.zero_point is None else split(codes.zero_point).astype(np.int8)
    if scheme.format != "pack-quantized":
        tensors["weight"] = PendingTensor("I8", (rows, columns), weight)
        if zero_point is not None:
            tensors["weight_zero_point"] = _array(zero_point, "I8")
    else:
        tensors["weight_packed"] = PendingTensor("I32", (rows, words_of(columns, scheme.bits)), packed)
        tensors["weight_shape"] = _array(np.array([rows, columns]), "I64")
        if zero_point is not None:
            tensors["weight_zero_point"] = _array(pack_words(zero_point.T, scheme.bits).T, "I32")
    if codes.input_scale is not None and codes.input_zero_point is not None:
        scale = codes.input_scale.reshape(1)
        tensors["input_scale"] = _scale(f"{name}: the scale of its inputs", scale, dtype, layout.model.config.source)
        tensors["input_zero_point"] = _array(codes.input_zero_point.reshape(1).astype(np.int8), "I8")
    module = name.removesuffix(".weight")
    return {f"{module}.{field}": tensor for field, tensor in tensors.items()}


def pack_words(codes: Array, bits: int) -> Array:
    """Codes packed into 32-bit words row by row, lowest bits first: (n, in) int8 -> (n, words) int32."""
    packed = pack_codes(codes, bits)  # (n, bytes)
    words = np.zeros((len(packed), 4 * words_of(codes.shape[1], bits)), np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view("<i4")


def _array(array, dtype):
    return PendingTensor(dtype, array.shape, lambda: [array])


def _scale(where, scale, dtype, source):
    """The tensor of some scales. Raises CheckpointError for a scale that rounds to 0."""
    stored = stored_dtype(lambda: [scale], dtype, source)
    if stored == "F16" and np.any(np.float16(scale) == 0):
        raise CheckpointError(
            f"{where} are too small for float16, {np.min(np.abs(scale)):.3g}; use float32 or bfloat16"
        )
    return _array(scale, stored)


def _settings(layout, codes):
    """The object quantization_config of config.json."""
    modules: dict[Scheme, list[str]] = {}
    for name, found in sorted(codes.items(), key=lambda item: not EXPERT.search(item[0])):  # experts first
        module = name.removesuffix(".weight")
        target = EXPERTS_TARGET if EXPERT.search(name) else module
        targets = modules.setdefault(found.scheme, [])
        if target not in targets[-1:]:
            targets.append(target)
    is_one = len(modules) == 1
    formats = {scheme.format for scheme in modules}
    load = {"dequantize": True} if is_one and not next(iter(modules)).inputs else {}  # at loading, not at the first use
    return load | {
        "quant_method": "compressed-tensors",
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{i}": scheme.settings(["Linear"] if is_one else targets)
            for i, (scheme, targets) in enumerate(modules.items())
        },
        "ignore": _dense_modules(layout, codes),
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }


def _dense_modules(layout, codes):
    """Names of the linear layers without codes, among them a head that is tied to the embedding."""
    linear = named_modules(layout.outline, Linear)
    names = [
        name.removesuffix(".weight")
        for name, mapping in layout.mappings.items()
        if name not in codes and name.endswith(".weight") and mapping.paths[0].rpartition(".")[0] in linear
    ]
    head = layout.family.tensors.get("head")
    heads = () if head is None else (head, "lm_head")  # GPT-NeoX: embed_out in the file, lm_head in transformers
    return names + [name for name in dict.fromkeys(heads) if name not in names]
