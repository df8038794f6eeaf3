"""A model as a tree of text: its modules with their shapes, equal layers as one."""

from dataclasses import fields
from typing import NamedTuple

from tinyslm.evaluation.parameters import count_parameters
from tinyslm.modules import (
    Attention,
    CrossAttention,
    FeedForward,
    LayerNorm,
    MixtureOfExperts,
    RelativePositions,
    RMSNorm,
    WeightLayer,
)
from tinyslm.tree import Module, is_array

TIED = "its table is the output head too"


class Line(NamedTuple):
    """One module: its branch and name, its shape, its parameters, and what else there is to say about it."""

    name: str
    shape: str
    parameters: int
    note: str


def outline(model) -> list[Line]:
    """The lines of everything below a model, parents before children."""
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
    for position, (name, child, count) in enumerate(children):
        is_last = position == len(children) - 1
        times = f" ×{count}" if count > 1 else ""
        branch = f"{indent}{'└─' if is_last else '├─'} {name}{times}"
        parameters = count_parameters(child)
        remark = f"{parameters:,} in each" if count > 1 and not note(child) else note(child)
        lines.append(Line(branch, shape(child), count * parameters, remark))
        lines += _below(child, f"{indent}{'   ' if is_last else '│  '}")
    return lines


def _children(name, value):
    """(name, module, how many are like it) of one field."""
    if isinstance(value, Module):
        return [(name, value, 1)]
    if not isinstance(value, list):
        return []
    kinds = {}
    for index, module in enumerate(value):
        kinds.setdefault(_signature(module), []).append(index)
    return [(f"{name}.{index_ranges(indices)}", value[indices[0]], len(indices)) for indices in kinds.values()]


def _signature(module):
    """What two modules that look the same in the tree have in common."""
    return shape(module), note(module), tuple(line[1:] for line in _below(module, ""))


def index_ranges(indices) -> str:
    """[0, 1, 2, 5] -> "0-2,5"; of more than four runs the first two and the last: "0,2,…,24"."""
    runs = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ",".join(texts if len(texts) <= 4 else [*texts[:2], "…", texts[-1]])


def shape(module) -> str:
    """The shape of a module's weight, of both where it has two factors, and of its bias."""
    values = {field.name: getattr(module, field.name) for field in fields(module)}
    if isinstance(module, WeightLayer):
        bias = values.get("bias")
        shapes = module.shapes() + ([] if bias is None else [bias.shape])
    else:
        shapes = [value.shape for value in values.values() if is_array(value)]
    return " + ".join(f"({', '.join(map(str, each))})" for each in shapes)


def note(module) -> str:
    """What the shapes of a module do not show. What a layer sees, and how it knows positions, is another table."""
    if isinstance(module, WeightLayer):
        return module.storage
    if isinstance(module, Attention | CrossAttention):
        return _heads(module)
    if isinstance(module, FeedForward):
        return f"{module.activation}, {'gated' if module.gate is not None else 'no gate'}"
    if isinstance(module, MixtureOfExperts):
        return f"each token uses {module.experts_per_token} of {len(module.experts)} experts"
    if isinstance(module, RMSNorm | LayerNorm):
        return "RMS norm" if isinstance(module, RMSNorm) else "layer norm"
    if isinstance(module, RelativePositions):
        return f"what a distance adds to a score, up to {module.max_distance} tokens"
    return ""


def _heads(attention):
    D = attention.head_dim
    H, G = attention.query.out_features // D, attention.key.out_features // D
    if G == H:
        return f"{H} heads of {D}"
    return f"{H} query heads share {G} key/value head{'s' if G > 1 else ''} of {D}"
