"""y = x W^T + b."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import check_operation
from tests.strategies import distinct_sizes, generators
from tinyslm import ops


@given(distinct_sizes(4, 2, 6), generators(), st.booleans(), st.booleans())
def test_linear(sizes, rng, with_bias, flat):
    """The value is that of einsum, and the gradients are exact, for (N, in) and (B, T, in), with and without bias."""
    B, T, inputs, outputs = sizes
    x = rng.standard_normal((T, inputs) if flat else (B, T, inputs))
    weight, bias = rng.standard_normal((outputs, inputs)), rng.standard_normal(outputs) if with_bias else None
    expected = np.einsum("...i,oi->...o", x, weight) + (bias if with_bias else 0)
    np.testing.assert_allclose(ops.linear(x, weight, bias), expected, atol=1e-12)
    check_operation(ops.linear, x, weight, bias)


def test_no_rows():
    """An expert that no token chose multiplies nothing and has zero gradients."""
    y, vjp = ops.linear.with_vjp(np.zeros((0, 3)), np.ones((2, 3)), np.ones(2))
    dx, dweight, dbias = vjp(y)
    assert (y.shape, dx.shape) == ((0, 2), (0, 3))
    assert not dweight.any()
    assert not dbias.any()
