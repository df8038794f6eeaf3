"""AdamW updates blocks of numbers on several threads. The size of the blocks changes no bit. The limits of clipping."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generators
from tinyslm.training import AdamW, adamw
from tinyslm.training.adamw import clip_by_global_norm, row_blocks


@given(st.lists(st.integers(0, 5), max_size=3), st.integers(1, 20))
def test_blocks_cover_every_number_once(shape, size):
    seen = np.zeros(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adamw, "BLOCK", size)
        blocks = row_blocks(seen)
        assert len(blocks) <= 1 or seen[blocks[0]].size > size - np.prod(shape[1:])  # no row more fits
        for rows in blocks:
            assert seen[rows].size <= max(size, np.prod(shape[1:]))
            seen[rows] += 1
    assert np.all(seen == 1)


@given(generators(), st.integers(1, 40))
def test_the_size_of_the_blocks_changes_no_bit(rng, size):
    shapes = {"a.weight": (7, 5), "norm.weight": (11,), "step": (), "b.weight": (3, 2, 4)}
    parameters = {path: np.asarray(rng.standard_normal(shape)) for path, shape in shapes.items()}
    parameters["a.weight"] = np.asfortranarray(parameters["a.weight"])
    gradients = {path: np.asarray(rng.standard_normal(shape)) for path, shape in shapes.items()}
    whole, cut = ({path: array.copy(order="K") for path, array in parameters.items()} for _ in range(2))
    AdamW(whole).step(gradients, 0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adamw, "BLOCK", size)
        AdamW(cut).step(gradients, 0.1)
    for path in shapes:
        np.testing.assert_array_equal(whole[path], cut[path])
        assert np.all(whole[path] != parameters[path])


def test_a_large_model_moves_on_several_threads():
    parameters = {"a.weight": np.ones((1100, 1000), np.float32), "norm.weight": np.ones(3, np.float32)}
    gradients = {path: np.full_like(array, 2) for path, array in parameters.items()}
    AdamW(parameters, weight_decay=0.0).step(gradients, 0.25)
    for array in parameters.values():
        np.testing.assert_allclose(array, 0.75, rtol=1e-6)


@given(generators())
def test_the_update_of_one_array_is_pure_and_that_of_the_class(rng):
    """`adamw_update` leaves its arguments alone and gives the bits that `AdamW.step` stores, for two steps."""
    parameter, *gradients = rng.standard_normal((3, 4, 5)).astype(np.float32)
    optimizer = AdamW({"a.weight": parameter.copy()}, weight_decay=0.2)
    state = parameter, np.zeros_like(parameter), np.zeros_like(parameter)
    for step, gradient in enumerate(gradients, 1):
        before = [array.copy() for array in (*state, gradient)]
        updated = adamw.adamw_update(state[0], gradient, *state[1:], step=step, learning_rate=0.1, weight_decay=0.2)
        for array, copy in zip((*state, gradient), before, strict=True):
            np.testing.assert_array_equal(array, copy)
        optimizer.step({"a.weight": gradient}, 0.1)
        stored = optimizer.parameters, optimizer.first_moments, optimizer.second_moments
        for array, store in zip(updated, stored, strict=True):
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, store["a.weight"])
        state = updated


def test_the_norm_of_many_arrays_is_summed_in_double_precision():
    """4096^2 + 1 is no float32. The gradients themselves stay float32."""
    gradients = {"a.weight": np.array([[4096.0]], np.float32), "norm.weight": np.ones(1, np.float32)}
    norm = clip_by_global_norm(gradients, 1e9)
    assert type(norm) is float and norm == math.sqrt(4096**2 + 1)
    assert {array.dtype for array in gradients.values()} == {np.dtype(np.float32)}


def test_gradients_with_an_infinite_norm_are_left_alone():
    """The caller refuses them. A scale of 0 would make zeros of all finite gradients."""
    gradients = {"a.weight": np.array([[np.inf, 1.0]]), "norm.weight": np.array([-3.0])}
    assert clip_by_global_norm(gradients, 0.5) == math.inf
    np.testing.assert_array_equal(gradients["a.weight"], [[np.inf, 1]])
    np.testing.assert_array_equal(gradients["norm.weight"], [-3])


def test_a_gradient_at_the_limit_is_not_scaled():
    gradients = {"norm.weight": np.array([3.0, -4.0])}
    assert clip_by_global_norm(gradients, 5.0) == 5
    np.testing.assert_array_equal(gradients["norm.weight"], [3, -4])
    assert clip_by_global_norm({"norm.weight": np.zeros(2)}, 0.0) == 0  # without a division by the norm
