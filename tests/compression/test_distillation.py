"""What all losses of distillation have in common: gradients, masks, precision, zeros, and who learns."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.strategies import generators
from tinyslm.autodiff import check_gradient, value_and_grad
from tinyslm.compression.distillation import (
    attention_relation_loss,
    attention_transfer_loss,
    cosine_loss,
    divergence,
    hidden_state_loss,
    jensen_shannon_loss,
    masked_positions,
    reverse_kl_loss,
    soft_target_loss,
    top_k_target_loss,
    top_k_targets,
    value_relation_loss,
)
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear


def top_three(student, teacher, T, mask=None):
    """The top-k loss called like the others."""
    return top_k_target_loss(student, *top_k_targets(np.asarray(teacher), 3, T), T, mask=mask)


ON_LOGITS = {
    "soft targets": lambda s, t, mask=None: soft_target_loss(s, t, 1.7, mask=mask),
    "reverse": lambda s, t, mask=None: reverse_kl_loss(s, t, 1.7, mask=mask),
    "jensen-shannon": lambda s, t, mask=None: jensen_shannon_loss(s, t, 0.3, 1.7, mask=mask),
    "top three": lambda s, t, mask=None: top_three(s, t, 1.7, mask=mask),
}
ON_STATES = {"hidden states": hidden_state_loss, "cosine": cosine_loss}
PER_POSITION = ON_LOGITS | ON_STATES
ON_PAIRS = {"attention transfer": attention_transfer_loss, "attention relation": attention_relation_loss}
ON_HEADS = {"value relation": value_relation_loss}
ALL = PER_POSITION | ON_PAIRS | ON_HEADS
SHAPES = (
    dict.fromkeys(PER_POSITION, (2, 3, 7)) | dict.fromkeys(ON_PAIRS, (2, 4, 3, 5)) | {"value relation": (2, 3, 4, 5)}
)
names = st.sampled_from(sorted(ALL))


def drawn_inputs(name, rng, dtype=np.float64):
    """Student and teacher, different in every entry."""
    return tuple((2 * rng.standard_normal(SHAPES[name])).astype(dtype) for _ in range(2))


def mask_shape(name):
    shape = SHAPES[name]
    return shape if name in ON_PAIRS else shape[:2]


def differentiate(loss, student, teacher, **settings):
    """(value, gradient with respect to the student)."""
    return value_and_grad(lambda tree: loss(tree["student"], teacher, **settings))({"student": student})


def numeric_error(loss, student, teacher, mask):
    """Largest relative error of the gradient against central differences."""

    class Operation:
        def __call__(self, student):
            return loss(student, teacher, mask=mask)

        def with_vjp(self, student):
            value, gradients = differentiate(loss, student, teacher, mask=mask)
            return value, lambda direction: (gradients["student"] * direction,)

    return check_gradient(Operation(), student)


@given(generators(), names, st.booleans())
def test_gradients_agree_with_finite_differences(rng, name, masked):
    student, teacher = drawn_inputs(name, rng)
    mask = rng.random(mask_shape(name)) < 0.6 if masked else None
    if mask is not None:
        mask[0, 0] = True
    assert numeric_error(ALL[name], student, teacher, mask) < 1e-6


@given(generators(), names, st.sampled_from([1e-9, 1e-4, 1.0, 30.0]), st.sampled_from([np.float32, np.float64]))
def test_no_loss_is_negative_and_a_copy_has_loss_and_gradient_zero(rng, name, distance, dtype):
    _, teacher = drawn_inputs(name, rng, dtype)
    near = (teacher + distance * rng.standard_normal(teacher.shape)).astype(dtype)
    assert ALL[name](near, teacher) >= 0
    loss, gradients = differentiate(ALL[name], teacher.copy(), teacher)
    limit = 100 * np.finfo(dtype).eps
    assert loss <= limit and np.max(np.abs(gradients["student"])) <= limit
    other, _ = drawn_inputs(name, rng, dtype)
    assert ALL[name](other, teacher) > 1e-6


@given(generators(), names, st.sampled_from([1e-9, 1e-6, 1e-3, 1.0]), st.sampled_from([np.float32, np.float64]))
def test_no_loss_is_negative_where_student_and_teacher_differ_in_precision(rng, name, distance, dtype):
    """Two roundings of almost the same numbers: each side normalized in its own precision would go below zero."""
    student, _ = drawn_inputs(name, rng, dtype)
    other = np.float64 if dtype == np.float32 else np.float32
    teacher = (student + distance * rng.standard_normal(student.shape)).astype(other)
    assert ALL[name](student, teacher) >= 0


@given(generators(), st.sampled_from(sorted(PER_POSITION | ON_HEADS)), st.integers(1, 4))
def test_padding_changes_neither_value_nor_gradient(rng, name, padding):
    """Whatever stands at padded positions, numbers or not."""
    student, teacher = drawn_inputs(name, rng)
    shape = list(student.shape)
    shape[1] = padding
    longer = [np.concatenate([x, np.full(shape, np.nan)], axis=1) for x in (student, teacher)]
    mask = np.repeat([[1, 1, 1] + [0] * padding], 2, axis=0)
    loss, gradients = differentiate(ALL[name], student, teacher)
    padded_loss, padded = differentiate(ALL[name], *longer, mask=mask)
    assert padded_loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(padded["student"][:, :3], gradients["student"], rtol=1e-9, atol=1e-12)
    assert not np.any(padded["student"][:, 3:])


@given(generators(), st.sampled_from(sorted(ON_PAIRS)), st.integers(1, 4))
def test_padded_queries_and_keys_change_neither_value_nor_gradient(rng, name, padding):
    student, teacher = drawn_inputs(name, rng)
    B, H, T, S = student.shape
    longer = [np.full((B, H, T + padding, S + padding), np.nan) for _ in range(2)]
    for x, long in zip((student, teacher), longer, strict=True):
        long[:, :, :T, :S] = x
    real = np.zeros((B, 1, T + padding, S + padding))
    real[:, :, :T, :S] = 1
    loss, gradients = differentiate(ALL[name], student, teacher)
    padded_loss, padded = differentiate(ALL[name], *longer, mask=real)
    assert padded_loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(padded["student"][:, :, :T, :S], gradients["student"], rtol=1e-9, atol=1e-12)
    padded["student"][:, :, :T, :S] = 0
    assert not np.any(padded["student"])


@given(generators(), names, st.integers(2, 60))
def test_repeating_the_batch_changes_nothing(rng, name, times):
    student, teacher = drawn_inputs(name, rng)
    repeated = [np.concatenate([x] * times) for x in (student, teacher)]
    assert ALL[name](*repeated) == pytest.approx(ALL[name](student, teacher), rel=1e-9)


@given(generators(), st.sampled_from(sorted(PER_POSITION)), st.integers(0, 5))
def test_positions_that_count_have_the_same_weight(rng, name, seen):
    student, teacher = drawn_inputs(name, rng)
    mask = np.zeros(6)
    mask[rng.permutation(6)[: seen + 1]] = 1
    rows = zip(student.reshape(6, 7), teacher.reshape(6, 7), strict=True)
    each = np.array([ALL[name](s[None], t[None]) for s, t in rows])
    expected = np.sum(each * mask) / np.sum(mask)
    assert ALL[name](student, teacher, mask=mask.reshape(2, 3)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", sorted(ALL))
def test_nothing_to_learn_from_is_zero(name):
    inputs = drawn_inputs(name, np.random.default_rng(6))
    loss, gradients = differentiate(ALL[name], *inputs, mask=np.zeros(mask_shape(name)))
    assert loss == 0 and not np.any(gradients["student"])


@pytest.mark.parametrize("name", sorted(ALL))
def test_float32_stays_float32_and_the_teacher_gets_no_gradient(name):
    student, teacher = drawn_inputs(name, np.random.default_rng(5), np.float32)
    loss, gradients = differentiate(ALL[name], student, teacher.astype(np.float64))
    assert loss.dtype == np.float32 and gradients["student"].dtype == np.float32
    if name == "top three":  # its teacher is what top_k_targets returns
        return
    both = value_and_grad(lambda tree: ALL[name](tree["student"], tree["teacher"]))
    _, gradients = both({"student": student, "teacher": teacher})
    assert np.any(gradients["student"]) and not np.any(gradients["teacher"])


@pytest.mark.parametrize("name", sorted(ALL))
def test_shapes_that_do_not_fit_are_refused(name):
    student, teacher = drawn_inputs(name, np.random.default_rng(7))
    with pytest.raises(DataError):
        ALL[name](student[:, :2], teacher)
    with pytest.raises(DataError, match="mask"):
        ALL[name](student, teacher, mask=np.ones((9, 9)))


@given(generators(), st.sampled_from(sorted(ON_LOGITS)))
def test_losses_on_logits_ignore_constants_and_the_order_of_the_vocabulary(rng, name):
    student, teacher = drawn_inputs(name, rng)
    expected = pytest.approx(ON_LOGITS[name](student, teacher), rel=1e-9)
    shifts = 5 * rng.standard_normal((2, 2, 3, 1))
    assert ON_LOGITS[name](student + shifts[0], teacher + shifts[1]) == expected
    order = rng.permutation(7)
    assert ON_LOGITS[name](student[..., order], teacher[..., order]) == expected
    _, gradients = differentiate(ON_LOGITS[name], student, teacher)
    np.testing.assert_allclose(np.sum(gradients["student"], axis=-1), 0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(ON_LOGITS))
def test_a_student_that_is_a_copy_does_not_move(name):
    rng = np.random.default_rng(3)
    teacher = Linear(rng.standard_normal((7, 5)), rng.standard_normal(7))
    student = Linear(teacher.weight.copy(), teacher.bias.copy())
    x = rng.standard_normal((3, 5))
    loss, gradients = value_and_grad(lambda model: ON_LOGITS[name](model(x), teacher(x)))(student)
    assert loss == pytest.approx(0, abs=1e-12)
    assert max(np.max(np.abs(gradients.weight)), np.max(np.abs(gradients.bias))) < 1e-12


@pytest.mark.parametrize("name", sorted(ON_LOGITS))
def test_confident_logits_give_finite_numbers(name):
    """Probabilities that are 0 in their precision still have logarithms."""
    student = np.array([[200.0, 0, -200, 0]], np.float32)
    teacher = np.array([[-200.0, 0, 200, 0]], np.float32)
    loss, gradients = differentiate(ON_LOGITS[name], student, teacher)
    assert np.isfinite(loss) and np.all(np.isfinite(gradients["student"]))


@pytest.mark.parametrize("name", sorted(ON_LOGITS))
@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.inf])
def test_impossible_temperatures_are_refused(name, temperature):
    calls = {
        "soft targets": partial(soft_target_loss, temperature=temperature),
        "reverse": partial(reverse_kl_loss, temperature=temperature),
        "jensen-shannon": partial(jensen_shannon_loss, temperature=temperature),
        "top three": partial(top_three, T=temperature),
    }
    with pytest.raises(ValueError, match="temperature"):
        calls[name](np.zeros((2, 3)), np.zeros((2, 3)))


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", sorted(ALL))
def test_the_gradient_of_every_loss(name, masked):
    """Against finite differences, and proportional to the gradient that arrives from above."""
    rng = np.random.default_rng(8)
    student, teacher = drawn_inputs(name, rng)
    mask = rng.choice([0, 1, -2, 0.5], mask_shape(name)) if masked else None  # every number except 0 counts
    assert numeric_error(ALL[name], student, teacher, mask) < 1e-6
    _, once = differentiate(ALL[name], student, teacher, mask=mask)
    thrice = value_and_grad(lambda tree: 3 * ALL[name](tree["student"], teacher, mask=mask))({"student": student})[1]
    np.testing.assert_allclose(thrice["student"], 3 * once["student"], rtol=1e-12)
    assert np.any(once["student"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(ALL))
def test_the_teacher_is_compared_in_the_precision_of_the_student(name, dtype):
    """To the last bit, and the same for masks of numbers, of booleans and in lists."""
    rng = np.random.default_rng(9)
    student, teacher = drawn_inputs(name, rng)
    student, mask = student.astype(dtype), rng.choice([0, 1, -2], mask_shape(name))
    loss, gradients = differentiate(ALL[name], student, teacher, mask=mask)
    assert loss.dtype == gradients["student"].dtype == dtype and np.shape(loss) == ()
    if name == "top three":  # the teacher's logits are given to top_k_targets
        others = [(teacher, mask != 0), (teacher, mask.tolist())]
    else:
        others = [(teacher.astype(dtype), mask), (teacher.astype(dtype).astype(np.float64), mask != 0)]
        others.append((teacher, mask.tolist()))
    for other, other_mask in others:
        again, other_gradients = differentiate(ALL[name], student, other, mask=other_mask)
        assert again == loss
        np.testing.assert_array_equal(other_gradients["student"], gradients["student"], strict=True)


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_single_entry_has_the_weight_of_the_mean(name):
    """One position, one head, one token: the mean is over one number, not over a larger count."""
    student, teacher = drawn_inputs(name, np.random.default_rng(10))
    one = (slice(0, 1),) * (student.ndim - 1)
    single = ALL[name](student[one], teacher[one])
    assert ALL[name](np.repeat(student[one], 3, axis=0), np.repeat(teacher[one], 3, axis=0)) == pytest.approx(single)
    if name not in ON_HEADS:  # a token alone has a relation to itself only
        assert single > 1e-9
    if name in ("hidden states", "attention transfer"):
        column = student[..., :1][one], teacher[..., :1][one]
        assert ALL[name](*column) == pytest.approx((column[0] - column[1]).item() ** 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", sorted(ALL))
def test_one_number_that_counts_and_is_not_finite_is_refused(name, bad):
    for who in (0, 1):
        inputs = drawn_inputs(name, np.random.default_rng(11))
        inputs[who][(1,) * inputs[who].ndim] = bad
        if name == "top three" and who == 1:
            if np.isnan(bad):  # kept by top_k_targets, for positions that do not count
                with pytest.raises(DataError):
                    ALL[name](*inputs)
            continue
        with pytest.raises(DataError):
            ALL[name](*inputs)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", sorted(ALL))
def test_masks_hold_finite_numbers_in_the_shape_of_the_positions(name, bad):
    student, teacher = drawn_inputs(name, np.random.default_rng(12))
    mask = np.ones(mask_shape(name))
    mask[(1,) * mask.ndim] = bad
    with pytest.raises(DataError, match="mask must be finite, found 1"):
        ALL[name](student, teacher, mask=mask)
    wrong = [(*mask_shape(name)[:-1], 9), (2, *mask_shape(name))]
    wrong += [] if name in ON_PAIRS else [(), mask_shape(name)[1:]]
    for shape in wrong:
        with pytest.raises(DataError, match="mask"):
            ALL[name](student, teacher, mask=np.ones(shape))


@pytest.mark.parametrize("name", sorted(ALL))
def test_shapes_of_student_and_teacher_in_every_axis(name):
    """The heads of values may have different sizes; a mean over no numbers is refused."""
    student, teacher = drawn_inputs(name, np.random.default_rng(13))
    for axis in range(student.ndim):
        shorter = np.take(teacher, range(teacher.shape[axis] - 1), axis=axis)
        if name in ON_HEADS and axis == 3:
            assert ALL[name](student, shorter) > 0
            continue
        if name == "top three" and axis == 2:  # the targets do not tell the size of the vocabulary
            continue
        with pytest.raises(DataError):
            ALL[name](student, shorter)
        empty = [np.take(x, range(0), axis=axis) for x in (student, teacher)]
        if name == "attention transfer":  # no pair counts
            assert ALL[name](*empty) == 0
            continue
        with pytest.raises((DataError, ConfigError)):
            ALL[name](*empty)
    with pytest.raises(DataError):
        ALL[name](student[0], teacher[1:])


@pytest.mark.parametrize("rows", [1, 2, 5, 6])
@pytest.mark.parametrize("name", ["soft targets", "reverse", "jensen-shannon"])
def test_passes_over_positions_change_nothing(name, rows, monkeypatch):
    student, teacher = drawn_inputs(name, np.random.default_rng(14))
    loss, gradients = differentiate(ON_LOGITS[name], student, teacher)
    monkeypatch.setattr(divergence, "ROWS_AT_ONCE", rows)
    again, others = differentiate(ON_LOGITS[name], student, teacher)
    assert again == loss
    np.testing.assert_array_equal(others["student"], gradients["student"])


def test_softmax_and_its_logarithm():
    logits = np.array([[3.0, 1.0, -2.0], [1000.0, 1000.0, 0.0]])
    expected = special.softmax(logits, axis=-1), special.log_softmax(logits, axis=-1)
    for found, wanted in zip(divergence.softmax(logits.copy()), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


def test_positions_are_selected_in_order_and_restored_to_their_places():
    array, mask = np.arange(24.0).reshape(2, 3, 4), [[0, 1, -1], [0.5, 0, 0]]
    rows = masked_positions.select_positions(array, mask)
    np.testing.assert_array_equal(rows, array[[0, 0, 1], [1, 2, 0]])
    restored = masked_positions.restore_positions(rows.astype(np.float32), mask, (2, 3, 4))
    expected = np.where(np.array(mask)[..., None] != 0, array, 0).astype(np.float32)
    np.testing.assert_array_equal(restored, expected, strict=True)
    np.testing.assert_array_equal(masked_positions.select_positions(array, None), array.reshape(6, 4))
    np.testing.assert_array_equal(masked_positions.restore_positions(array.reshape(6, 4), None, (2, 3, 4)), array)
    pairs = masked_positions.unmasked_pairs([[1, 0, -2]])
    assert pairs.shape == (1, 1, 3, 3) and pairs.dtype == bool
    assert pairs[0, 0].astype(int).tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]


def convert(x, kind):
    """The array as a list, in whole numbers, or as complex numbers."""
    return x.tolist() if kind is list else x.astype(kind)


@pytest.mark.parametrize("name", sorted(ALL))
def test_lists_and_whole_numbers_are_accepted_and_complex_numbers_are_not(name):
    """Of the student and of the teacher, with the result of the same numbers in float64."""
    whole = [np.round(x) for x in drawn_inputs(name, np.random.default_rng(15))]
    expected = ALL[name](*whole)
    for who in (0, 1):
        for kind in (list, np.int64, np.int8):
            inputs = [convert(x, kind) if i == who else x for i, x in enumerate(whole)]
            found = ALL[name](*inputs)
            assert found == expected and found.dtype == np.float64
        inputs = [convert(x, complex) if i == who else x for i, x in enumerate(whole)]
        with pytest.raises(DataError, match="has dtype complex128, expected real numbers"):
            ALL[name](*inputs)


def test_log_probabilities_of_targets_may_be_a_list():
    student = np.array([[0.5, 1.5, -1.0]])
    tokens, log_probabilities = top_k_targets(2 * student, 2)
    expected = top_k_target_loss(student, tokens, log_probabilities)
    assert top_k_target_loss(student.tolist(), tokens, log_probabilities.tolist()) == expected
    with pytest.raises(DataError, match="log_probabilities has dtype complex128"):
        top_k_target_loss(student, tokens, log_probabilities * 1j)
