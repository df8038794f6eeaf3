"""Reverse-mode differentiation of functions of arrays, with one node per layer-level operation.

An operation is written once, as a function that returns its output and its vector-Jacobian product (vjp):

    @differentiable
    def scale(x, factor):
        def vjp(dy):                                   # dy: gradient of the loss with respect to the output
            return dy * factor, np.sum(dy * x)         # one gradient per positional input
        return x * factor, vjp

Called with arrays, it returns the output and keeps nothing. Called with a traced value, it also records an entry on the
tape: (output, inputs, vjp). The inputs of an entry exist before its output, so the tape is in topological order, and
the backward pass reaches every output before its inputs. A value that is used twice receives two gradients, which are
added: that is the multivariate chain rule.

Source: Griewank & Walther, Evaluating Derivatives, 2nd ed. 2008, section 3.2 (reverse accumulation).
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tinyslm.errors import Error
from tinyslm.tree import map_parameters


class Traced:
    """An array whose operations are recorded on a tape. `value` is the array."""

    __slots__ = ("tape", "value")
    __array_ufunc__ = None  # NumPy then calls __rmul__ for `array * traced`, and np.exp(traced) raises

    def __init__(self, value, tape):
        self.value = value
        self.tape = tape

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)

    def __add__(self, other):
        return add(self, other)

    def __mul__(self, other):
        return multiply(self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __getitem__(self, index):
        return select(self, index=index)

    def reshape(self, *shape):
        """As `ndarray.reshape`."""
        return reshape(self, shape=shape)

    def __repr__(self):
        return f"Traced({self.dtype}{list(self.shape)})"


def value_of(x):
    """The array of a traced value; any other value unchanged."""
    return x.value if isinstance(x, Traced) else x


class Operation(Protocol):
    """A differentiable operation, made by `differentiable`."""

    with_vjp: Callable[..., Any]  # the undecorated function, which returns (output, vjp)

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        """The output; it is on the tape if an input is."""


def differentiable(function: Callable) -> Operation:
    """Decorator that makes a differentiable operation of a function that returns (output, vjp).

    Called with arrays, the operation returns the output. Called with traced values, it also records itself on their
    tape, for `value_and_grad`. Positional arguments are inputs, keyword arguments are settings.

    Parameters
    ----------
    function
        Returns the output and its vector-Jacobian product: vjp(dy) returns one gradient per input, None for an input
        without a gradient. If it has a setting `for_vjp`, calls with arrays only pass False: then its vjp is not used,
        and the function need not keep what only the vjp reads.

    Returns
    -------
    Operation
        Its attribute `with_vjp` is the undecorated function.

    References
    ----------
    Griewank & Walther 2008, "Evaluating Derivatives", 2nd ed., section 3.2.

    Examples
    --------
    >>> @differentiable
    ... def square(x):
    ...     return x * x, lambda dy: (2 * x * dy,)
    >>> square(np.array([3.0]))
    array([9.])
    >>> output, vjp = square.with_vjp(np.array([3.0]))
    >>> vjp(np.array([1.0]))
    (array([6.]),)
    """

    untraced = {"for_vjp": False} if "for_vjp" in inspect.signature(function).parameters else {}

    @functools.wraps(function)
    def operation(*inputs: Any, **settings: Any) -> Any:
        for x in inputs:
            if type(x) is Traced:
                tape = x.tape
                break
        else:  # arrays only
            return function(*inputs, **settings, **untraced)[0]
        output, vjp = function(*[value_of(x) for x in inputs], **settings)
        traced = Traced(output, tape)
        tape.append((traced, inputs, vjp))
        return traced

    operation.with_vjp = function  # type: ignore[attr-defined]
    return operation  # type: ignore[return-value]


def backward(tape, output):
    """Gradients of a scalar `output` with respect to the leaves that it depends on: {Traced: array}.

    Empties the tape, so that the arrays that an operation saved for its vjp are freed after their use.
    """
    gradients = {output: np.ones_like(output.value)}
    while tape:
        result, inputs, vjp = tape.pop()
        upstream = gradients.pop(result, None)
        if upstream is None:  # the loss does not depend on this result
            continue
        for x, gradient in zip(inputs, vjp(upstream), strict=False):
            if isinstance(x, Traced) and gradient is not None:
                gradients[x] = gradients[x] + gradient if x in gradients else gradient
    return gradients


def value_and_grad(loss_function: Callable) -> Callable:
    """Function that returns the loss and its gradients with respect to the parameters of a model.

    Parameters
    ----------
    loss_function
        loss_function(model, *inputs) returns a scalar. It may use differentiable operations, +, *, indexing and
        reshape on the arrays of the model.

    Returns
    -------
    callable
        (model, *inputs) -> (loss, gradients). `gradients` is a tree like `model`. An array that occurs twice in the
        model (a tied weight) is one variable: both entries of the tree are the same sum. Arrays that are not trained
        have None, and trained arrays on which the loss does not depend have zeros.

    Raises
    ------
    Error
        When called, if the loss is not a scalar.

    Examples
    --------
    >>> model = {"weight": np.array([2.0, 3.0])}
    >>> loss, gradients = value_and_grad(lambda model: model["weight"][0] * model["weight"][1])(model)
    >>> float(loss), gradients["weight"]
    (6.0, array([3., 2.]))
    """

    def evaluate(model, *inputs, **settings):
        tape = []
        leaves = {}  # by identity of the array

        def trace(path, array):
            return leaves.setdefault(id(array), Traced(array, tape))

        loss = loss_function(map_parameters(trace, model), *inputs, **settings)
        if not isinstance(loss, Traced):  # nothing in the model is trainable, or the loss ignores it
            return loss, map_parameters(lambda _, array: np.zeros_like(array), model, lambda *_: None)
        if loss.ndim:
            raise Error(f"the loss must be a scalar, found shape {loss.shape}")
        value = loss.value
        gradients = backward(tape, loss)

        def gradient_of(path, array):
            gradient = gradients.get(leaves[id(array)])
            return np.zeros_like(array) if gradient is None else np.asarray(gradient)

        return value, map_parameters(gradient_of, model, otherwise=lambda path, array: None)

    return evaluate


def sum_to_shape(gradient, shape):
    """Transpose of broadcasting: the gradient of an input is the sum over the axes along which it was repeated."""
    if gradient.shape == shape:
        return gradient
    added = tuple(range(gradient.ndim - len(shape)))
    stretched = tuple(i + len(added) for i, n in enumerate(shape) if n == 1 and gradient.shape[i + len(added)] != 1)
    return gradient.sum(axis=added + stretched, keepdims=True).reshape(shape)


@differentiable
def add(x, y):
    """Sum x + y with broadcasting (residual connections)."""

    def vjp(dy):
        return sum_to_shape(dy, np.shape(x)), sum_to_shape(dy, np.shape(y))

    return x + y, vjp


@differentiable
def multiply(x, y):
    """Product x * y with broadcasting (weights of losses)."""

    def vjp(dz):
        return sum_to_shape(dz * y, np.shape(x)), sum_to_shape(dz * x, np.shape(y))

    return x * y, vjp


@differentiable
def reshape(x, *, shape):
    """The array in another shape."""
    return x.reshape(shape), lambda dy: (dy.reshape(x.shape),)


@differentiable
def select(x, *, index):
    """Selection x[index] by integers and slices. For rows of a table, which may occur twice, use `ops.embedding`."""
    if any(isinstance(part, list | np.ndarray) for part in (index if isinstance(index, tuple) else (index,))):
        raise TypeError("a traced array can be indexed only by integers and slices; to look up rows use ops.embedding")

    def vjp(dy):
        dx = np.zeros_like(x)
        dx[index] = dy
        return (dx,)

    return x[index], vjp


def check_gradient(operation: Operation, *inputs: Any, seed: int = 0, step: float = 1e-6, **settings: Any) -> float:
    """Largest relative error of a vjp against central differences, over all inputs with a gradient.

    The scalar is the product of the output with a random direction. The plain sum of the output is not suitable: for
    softmax and for norms its gradient is zero, so that only rounding errors would be compared.

    Parameters
    ----------
    operation
        A differentiable operation.
    inputs : ndarray of float64
        Inputs of the operation. None and integer arrays have no gradient.
    seed
        Seed of the direction.
    step
        Step of the differences.
    settings
        Keyword arguments of the operation.

    Returns
    -------
    float
        max ||vjp - difference|| / (||vjp|| + ||difference||) over the inputs. About 1e-7 or less for correct code, and
        1e-2 or more for most mistakes.

    Raises
    ------
    AssertionError
        If a gradient has another shape or dtype than its input.

    Examples
    --------
    >>> from tinyslm import ops
    >>> check_gradient(ops.silu, np.linspace(-2, 2, 5)) < 1e-7
    True
    """
    output, vjp = operation.with_vjp(*inputs, **settings)
    direction = np.random.default_rng(seed).standard_normal(np.shape(output))
    worst = 0.0
    for position, (x, gradient) in enumerate(zip(inputs, vjp(direction), strict=False)):  # without inputs that are None
        if gradient is None or x is None:
            continue
        if gradient.shape != x.shape or gradient.dtype != x.dtype:
            raise AssertionError(
                f"gradient of input {position} is {gradient.dtype}{gradient.shape}, not {x.dtype}{x.shape}"
            )
        difference = np.empty_like(x)
        for index in np.ndindex(x.shape):
            ends = []
            for sign in (1, -1):
                moved = x.copy()
                moved[index] += sign * step
                changed = (*inputs[:position], moved, *inputs[position + 1 :])
                ends.append(operation(*changed, **settings))
            difference[index] = np.sum((ends[0] - ends[1]) * direction) / (2 * step)
        size = np.linalg.norm(gradient) + np.linalg.norm(difference)
        worst = max(worst, float(np.linalg.norm(gradient - difference) / size) if size else 0.0)
    return worst
