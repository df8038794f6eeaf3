"""Cross-entropy in nats per predicted position."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tests.checks import check_float32, check_gradients
from tests.strategies import distinct_sizes, generators
from tinyslm.coursework.implementation import cross_entropy, log_softmax
from tinyslm.errors import DataError
from tinyslm.ops import IGNORED


@given(distinct_sizes(3, 2, 6), generators(), st.floats(0, 0.9))
def test_cross_entropy(sizes, rng, ignored_share):
    """The mean over predicted positions only, ignored ones have neither loss nor gradient."""
    B, T, V = sizes
    logits, labels = 3 * rng.standard_normal((B, T, V)), rng.integers(0, V, (B, T))
    labels[rng.random((B, T)) < ignored_share] = IGNORED
    labels[0, 0] = 1
    where = np.argwhere(labels != IGNORED)
    expected = -np.mean([special.log_softmax(logits[b, t])[labels[b, t]] for b, t in where])
    assert cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-12)
    check_gradients(cross_entropy, logits, labels)
    dlogits = cross_entropy.with_vjp(logits, labels)[1](1.0)[0]
    assert not dlogits[labels == IGNORED].any()


@given(distinct_sizes(3, 2, 6), generators())
def test_cross_entropy_keeps_float32(sizes, rng):
    B, T, V = sizes
    check_float32(cross_entropy, 3 * rng.standard_normal((B, T, V)), rng.integers(0, V, (B, T)))


@given(distinct_sizes(2), generators())
def test_log_softmax(sizes, rng):
    logits = 100 * rng.standard_normal(sizes)
    np.testing.assert_allclose(log_softmax(logits), special.log_softmax(logits, axis=-1), atol=1e-10)
    assert log_softmax(logits.astype(np.float32)).dtype == np.float32


def test_equal_logits_cost_log_v():
    """A model that knows nothing pays log V."""
    assert cross_entropy(np.zeros((2, 3, 50)), np.ones((2, 3), int)) == pytest.approx(math.log(50))


def test_the_gradient_of_a_position_sums_to_zero():
    """Softmax does not see a constant added to all logits."""
    rng = np.random.default_rng(0)
    dlogits = cross_entropy.with_vjp(rng.standard_normal((4, 7)), np.array([0, 6, 3, 3]))[1](1.0)[0]
    np.testing.assert_allclose(dlogits.sum(axis=-1), 0, atol=1e-15)


def test_nothing_to_predict():
    loss, vjp = cross_entropy.with_vjp(np.ones((2, 3)), np.full(2, IGNORED))
    assert loss == 0
    assert not vjp(1.0)[0].any()


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, -1e4, 0]], np.float32)
    with np.errstate(over="raise", invalid="raise"):
        assert cross_entropy(logits, np.array([0])) == 0
        assert cross_entropy(logits, np.array([1])) == pytest.approx(2e4)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_outside_the_vocabulary_is_refused(label):
    with pytest.raises(DataError, match=r"are not all in 0 to 2 or -100"):
        cross_entropy(np.zeros((2, 3)), np.array([0, label]))


@pytest.mark.ungraded
@pytest.mark.parametrize(
    "labels", [np.zeros(2), np.array([True, False]), np.zeros((2, 1), int), np.zeros(3, int), np.int64(0)]
)
def test_labels_are_one_integer_per_position(labels):
    with pytest.raises(DataError, match=r"labels are .* expected integers of"):
        cross_entropy(np.zeros((2, 3)), labels)


@pytest.mark.parametrize("label", [0, 2])
def test_the_first_and_the_last_token_are_labels(label):
    logits = np.array([[1.0, 2.0, 4.0]])
    assert cross_entropy(logits, np.array([label])) == pytest.approx(special.logsumexp(logits) - logits[0, label])


@pytest.mark.ungraded
@pytest.mark.parametrize("logits", [np.float64(1.0), np.zeros((2, 0)), np.zeros(0)])
def test_there_is_at_least_one_token(logits):
    logits = np.asarray(logits)
    with pytest.raises(DataError, match="V at least 1"):
        log_softmax(logits)
    with pytest.raises(DataError, match="V at least 1"):
        cross_entropy(logits, np.zeros(logits.shape[:-1], int))
    assert log_softmax(np.zeros(1)) == log_softmax(np.zeros((1, 1))) == 0
