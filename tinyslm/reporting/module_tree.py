"""The module tree of a model as text: shapes and parameters, with equal layers shown once."""

from dataclasses import fields
from typing import NamedTuple

from tinyslm.evaluation.parameters import count_parameters
from tinyslm.modules import (
    Attention,
    Block,
    CrossAttention,
    FeedForward,
    LayerNorm,
    MixtureOfExperts,
    ParallelBlock,
    RelativePositions,
    RMSNorm,
    WeightLayer,
)
from tinyslm.reporting.number_format import index_ranges
from tinyslm.tree import Module, is_array

TIED = "tied with the output head"


class Line(NamedTuple):
    """One module: tree branch and name, shape of its weight, parameters of it and all modules like it, and a note."""

    name: str
    shape: str
    parameters: int
    note: str


def outline(model) -> list[Line]:
    """One line for each module of a model, parents before children."""
    lines = _below(model, "")
    if not model.tied_head:
        return lines
    return [
        line._replace(note="; ".join(filter(None, (line.note, TIED)))) if line.name.endswith(" embedding") else line
        for line in lines
    ]


def _below(module, indent):
    children = [entry for field in fields(module) for entry in _children(field.name, getattr(module, field.name))]
    lines = []
    for index, (name, child, count) in enumerate(children):
        is_last = index == len(children) - 1
        times = f" ×{count}" if count > 1 else ""
        branch = f"{indent}{'└─' if is_last else '├─'} {name}{times}"
        parameters = count_parameters(child)
        in_each = f"{parameters:,} in each" if count > 1 and (is_block(child) or not note(child)) else ""
        child_note = "; ".join(filter(None, (in_each, note(child))))
        lines.append(Line(branch, shape(child), count * parameters, child_note))
        lines += _below(child, f"{indent}{'   ' if is_last else '│  '}")
    return lines


def _children(name, value):
    """(name, module, number of equal modules) for each kind of module in one field."""
    if isinstance(value, Module):
        return [(name, value, 1)]
    if not isinstance(value, list):
        return []
    kinds = {}
    for index, module in enumerate(value):
        kinds.setdefault(_signature(module), []).append(index)
    return [(f"{name}.{index_ranges(indices)}", value[indices[0]], len(indices)) for indices in kinds.values()]


def _signature(module):
    """Equal for two modules that have the same lines in the tree."""
    return shape(module), note(module), tuple(line[1:] for line in _below(module, ""))


def shape(module) -> str:
    """Shapes of a module's weight, or of its two factors, and of its bias: "(8, 4) + (8)"."""
    values = {field.name: getattr(module, field.name) for field in fields(module)}
    if isinstance(module, WeightLayer):
        bias = values.get("bias")
        shapes = module.shapes() + ([] if bias is None else [bias.shape])
    else:
        shapes = [value.shape for value in values.values() if is_array(value)]
    return " + ".join(f"({', '.join(map(str, each))})" for each in shapes)


def is_block(module) -> bool:
    """Whether the module is a block of a decoder."""
    return isinstance(module, Block | ParallelBlock)


def note(module) -> str:
    """Properties that the shapes do not show. Windows and positions are in the table of attention."""
    if isinstance(module, WeightLayer):
        return module.storage
    if isinstance(module, ParallelBlock):
        return "parallel"
    if isinstance(module, Block) and module.residual_multiplier != 1.0:
        return f"outputs times {module.residual_multiplier:g}"
    if isinstance(module, Attention | CrossAttention):
        return _heads(module)
    if isinstance(module, FeedForward):
        return f"{module.activation}, {'gated' if module.gate is not None else 'no gate'}"
    if isinstance(module, MixtureOfExperts):
        return f"each token uses {module.experts_per_token} of {len(module.experts)} experts"
    if isinstance(module, RMSNorm | LayerNorm):
        return "RMS norm" if isinstance(module, RMSNorm) else "layer norm"
    if isinstance(module, RelativePositions):
        return f"relative position biases, distances up to {module.max_distance}"
    return ""


def _heads(attention):
    D = attention.head_dim
    H, G = attention.query.out_features // D, attention.key.out_features // D
    if G == H:
        return f"{H} heads of {D}"
    return f"{H} query heads share {G} key/value head{'s' if G > 1 else ''} of {D}"
