"""Soft targets: zeros, gradients, and limits of the temperature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.strategies import generators
from tinyslm import ops
from tinyslm.autodiff import check_gradient, value_and_grad
from tinyslm.coursework.implementation import soft_target_loss
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear

temperatures = st.floats(0.25, 20)


def draw_logits(rng, shape=(2, 3, 7), scale=2.0):
    return rng.standard_normal(shape) * scale, rng.standard_normal(shape) * scale


def by_hand(student, teacher, T, mask):
    """The definition, one position at a time, with SciPy."""
    terms = [
        np.sum(special.rel_entr(special.softmax(teacher[i] / T), special.softmax(student[i] / T)))
        for i in np.ndindex(student.shape[:-1])
        if mask[i]
    ]
    return T**2 * np.mean(terms)


def gradient(loss, *inputs, **settings):
    return loss.with_vjp(*inputs, **settings)[1](1.0)[0]


@given(generators(), temperatures)
def test_value_is_the_mean_over_positions_of_the_divergence_from_the_teacher(rng, T):
    student, teacher = draw_logits(rng)
    mask = rng.random((2, 3)) < 0.6
    mask[0, 0] = True
    assert soft_target_loss(student, teacher, T, mask=mask) == pytest.approx(
        by_hand(student, teacher, T, mask), rel=1e-9
    )


@given(generators(), temperatures)
def test_gradient_is_the_temperature_times_the_difference_of_probabilities(rng, T):
    student, teacher = draw_logits(rng)
    expected = T * (special.softmax(student / T, axis=-1) - special.softmax(teacher / T, axis=-1)) / 6
    np.testing.assert_allclose(gradient(soft_target_loss, student, teacher, T), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mask", [None, np.array([[1, 0, 1], [0, 1, 1]])])
def test_gradient_agrees_with_finite_differences(mask):
    student, teacher = draw_logits(np.random.default_rng(1))
    assert check_gradient(soft_target_loss, student, teacher, 2.0, mask=mask) < 1e-7


@given(generators())
def test_high_temperature_approaches_the_squared_distance_of_centred_logits(rng):
    student, teacher = draw_logits(rng)
    centred = (student - student.mean(-1, keepdims=True)) - (teacher - teacher.mean(-1, keepdims=True))
    limit = np.mean(np.sum(centred**2, axis=-1)) / (2 * 7)

    def error(T):
        return soft_target_loss(student, teacher, T) - limit

    assert abs(error(1e4)) < 1e-2 * limit
    assert error(1e3) == pytest.approx(2 * error(2e3), rel=0.1, abs=1e-5 * limit)  # the error is O(1 / T)


@given(generators(), temperatures)
def test_constants_per_position_change_nothing(rng, T):
    student, teacher = draw_logits(rng)
    moved = soft_target_loss(student + rng.standard_normal((2, 3, 1)), teacher + rng.standard_normal((2, 3, 1)), T)
    assert moved == pytest.approx(soft_target_loss(student, teacher, T), rel=1e-9)


@given(generators(), temperatures, st.sampled_from([1e-9, 1e-4, 1.0, 30.0]))
def test_never_negative_and_zero_only_where_logits_differ_by_a_constant(rng, T, distance):
    for dtype in (np.float32, np.float64):
        teacher = (rng.standard_normal((4, 5)) * 5).astype(dtype)
        student = (teacher + distance * rng.standard_normal((4, 5))).astype(dtype)
        assert soft_target_loss(student, teacher, T) >= 0
    shifted = teacher + rng.standard_normal((4, 1))
    assert soft_target_loss(shifted, teacher, T) < 1e-12
    assert np.max(np.abs(gradient(soft_target_loss, shifted, teacher, T))) < 1e-12
    teacher /= 5  # not saturated, so that what is not zero is well above what counts as zero
    assert soft_target_loss(teacher + rng.standard_normal((4, 5)), teacher, T) > 1e-12


@given(generators())
def test_certain_teacher_gives_cross_entropy_and_uniform_teacher_label_smoothing(rng):
    student, teacher = draw_logits(rng)
    labels = np.argmax(teacher, axis=-1)
    certain = 1e6 * (np.arange(7) == labels[..., None])
    expected = ops.cross_entropy(student, labels)
    assert soft_target_loss(student, certain, 1.0) == pytest.approx(expected, rel=1e-9)
    smoothing = -np.mean(ops.log_softmax(student)) - np.log(7)  # cross entropy with 1/V, less its own entropy
    assert soft_target_loss(student, np.zeros_like(student), 1.0) == pytest.approx(smoothing, rel=1e-9)


@given(generators(), temperatures)
def test_cross_entropy_with_soft_labels_exceeds_it_by_the_entropy_of_the_teacher(rng, T):
    student, teacher = draw_logits(rng)
    probabilities = special.softmax(teacher / T, axis=-1)
    cross_entropy = -np.mean(np.sum(probabilities * ops.log_softmax(student / T), axis=-1))
    entropy = np.mean(np.sum(special.entr(probabilities), axis=-1))
    assert soft_target_loss(student, teacher, T) / T**2 == pytest.approx(cross_entropy - entropy, rel=1e-6, abs=1e-12)


@given(generators(), temperatures)
def test_the_gradient_is_that_of_the_cross_entropies_with_every_label_weighted_by_the_teacher(rng, T):
    """The entropy of the teacher is all that the two differ by, and it does not depend on the student."""
    student, teacher = draw_logits(rng, (1, 7))
    probabilities = special.softmax(teacher[0] / T)
    labels = [ops.cross_entropy.with_vjp(student / T, np.array([label]))[1](1.0)[0] for label in range(7)]
    expected = T * sum(p * gradient for p, gradient in zip(probabilities, labels, strict=True))  # T^2, and 1 / T inside
    np.testing.assert_allclose(gradient(soft_target_loss, student, teacher, T), expected, rtol=1e-9, atol=1e-12)


@given(generators(), temperatures, st.floats(1.01, 3))
def test_higher_temperature_brings_the_teacher_closer_to_uniform(rng, T, factor):
    _, teacher = draw_logits(rng)
    uniform = np.zeros_like(teacher)

    def missing_entropy(T):  # KL(p || uniform) = log V - H(p)
        return soft_target_loss(uniform, teacher, T) / T**2

    assert missing_entropy(T * factor) <= missing_entropy(T) + 1e-12
    assert missing_entropy(1e4) < 1e-6


@given(generators(), temperatures)
def test_permuting_the_vocabulary_of_both_changes_nothing(rng, T):
    student, teacher = draw_logits(rng)
    order = rng.permutation(7)
    permuted = soft_target_loss(student[..., order], teacher[..., order], T)
    assert permuted == pytest.approx(soft_target_loss(student, teacher, T), rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_copy_of_the_teacher_has_loss_zero_and_does_not_move(dtype):
    rng = np.random.default_rng(3)
    teacher = Linear(rng.standard_normal((7, 5)).astype(dtype), rng.standard_normal(7).astype(dtype))
    student = Linear(teacher.weight.copy(), teacher.bias.copy())
    x = rng.standard_normal((3, 5)).astype(dtype)
    loss, gradients = value_and_grad(lambda model: soft_target_loss(model(x), teacher(x), 2.0))(student)
    assert loss == 0
    assert not np.any(gradients.weight) and not np.any(gradients.bias)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_and_its_gradient_have_the_dtype_of_the_student(dtype):
    student, teacher = (logits.astype(dtype) for logits in draw_logits(np.random.default_rng(0)))
    loss, vjp = soft_target_loss.with_vjp(student, teacher, 2.0)
    assert loss.dtype == dtype and vjp(dtype(1))[0].dtype == dtype


@given(generators())
def test_pinsker(rng):
    student, teacher = draw_logits(rng, (7,))
    distance = np.sum(np.abs(special.softmax(student) - special.softmax(teacher)))
    assert soft_target_loss(student, teacher, 1.0) >= 0.5 * distance**2 - 1e-12


@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.inf])
@pytest.mark.ungraded
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(ConfigError, match="temperature"):
        soft_target_loss(np.zeros((2, 3)), np.zeros((2, 3)), temperature)
