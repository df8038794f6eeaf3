"""Losses of states, of attention and of values, against their definitions, and what leaves them unchanged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy.stats import ortho_group

from tests.strategies import generators
from tinyslm import ops
from tinyslm.autodiff import check_gradient, value_and_grad
from tinyslm.compression.distillation import (
    attention_relation_loss,
    attention_scores,
    attention_transfer_loss,
    cosine_loss,
    hidden_state_loss,
    value_relation_loss,
)
from tinyslm.errors import DataError
from tinyslm.modules import Linear


def drawn(rng, *shape):
    return rng.standard_normal(shape), rng.standard_normal(shape)


def drawn_pairs(rng, T, S):
    """A mask of pairs in which every query of the first sequence sees some key, and one of the second none."""
    mask = rng.random((2, 1, T, S)) < 0.5
    mask[:, :, :, 0] = True
    mask[1, :, 0] = False
    return mask


@given(generators())
def test_hidden_state_loss_is_the_mean_squared_difference(rng):
    student, teacher = drawn(rng, 2, 3, 7)
    assert hidden_state_loss(student, teacher) == pytest.approx(np.mean((student - teacher) ** 2), rel=1e-12)
    mask = np.array([[1, 0, 0], [0, 1, 1]])
    expected = np.mean((student - teacher)[mask == 1] ** 2)
    assert hidden_state_loss(student, teacher, mask=mask) == pytest.approx(expected, rel=1e-12)


@given(generators())
def test_the_best_projection_undoes_an_invertible_map_of_the_states(rng):
    teacher = rng.standard_normal((9, 4))
    singular = np.diag(rng.uniform(0.5, 2, 4))
    matrix = ortho_group.rvs(4, random_state=rng) @ singular @ ortho_group.rvs(4, random_state=rng)
    projection = Linear(np.linalg.inv(matrix).T)  # y = x W^T

    def loss(projection):
        return hidden_state_loss(projection(teacher @ matrix), teacher)

    value, gradients = value_and_grad(loss)(projection)
    assert value < 1e-20 and np.max(np.abs(gradients.weight)) < 1e-10
    best = Linear(np.linalg.lstsq(teacher @ matrix, teacher)[0].T)
    np.testing.assert_allclose(best.weight, projection.weight, atol=1e-9)


def test_a_projection_is_trained_through_the_hidden_state_loss():
    states, teacher = np.random.default_rng(4).standard_normal((6, 3)), np.random.default_rng(5).standard_normal((6, 5))
    projection = Linear(np.linalg.lstsq(states, teacher)[0].T)  # the optimum: a gradient of zero
    gradients = value_and_grad(lambda linear: hidden_state_loss(linear(states), teacher))(projection)[1]
    assert np.max(np.abs(gradients.weight)) < 1e-12
    moved = projection.replace(weight=projection.weight + 0.1)
    assert np.any(value_and_grad(lambda linear: hidden_state_loss(linear(states), teacher))(moved)[1].weight)


@given(generators(), st.sampled_from([1e-200, 1e-3, 1.0, 1e3, 1e200]))
def test_cosine_loss_is_one_minus_the_cosine_whatever_the_lengths(rng, scale):
    student, teacher = drawn(rng, 2, 3, 7)
    lengths = np.linalg.norm(student, axis=-1) * np.linalg.norm(teacher, axis=-1)
    expected = np.mean(1 - np.sum(student * teacher, axis=-1) / lengths)
    assert cosine_loss(student * scale, teacher) == pytest.approx(expected, rel=1e-9)
    assert cosine_loss(student, teacher * scale) == pytest.approx(expected, rel=1e-9)
    assert 0 <= expected <= 2


@given(generators(), st.floats(0.1, 10))
def test_cosine_loss_is_zero_for_the_same_direction_and_two_for_the_opposite(rng, factor):
    student, _ = drawn(rng, 2, 3, 7)
    assert cosine_loss(student, factor * student) == pytest.approx(0, abs=1e-12)
    assert cosine_loss(student, -factor * student) == pytest.approx(2, abs=1e-12)
    _, vjp = cosine_loss.with_vjp(student, factor * student)
    assert np.max(np.abs(vjp(1.0)[0])) < 1e-12


def test_a_state_of_zeros_has_no_direction():
    student, teacher = np.zeros((2, 3)), np.array([[1.0, 2, 3], [0, 0, 0]])
    loss, vjp = cosine_loss.with_vjp(student, teacher)
    assert loss == 1 and not np.any(vjp(1.0)[0])


@given(generators(), st.sampled_from([1, 2, 3]))
def test_scores_are_those_whose_softmax_is_the_attention(rng, repeats):
    query, key = rng.standard_normal((2, 5, 2 * repeats, 3)), rng.standard_normal((2, 5, 2, 3))
    scores = attention_scores(query, key, scale=0.7)
    expected = ops.attention_probabilities(query, key, scale=0.7, causal=False)
    np.testing.assert_allclose(special.softmax(scores, axis=-1), expected, rtol=1e-9)
    by_hand = 0.7 * np.sum(query[1, 3, repeats] * key[1, 4, 1])
    assert scores[1, repeats, 3, 4] == pytest.approx(by_hand, rel=1e-12)
    assert check_gradient(attention_scores, query, key, scale=0.7) < 1e-7


@given(generators())
def test_attention_transfer_is_the_mean_square_over_pairs_that_count(rng):
    student, teacher = drawn(rng, 2, 4, 3, 5)
    mask = drawn_pairs(rng, 3, 5)
    expected = np.mean((student - teacher)[np.broadcast_to(mask, student.shape)] ** 2)
    assert attention_transfer_loss(student, teacher, mask=mask) == pytest.approx(expected, rel=1e-12)
    heads = [np.mean((student[:, h] - teacher[:, h]) ** 2) for h in range(4)]
    assert attention_transfer_loss(student, teacher) == pytest.approx(np.mean(heads), rel=1e-12)


@given(generators())
def test_attention_transfer_sees_constants_that_attention_does_not(rng):
    """Scores are compared before the softmax."""
    student, teacher = drawn(rng, 2, 4, 3, 5)
    shifted = teacher + rng.uniform(0.5, 1, (2, 4, 3, 1))
    assert attention_transfer_loss(shifted, teacher) > 0.2
    assert attention_relation_loss(shifted, teacher) == pytest.approx(0, abs=1e-12)
    assert attention_relation_loss(student + 3, teacher) == pytest.approx(
        attention_relation_loss(student, teacher), rel=1e-9
    )


def relation_by_hand(student, teacher, mask):
    """Mean over queries that see something of the divergence of the student's attention from the teacher's."""
    terms = [
        np.sum(special.rel_entr(special.softmax(teacher[i][mask[i]]), special.softmax(student[i][mask[i]])))
        for i in np.ndindex(student.shape[:-1])
        if mask[i].any()
    ]
    return np.mean(terms)


@given(generators())
def test_attention_relation_is_the_mean_divergence_of_attention_over_keys_that_count(rng):
    student, teacher = drawn(rng, 2, 4, 3, 5)
    mask = drawn_pairs(rng, 3, 5)
    expected = relation_by_hand(student, teacher, np.broadcast_to(mask, student.shape))
    assert attention_relation_loss(student, teacher, mask=mask) == pytest.approx(expected, rel=1e-9)


@given(generators(), st.booleans())
def test_value_relation_compares_which_values_resemble_each_other(rng, masked):
    student, teacher = rng.standard_normal((2, 5, 3, 4)), rng.standard_normal((2, 5, 3, 6))
    real = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]) if masked else np.ones((2, 5))
    pairs = np.broadcast_to((real[:, :, None] * real[:, None, :])[:, None] != 0, (2, 3, 5, 5))
    found = [np.einsum("btgd,bsgd->bgts", x, x) / np.sqrt(x.shape[-1]) for x in (student, teacher)]
    expected = relation_by_hand(*found, pairs)
    mask = real if masked else None
    assert value_relation_loss(student, teacher, mask=mask) == pytest.approx(expected, rel=1e-9)


@given(generators())
def test_value_relation_ignores_rotations_of_a_head_and_added_zeros(rng):
    student, teacher = drawn(rng, 2, 5, 3, 4)
    expected = value_relation_loss(student, teacher)
    turned = np.stack([student[:, :, g] @ ortho_group.rvs(4, random_state=rng) for g in range(3)], axis=2)
    assert value_relation_loss(turned, teacher) == pytest.approx(expected, rel=1e-9)
    wider = np.concatenate([teacher, np.zeros((2, 5, 3, 2))], axis=-1) * (6 / 4) ** 0.25  # the same V V^T / sqrt(D)
    assert value_relation_loss(student, wider) == pytest.approx(expected, rel=1e-9)
    assert value_relation_loss(student, wider[..., ::-1]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(generators(), st.sampled_from([(1, 1), (4, 1), (4, 2), (6, 3), (3, 3)]))
def test_scores_of_every_number_of_heads(dtype, rng, heads):
    """Query head h uses key head h // (H / G); the scale may be a float64 number without changing the dtype."""
    H, G = heads
    query, key = rng.standard_normal((2, 3, H, 5)).astype(dtype), rng.standard_normal((2, 4, G, 5)).astype(dtype)
    scores, vjp = attention_scores.with_vjp(query, key, scale=np.float64(0.3))
    repeated = np.repeat(key, H // G, axis=2)
    np.testing.assert_allclose(scores, 0.3 * np.einsum("bthd,bshd->bhts", query, repeated), rtol=1e-4, atol=1e-5)
    dscores = rng.standard_normal(scores.shape).astype(dtype)
    dquery, dkey = vjp(dscores)
    np.testing.assert_allclose(dquery, 0.3 * np.einsum("bhts,bshd->bthd", dscores, repeated), rtol=1e-4, atol=1e-5)
    per_head = 0.3 * np.einsum("bhts,bthd->bshd", dscores, query)
    expected = per_head.reshape(2, 4, G, H // G, 5).sum(axis=3)
    np.testing.assert_allclose(dkey, expected, rtol=1e-4, atol=1e-5)
    assert scores.dtype == dquery.dtype == dkey.dtype == dtype


@pytest.mark.parametrize(("H", "G"), [(3, 2), (2, 3), (1, 2), (2, 0)])
def test_query_heads_that_are_no_multiple_of_the_key_heads_are_refused(H, G):
    message = f"the number of query heads, {H}, is not a multiple of the number of key heads, {G}"
    with pytest.raises(DataError, match=message):
        attention_scores(np.ones((1, 2, H, 3)), np.ones((1, 2, G, 3)), scale=1.0)


def test_queries_and_keys_of_other_shapes_or_not_finite_are_refused():
    query, key = np.ones((2, 3, 4, 5)), np.ones((2, 6, 2, 5))
    assert attention_scores(query, key, scale=1.0).shape == (2, 4, 3, 6)
    for arguments in ((query[:1], key), (query, key[..., :4]), (query[0], key), (query, key[0])):
        with pytest.raises(DataError, match="must have shape"):
            attention_scores(*arguments, scale=1.0)
    for bad in (np.nan, np.inf):
        for which, name in enumerate(("query", "key")):
            arrays = [query.copy(), key.copy()]
            arrays[which][1, 2, 1, 3] = bad
            with pytest.raises(DataError, match=f"{name} must be finite, found 1"):
                attention_scores(*arrays, scale=1.0)


def test_widths_that_differ_need_a_projection():
    with pytest.raises(DataError, match=r"student \(2, 3\) and teacher \(2, 4\); project the student"):
        hidden_state_loss(np.ones((2, 3)), np.ones((2, 4)))


@pytest.mark.parametrize("size", [1e-3, 0.5, 1.0, 3.0, 1e3])
@given(generators())
def test_the_gradient_of_the_cosine_is_divided_by_the_length(size, rng):
    student, teacher = size * rng.standard_normal((4, 5)), rng.standard_normal((4, 5))
    student[3] = 0
    loss, vjp = cosine_loss.with_vjp(student, teacher)
    s, t = student[:3], teacher[:3] / np.linalg.norm(teacher[:3], axis=1, keepdims=True)
    length = np.linalg.norm(s, axis=1, keepdims=True)
    cosine = np.sum(s * t, axis=1, keepdims=True) / length
    assert loss == pytest.approx((np.sum(1 - cosine) + 1) / 4, rel=1e-12)
    expected = np.append((cosine * s / length - t) / length / 4, np.zeros((1, 5)), axis=0)
    np.testing.assert_allclose(vjp(1.0)[0], expected, rtol=1e-9, atol=1e-12 / size)
    np.testing.assert_allclose(vjp(2.5)[0], 2.5 * expected, rtol=1e-9, atol=1e-12 / size)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_lengths_in_float32_neither_overflow_nor_vanish(size):
    student = np.array([[3, 4], [-3, 4]], np.float32) * np.float32(size)
    teacher = np.array([[1, 0], [0, 2]], np.float32)
    assert cosine_loss(student, teacher) == pytest.approx(np.mean([1 - 0.6, 1 - 0.8]), rel=1e-5)
    assert cosine_loss(teacher, student) == pytest.approx(np.mean([1 - 0.6, 1 - 0.8]), rel=1e-5)


@given(generators(), st.sampled_from([(2, 4, 3, 5), (2, 1, 3, 5), (3, 5), (1, 1, 1, 5)]))
def test_masks_of_pairs_are_broadcast(rng, shape):
    """To heads, queries and batch: as if they had been repeated."""
    student, teacher = drawn(rng, 2, 4, 3, 5)
    mask = rng.choice([0, 1, -1, 0.5], shape)
    mask[..., 0] = 1
    whole = np.broadcast_to(mask, (2, 4, 3, 5))
    difference = (student - teacher)[whole != 0]
    assert attention_transfer_loss(student, teacher, mask=mask) == pytest.approx(np.mean(difference**2), rel=1e-12)
    expected = relation_by_hand(student, teacher, whole != 0)
    assert attention_relation_loss(student, teacher, mask=mask) == pytest.approx(expected, rel=1e-9)
    gradient = attention_transfer_loss.with_vjp(student, teacher, mask=mask)[1](2.0)[0]
    np.testing.assert_allclose(gradient, 4 * (student - teacher) * (whole != 0) / difference.size, rtol=1e-12)
    for wrong in ((2, 4, 3, 4), (5, 3), (1, 2, 4, 3, 5)):
        for loss in (attention_transfer_loss, attention_relation_loss):
            with pytest.raises(DataError, match="does not broadcast to the scores'"):
                loss(student, teacher, mask=np.ones(wrong))


def test_rows_of_very_different_lengths_in_one_array():
    """Each row is divided by its own largest entry before its squares are added."""
    student = np.array([[3e-30, 4e-30], [3e30, 4e30], [0, 0], [3, -4]], np.float32)
    teacher = np.array([[1, 0], [0, 1], [1, 1], [2, 0]], np.float32)
    expected = np.mean([1 - 0.6, 1 - 0.8, 1, 1 - 0.6])
    assert cosine_loss(student, teacher) == pytest.approx(expected, rel=1e-5)
    assert cosine_loss(teacher, student) == pytest.approx(expected, rel=1e-5)


def test_values_without_a_number_are_refused_on_either_side():
    values, empty = np.ones((2, 3, 4, 5)), np.ones((2, 3, 4, 0))
    for arguments in ((values, empty), (empty, values), (empty, empty)):
        with pytest.raises(DataError):
            value_relation_loss(*arguments)
