"""AdamW against the papers' equations written out for one number at a time, and the clipping of gradients."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import seeds
from tinyslm.coursework.implementation import AdamW, clip_by_global_norm

SHAPES = {
    "embedding.table": (5, 3),
    "position_embedding.table": (4, 3),
    "layers.0.attention.query.weight": (2, 3),
    "layers.0.attention.query.bias": (2,),
    "norm.weight": (3,),
    "head.weight": (5, 3),
}
DECAYED = {"layers.0.attention.query.weight", "head.weight"}


def arrays(rng):
    return {path: rng.standard_normal(shape) for path, shape in SHAPES.items()}


def adamw_in_the_paper(theta, gradients, rates, decay, beta1=0.9, beta2=0.95, eps=1e-8):
    """Loshchilov & Hutter 2019, algorithm 2, lines 6 to 12, for one number; their eta times alpha is the rate."""
    m = v = 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        theta = theta - rate * (m_hat / (math.sqrt(v_hat) + eps) + decay * theta)
    return theta


@given(seeds, st.integers(1, 6), st.sampled_from([0.0, 0.1]))
def test_every_number_moves_as_in_the_paper_and_only_matrices_decay(seed, steps, decay):
    rng = np.random.default_rng(seed)
    parameters, gradients = arrays(rng), [arrays(rng) for _ in range(steps)]
    rates = rng.uniform(1e-3, 1e-1, steps)
    before = {path: array.copy() for path, array in parameters.items()}
    optimizer = AdamW(parameters, weight_decay=decay)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.step(gradient, rate)
    for path, array in parameters.items():
        for index in np.ndindex(array.shape):
            expected = adamw_in_the_paper(
                before[path][index], [g[path][index] for g in gradients], rates, decay * (path in DECAYED)
            )
            assert array[index] == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_first_step_is_the_learning_rate_whatever_the_gradient():
    """Bias correction makes m / sqrt(v) the sign of the gradient."""
    parameters = {"norm.weight": np.array([1.0, 1.0, 1.0])}
    AdamW(parameters).step({"norm.weight": np.array([1e-3, -7.0, 1e5])}, 0.25)
    np.testing.assert_allclose(parameters["norm.weight"], [0.75, 1.25, 0.75], rtol=1e-4)


def test_decay_is_decoupled_from_the_gradient():
    """Without a gradient a matrix shrinks by rate times decay, and nothing else happens."""
    parameters = {path: array + 1 for path, array in arrays(np.random.default_rng(0)).items()}
    before = {path: array.copy() for path, array in parameters.items()}
    AdamW(parameters, weight_decay=0.5).step({path: np.zeros(shape) for path, shape in SHAPES.items()}, 0.1)
    for path, array in parameters.items():
        np.testing.assert_allclose(array, before[path] * (0.95 if path in DECAYED else 1), rtol=1e-15)


def test_float32_stays_float32_and_gradients_are_left_alone():
    parameters = {path: array.astype(np.float32) for path, array in arrays(np.random.default_rng(0)).items()}
    same = dict(parameters)
    gradients = {path: array.astype(np.float32) for path, array in arrays(np.random.default_rng(1)).items()}
    kept = {path: array.copy() for path, array in gradients.items()}
    optimizer = AdamW(parameters)
    optimizer.step(gradients, 0.1)
    for store in (optimizer.parameters, optimizer.first_moments, optimizer.second_moments):
        assert {array.dtype for array in store.values()} == {np.dtype(np.float32)}
    for path in SHAPES:
        assert parameters[path] is same[path]  # changed in place: the model sees it
        np.testing.assert_array_equal(gradients[path], kept[path])


@given(seeds, st.sampled_from([0.1, 1.0, 100.0]))
def test_clipping_keeps_the_direction_and_limits_the_joint_norm(seed, limit):
    gradients = arrays(np.random.default_rng(seed))
    before = np.concatenate([array.ravel() for array in gradients.values()])
    norm = clip_by_global_norm(gradients, limit)
    after = np.concatenate([array.ravel() for array in gradients.values()])
    assert norm == pytest.approx(np.linalg.norm(before))
    np.testing.assert_allclose(after, before * min(1, limit / norm), rtol=1e-12)


def test_gradients_of_zero_are_not_divided_by_their_norm():
    gradients = {"norm.weight": np.zeros(3)}
    assert clip_by_global_norm(gradients, 1.0) == 0
    np.testing.assert_array_equal(gradients["norm.weight"], 0)
