"""What every operation must satisfy, whatever it computes."""

import numpy as np

from tinyslm.autodiff import check_gradient


def is_float(x):
    return isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating)


def check_operation(operation, *inputs, **settings):
    """Assert what every operation must satisfy, for float64 inputs: `check_gradients` and `check_float32`."""
    check_gradients(operation, *inputs, **settings)
    check_float32(operation, *inputs, **settings)


def check_gradients(operation, *inputs, **settings):
    """Assert, for float64 inputs:

    - a gradient for every floating-point input, equal to central differences under a random upstream gradient;
    - neither inputs nor upstream gradient are changed, and the vjp can be called again.
    """
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in inputs]
    output, vjp = operation.with_vjp(*inputs, **settings)
    upstream = np.random.default_rng(7).standard_normal(np.shape(output))
    kept = np.copy(upstream)
    gradients, again = vjp(upstream), vjp(upstream)
    for x, copy, gradient, second in zip(inputs, before, gradients, again, strict=False):
        assert np.array_equal(x, copy), "an input was changed"
        if is_float(x):
            assert gradient is not None, "an input has no gradient"
            assert np.array_equal(gradient, second), "the second call of the vjp differs"
    assert len(gradients) >= sum(map(is_float, inputs))
    assert np.array_equal(upstream, kept), "the upstream gradient was changed"
    assert check_gradient(operation, *inputs, **settings) < 1e-7


def check_float32(operation, *inputs, **settings):
    """Assert, for float64 inputs: with float32 inputs, output and gradients are float32 and near those of float64."""
    output, vjp = operation.with_vjp(*inputs, **settings)
    upstream = np.random.default_rng(7).standard_normal(np.shape(output))
    narrow = [x.astype(np.float32) if is_float(x) else x for x in inputs]
    narrow_output, narrow_vjp = operation.with_vjp(*narrow, **settings)
    assert narrow_output.dtype == np.float32
    assert np.asarray(output).dtype == np.float64
    np.testing.assert_allclose(narrow_output, output, rtol=1e-3, atol=1e-4)
    for x, gradient, wide in zip(inputs, narrow_vjp(np.asarray(upstream, np.float32)), vjp(upstream), strict=False):
        if is_float(x):
            assert (gradient.dtype, wide.dtype) == (np.float32, np.float64)
            assert np.linalg.norm(gradient - wide) <= 1e-3 * (1 + np.linalg.norm(wide))
