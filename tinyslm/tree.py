"""Models as trees of arrays: modules are dataclasses whose fields are arrays, other modules, or plain settings.

A module has no hidden state: no gradient, no train/eval flag, no cache. `map_arrays` and `map_modules` make a new model
with other leaves. The gradient of a loss is a tree of the same form.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, dataclass_transform

import numpy as np

Array = np.ndarray


def constant(**options):
    """A dataclass field whose array is part of the model and never trained: codes, masks, scales."""
    return field(metadata={"constant": True}, **options)


@dataclass_transform(eq_default=False, field_specifiers=(constant,))
class Module:
    """A node of the tree. Each subclass becomes a dataclass, compared by identity."""

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        dataclass(eq=False, repr=False)(cls)

    if TYPE_CHECKING:  # the fields and the signature of a call depend on the subclass

        def __getattr__(self, name: str) -> Any: ...

        def __call__(self, *inputs: Any, **settings: Any) -> Any: ...

    def replace(self, **changes):
        """A copy with other values of some fields. The module itself does not change."""
        return replace(self, **changes)

    def __repr__(self):
        parts = (f"{name}={_describe(value)}" for name, value, _ in _entries(self))
        return f"{type(self).__name__}({', '.join(parts)})"


def _describe(value):
    """dtype and shape of an array, length of a list, `repr` of other values."""
    if is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    return f"[{len(value)} x {type(value[0]).__name__}]" if isinstance(value, list) and value else repr(value)


def is_array(value) -> bool:
    """True for arrays and for traced values."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic)


@functools.cache
def _fields_of(kind):
    """(name, is_constant) of the fields of a class of modules, cached because `dataclasses.fields` is slow."""
    return [(f.name, f.metadata.get("constant", False)) for f in fields(kind)]


def _entries(node):
    """(name, value, is_constant) of the children of a node."""
    if isinstance(node, Module):
        return [(name, getattr(node, name), is_constant) for name, is_constant in _fields_of(type(node))]
    if isinstance(node, dict):
        return [(str(name), value, False) for name, value in node.items()]
    if isinstance(node, list | tuple):
        return [(str(index), value, False) for index, value in enumerate(node)]
    return []


def _rebuild(node, values):
    """A copy of the node with other children, in the order of `_entries`."""
    if isinstance(node, Module):
        return type(node)(*values)
    if isinstance(node, dict):
        return dict(zip(node, values, strict=True))
    return type(node)(values)


def _walk(function, node, path, is_constant):
    """The tree with function(path, array, is_constant) in place of every array. Nodes without arrays are shared."""
    if is_array(node):
        return function(path, node, is_constant)
    entries = _entries(node)
    if not any(is_array(value) or isinstance(value, Module | dict | list | tuple) for _, value, _ in entries):
        return node
    below = f"{path}." if path else ""
    return _rebuild(
        node, [_walk(function, value, below + name, is_constant or fixed) for name, value, fixed in entries]
    )


def map_arrays(function: Callable[[str, Array], Any], tree) -> Any:
    """The tree with `function(path, array)` in place of every array."""
    return _walk(lambda path, array, _: function(path, array), tree, "", False)


def map_parameters(function, tree, otherwise=lambda path, array: array) -> Any:
    """The tree with `function(path, array)` in place of every trainable array, `otherwise` in place of the rest.

    Trainable arrays have a floating-point dtype and are not in a `constant()` field.
    """

    def choose(path, array, is_constant):
        trainable = not is_constant and np.issubdtype(array.dtype, np.floating)
        return function(path, array) if trainable else otherwise(path, array)

    return _walk(choose, tree, "", False)


def named_arrays(tree: Any) -> dict[str, Array]:
    """All arrays of a model, or of its gradients, by module path.

    Parameters
    ----------
    tree
        A module, or a list, tuple or dict of modules and arrays.

    Returns
    -------
    dict
        {path: array} in the order of the fields, with paths such as "layers.0.attention.query.weight".

    Examples
    --------
    >>> named_arrays({"layers": [np.zeros(2), np.ones(1)]})
    {'layers.0': array([0., 0.]), 'layers.1': array([1.])}
    """
    found = {}
    map_arrays(lambda path, array: found.setdefault(path, array), tree)
    return found


def named_parameters(tree) -> dict[str, Array]:
    """{path: array} of the trainable arrays."""
    found = {}
    map_parameters(lambda path, array: found.setdefault(path, array), tree)
    return found


def named_modules(tree, kind=Module, path: str = "") -> dict[str, Any]:
    """{path: module} of every module of class `kind`, parents before children."""
    found = {path: tree} if isinstance(tree, kind) else {}
    below = f"{path}." if path else ""
    for name, value, _ in _entries(tree):
        if isinstance(value, Module | dict | list | tuple):
            found |= named_modules(value, kind, below + name)
    return found


def map_modules(function: Callable[[str, Module], Any], tree, kind=Module, path: str = "") -> Any:
    """The tree with `function(path, module)` in place of every module of class `kind`.

    Modules below a replaced module are not visited.
    """
    if isinstance(tree, kind):
        return function(path, tree)
    entries = _entries(tree)
    if not any(isinstance(value, Module | dict | list | tuple) for _, value, _ in entries):
        return tree
    below = f"{path}." if path else ""
    return _rebuild(tree, [map_modules(function, value, kind, below + name) for name, value, _ in entries])
