"""Compressed layers of pruning and factorization: sizes in exact numbers, and the forms of their arrays in a file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.compression.factorization import (
    LowRankLinear,
    MaskedRankLinear,
    compression_loss,
    first_components,
    masks_within,
    rank_mask,
)
from tinyslm.compression.pruning import BitmapLinear, CsrLinear, MaskedLinear, NMLinear, masked_linear, pack_n_m
from tinyslm.compression.pruning.n_m import index_bits, index_bytes
from tinyslm.compression.pruning.sparse_linear import csr_linear, csr_matrix
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def draw_linear(rng, dtype, biased, shape=(4, 6)):
    return Linear(
        rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape[0]).astype(dtype) if biased else None
    )


@DTYPES
@given(generators(), st.booleans())
def test_sizes_of_a_masked_layer(dtype, rng, biased):
    """A kept weight has the bits of its dtype, each mask entry has one, and the bias has its own."""
    linear, mask = draw_linear(rng, dtype, biased), rng.random((4, 6)) < 0.6
    layer, width = MaskedLinear.from_linear(linear, mask), 8 * np.dtype(dtype).itemsize
    kept, bias = np.count_nonzero(mask), 4 if biased else 0
    assert layer.num_bits() == kept * width + 24 + bias * width
    assert layer.num_bytes() == (24 + bias) * width // 8 + 24
    assert layer.num_parameters() == 24 + bias and layer.num_non_zeros() == kept + bias
    assert layer.multiply_adds() == 24
    assert type(layer.num_bits()) is int


@DTYPES
def test_a_masked_layer_multiplies_by_its_mask_whatever_its_weights_are(dtype):
    """Weights can become different from 0 where they are masked, for example by loading a file."""
    rng = np.random.default_rng(0)
    linear, mask = draw_linear(rng, dtype, True), rng.random((4, 6)) < 0.5
    layer = MaskedLinear(linear.weight, mask, linear.bias)
    np.testing.assert_array_equal(layer.dense_weight(), np.where(mask, linear.weight, 0))
    assert layer.dense_weight().dtype == dtype and layer.to_linear().bias is linear.bias
    np.testing.assert_array_equal(layer.to_linear().weight, layer.dense_weight())
    x = rng.standard_normal((3, 6)).astype(dtype)
    np.testing.assert_array_equal(layer(x), layer.to_linear()(x))
    y, vjp = masked_linear.with_vjp(x, linear.weight, mask)
    assert [gradient is None for gradient in vjp(y)] == [False, False, True, True]
    dx, dweight, _, dbias = masked_linear.with_vjp(x, linear.weight, mask, linear.bias)[1](y)
    np.testing.assert_allclose(dx, y @ np.where(mask, linear.weight, 0), rtol=1e-5)
    np.testing.assert_allclose(dweight, np.where(mask, y.T @ x, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dbias, y.sum(axis=0), rtol=1e-5)
    made = MaskedLinear.from_linear(layer, ~mask)  # of a layer that is masked already
    assert not made.weight.any() and made.weight.dtype == dtype


@DTYPES
@given(generators(), st.booleans())
def test_sizes_of_a_low_rank_layer(dtype, rng, biased):
    left, right = rng.standard_normal((4, 2)).astype(dtype), rng.standard_normal((2, 6)).astype(dtype)
    left[0, 0] = right[1, 2] = right[1, 3] = 0
    bias = np.array([1, 0, 2, 3], dtype) if biased else None
    layer = LowRankLinear(left, right, bias)
    assert (layer.out_features, layer.in_features, layer.rank) == (4, 6, 2)
    assert layer.shapes() == [(4, 2), (2, 6)] and layer.multiply_adds() == 20
    assert layer.num_parameters() == 20 + (4 if biased else 0)
    assert layer.num_non_zeros() == 17 + (3 if biased else 0)
    assert layer.num_bits() == layer.num_parameters() * 8 * np.dtype(dtype).itemsize
    np.testing.assert_array_equal(layer.dense_weight(), left @ right)


def test_sizes_of_a_layer_with_a_mask_over_components():
    layer = MaskedRankLinear(np.array([1.0, -1.0]), np.ones((4, 2)), np.ones((2, 6)), np.zeros(2), 1.0)
    assert (layer.out_features, layer.in_features) == (4, 6)
    assert layer.shapes() == [(4, 6)] and layer.num_parameters() == 24


def test_forms_of_the_arrays_of_every_layer():
    """{array: (kind, shape)} as a file must have them, for a matrix (4, 6)."""
    floating = np.floating
    assert MaskedLinear.array_forms((4, 6), {}, {}) == {
        "weight": (floating, (4, 6)),
        "bias": (floating, (4,)),
        "mask": (np.bool_, (4, 6)),
    }
    for arrays, rank in (({"right": np.ones((3, 6))}, 3), ({"right": np.ones(6)}, 0), ({}, 0)):
        assert LowRankLinear.array_forms((4, 6), {}, arrays) == {
            "left": (floating, (4, rank)),
            "right": (floating, (rank, 6)),
            "bias": (floating, (4,)),
        }
    columns = {"in_features": 6}
    for arrays, count in (({"values": np.ones(5)}, 5), ({"values": np.ones((2, 3))}, 6)):
        assert CsrLinear.array_forms((4, 6), columns, arrays) == {
            "values": (floating, (count,)),
            "columns": (np.int32, (count,)),
            "row_starts": (np.int32, (5,)),
            "bias": (floating, (4,)),
        }
        assert BitmapLinear.array_forms((4, 6), columns, arrays) == {
            "values": (floating, (count,)),
            "bitmap": (np.uint8, (4, 1)),
            "bias": (floating, (4,)),
        }
    for width, length in ((1, 1), (8, 1), (9, 2), (16, 2), (17, 3)):
        forms = BitmapLinear.array_forms((4, width), {"in_features": width}, {"values": np.ones(1)})
        assert forms["bitmap"] == (np.uint8, (4, length))
    for layer in (CsrLinear, BitmapLinear):
        for settings in ({"in_features": 5}, {"in_features": 7}, {}):
            with pytest.raises(ConfigError, match=r"in_features is .*, expected 6"):
                layer.array_forms((4, 6), settings, {"values": np.ones(5)})
    for settings, m, kept in (({"m": 3}, 3, 2), ({"m": 2}, 2, 1), ({"m": 6}, 6, 5)):
        values = np.ones((4, 6 // m, kept))
        assert NMLinear.array_forms((4, 6), settings, {"values": values}) == {
            "values": (floating, (4, 6 // m, kept)),
            "places": (np.uint8, (index_bytes(4 * 6 // m * kept, m),)),
            "bias": (floating, (4,)),
        }
    assert NMLinear.array_forms((4, 8), {}, {"values": np.ones((4, 2, 3))})["values"] == (floating, (4, 2, 3))
    for arrays in ({}, {"values": np.ones(5)}):
        assert NMLinear.array_forms((4, 6), {"m": 3}, arrays)["values"] == (floating, (4, 2, 0))


def test_bits_and_bytes_of_indices():
    assert [index_bits(m) for m in (1, 2, 3, 4, 5, 8, 9, 16, 17)] == [0, 1, 2, 2, 3, 3, 4, 4, 5]
    assert [index_bytes(count, 4) for count in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]
    assert [index_bytes(3, m) for m in (1, 2, 8, 9, 2**15)] == [0, 1, 2, 2, 6]


@given(generators(), st.sampled_from([(1, 1), (1, 2), (0, 3), (5, 5), (16, 17), (1, 300), (255, 256)]))
def test_packing_groups_of_any_size(rng, pattern):
    """The indices of a group of 1 have 0 bits, those of 300 have 9, lowest bit first."""
    n, m = pattern
    mask = np.zeros((3, 2, m), bool)
    for group in mask.reshape(-1, m):
        group[rng.permutation(m)[:n]] = True
    mask, weight = mask.reshape(3, 2 * m), rng.standard_normal((3, 2 * m))
    packed = pack_n_m(weight, mask, n, m)
    assert packed.places.size == index_bytes(6 * n, m) and packed.values.shape == (3, 2, n)
    np.testing.assert_array_equal(packed.unpack(), np.where(mask, weight, 0))
    indices = [np.flatnonzero(group) for group in mask.reshape(-1, m)]
    bits = [(int(i) >> bit) & 1 for group in indices for i in group for bit in range(index_bits(m))]
    np.testing.assert_array_equal(packed.places, np.packbits(np.array(bits, np.uint8)))
    np.testing.assert_array_equal(packed.values.reshape(-1), weight.reshape(-1)[mask.reshape(-1)])


@DTYPES
@given(generators(), st.booleans(), st.integers(0, 3))
def test_sparse_rows_of_any_length(dtype, rng, biased, empty):
    """The product, its gradients and its dtype, with rows without a value and rows that are full."""
    linear = draw_linear(rng, dtype, biased)
    weight = linear.weight * (rng.random((4, 6)) < 0.5)
    weight[empty], weight[(empty + 1) % 4] = 0, 1
    linear = linear.replace(weight=weight.astype(dtype))
    for layer in (CsrLinear.from_linear(linear), BitmapLinear.from_linear(linear)):
        assert layer.values.dtype == dtype and layer.values.shape == (np.count_nonzero(weight),)
        np.testing.assert_array_equal(layer.values, weight[weight != 0])
        np.testing.assert_array_equal(layer.dense_weight(), weight)
        assert layer.dense_weight().dtype == dtype and layer.bias is linear.bias and layer.in_features == 6
    csr = CsrLinear.from_linear(linear)
    assert csr.columns.dtype == csr.row_starts.dtype == np.int32
    x, dy = rng.standard_normal((2, 3, 6)).astype(dtype), rng.standard_normal((2, 3, 4)).astype(dtype)
    y, vjp = csr_linear.with_vjp(x, csr.values, csr.columns, csr.row_starts, csr.bias)
    np.testing.assert_allclose(y, linear(x), rtol=1e-5, atol=1e-5)
    dx, *rest, dbias = vjp(dy)
    np.testing.assert_allclose(dx, dy @ weight, rtol=1e-4, atol=1e-5)
    assert y.dtype == dx.dtype == dtype and dx.shape == x.shape and rest == [None] * 3
    if biased:
        np.testing.assert_allclose(dbias, dy.sum(axis=(0, 1)), rtol=1e-4, atol=1e-5)
    else:
        assert dbias is None


def test_column_indices_of_a_sparse_matrix():
    """The last column is the last valid index; a matrix without values has any number of columns."""
    starts = np.array([0, 1, 2], np.int32)
    matrix = csr_matrix(np.ones(2), np.array([5, 0], np.int32), starts, 6)
    np.testing.assert_array_equal(matrix.toarray(), [[0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]])
    for bad in (6, -1):
        with pytest.raises(DataError, match="a column index is out of range"):
            csr_matrix(np.ones(2), np.array([bad, 0], np.int32), starts, 6)
    with pytest.raises(DataError, match="a row ends before it starts"):
        csr_matrix(np.ones(2), np.array([1, 0], np.int32), np.array([0, 3, 2], np.int32), 6)
    nothing = np.zeros(0, np.int32)
    assert csr_matrix(np.zeros(0), nothing, np.zeros(3, np.int32), 6).toarray().shape == (2, 6)


# masks over components


@DTYPES
@pytest.mark.parametrize("other", [np.float32, np.float64])
def test_the_mask_at_zero_and_of_mixed_dtypes(dtype, other):
    """A component with logit + noise of exactly 0 is dropped; the dtype is that of the logits."""
    logits, noise = np.array([0.0, 1e-3, -1e-3, 1.5], dtype), np.array([0.0, 0.0, 0.0, -1.5], other)
    mask, vjp = rank_mask.with_vjp(logits, noise, np.float64(0.5))
    assert mask.dtype == vjp(mask)[0].dtype == dtype
    np.testing.assert_array_equal(mask, [0, 1, 0, 0])
    assert compression_loss(logits, logits[:2]).dtype == dtype
    (first, second) = compression_loss.with_vjp(logits, logits[:2])[1](1.0)
    np.testing.assert_array_equal(first, [1 / 8] * 4)
    np.testing.assert_array_equal(second, [1 / 4] * 2)
    assert first.dtype == second.dtype == dtype


def by_definition(logits, shapes, budget):
    """Components one by one in descending order of their logits; a tie goes to the layer of the lower name."""
    kept = {layer: {int(np.argmax(each))} for layer, each in logits.items()}

    def parameters(layer, rank):
        m, n = shapes[layer]
        return min(rank * (m + n), m * n)

    left = budget - sum(parameters(layer, 1) for layer in shapes)
    for _, layer, i in sorted((-float(w), layer, i) for layer, each in logits.items() for i, w in enumerate(each)):
        cost = parameters(layer, len(kept[layer]) + 1) - parameters(layer, len(kept[layer]))
        if i not in kept[layer] and cost <= left:
            kept[layer].add(i)
            left -= cost
    return {layer: sorted(each) for layer, each in kept.items()}


@given(generators(), st.floats(0, 1), st.sampled_from([1, 3, 100]))
def test_masks_within_a_budget_are_those_of_the_loop_over_components(rng, share, levels):
    """Exactly, also with ties, for matrices that are dense at rank 1 and budgets that are used up to the last one."""
    sides = {"b": (7, 3), "a": (4, 6), "c": (2, 2), "d": (1, 5)}
    logits = {layer: rng.integers(-levels, levels + 1, min(shape)).astype(float) for layer, shape in sides.items()}
    least, most = 10 + 10 + 4 + 5, 21 + 24 + 4 + 5
    budget = least + round(share * (most - least))
    found = masks_within(logits, sides, budget)
    assert list(found) == list(logits) and all(mask.dtype == bool for mask in found.values())
    assert {layer: np.flatnonzero(mask).tolist() for layer, mask in found.items()} == by_definition(
        logits, sides, budget
    )


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=9))
def test_first_components_have_the_same_number_of_ones(mask):
    first = first_components(np.array(mask))
    np.testing.assert_array_equal(first, np.arange(len(mask)) < sum(mask))
