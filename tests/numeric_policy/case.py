"""A case: a public function with valid arguments in generic position, and what the policy says about its numbers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyslm.tree import Module, map_arrays, named_arrays

REFUSED, PASSED = "refused", "passed on"
KEPT = "kept"


@dataclasses.dataclass(frozen=True)
class Case:
    """A function and the numbers that it accepts.

    function: the public function, or the call of a layer;  arguments(rng) -> {name: value}, arrays in float64. Two axes
    have the same size only if they have the same name;
    integers: REFUSED, np.float64 (computed in it) or KEPT (a selection, of any dtype);
    special: REFUSED or PASSED, for nan, infinity and overflow;
    result: dtype of the floating-point results, None for the dtype of the inputs;
    view(result): what must agree between dtypes and layouts, such as the product of two factors;
    steps: the largest difference between integer results of float32 and float64;
    bound_sizes: sizes of axes that depend on other axes or on indices, and cannot become 0 alone.
    """

    function: Callable
    arguments: Callable[[np.random.Generator], dict]
    integers: Any = REFUSED
    special: str = PASSED
    result: Any = None
    view: Callable = lambda result: result
    steps: int = 0
    bound_sizes: frozenset = frozenset()

    def call(self, arguments: dict):
        """The viewed result, as a list of arrays."""
        return [np.asarray(each) for each in numbers(self.view(self.function(**arguments)))]


def is_real(array) -> bool:
    """True for floating-point arrays and scalars."""
    return np.asarray(array).dtype.kind == "f"


def numbers(result) -> list:
    """All arrays and numbers of a result, in order. Text and functions are left out."""
    if isinstance(result, dict):
        return [each for value in result.values() for each in numbers(value)]
    if isinstance(result, tuple | list):
        return [each for value in result for each in numbers(value)]
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return [each for value in vars(result).values() for each in numbers(value)]
    return [result] if isinstance(result, np.ndarray | np.generic | int | float) else []


def real_paths(arguments: dict) -> list[str]:
    """Paths of the floating-point arrays in the arguments."""
    return [path for path, array in named_arrays(arguments).items() if is_real(array)]


def with_array(arguments: dict, path: str, change: Callable) -> dict:
    """The arguments with change(array) in place of one array."""
    return map_arrays(lambda each, array: change(array) if each == path else array, arguments)


def in_dtype(arguments: dict, dtype) -> dict:
    """The arguments with all floating-point arrays in a dtype."""
    return map_arrays(lambda _, array: array.astype(dtype) if is_real(array) else array, arguments)


def with_entry(arguments: dict, path: str, index: tuple, value: float) -> dict:
    """The arguments with another value of one entry of one array."""

    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return with_array(arguments, path, change)


def call_of(layer: Module):
    """The call of a layer as a function whose arguments include the arrays of the layer."""
    return lambda layer, x: layer(x)
