"""Muon: the iteration against singular values and the polar factor, the update against the papers' equations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import seeds
from tinyslm.errors import DataError, NumericOverflow
from tinyslm.training import AdamW, Muon
from tinyslm.training.muon import muon_update, orthogonalized

SHAPES = {
    "embedding.table": (5, 3),
    "position_embedding.table": (4, 3),
    "layers.0.attention.query.weight": (2, 3),
    "layers.0.attention.query.bias": (2,),
    "layers.0.experts.up.weight": (3, 4, 2),
    "masked_lm_head.transform.weight": (3, 3),
    "encoder.relative_positions.table": (4, 2),
    "norm.weight": (3,),
    "head.weight": (5, 3),
}
MATRICES = {"layers.0.attention.query.weight", "layers.0.experts.up.weight", "masked_lm_head.transform.weight"}


def arrays(rng):
    return {path: rng.standard_normal(shape) for path, shape in SHAPES.items()}


def matrix_with(rng, singular_values, m, n):
    """A random m x n matrix with these singular values, and its two orthogonal factors."""
    r = min(m, n)
    u, _ = np.linalg.qr(rng.standard_normal((m, r)))
    v, _ = np.linalg.qr(rng.standard_normal((n, r)))
    return u @ np.diag(singular_values) @ v.T, u, v


def iterated(s, times):
    """The polynomial of Jordan et al. 2024, applied to numbers again and again."""
    for _ in range(times):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


@given(seeds, st.integers(1, 7), st.integers(1, 7), st.integers(0, 6))
def test_the_iteration_acts_on_singular_values_and_keeps_their_vectors(seed, m, n, times):
    rng = np.random.default_rng(seed)
    s = rng.uniform(0.1, 5, min(m, n))
    matrix, u, v = matrix_with(rng, s, m, n)
    before = matrix.copy()
    expected = u @ np.diag(iterated(s / np.linalg.norm(s), times)) @ v.T
    np.testing.assert_allclose(orthogonalized(matrix, times), expected, atol=1e-9)
    np.testing.assert_array_equal(matrix, before)


@given(seeds, st.integers(1, 8), st.integers(1, 8), st.sampled_from([1e-160, 1.0, 1e160]))
def test_all_but_small_singular_values_come_near_those_of_the_polar_factor(seed, m, n, size):
    rng = np.random.default_rng(seed)
    s = 10.0 ** rng.uniform(-3, 0, min(m, n))
    matrix, u, v = matrix_with(rng, size * s, m, n)
    found = u.T @ orthogonalized(matrix) @ v  # diagonal; that of the polar factor is the identity
    np.testing.assert_allclose(found, np.diag(np.diagonal(found)), atol=1e-9)
    kept = s > 0.0021 * np.linalg.norm(s)
    assert np.all((np.diagonal(found) >= 0.68) & (np.diagonal(found) <= 1.21) | ~kept)


@given(seeds)
def test_several_matrices_are_orthogonalized_one_by_one(seed):
    stack = np.random.default_rng(seed).standard_normal((2, 3, 4, 5))
    found = orthogonalized(stack)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(found[index], orthogonalized(stack[index]), atol=1e-12)


def test_vectors_and_different_shapes_are_refused():
    with pytest.raises(DataError, match="expected"):
        orthogonalized(np.ones(3))
    with pytest.raises(DataError, match="one shape"):
        muon_update(np.ones((2, 3)), np.ones((2, 1)), np.zeros((2, 3)), learning_rate=0.1)
    with pytest.raises(DataError, match="one shape"):
        muon_update(np.ones((2, 3)), np.ones((2, 3)), np.zeros((1, 3)), learning_rate=0.1)


def test_a_zero_matrix_stays_zero_and_integers_are_refused():
    np.testing.assert_array_equal(orthogonalized(np.zeros((3, 2), np.float32)), np.zeros((3, 2)))
    assert orthogonalized(np.zeros((0, 2))).shape == (0, 2)
    with pytest.raises(DataError):
        orthogonalized(np.eye(3, dtype=int))


@given(seeds, st.integers(1, 5), st.sampled_from([0.0, 0.1]))
def test_matrices_move_as_in_the_paper_and_all_others_by_adamw(seed, steps, decay):
    """Liu et al. 2025, equations 1 and 4, with the momentum of Nesterov."""
    rng = np.random.default_rng(seed)
    parameters, gradients = arrays(rng), [arrays(rng) for _ in range(steps)]
    expected = {path: array.copy() for path, array in parameters.items()}
    by_adamw = {path: array.copy() for path, array in parameters.items() if path not in MATRICES}
    rates = rng.uniform(1e-3, 1e-1, steps)
    muon, adamw = Muon(parameters, weight_decay=decay), AdamW(by_adamw, weight_decay=decay)
    momenta = dict.fromkeys(MATRICES, 0.0)
    for gradient, rate in zip(gradients, rates, strict=True):
        muon.step(gradient, rate)
        adamw.step(gradient, rate)
        for path in MATRICES:
            momenta[path] = 0.95 * momenta[path] + gradient[path]
            direction = orthogonalized(0.95 * momenta[path] + gradient[path])
            update = 0.2 * np.sqrt(max(SHAPES[path][-2:])) * direction + decay * expected[path]
            expected[path] = expected[path] - rate * update
    assert muon.steps == steps
    for path, array in parameters.items():
        if path in MATRICES:
            np.testing.assert_allclose(array, expected[path], rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(array, by_adamw[path])


@given(seeds)
def test_the_update_is_pure_and_that_of_the_class(seed):
    rng = np.random.default_rng(seed)
    parameter, *gradients = rng.standard_normal((3, 4, 5)).astype(np.float32)
    optimizer = Muon({"a.weight": parameter.copy()}, weight_decay=0.2)
    momentum = np.zeros_like(parameter)
    for gradient in gradients:
        before = [array.copy() for array in (parameter, momentum, gradient)]
        updated = muon_update(parameter, gradient, momentum, learning_rate=0.1, weight_decay=0.2)
        for array, copy in zip((parameter, momentum, gradient), before, strict=True):
            np.testing.assert_array_equal(array, copy)
        optimizer.step({"a.weight": gradient}, 0.1)
        parameter, momentum = updated
        assert parameter.dtype == momentum.dtype == np.float32
        np.testing.assert_array_equal(parameter, optimizer.parameters["a.weight"])
        np.testing.assert_array_equal(momentum, optimizer.first_moments["a.weight"])


def test_float32_stays_float32_and_gradients_are_left_alone():
    parameters = {path: array.astype(np.float32) for path, array in arrays(np.random.default_rng(0)).items()}
    same = dict(parameters)
    gradients = {path: array.astype(np.float32) for path, array in arrays(np.random.default_rng(1)).items()}
    kept = {path: array.copy() for path, array in gradients.items()}
    optimizer = Muon(parameters)
    optimizer.step(gradients, 0.1)
    for store in (optimizer.parameters, optimizer.first_moments, optimizer.second_moments):
        assert {array.dtype for array in store.values()} == {np.dtype(np.float32)}
    assert optimizer.first_moments.keys() == SHAPES.keys()
    assert optimizer.second_moments.keys() == SHAPES.keys() - MATRICES
    for path in SHAPES:
        assert parameters[path] is same[path]  # changed in place: the model sees it
        np.testing.assert_array_equal(gradients[path], kept[path])


def test_the_size_of_a_gradient_does_not_matter():
    gradient = np.random.default_rng(0).standard_normal((3, 4))
    one, other = (
        muon_update(np.zeros((3, 4)), gradient * size, np.zeros((3, 4)), learning_rate=0.1)[0] for size in (1, 1000)
    )
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_refused(bad):
    gradient = np.ones((3, 4))
    gradient[1, 2] = bad
    with pytest.raises(NumericOverflow):
        muon_update(np.ones((3, 4)), gradient, np.zeros((3, 4)), learning_rate=0.1)
