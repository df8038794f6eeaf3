"""Comparison with the arrays that transformers computed."""

import numpy as np


def assert_equal(found, wanted, what):
    """Equal shapes, and values equal to float32 accuracy."""
    assert found.shape == wanted.shape, what
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-4, err_msg=what)
