"""A model is a tree of arrays: modules are dataclasses whose fields are arrays, other modules, or plain settings.

Nothing hides in a module: no gradient, no train/eval flag, no cache. A new model is made by rebuilding the tree with
other leaves (`map_arrays`, `map_modules`), and the gradient of a loss is a tree of the same form.
"""

import functools
from dataclasses import dataclass, field, fields, replace
from typing import Any, dataclass_transform

import numpy as np

Array = np.ndarray


def constant(**options):
    """A dataclass field whose array belongs to the model but is never trained: codes, masks, scales."""
    return field(metadata={"constant": True}, **options)


@dataclass_transform(eq_default=False, field_specifiers=(constant,))
class Module:
    """A node of the tree. Sub-classes are turned into dataclasses, compared by identity."""

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        dataclass(eq=False, repr=False)(cls)

    def replace(self, **changes):
        """A copy with some fields exchanged; the module itself stays as it is."""
        return replace(self, **changes)

    def __repr__(self):
        parts = (f"{name}={_describe(value)}" for name, value, _ in _entries(self))
        return f"{type(self).__name__}({', '.join(parts)})"


def _describe(value):
    """An array as its shape and dtype, a list as its length, anything else as it is."""
    if is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    return f"[{len(value)} x {type(value[0]).__name__}]" if isinstance(value, list) and value else repr(value)


def is_array(value) -> bool:
    """True for arrays and for values on a tape, which look the same from outside."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic)


@functools.cache
def _fields_of(kind):
    """The (name, is_constant) of a module's fields, which `dataclasses.fields` would look up at every walk."""
    return [(f.name, f.metadata.get("constant", False)) for f in fields(kind)]


def _entries(node):
    """The (name, value, is_constant) of everything directly below a node of the tree."""
    if isinstance(node, Module):
        return [(name, getattr(node, name), is_constant) for name, is_constant in _fields_of(type(node))]
    if isinstance(node, dict):
        return [(str(name), value, False) for name, value in node.items()]
    if isinstance(node, list | tuple):
        return [(str(index), value, False) for index, value in enumerate(node)]
    return []


def _rebuild(node, values):
    """The same node with other values below it, in the order of `_entries`."""
    if isinstance(node, Module):
        return type(node)(*values)
    if isinstance(node, dict):
        return dict(zip(node, values, strict=True))
    return type(node)(values)


def _walk(function, node, path, is_constant):
    if is_array(node):
        return function(path, node, is_constant)
    entries = _entries(node)
    if not any(is_array(value) or isinstance(value, Module | dict | list | tuple) for _, value, _ in entries):
        return node
    below = f"{path}." if path else ""
    return _rebuild(
        node, [_walk(function, value, below + name, is_constant or fixed) for name, value, fixed in entries]
    )


def map_arrays(function, tree) -> Any:
    """The tree with `function(path, array)` in place of every array."""
    return _walk(lambda path, array, _: function(path, array), tree, "", False)


def map_parameters(function, tree, otherwise=lambda path, array: array) -> Any:
    """The tree with `function(path, array)` in place of every trainable array, `otherwise` in place of the rest.

    Trainable is what holds floating-point numbers and is not declared `constant()`.
    """

    def choose(path, array, is_constant):
        trainable = not is_constant and np.issubdtype(array.dtype, np.floating)
        return function(path, array) if trainable else otherwise(path, array)

    return _walk(choose, tree, "", False)


def named_arrays(tree) -> dict[str, Array]:
    """{path: array} of every array of a tree, such as "layers.0.attention.query.weight", in the order of the fields."""
    found = {}
    map_arrays(lambda path, array: found.setdefault(path, array), tree)
    return found


def named_parameters(tree) -> dict[str, Array]:
    """{path: array} of the trainable arrays only."""
    found = {}
    map_parameters(lambda path, array: found.setdefault(path, array), tree)
    return found


def named_modules(tree, kind=Module, path="") -> dict[str, Module]:
    """{path: module} of every module of a kind, parents before children."""
    found = {path: tree} if isinstance(tree, kind) else {}
    below = f"{path}." if path else ""
    for name, value, _ in _entries(tree):
        if isinstance(value, Module | dict | list | tuple):
            found |= named_modules(value, kind, below + name)
    return found


def map_modules(function, tree, kind=Module, path="") -> Any:
    """The tree with `function(path, module)` in place of every module of a kind.

    What is below an exchanged module is not visited: the function answers for the whole of it.
    """
    if isinstance(tree, kind):
        return function(path, tree)
    entries = _entries(tree)
    if not any(isinstance(value, Module | dict | list | tuple) for _, value, _ in entries):
        return tree
    below = f"{path}." if path else ""
    return _rebuild(tree, [map_modules(function, value, kind, below + name) for name, value, _ in entries])
