"""Reverse-mode differentiation of functions of arrays, with one node per layer-level operation.

An operation is written once, as a function that returns its output and its vector-Jacobian product (vjp):

    @differentiable
    def scale(x, factor):
        def vjp(dy):                                   # dy: gradient of the loss with respect to the output
            return dy * factor, np.sum(dy * x)         # one gradient per positional input
        return x * factor, vjp

Called with arrays it returns the output and keeps nothing. Called with a value on a tape it also writes one line on
that tape: (output, inputs, vjp). Because a line can only mention values that exist already, the tape is in topological
order, and going through it backwards reaches every output before its inputs. A value that was used twice receives two
gradients, which are added: that is the multivariate chain rule.

Source: Griewank & Walther, Evaluating Derivatives, 2nd ed. 2008, section 3.2 (reverse accumulation).
"""

import functools

import numpy as np

from tinyslm.errors import Error
from tinyslm.tree import map_parameters


class Traced:
    """An array whose history is being written on a tape. `value` is the array."""

    __slots__ = ("tape", "value")
    __array_ufunc__ = None  # so that `array * traced` comes here, and np.exp(traced) is refused

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
        """The same numbers in another shape, as `ndarray.reshape`."""
        return reshape(self, shape=shape)

    def __repr__(self):
        return f"Traced({self.dtype}{list(self.shape)})"


def value_of(x):
    """The array behind a traced value; anything else as it is."""
    return x.value if isinstance(x, Traced) else x


def differentiable(function):
    """Make an operation of a function that returns (output, vjp). See the module's docstring.

    Positional arguments are inputs, to which vjp gives one gradient each (None where there is none); keyword
    arguments are settings. `operation.with_vjp` is the function as it was written.
    """

    @functools.wraps(function)
    def operation(*inputs, **settings):
        if Traced not in map(type, inputs):
            return function(*inputs, **settings)[0]
        tape = next(x.tape for x in inputs if isinstance(x, Traced))
        output, vjp = function(*[value_of(x) for x in inputs], **settings)
        traced = Traced(output, tape)
        tape.append((traced, inputs, vjp))
        return traced

    operation.with_vjp = function
    return operation


def backward(tape, output):
    """Gradients of a scalar `output` with respect to the leaves that it depends on: {Traced: array}.

    Empties the tape, so that what an operation kept for its vjp is released as soon as it was used.
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


def value_and_grad(loss_function):
    """A function (model, *inputs) -> (loss, gradients), where gradients is a tree like model.

    loss_function(model, *inputs) must return a scalar. An array that occurs twice in the model (a tied weight) is one
    variable: both places of the gradient tree hold the sum. Arrays that are not trained have None there, and trained
    arrays that the loss does not depend on have zeros.
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
            raise Error(f"a loss must be one number to have a gradient, found shape {loss.shape}")
        value = loss.value
        gradients = backward(tape, loss)

        def gradient_of(path, array):
            gradient = gradients.get(leaves[id(array)])
            return np.zeros_like(array) if gradient is None else np.asarray(gradient)

        return value, map_parameters(gradient_of, model, otherwise=lambda path, array: None)

    return evaluate


def sum_to_shape(gradient, shape):
    """Undo broadcasting: an input that was repeated along an axis receives the sum over that axis."""
    if gradient.shape == shape:
        return gradient
    added = tuple(range(gradient.ndim - len(shape)))
    stretched = tuple(i + len(added) for i, n in enumerate(shape) if n == 1 and gradient.shape[i + len(added)] != 1)
    return gradient.sum(axis=added + stretched, keepdims=True).reshape(shape)


@differentiable
def add(x, y):
    """x + y with broadcasting: the residual connection."""

    def vjp(dy):
        return sum_to_shape(dy, np.shape(x)), sum_to_shape(dy, np.shape(y))

    return x + y, vjp


@differentiable
def multiply(x, y):
    """x * y with broadcasting: weighting one loss against another."""

    def vjp(dz):
        return sum_to_shape(dz * y, np.shape(x)), sum_to_shape(dz * x, np.shape(y))

    return x * y, vjp


@differentiable
def reshape(x, *, shape):
    """The same numbers in another shape."""
    return x.reshape(shape), lambda dy: (dy.reshape(x.shape),)


@differentiable
def select(x, *, index):
    """x[index] for integers and slices. Rows of a table, where one may occur twice, are `ops.embedding`."""
    if any(isinstance(part, list | np.ndarray) for part in (index if isinstance(index, tuple) else (index,))):
        raise TypeError("a traced array takes integers and slices only; to look up rows use ops.embedding")

    def vjp(dy):
        dx = np.zeros_like(x)
        dx[index] = dy
        return (dx,)

    return x[index], vjp


def check_gradient(operation, *inputs, seed=0, step=1e-6, **settings):
    """Largest relative error of a vjp against central differences, over all inputs to which it gives a gradient.

    The output is projected on a random direction (a plain sum has zero gradient for softmax and for norms, and would
    compare noise). Call it with float64 inputs. Returns max |vjp - difference| / (|vjp| + |difference|), both as
    vector norms per input; 1e-7 is usual for correct code, 1e-2 and more for a mistake.
    """
    output, vjp = operation.with_vjp(*inputs, **settings)
    direction = np.random.default_rng(seed).standard_normal(np.shape(output))
    worst = 0.0
    for position, (x, gradient) in enumerate(zip(inputs, vjp(direction), strict=False)):  # a bias may be left out
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
