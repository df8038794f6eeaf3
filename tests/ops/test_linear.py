"""y = x W^T + b."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_operation
from tests.strategies import distinct_sizes, generators
from tinyslm import ops
from tinyslm.ops.linear import FEW_ROWS, rows_times_weight


@given(distinct_sizes(4, 2, 6), generators(), st.booleans(), st.booleans())
def test_linear(sizes, rng, with_bias, flat):
    """The value is that of einsum, and the gradients are exact, for (N, in) and (B, T, in), with and without bias."""
    B, T, inputs, outputs = sizes
    x = rng.standard_normal((T, inputs) if flat else (B, T, inputs))
    weight, bias = rng.standard_normal((outputs, inputs)), rng.standard_normal(outputs) if with_bias else None
    expected = np.einsum("...i,oi->...o", x, weight) + (bias if with_bias else 0)
    np.testing.assert_allclose(ops.linear(x, weight, bias), expected, atol=1e-12)
    check_operation(ops.linear, x, weight, bias)


@given(st.integers(0, 2 * FEW_ROWS), distinct_sizes(2, 1, 40), generators())
def test_few_rows_are_multiplied_as_many(count, sizes, rng):
    """Both orders of the product give rows @ weight.T, also into a part of a larger array."""
    inputs, outputs = sizes
    rows, weight = rng.standard_normal((count, inputs)), rng.standard_normal((outputs, inputs))
    expected = rows @ weight.T  # (count, outputs)
    product = rows_times_weight(rows, weight)
    np.testing.assert_allclose(product, expected, atol=1e-12)
    assert product.flags.c_contiguous
    larger = np.full((count, outputs + 2), np.nan)
    rows_times_weight(rows, weight, larger[:, 1:-1])
    np.testing.assert_allclose(larger[:, 1:-1], expected, atol=1e-12)
    assert np.isnan(larger[:, [0, -1]]).all()
    assert rows_times_weight(rows.astype(np.float32), weight.astype(np.float32)).dtype == np.float32


def test_no_rows():
    """An expert that no token chose multiplies nothing and has zero gradients."""
    y, vjp = ops.linear.with_vjp(np.zeros((0, 3)), np.ones((2, 3)), np.ones(2))
    dx, dweight, dbias = vjp(y)
    assert (y.shape, dx.shape) == ((0, 2), (0, 3))
    assert not dweight.any()
    assert not dbias.any()


def test_the_order_of_the_product_depends_on_the_number_of_rows():
    """(W rows^T)^T for 2 to 32 rows, which is faster, and rows W^T for all others."""
    left = []

    class Recorded(np.ndarray):
        def __matmul__(self, other):
            left.append(len(other.T))
            return np.asarray(self) @ other

    weight = np.arange(6.0).reshape(2, 3)
    for count in (0, 1, 2, 31, 32, 33):
        rows = np.arange(3.0 * count).reshape(count, 3)
        np.testing.assert_array_equal(rows_times_weight(rows, weight.view(Recorded)), rows @ weight.T)
    assert left == [2, 31, 32]


def test_inputs_and_the_bias_are_not_changed():
    """The bias is added to the product in place: to new memory, for any number of rows."""
    weight, bias = np.eye(3), np.ones(3)
    for count in (0, 1, 2, 40):
        x = np.ones((count, 3))
        np.testing.assert_array_equal(ops.linear(x, weight, bias), np.full((count, 3), 2.0))
        assert np.array_equal(x, np.ones((count, 3))) and np.array_equal(weight, np.eye(3)) and bias.sum() == 3
