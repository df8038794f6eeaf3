"""Reverse and Jensen-Shannon divergences and top-k targets, against their definitions, and divergences of sequences."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.strategies import generators
from tinyslm import ops
from tinyslm.compression.distillation import (
    jensen_shannon_loss,
    reverse_kl_loss,
    soft_target_loss,
    top_k_target_loss,
    top_k_targets,
)
from tinyslm.errors import ConfigError, DataError

temperatures = st.floats(0.25, 20)
betas = st.floats(0.01, 0.99)


def drawn_logits(rng, shape=(2, 3, 7)):
    return 2 * rng.standard_normal(shape), 2 * rng.standard_normal(shape)


def divergence(p, q):
    """KL(p || q) of probabilities, mean over positions."""
    return np.mean(np.sum(special.rel_entr(p, q), axis=-1))


def gradient(loss, *inputs, **settings):
    return loss.with_vjp(*inputs, **settings)[1](1.0)[0]


@given(generators(), temperatures)
def test_reverse_is_the_divergence_of_the_student_from_the_teacher(rng, T):
    student, teacher = drawn_logits(rng)
    q, p = special.softmax(student / T, axis=-1), special.softmax(teacher / T, axis=-1)
    assert reverse_kl_loss(student, teacher, T) == pytest.approx(T**2 * divergence(q, p), rel=1e-9)
    each = np.sum(special.rel_entr(q, p), axis=-1, keepdims=True)
    expected = T * q * (np.log(q / p) - each) / 6
    np.testing.assert_allclose(gradient(reverse_kl_loss, student, teacher, T), expected, rtol=1e-8, atol=1e-12)


@given(generators(), temperatures, betas)
def test_jensen_shannon_mixes_probabilities_and_weighs_the_teacher_by_beta(rng, T, beta):
    student, teacher = drawn_logits(rng)
    q, p = special.softmax(student / T, axis=-1), special.softmax(teacher / T, axis=-1)
    mixture = beta * p + (1 - beta) * q
    expected = T**2 * (beta * divergence(p, mixture) + (1 - beta) * divergence(q, mixture))
    assert jensen_shannon_loss(student, teacher, beta, T) == pytest.approx(expected, rel=1e-9)


@given(generators(), betas, st.floats(0.1, 50))
def test_jensen_shannon_is_bounded_by_the_entropy_of_beta_and_symmetric(rng, beta, scale):
    student, teacher = (scale * x for x in drawn_logits(rng))
    loss = jensen_shannon_loss(student, teacher, beta)
    assert 0 <= loss <= special.entr(beta) + special.entr(1 - beta) + 1e-12
    assert jensen_shannon_loss(teacher, student, 1 - beta) == pytest.approx(loss, rel=1e-9)


@given(generators())
def test_the_root_of_jensen_shannon_obeys_the_triangle_inequality(rng):
    p, q, r = 2 * rng.standard_normal((3, 7))

    def distance(x, y):
        return np.sqrt(jensen_shannon_loss(x, y))

    assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-12


@given(generators())
def test_jensen_shannon_divided_by_its_small_weight_approaches_forward_and_reverse(rng):
    student, teacher = rng.uniform(-1, 1, (2, 2, 7))  # ratios of probabilities below e^4, far below 1 / small
    small = 1e-5
    forward = jensen_shannon_loss(student, teacher, small) / small
    assert forward == pytest.approx(soft_target_loss(student, teacher, 1.0), rel=0.02)
    reverse = jensen_shannon_loss(student, teacher, 1 - small) / small
    assert reverse == pytest.approx(reverse_kl_loss(student, teacher), rel=0.02)


@pytest.mark.parametrize("beta", [0, 1, -0.1, 1.5, np.nan])
def test_the_ends_of_jensen_shannon_are_refused(beta):
    with pytest.raises(ConfigError, match="soft_target_loss"):
        jensen_shannon_loss(np.zeros((2, 3)), np.zeros((2, 3)), beta)


class Sequences:
    """All texts of three tokens out of three, and what two models say after every beginning of them."""

    def __init__(self, rng):
        beginnings = [text for length in range(3) for text in itertools.product(range(3), repeat=length)]
        self.student = {beginning: 2 * rng.standard_normal(3) for beginning in beginnings}
        self.teacher = {beginning: 2 * rng.standard_normal(3) for beginning in beginnings}

    def log_probability(self, logits, text):
        return sum(ops.log_softmax(logits[text[:t]])[token] for t, token in enumerate(text))

    def expected(self, loss, writer):
        """Sum of the losses of tokens after the beginnings that a model writes."""
        return sum(
            np.exp(self.log_probability(writer, beginning)) * loss(self.student[beginning], self.teacher[beginning])
            for beginning in self.student
        )

    def divergence(self, p, q):
        texts = list(itertools.product(range(3), repeat=3))
        log_p, log_q = ([self.log_probability(logits, text) for text in texts] for logits in (p, q))
        return np.sum(special.rel_entr(np.exp(log_p), np.exp(log_q)))


@given(generators())
def test_divergences_of_sequences_are_sums_over_tokens_forward_on_the_teachers_text_reverse_on_the_students(rng):
    sequences = Sequences(rng)
    student, teacher = sequences.student, sequences.teacher
    forward = sequences.expected(lambda s, t: soft_target_loss(s[None], t[None], 1.0), teacher)
    assert forward == pytest.approx(sequences.divergence(teacher, student), rel=1e-9)
    reverse = sequences.expected(lambda s, t: reverse_kl_loss(s[None], t[None]), student)
    assert reverse == pytest.approx(sequences.divergence(student, teacher), rel=1e-9)


@given(generators())
def test_with_a_certain_teacher_cross_entropy_on_its_text_is_the_divergence_of_sequences(rng):
    sequences = Sequences(rng)
    certain = {beginning: 1e5 * logits for beginning, logits in sequences.teacher.items()}
    text = ()
    for _ in range(3):
        text += (int(np.argmax(certain[text])),)
    logits = np.array([sequences.student[text[:t]] for t in range(3)])
    cross_entropy = 3 * ops.cross_entropy(logits, np.array(text))
    assert cross_entropy == pytest.approx(sequences.divergence(certain, sequences.student), rel=1e-6)


@given(generators(), temperatures, st.integers(1, 7))
def test_top_k_targets_are_the_most_probable_tokens(rng, T, k):
    _, teacher = drawn_logits(rng)
    tokens, log_probabilities = top_k_targets(teacher, k, T)
    np.testing.assert_array_equal(tokens, np.argsort(-teacher, axis=-1)[..., :k])
    expected = np.sort(special.log_softmax(teacher / T, axis=-1), axis=-1)[..., ::-1][..., :k]
    np.testing.assert_allclose(log_probabilities, expected, rtol=1e-9, atol=1e-15)


@given(generators(), temperatures, st.integers(1, 6))
def test_the_rest_of_the_vocabulary_is_one_bucket(rng, T, k):
    student, teacher = drawn_logits(rng)
    tokens, log_probabilities = top_k_targets(teacher, k, T)
    order = np.argsort(-teacher, axis=-1)

    def buckets(logits):
        ordered = np.take_along_axis(special.softmax(logits / T, axis=-1), order, axis=-1)
        return np.concatenate([ordered[..., :k], np.sum(ordered[..., k:], axis=-1, keepdims=True)], axis=-1)

    found = top_k_target_loss(student, tokens, log_probabilities, T)
    assert found == pytest.approx(T**2 * divergence(buckets(teacher), buckets(student)), rel=1e-8, abs=1e-11)
    assert found <= soft_target_loss(student, teacher, T) + 1e-12


@given(generators(), temperatures)
def test_all_tokens_are_the_whole_loss_and_its_gradient(rng, T):
    student, teacher = drawn_logits(rng)
    targets = top_k_targets(teacher, 7, T)
    assert top_k_target_loss(student, *targets, T) == pytest.approx(soft_target_loss(student, teacher, T), rel=1e-9)
    np.testing.assert_allclose(
        gradient(top_k_target_loss, student, *targets, T),
        gradient(soft_target_loss, student, teacher, T),
        rtol=1e-8,
        atol=1e-12,
    )


def test_equal_logits_give_the_lower_tokens():
    np.testing.assert_array_equal(top_k_targets(np.zeros((1, 5)), 2)[0], [[0, 1]])


@pytest.mark.parametrize("k", [0, 8, 2.0])
def test_impossible_numbers_of_targets_are_refused(k):
    with pytest.raises(ConfigError, match="k must be"):
        top_k_targets(np.zeros((2, 7)), k)


@pytest.mark.parametrize("tokens", [[[0, 7]], [[-1, 2]], [[3, 3]], [[0.0, 1.0]]])
def test_targets_that_are_no_tokens_are_refused(tokens):
    with pytest.raises(DataError, match="tokens"):
        top_k_target_loss(np.zeros((1, 7)), np.array(tokens), np.log([[0.5, 0.2]]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axes", [(50,), (3, 50), (2, 1, 50)])
def test_targets_of_many_tokens_with_equal_logits(dtype, axes):
    """In the order of the definition: most probable first, of equally probable tokens the lower one."""
    teacher = np.random.default_rng(0).integers(-2, 3, axes).astype(dtype)
    before = teacher.copy()
    for k in (1, 20, 50):
        tokens, log_probabilities = top_k_targets(teacher, k, 0.7)
        order = [sorted(range(50), key=lambda token, row=row: (-row[token], token)) for row in teacher.reshape(-1, 50)]
        np.testing.assert_array_equal(tokens.reshape(-1, k), np.array(order)[:, :k])
        expected = special.log_softmax(teacher.astype(np.float64) / 0.7, axis=-1)
        expected = np.take_along_axis(expected, tokens, axis=-1)
        np.testing.assert_allclose(log_probabilities, expected, rtol=1e-5)
        assert tokens.dtype.kind == "i" and log_probabilities.dtype == dtype
    np.testing.assert_array_equal(teacher, before)
    assert top_k_targets([[1, 2, 3]], 2)[1].dtype == np.float64  # whole numbers


def test_targets_at_positions_of_padding_are_nan_and_others_are_not_touched():
    teacher = np.array([[[1.0, 2, 3], [np.nan, 2, 3]], [[np.nan] * 3, [3, 2, 1]]])
    tokens, log_probabilities = top_k_targets(teacher, 2)
    assert np.isnan(log_probabilities).tolist() == [[[False] * 2, [True] * 2], [[True] * 2, [False] * 2]]
    assert tokens[0, 0].tolist() == [2, 1] and tokens[1, 1].tolist() == [0, 1]


def test_logits_of_the_teacher_that_overflow_or_are_infinite_are_refused():
    """Also beside positions that are nan, and only if it happens."""
    good, nan = [1.0, 2.0, 3.0], [np.nan] * 3
    for bad in (np.inf, -np.inf):
        with pytest.raises(DataError, match="teacher_logits must be finite, found infinity"):
            top_k_targets(np.array([good, [1.0, bad, 2.0]]), 2)
    with np.errstate(all="ignore"):
        for rows in ([good, [1e308, 0, 1]], [nan, [1e308, 0, 1]], [[1e308, np.nan, 0], [1e308, 0, 1]]):
            assert np.isfinite(top_k_targets(np.array(rows[1:]), 2, 1.0)[1]).all()
            with pytest.raises(DataError, match="teacher_logits / temperature overflow"):
                top_k_targets(np.array(rows), 2, 0.1)
        assert np.isnan(top_k_targets(np.array([[1e308, np.nan, 0], good]), 2, 0.1)[1]).tolist() == [
            [True] * 2,
            [False] * 2,
        ]


def test_numbers_of_targets_and_temperatures_at_both_ends():
    teacher = np.array([[0.5, 1.5, -1.0]])
    for k in (1, 3):
        assert top_k_targets(teacher, k)[0].shape == (1, k)
    for k in (0, 4, True):
        with pytest.raises(ConfigError, match="k must be a whole number from 1 to 3"):
            top_k_targets(teacher, k)
    for temperature in (0, -1e-9, np.inf, np.nan):
        with pytest.raises(ConfigError, match="temperature must be a positive number"):
            top_k_targets(teacher, 2, temperature)
    assert np.isfinite(top_k_targets(teacher, 2, 1e-9)[1]).any()


def test_targets_of_other_shapes_are_refused():
    student, (tokens, log_probabilities) = np.zeros((2, 3, 7)), top_k_targets(np.zeros((2, 3, 7)), 2)
    assert top_k_target_loss(student, tokens, log_probabilities) == pytest.approx(0, abs=1e-12)
    with pytest.raises(DataError, match=r"tokens must have shape \(2, 3, 2\), found \(2, 2, 2\)"):
        top_k_target_loss(student, tokens[:, :2], log_probabilities[:, :2])
    for wrong in (log_probabilities[..., :1], log_probabilities[:1], np.zeros((2, 3, 3))):
        with pytest.raises(DataError, match="log_probabilities must have shape"):
            top_k_target_loss(student, tokens, wrong)


@pytest.mark.parametrize("bad", [[0, 7], [-1, 2], [3, 3], [6, 6]])
def test_one_position_with_wrong_tokens_among_good_ones_is_refused_if_it_counts(bad):
    student, log_probabilities = np.zeros((3, 7)), np.log([[0.5, 0.2]] * 3)
    tokens = np.array([[0, 6], bad, [6, 0]])
    with pytest.raises(DataError, match="tokens of a position must be different numbers from 0 to 6"):
        top_k_target_loss(student, tokens, log_probabilities)
    mask = np.array([1, 0, 1])
    expected = top_k_target_loss(student[::2], tokens[::2], log_probabilities[::2])
    assert top_k_target_loss(student, tokens, log_probabilities, mask=mask) == pytest.approx(expected)
    assert top_k_target_loss(student, tokens, log_probabilities, mask=np.zeros(3)) == 0
    for dtype in (np.uint8, np.int16):
        assert top_k_target_loss(student[::2], tokens[::2].astype(dtype), log_probabilities[::2]) == expected
    for dtype in (bool, np.float32):
        with pytest.raises(DataError, match=f"tokens must be integers, found {np.dtype(dtype)}"):
            top_k_target_loss(student[:1], tokens[:1].astype(dtype), log_probabilities[:1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_certain_teachers_and_certain_students_have_finite_losses(dtype):
    """The bucket is left out at probability 0 of the teacher; the student's has at least the smallest normal float."""
    certain = np.array([[0, -3000, -3000, -3000]], dtype)
    student = np.array([[0.5, 1.5, -1, 0]], dtype)
    tokens, log_probabilities = top_k_targets(certain, 1)
    found = top_k_target_loss(student, tokens, log_probabilities)
    assert found == pytest.approx(-special.log_softmax(student[0])[0], rel=1e-6) and found.dtype == dtype
    tokens, log_probabilities = top_k_targets(student, 2, 2.0)
    rest = 1 - np.sum(np.exp(log_probabilities))
    loss, vjp = top_k_target_loss.with_vjp(np.array([[0, 3000, 0, 0]], dtype) * 2, tokens, log_probabilities, 2.0)
    assert tokens.tolist() == [[1, 0]]  # with the student's log-probabilities 0 and -3000
    expected = np.sum(np.exp(log_probabilities[0]) * (log_probabilities[0] - [0, -3000]))
    expected += rest * (np.log(rest) - np.log(np.finfo(dtype).tiny))
    assert loss == pytest.approx(4 * expected, rel=1e-5) and np.isfinite(vjp(dtype(1))[0]).all()


