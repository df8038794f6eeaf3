"""The tape: the chain rule over values used once, twice and never, at a cost that is linear in their number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_operation
from tests.strategies import generators
from tinyslm import ops
from tinyslm.autodiff import (
    Traced,
    add,
    backward,
    check_gradient,
    differentiable,
    multiply,
    reshape,
    select,
    sum_to_shape,
    value_and_grad,
    value_of,
)
from tinyslm.errors import Error
from tinyslm.modules import Linear
from tinyslm.tree import Array, Module, constant


@differentiable
def total(x):
    """The sum of all entries: makes a loss of anything."""
    return np.sum(x), lambda dy: (np.full_like(x, dy),)


@differentiable
def square(x):
    """x * x, elementwise."""
    return x * x, lambda dy: (2 * x * dy,)


def test_arrays_in_arrays_out():
    x = np.arange(3.0)
    assert isinstance(square(x), np.ndarray)
    y, vjp = square.with_vjp(x)
    np.testing.assert_array_equal(y, [0, 1, 4])
    np.testing.assert_array_equal(vjp(np.ones(3))[0], [0, 2, 4])


def test_one_line_per_operation():
    """A traced result looks like its array from outside, and the tape holds one line per operation."""
    tape = []
    x = Traced(np.ones((2, 3), np.float32), tape)
    y = square(x).reshape(3, 2)
    assert (y.shape, y.dtype, y.ndim, len(tape)) == ((3, 2), np.float32, 2, 2)
    assert repr(y) == "Traced(float32[3, 2])"
    assert value_of(y) is y.value
    assert value_of(3) == 3


def test_the_chain_rule():
    """d/dw sum((w^2 + 3 w)^2) = 2 (w^2 + 3 w) (2 w + 3); w is used twice, so both contributions are added."""
    w = np.array([1.0, -2.0, 0.5])
    loss, gradient = value_and_grad(lambda w: total(square(square(w) + w * 3)))(w)
    assert loss == np.sum((w**2 + 3 * w) ** 2)
    np.testing.assert_allclose(gradient, 2 * (w**2 + 3 * w) * (2 * w + 3))


def test_a_value_used_twice_in_every_layer_costs_one_vjp_per_line():
    """x + x, fifty times over: 2^50 paths from the loss to w, fifty-one calls."""
    calls = []

    @differentiable
    def double(x, y):
        def vjp(dy):
            calls.append(1)
            return dy, dy

        return x + y, vjp

    def loss(w):
        for _ in range(50):
            w = double(w, w)
        return total(w)

    _, gradient = value_and_grad(loss)(np.ones(2))
    np.testing.assert_array_equal(gradient, [2.0**50] * 2)
    assert len(calls) == 50


def test_gradients_are_not_added_in_place():
    """a + b gives both inputs the same array as gradient; what a receives later must not reach b."""

    def loss(arrays):
        a, b = arrays
        squared = square(a)
        return total((a + b) + squared)

    _, (da, db) = value_and_grad(loss)([np.full(3, 5.0), np.ones(3)])
    np.testing.assert_array_equal(da, [11, 11, 11])
    np.testing.assert_array_equal(db, [1, 1, 1])


def test_long_chains_need_no_recursion():
    def loss(w):
        for _ in range(5000):
            w = w + 1.0
        return total(w)

    np.testing.assert_array_equal(value_and_grad(loss)(np.ones(2))[1], [1, 1])


def test_what_the_loss_does_not_depend_on_is_not_differentiated():
    @differentiable
    def forbidden(x):
        def vjp(dy):
            raise AssertionError("called for nothing")

        return x, vjp

    def loss(w):
        forbidden(w)
        return total(square(w))

    value_and_grad(loss)(np.ones(2))


def test_backward_empties_the_tape():
    tape = []
    x = Traced(np.ones(3), tape)
    gradients = backward(tape, total(square(x)))
    assert tape == []
    np.testing.assert_array_equal(gradients[x], [2, 2, 2])


class Tiny(Module):
    used: Linear
    unused: Array
    mask: Array = constant()
    counts: Array | None = None


def tiny():
    return Tiny(Linear(np.ones((2, 3), np.float32)), np.ones(4), mask=np.ones((2, 3)), counts=np.arange(3))


def test_gradients_are_a_tree_like_the_model():
    """Zeros for what the loss does not use, None for what is not trained, dtypes those of the arrays."""
    model = tiny()
    loss, gradients = value_and_grad(lambda model, x, power: total(square(model.used(x))) * power)(
        model, np.ones((5, 3), np.float32), power=2.0
    )
    assert loss == 5 * 2 * 9 * 2
    np.testing.assert_array_equal(gradients.used.weight, np.full((2, 3), 60))
    assert gradients.used.weight.dtype == np.float32
    np.testing.assert_array_equal(gradients.unused, np.zeros(4))
    assert gradients.used.bias is gradients.mask is gradients.counts is None
    assert isinstance(gradients, Tiny)
    assert isinstance(model.used.weight, np.ndarray)  # the model itself was not touched


def test_a_tied_array_has_one_gradient_in_both_places():
    weight = np.array([[2.0]])
    model = [Linear(weight), Linear(weight)]
    _, gradients = value_and_grad(lambda model, x: total(model[1](model[0](x))))(model, np.array([[3.0]]))
    np.testing.assert_array_equal(gradients[0].weight, [[12]])  # d(3 w^2)/dw
    np.testing.assert_array_equal(gradients[1].weight, [[12]])


def test_a_loss_without_the_model_has_zero_gradients():
    loss, gradients = value_and_grad(lambda model: np.float64(3.0))(tiny())
    assert loss == 3
    assert not gradients.unused.any()
    assert gradients.mask is None


def test_the_tape_is_found_at_every_input():
    """Arrays may come before a traced value and after it."""

    @differentiable
    def product(*inputs):
        def vjp(dy):
            return [dy * np.prod([y for j, y in enumerate(inputs) if j != i]) for i in range(len(inputs))]

        return np.prod(inputs), vjp

    factors = [np.asarray(3.0), np.asarray(5.0)]
    for place in range(3):
        inputs = factors[:place], factors[place:]
        _, gradient = value_and_grad(lambda x, before, after: product(*before, x, *after))(np.asarray(2.0), *inputs)
        assert isinstance(gradient, np.ndarray) and gradient == 15


def test_an_input_without_a_gradient_receives_that_of_its_other_uses():
    rounded = differentiable(lambda x: (np.round(x), lambda dy: (None,)))
    w = np.array([1.2, -2.0])
    for loss in (lambda w: total(square(w) + rounded(w)), lambda w: total(rounded(w) + square(w))):
        np.testing.assert_array_equal(value_and_grad(loss)(w)[1], 2 * w)
    np.testing.assert_array_equal(value_and_grad(lambda w: total(rounded(w)))(w)[1], [0, 0])


def test_a_loss_must_be_one_number():
    with pytest.raises(Error, match=r"loss must be a scalar, found shape \(3,\)"):
        value_and_grad(square)(np.ones(3))


def test_arrays_and_traced_values_mix_on_either_side():
    """NumPy must not take a traced value for an object and make an array of objects."""
    tape = []
    x = Traced(np.arange(3.0), tape)
    for mixed in (np.ones(3) + x, np.float64(2) * x, x * np.ones(3), np.ones((2, 1)) * x):
        assert isinstance(mixed, Traced)
        assert mixed.dtype == np.float64
    assert len(tape) == 4
    with pytest.raises(TypeError, match="ufunc"):
        np.exp(x)


ADDED_AND_STRETCHED = [((3, 1), (2, 1, 4)), ((3, 1), (3, 2)), ((1, 4), (1,)), ((5, 4, 1), (1, 1)), ((1, 3, 1), (3, 2))]
shapes = st.sampled_from([((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((2, 3, 4), (3, 1)), ((3, 4), ()), *ADDED_AND_STRETCHED])


@given(shapes, generators())
def test_add_and_multiply_undo_broadcasting(shapes, rng):
    x, y = (np.asarray(rng.standard_normal(shape)) for shape in shapes)
    for operation in (add, multiply):
        check_operation(operation, x, y)
        check_operation(operation, y, x)


@pytest.mark.parametrize("shapes", ADDED_AND_STRETCHED)
def test_an_axis_is_added_where_another_one_is_stretched(shapes):
    """Also by a factor of 2, and beside axes of length 1 that are not stretched."""
    x, y = (np.random.default_rng(0).standard_normal(shape) for shape in shapes)
    check_operation(multiply, x, y)
    check_operation(multiply, y, x)


def test_reshape_and_select():
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    check_operation(reshape, x, shape=(4, 6))
    for index in ((slice(None), slice(-1, None)), 1, (..., 0), (0, slice(None, None, 2))):
        np.testing.assert_array_equal(select(x, index=index), x[index])
        check_operation(select, x, index=index)


@pytest.mark.parametrize("index", [np.array([0, 0]), [1, 1], (slice(None), [0])])
def test_a_traced_array_refuses_to_be_a_table(index):
    """Rows that occur twice would need a sum: that is the embedding's gradient, not this one."""
    with pytest.raises(TypeError, match=r"ops\.embedding"):
        Traced(np.ones((3, 4)), [])[index]


