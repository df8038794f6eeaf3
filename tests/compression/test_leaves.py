"""Every layer that stands in for Linear is called, described and rebuilt in the same way."""

import numpy as np
import pytest

from tinyslm.compression.factorization import LowRankLinear, truncated_svd
from tinyslm.compression.pruning import MaskedLinear, magnitude_mask
from tinyslm.compression.quantization import QuantizedLinear
from tinyslm.modules import Linear
from tinyslm.tree import map_arrays, named_arrays

rng = np.random.default_rng(0)
LINEAR = Linear(rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal(5).astype(np.float32))
LEAVES = [
    LINEAR,
    MaskedLinear.from_linear(LINEAR, magnitude_mask(LINEAR.weight, 0.5)),
    LowRankLinear(*truncated_svd(LINEAR.weight, 2), LINEAR.bias),
    *(QuantizedLinear.from_linear(LINEAR, symmetric=s, per_channel=c) for s in (True, False) for c in (True, False)),
    QuantizedLinear.from_linear(LINEAR, dynamic_activations=True),
]
every_leaf = pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: type(leaf).__name__)


@every_leaf
def test_the_interface_of_linear(leaf):
    assert (leaf.out_features, leaf.in_features) == (5, 8)
    weight = leaf.dense_weight()
    assert weight.shape == (5, 8) and weight.dtype == np.float32
    assert leaf.multiply_adds() == (2 * (5 + 8) if isinstance(leaf, LowRankLinear) else 5 * 8)
    x = rng.standard_normal((2, 3, 8)).astype(np.float32)
    y = leaf(x)
    assert y.shape == (2, 3, 5) and y.dtype == np.float32
    rounding = 0.05 if getattr(leaf, "dynamic_activations", False) else 1e-5
    np.testing.assert_allclose(y, x @ weight.T + leaf.bias, atol=rounding)
    np.testing.assert_array_equal(leaf(np.zeros((1, 8), np.float32))[0], leaf.bias)
    assert leaf(x[:0]).shape == (0, 3, 5)


@every_leaf
def test_a_leaf_is_rebuilt_from_its_fields(leaf):
    arrays = {path: array.copy() for path, array in named_arrays(leaf).items()}
    rebuilt = map_arrays(lambda path, _: arrays[path], leaf)
    x = rng.standard_normal((4, 8)).astype(np.float32)
    np.testing.assert_array_equal(rebuilt(x), leaf(x))
    assert all(type(array) is np.ndarray for array in arrays.values())