@given(generators(), temperatures, st.sampled_from([1, 3, 6, 7]))
def test_the_gradient_of_the_bucket_is_shared_by_its_tokens(rng, T, k):
    student, teacher = drawn_logits(rng)
    mask = np.array([[1, 0, 2], [1, 1, -1]])
    tokens, log_probabilities = top_k_targets(teacher, k, T)
    q, p = special.softmax(student / T, axis=-1), np.exp(log_probabilities)
    expected = q.copy()
    for i in np.ndindex(2, 3):
        others = [token for token in range(7) if token not in tokens[i]]
        expected[i][tokens[i]] -= p[i]
        if others:
            expected[i][others] -= (1 - p[i].sum()) * q[i][others] / q[i][others].sum()
    expected *= (mask != 0)[..., None] * T / 5
    _, vjp = top_k_target_loss.with_vjp(student, tokens, log_probabilities, T, mask=mask)
    np.testing.assert_allclose(vjp(1.0)[0], expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(vjp(-2.0)[0], -2 * expected, rtol=1e-7, atol=1e-12)
    assert vjp(1.0)[1:] == (None,) * 3


@pytest.mark.parametrize("beta", [1e-6, 0.3, 1 - 1e-6])
@given(generators(), temperatures)
def test_the_gradient_of_jensen_shannon_is_that_of_the_student_against_the_mixture(beta, rng, T):
    student, teacher = drawn_logits(rng)
    q, p = special.softmax(student / T, axis=-1), special.softmax(teacher / T, axis=-1)
    log_ratio = np.log(q) - np.log(beta * p + (1 - beta) * q)
    each = np.sum(q * log_ratio, axis=-1, keepdims=True)
    expected = T * (1 - beta) * q * (log_ratio - each) / 6
    np.testing.assert_allclose(
        gradient(jensen_shannon_loss, student, teacher, beta, T), expected, rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize("beta", [-1e-9, 0, 1, 1 + 1e-9, np.inf])
def test_beta_is_strictly_between_zero_and_one(beta):
    with pytest.raises(ConfigError, match="beta must be strictly between 0 and 1"):
        jensen_shannon_loss(np.zeros((2, 3)), np.zeros((2, 3)), beta)


def test_targets_of_the_whole_vocabulary_have_no_bucket():
    """In float32 their probabilities sum to 1 up to rounding only; the rest would meet the smallest float."""
    for seed in range(40):
        teacher = np.random.default_rng(seed).standard_normal((1, 7)).astype(np.float32)
        assert top_k_target_loss(teacher, *top_k_targets(teacher, 7)) < 5e-7


@pytest.mark.parametrize("loss", [soft_target_loss, reverse_kl_loss, jensen_shannon_loss])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@given(generators())
def test_logits_at_ignored_positions_may_be_anything(loss, bad, rng):
    """Of the student as of the teacher; at a position that counts they are refused."""
    logits, mask = drawn_logits(rng), np.array([[1, 0, 1], [1, 1, 0]])
    expected = loss(*logits, temperature=2.0, mask=mask)
    for side in (0, 1):
        damaged = [each.copy() for each in logits]
        damaged[side][0, 1, 2] = bad
        assert loss(*damaged, temperature=2.0, mask=mask) == expected
        with pytest.raises(DataError, match="finite"):
            loss(*damaged, temperature=2.0, mask=np.ones_like(mask))