class TestCheckGradient:
    """The judge itself: correct code passes by a wide margin, each kind of mistake does not."""

    x = np.random.default_rng(1).standard_normal((3, 4))

    def error(self, vjp):
        return check_gradient(differentiable(lambda x: (np.exp(x), vjp)), self.x)

    def test_correct(self):
        assert self.error(lambda dy: (dy * np.exp(self.x),)) < 1e-8

    @pytest.mark.parametrize("factor", [1.001, -1, 0])
    def test_scaled(self, factor):
        assert self.error(lambda dy: (factor * dy * np.exp(self.x),)) > 1e-4

    def test_one_entry_wrong(self):
        def vjp(dy):
            dx = dy * np.exp(self.x)
            dx[1, 2] *= 1.01
            return (dx,)

        assert self.error(vjp) > 1e-5

    def test_wrong_shape_and_dtype(self):
        with pytest.raises(AssertionError, match=r"gradient of input 0 is float64\(4, 3\), not float64\(3, 4\)"):
            self.error(lambda dy: ((dy * np.exp(self.x)).T,))
        with pytest.raises(AssertionError, match="float32"):
            self.error(lambda dy: ((dy * np.exp(self.x)).astype(np.float32),))

    def test_a_sum_that_ignores_the_upstream_gradient(self):
        assert self.error(lambda dy: (np.exp(self.x),)) > 1e-2

    @pytest.mark.parametrize("factor", [3.0, 0.5, -0.25, 0.0])
    def test_the_error_is_relative_to_both_gradients(self, factor):
        """||f g - g|| / (||f g|| + ||g||) for a vjp that is f times the gradient g."""
        found = self.error(lambda dy: (factor * dy * np.exp(self.x),))
        assert type(found) is float
        assert found == pytest.approx(abs(factor - 1) / (abs(factor) + 1), rel=1e-6)

    @pytest.mark.parametrize("factors", [(1, 1, 3), (3, 1, 1), (1, 3, 1)])
    def test_the_worst_of_several_inputs_counts(self, factors):
        inputs = [self.x, self.x[:, :1] + 1, self.x[0] - 2]

        @differentiable
        def product(*inputs):
            def vjp(dy):
                others = inputs[1] * inputs[2], inputs[0] * inputs[2], inputs[0] * inputs[1]
                return [
                    factor * sum_to_shape(dy * other, x.shape)
                    for factor, other, x in zip(factors, others, inputs, strict=True)
                ]

            return inputs[0] * inputs[1] * inputs[2], vjp

        assert check_gradient(product, *inputs) == pytest.approx(0.5, rel=1e-6)

    def test_two_gradients_of_zero_agree(self):
        constant = differentiable(lambda x: (np.ones(3), lambda dy: (np.zeros_like(x),)))
        with np.errstate(all="raise"):
            assert check_gradient(constant, self.x) == 0

    def test_inputs_without_a_gradient_are_not_checked(self):
        """An input that is None, whatever its gradient, and an input whose gradient is None, whatever its type."""
        shifted = differentiable(lambda x, missing, count: (count * x, lambda dy: (count * dy, np.ones(2), None)))
        assert check_gradient(shifted, self.x, None, 3) < 1e-8

    def test_the_arguments_are_not_changed(self):
        x = self.x.copy()
        check_gradient(differentiable(lambda x: (x * x, lambda dy: (2 * x * dy,))), x)
        np.testing.assert_array_equal(x, self.x)


def test_an_input_that_was_left_out_is_not_checked():
    """A linear layer without its bias has three gradients for two inputs."""
    rng = np.random.default_rng(0)
    assert check_gradient(ops.linear, rng.standard_normal((3, 5)), rng.standard_normal((4, 5))) < 1e-7
