"""Three sparse formats of a linear layer: the same function as the dense layer, with the stated number of bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.autodiff import check_gradient
from tinyslm.compression.pruning import BitmapLinear, CsrLinear, NMLinear, magnitude_mask, n_m_mask
from tinyslm.compression.pruning.sparse_linear import csr_linear
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear
from tinyslm.tree import named_arrays, named_parameters


@st.composite
def sparse_layers(draw, dtype=np.float64):
    """A dense layer whose weights have the pattern 2:4 or less, some rows and groups without any."""
    rng = draw(generators())
    rows, columns = draw(st.integers(1, 6)), 4 * draw(st.integers(1, 5))
    weight = rng.standard_normal((rows, columns)).astype(dtype)
    weight = weight * n_m_mask(np.abs(weight), 2, 4) * magnitude_mask(weight, draw(st.floats(0, 1)))
    return Linear(weight, draw(st.sampled_from([None, rng.standard_normal(rows).astype(dtype)])))


def forms(linear):
    return CsrLinear.from_linear(linear), BitmapLinear.from_linear(linear), NMLinear.from_linear(linear, "2:4")


@given(sparse_layers(), generators())
def test_every_format_is_the_same_function(linear, rng):
    x = rng.standard_normal((2, 3, linear.in_features))
    for layer in forms(linear):
        np.testing.assert_array_equal(layer.dense_weight(), linear.weight)
        np.testing.assert_allclose(layer(x), linear(x), rtol=1e-12, atol=1e-12)
        assert layer(x[:0]).shape == (0, 3, linear.out_features)
        assert (layer.out_features, layer.in_features) == linear.weight.shape
        assert layer.num_parameters() == linear.num_parameters()
        assert layer.num_non_zeros() == linear.num_non_zeros()
        assert set(named_parameters(layer)) == set() if linear.bias is None else {"bias"}


@given(sparse_layers(np.float32))
def test_bytes_are_those_of_the_published_formats(linear):
    kept, (rows, columns) = np.count_nonzero(linear.weight), linear.weight.shape
    bias = 0 if linear.bias is None else linear.bias.nbytes
    wanted = (
        8 * kept + 4 * (rows + 1),
        4 * kept + rows * -(-columns // 8),
        2 * linear.weight.size + linear.weight.size / 8,
    )
    for layer, size in zip(forms(linear), wanted, strict=True):
        assert layer.num_bytes() == np.ceil(size) + bias == sum(each.nbytes for each in named_arrays(layer).values())
        assert layer.num_bits() == 8 * layer.num_bytes()
    csr, bitmap, _ = forms(linear)
    assert csr.multiply_adds() == kept and bitmap.multiply_adds() == linear.weight.size


@pytest.mark.parametrize(("sparsity", "order"), [(0.3, ["bitmap", "dense", "csr"]), (0.6, ["bitmap", "csr", "dense"])])
def test_which_format_is_smaller_depends_on_the_sparsity(sparsity, order):
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    linear = Linear(weight * magnitude_mask(weight, sparsity))
    csr, bitmap = CsrLinear.from_linear(linear), BitmapLinear.from_linear(linear)
    sizes = {"csr": csr.num_bytes(), "bitmap": bitmap.num_bytes(), "dense": linear.num_bytes()}
    assert sorted(sizes, key=sizes.get) == order


def test_gradients_pass_through():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 8)) * magnitude_mask(rng.standard_normal((5, 8)), 0.5)
    x, layer = rng.standard_normal((2, 3, 8)), CsrLinear.from_linear(Linear(weight, rng.standard_normal(5)))
    direction = rng.standard_normal((2, 3, 5))
    _, vjp = csr_linear.with_vjp(x, layer.values, layer.columns, layer.row_starts, layer.bias)
    dx, dvalues, dcolumns, drow_starts, dbias = vjp(direction)
    np.testing.assert_allclose(dx, direction @ weight, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dbias, direction.sum(axis=(0, 1)), rtol=1e-12)
    assert dvalues is None and dcolumns is None and drow_starts is None
    inputs = (x, layer.values, layer.columns, layer.row_starts, layer.bias)
    assert check_gradient(csr_linear, *inputs) < 1e-7


def test_weights_without_the_pattern_are_refused():
    with pytest.raises(DataError, match="do not have the pattern 2:4"):
        NMLinear.from_linear(Linear(np.ones((2, 8))), "2:4")
    with pytest.raises(ConfigError, match="pattern"):
        NMLinear.from_linear(Linear(np.ones((2, 8))), "half")


def test_arrays_that_contradict_each_other_are_refused():
    csr, bitmap, _ = forms(Linear(np.array([[1.0, 0, 2, 0, 0, 3, 0, 0], [0, 0, 0, 0, 4, 0, 0, 0]])))
    x = np.ones((1, 8))
    for changes in (
        {"columns": np.array([0, 2, 8, 4], np.int32)},
        {"columns": np.array([0, -2, 5, 4], np.int32)},
        {"row_starts": np.array([0, 3, 9], np.int32)},
        {"row_starts": np.array([0, 5, 4], np.int32)},
        {"row_starts": np.array([1, 3, 4], np.int32)},
        {"row_starts": np.array([], np.int32)},
        {"columns": np.array([0, 2, 5], np.int32)},
    ):
        with pytest.raises(DataError, match="not a valid CSR matrix"):
            csr.replace(**changes)(x)
        with pytest.raises(DataError, match="not a valid CSR matrix"):
            csr.replace(**changes).dense_weight()
    with pytest.raises(DataError, match="bits for 3 values"):
        bitmap.replace(values=bitmap.values[:3])(x)
