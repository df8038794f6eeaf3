"""Slices of layers by index arithmetic: which rows, columns, biases and channels are kept, and ties of many units."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import distinct_sizes, generators
from tinyslm.compression.pruning import (
    layer_importance,
    magnitude_mask,
    minitron_importance,
    most_important,
    n_m_mask,
    slice_channels,
    slice_experts,
    slice_groups,
    slice_heads,
    slice_neurons,
    slice_rms_norm,
    sparsegpt,
    wanda_mask,
)
from tinyslm.compression.pruning.heads import count_heads, head_features, most_important_heads
from tinyslm.compression.pruning.importance import minitron_square, random_importance
from tinyslm.modules import Linear

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def draw_linear(rng, rows, columns, dtype, biased=True):
    bias = rng.standard_normal(rows).astype(dtype) if biased else None
    return Linear(rng.standard_normal((rows, columns)).astype(dtype), bias)


def assert_layer(found, weight, bias):
    """A layer with exactly these arrays, in memory of its own."""
    assert isinstance(found, Linear)
    np.testing.assert_array_equal(found.weight, weight)
    assert found.weight.dtype == weight.dtype and found.weight.flags.c_contiguous
    if bias is None:
        assert found.bias is None
    else:
        np.testing.assert_array_equal(found.bias, bias)
        assert found.bias.dtype == bias.dtype


def features(keep, size):
    return [head * size + d for head in keep for d in range(size)]


@DTYPES
@given(generators(), st.booleans(), st.data())
def test_heads(dtype, rng, biased, data):
    """H = G r heads of size D; the same number of heads of every group is kept."""
    G, r, D, C = 3, 4, 2, 5
    query, output = draw_linear(rng, G * r * D, C, dtype, biased), draw_linear(rng, C, G * r * D, dtype, biased)
    count = data.draw(st.integers(1, r))
    keep = most_important_heads(rng.standard_normal(G * r), G, count)
    rows = features(keep, D)
    sliced = slice_heads(query, output, keep, groups=G, head_dim=D)
    assert_layer(sliced[0], query.weight[rows], query.bias[rows] if biased else None)
    assert_layer(sliced[1], np.ascontiguousarray(output.weight[:, rows]), output.bias)
    bare = slice_heads(query.weight, output.weight, keep, groups=G, head_dim=D)
    for layer, array in zip(sliced, bare, strict=True):
        assert type(array) is np.ndarray
        np.testing.assert_array_equal(array, layer.weight)


@DTYPES
@given(generators(), st.booleans(), st.sets(st.integers(0, 3), min_size=1))
def test_groups(dtype, rng, biased, kept):
    """Key and value differ, and the number of query heads of a group is not that of its groups."""
    G, r, D, C = 4, 3, 2, 5
    query, output = draw_linear(rng, G * r * D, C, dtype, biased), draw_linear(rng, C, G * r * D, dtype, biased)
    key, value = (draw_linear(rng, G * D, C, dtype, biased) for _ in range(2))
    keep = sorted(kept)
    sliced = slice_groups(query, key, value, output, keep, head_dim=D)
    rows, queries = features(keep, D), features(keep, r * D)
    assert_layer(sliced[0], query.weight[queries], query.bias[queries] if biased else None)
    for found, layer in zip(sliced[1:3], (key, value), strict=True):
        assert_layer(found, layer.weight[rows], layer.bias[rows] if biased else None)
    assert_layer(sliced[3], np.ascontiguousarray(output.weight[:, queries]), output.bias)


@DTYPES
@given(generators(), st.booleans(), st.sets(st.integers(0, 6), min_size=1))
def test_neurons(dtype, rng, gated, kept):
    up, down = draw_linear(rng, 7, 4, dtype), draw_linear(rng, 4, 7, dtype)
    gate = draw_linear(rng, 7, 4, dtype, biased=False) if gated else None
    keep = sorted(kept)
    small_up, small_down, small_gate = slice_neurons(up, down, gate, keep)
    assert_layer(small_up, up.weight[keep], up.bias[keep])
    assert_layer(small_down, np.ascontiguousarray(down.weight[:, keep]), down.bias)
    if gated:
        assert_layer(small_gate, gate.weight[keep], None)
    else:
        assert small_gate is None


def test_features_of_heads():
    for heads in ([0, 2], np.array([0, 2])):
        assert head_features(heads, 3).tolist() == [0, 1, 2, 6, 7, 8]
    assert count_heads(np.ones((6, 2)), 3) == count_heads(Linear(np.ones((6, 2))), 3) == 2


@given(distinct_sizes(3, 3, 6), generators())
def test_channels(sizes, rng):
    """Along several axes one after another, or along none."""
    array = rng.integers(-9, 9, (sizes[0], sizes[1], sizes[0])).astype(np.int8)
    keep = np.sort(rng.choice(sizes[0], 2, replace=False))
    np.testing.assert_array_equal(slice_channels(array, (0,), keep), array[keep])
    np.testing.assert_array_equal(slice_channels(array, (2,), keep), array[..., keep])
    both = slice_channels(array, (0, 2), keep)
    np.testing.assert_array_equal(both, array[np.ix_(keep, range(sizes[1]), keep)])
    assert both.dtype == np.int8
    assert slice_channels(array, (), keep) is array


@DTYPES
@pytest.mark.parametrize("offset", [0.0, 1.0, 2.5])
def test_the_gain_of_a_sliced_norm(dtype, offset):
    """(offset + gain) sqrt(C / k) is the new gain plus the offset; eps grows by C / k."""
    gain = np.array([0.5, -1.0, 2.0, 3.0, 0.25, 1.5, -2.0, 4.0, 1.0], dtype)
    small, eps = slice_rms_norm(gain, 0.3, [1, 5, 6, 8], offset=offset)
    assert small.dtype == dtype and eps == 0.3 * 9 / 4
    np.testing.assert_array_equal(small, (gain[[1, 5, 6, 8]].astype(float) + offset) * 1.5 - offset)


@given(generators(), st.sets(st.integers(0, 4), min_size=1))
def test_experts(rng, kept):
    router, keep = rng.standard_normal((5, 3)), sorted(kept)
    rows, experts = slice_experts(router, list("abcde"), keep)
    np.testing.assert_array_equal(rows, router[keep])
    assert experts == ["abcde"[i] for i in keep] and not np.shares_memory(rows, router)


# ties: more equal numbers than the 16 up to which NumPy's fastest sort keeps their order


@given(generators(), st.integers(20, 200), st.integers(1, 3), st.data())
def test_of_many_equal_units_the_first_are_kept(rng, size, levels, data):
    importance = rng.integers(0, levels, size).astype(float)
    count = data.draw(st.integers(1, size))
    expected = sorted(sorted(range(size), key=lambda i: (-importance[i], i))[:count])
    np.testing.assert_array_equal(most_important(importance, count), expected)


@given(generators(), st.integers(20, 150), st.integers(1, 3), st.floats(0, 1))
def test_of_many_equal_weights_the_first_are_removed(rng, columns, levels, sparsity):
    weight = rng.integers(0, levels, (3, columns)).astype(float)
    signs = rng.choice([-1.0, 1.0], weight.shape)

    def expected(count):
        return [sorted(sorted(range(columns), key=lambda j: (row[j], j))[count:]) for row in weight]

    masks = {
        round(sparsity * columns): wanda_mask(weight * signs, np.ones(columns), sparsity),
        columns - columns // 3: n_m_mask(weight, columns // 3, columns),
    }
    for count, mask in masks.items():
        assert [np.flatnonzero(row).tolist() for row in mask] == expected(count)


def test_magnitudes_of_large_arrays_are_compared_with_the_right_one():
    """Every number of removed weights. The order is random: a partial sort at another index is wrong for some."""
    rng = np.random.default_rng(0)
    weight = rng.permutation(1500) * rng.choice([-1.0, 1.0], 1500)
    for count in range(1501):
        np.testing.assert_array_equal(magnitude_mask(weight, count / 1500), np.abs(weight) >= count)


def test_a_sparsity_of_any_type_is_a_float():
    """The double of a float32 number times the size, rounded: 25 * 0.1 is 2.5 in float32 and slightly more in fact."""
    weight = np.arange(1.0, 26)
    sparsity = np.float32(0.1)
    assert np.count_nonzero(~magnitude_mask(weight, sparsity)) == 3
    assert np.count_nonzero(~wanda_mask(weight[None], np.ones(25), sparsity)) == 3
    assert np.count_nonzero(sparsegpt(weight[None], np.eye(25), sparsity) == 0) == 3
    assert np.count_nonzero(~magnitude_mask(weight, 0.1)) == 2  # exactly 2.5: the even number


@pytest.mark.parametrize("block_size", [100, 128, 150, 200])
def test_sparsegpt_with_blocks_below_and_above_the_usual_size(block_size):
    """150 columns: each block removes its part, also a last one that is smaller, and blocks that hold everything."""
    rng = np.random.default_rng(0)
    weight, inputs = rng.standard_normal((4, 150)), rng.standard_normal((400, 150))
    sparse = sparsegpt(weight, inputs.T @ inputs, 0.37, block_size=block_size)
    removed = np.count_nonzero(sparse == 0, axis=0)
    assert removed.sum() == round(0.37 * 600)
    end = min(block_size, 150)
    assert removed[:end].sum() == round(0.37 * 4 * end)
    grouped = sparsegpt(weight, inputs.T @ inputs, 0.0, pattern=(1, 3), block_size=block_size)
    np.testing.assert_array_equal(np.count_nonzero(grouped.reshape(4, 50, 3), axis=-1), 1)


def test_groups_of_a_pattern_may_begin_and_end_within_a_block():
    rng = np.random.default_rng(2)
    weight, inputs = rng.standard_normal((3, 24)), rng.standard_normal((60, 24)) @ rng.standard_normal((24, 24))
    expected = sparsegpt(weight, inputs.T @ inputs, 0.5, pattern=(2, 4))
    for block_size in (1, 3, 4, 5, 8, 9):
        found = sparsegpt(weight, inputs.T @ inputs, 0.5, pattern=(2, 4), block_size=block_size)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


# importances at the edges


@given(generators(), st.lists(st.integers(-280, 280), min_size=4, max_size=4))
def test_block_influence_does_not_depend_on_the_size_of_a_state(rng, powers):
    """From 1e-280 to 1e280, for every token another size. A state of 0 counts as orthogonal, on either side."""
    x, y = rng.standard_normal((2, 4, 3))
    expected = layer_importance([x, y])[0]
    sizes = 10.0 ** np.array(powers)[:, None]
    assert layer_importance([x * sizes, y])[0] == pytest.approx(expected, rel=1e-9)
    assert layer_importance([x, y * sizes])[0] == pytest.approx(expected, rel=1e-9)
    silent = np.where(np.arange(4)[:, None] == 2, 0, x)
    cosine = np.sum(x * y, axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    rest = 1 - np.sum(cosine[[0, 1, 3]]) / 4
    np.testing.assert_allclose(layer_importance([silent, y, silent]), [rest, rest], rtol=1e-9)
    assert layer_importance([silent, silent])[0] == pytest.approx(1 - 3 / 4)


def test_block_influence_of_states_whose_largest_number_is_negative():
    states = [np.array([[-1e300, 1e-200]]), np.array([[-1e-300, 0.0]]), np.array([[-1e-200, -1e300]])]
    np.testing.assert_allclose(layer_importance(states), [0, 1], atol=1e-12)


@DTYPES
def test_documents_without_tokens_add_nothing(dtype):
    documents = [np.array([[3.0, -1.0], [5.0, 1.0]], dtype), np.zeros((0, 2), dtype), np.array([[3.0, 0.0]], dtype)]
    squares = [minitron_square(each) for each in documents]
    np.testing.assert_array_equal(squares, [[16, 1], [0, 0], [9, 0]])
    assert {each.dtype for each in squares} == {np.dtype(np.float64)}
    np.testing.assert_array_equal(minitron_importance(documents), [5, 1])
    large = np.array([[2e19, 1.0], [2e19, 3.0]], dtype)  # the square overflows float32
    np.testing.assert_allclose(minitron_importance([large]), [2e19, 2.0], rtol=1e-6)


def test_random_importance_is_between_0_and_1():
    importance = random_importance(1000, [1, 2])
    assert importance.shape == (1000,) and 0 <= importance.min() < 0.01 and 0.99 < importance.max() < 1
    np.testing.assert_array_equal(importance, np.random.default_rng([1, 2]).random(1000))
