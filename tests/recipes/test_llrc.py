"""Learned ranks: the budget is met, nothing but ranks is learned, and learning them is worth it."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.models import assert_same_model
from tests.recipes.families import assert_outputs, calibrated, drawn, layer_parameters, outputs
from tests.recipes.models import tiny_calibration, tiny_model
from tinyslm.checkpoints import load_model, save_model
from tinyslm.compression.factorization import LowRankLinear, MaskedRankLinear, first_components, masked_parameters
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear
from tinyslm.recipes import Factorize, LearnRanks, compress
from tinyslm.recipes.factorization.components import layer_shapes, model_components, parameter_budget
from tinyslm.recipes.factorization.llrc import annealing, state_loss, with_chosen_components, with_logits, with_noise
from tinyslm.tree import map_modules, named_arrays, named_modules, named_parameters


@settings(max_examples=25)
@given(drawn(), st.floats(0.55, 1), st.sampled_from(["any", "first"]), st.sampled_from(["whitened", "activation"]))
def test_learned_ranks_meet_the_ratio_on_every_family_and_come_back_from_a_file(case, ratio, components, weighting):
    model = case.model()
    calibration = calibrated(model, count=4)
    step = LearnRanks(ratio, steps=2, batch_size=3, components=components, weighting=weighting)
    smaller, _ = compress(model, [step], calibration)
    assert layer_parameters(smaller) <= ratio * layer_parameters(model)
    assert not named_modules(smaller, MaskedRankLinear)
    before = named_arrays(model)
    for path, array in named_arrays(smaller).items():
        if not path.endswith((".left", ".right")):
            np.testing.assert_array_equal(array, before[path])  # no weight was trained
    if ratio == 1:
        assert_outputs(outputs(smaller, calibration), outputs(model, calibration), rtol=0, atol=0)
    with tempfile.TemporaryDirectory() as directory:
        save_model(Path(directory) / "saved", smaller)
        assert_same_model(load_model(Path(directory) / "saved"), smaller)


def test_factors_are_components_of_the_layer_as_they_were():
    model = tiny_model()
    calibration = tiny_calibration(model)
    step = LearnRanks(0.5, steps=3, batch_size=6)
    smaller, _ = compress(model, [step], calibration)
    again, _ = compress(model, [step], calibration)
    assert_same_model(again, smaller)  # the same seed, the same bits
    components = model_components(model, calibration, "whitened")
    for path, layer in named_modules(smaller, LowRankLinear).items():
        wanted = components[path].left.astype(np.float32)
        assert all(any(np.allclose(column, each) for each in wanted.T) for column in layer.left.T)
    other, _ = compress(model, [step], replace(calibration, seed=5))
    found, wanted = ({path: array.tobytes() for path, array in named_arrays(each).items()} for each in (other, smaller))
    assert found != wanted  # other noise, another choice


def test_a_mask_of_everything_is_the_model_and_only_logits_learn():
    model = tiny_model()
    calibration = tiny_calibration(model)
    components = model_components(model, calibration, "activation")
    masked = with_logits(model, components, 0.5)
    assert_outputs(outputs(masked, calibration), outputs(model, calibration), rtol=0, atol=1e-4)
    for path, layer in named_modules(masked, MaskedRankLinear).items():
        assert layer.logits[0] == 6 and layer.logits[-1] == 3 and list(named_parameters(layer)) == ["logits"]
        assert path in components
    noisy = with_noise(masked, np.random.default_rng(0))
    noises = [layer.noise for layer in named_modules(noisy, MaskedRankLinear).values()]
    assert len(np.unique(np.concatenate(noises))) == sum(noise.size for noise in noises)  # no two alike
    task = calibration.sample()[0]
    counted = np.ones(task.targets.shape, bool)
    assert state_loss(masked, model, task.inputs, counted) < 1e-6 < state_loss(noisy, model, task.inputs, counted)


def test_masks_become_the_chosen_or_the_first_components():
    model = tiny_model()
    components = model_components(model, tiny_calibration(model), "none")
    rng = np.random.default_rng(0)
    masks = {path: rng.random(len(each.singular_values)) < 0.3 for path, each in components.items()}
    chosen, first = (with_chosen_components(model, components, masks, which) for which in ("any", "first"))
    factorized = 0
    for path, mask in masks.items():
        left, right, _ = components[path]
        for each, kept in ((chosen, mask), (first, first_components(mask))):
            layer = named_modules(each)[path]
            if isinstance(layer, LowRankLinear):
                factorized += 1
                np.testing.assert_allclose(layer.dense_weight(), left[:, kept] @ right[kept], atol=1e-5)
            else:
                assert np.count_nonzero(mask) * sum(layer.weight.shape) >= layer.weight.size
    assert factorized
    full = {path: np.ones_like(mask) for path, mask in masks.items()}
    assert_same_model(with_chosen_components(model, components, full), model)


def planted_model(seed=0):
    """A model whose layers need very different ranks: those of the middle block have few components, the others all.

    Every layer keeps its size (Frobenius norm): were the planted ones larger, they would drown the block after them,
    and then the states would need neither that block nor its ranks.
    """

    def plant(path, linear):
        if not path.startswith("layers.1"):
            return linear
        U, S, Vt = np.linalg.svd(linear.weight.astype(np.float64), full_matrices=False)
        decayed = S * 0.2 ** np.arange(len(S))
        decayed *= np.linalg.norm(S) / np.linalg.norm(decayed)
        return linear.replace(weight=((U * decayed) @ Vt).astype(np.float32))

    return map_modules(plant, tiny_model(seed=seed), Linear)


def learned_and_uniform(seed):
    """The share of parameters that each block keeps of its layers, and the errors of the states: of learned ranks and
    of the same ratio in every layer.

    The compression loss must be weak for that: at its full weight it moves the logits of most single components more
    than the states do, and then those that are needed fall as fast as the others.
    """
    model = planted_model(seed)
    calibration = tiny_calibration(model)
    step = LearnRanks(0.75, steps=100, batch_size=12, weighting="none", compression_weight=0.1)
    learned, _ = compress(model, [step], calibration)
    uniform, _ = compress(model, [Factorize(0.75)], calibration)
    shapes = layer_shapes(model_components(model, calibration, "none"))

    def share(index):
        kept = [layer for path, layer in named_modules(learned).items() if path in shapes and f"layers.{index}" in path]
        return np.mean([sum(map(np.prod, layer.shapes())) / np.prod(layer.dense_weight().shape) for layer in kept])

    def loss(student):
        tasks = calibration.sample()
        return np.mean([state_loss(student, model, each.inputs, np.ones(each.targets.shape, bool)) for each in tasks])

    return [share(index) for index in range(3)], loss(learned), loss(uniform)


@pytest.mark.parametrize("seed", [0, 1])
def test_ranks_are_learned_where_they_are_needed(seed):
    """The layers with few components give up the others, and the states are far nearer than at a uniform ratio."""
    shares, learned, uniform = learned_and_uniform(seed)
    assert shares[1] < 0.5 * min(shares[0], shares[2])
    assert learned < 0.05 * uniform


def test_compression_ends_where_the_budget_is_met():
    """However strong it is: below the budget it turns round, or all components would be given up in the end."""
    model = tiny_model()
    components = model_components(model, tiny_calibration(model), "none")
    step = LearnRanks(0.6, steps=120, batch_size=4, weighting="none", compression_weight=3.0)
    logits = step.learn(model, tiny_calibration(model), components, lambda text: None)
    kept = masked_parameters({path: each > 0 for path, each in logits.items()}, layer_shapes(components))
    assert kept == pytest.approx(parameter_budget(components, 0.6), rel=0.05)


def test_the_strength_of_compression_rises_and_stays_in_every_period():
    assert [annealing(step, 4) for step in range(6)] == [0.0, 0.5, 1.0, 1.0, 0.0, 0.5]


@pytest.mark.parametrize(
    "step",
    [
        LearnRanks(0.0),
        LearnRanks(1.1),
        LearnRanks(0.0001),
        LearnRanks(0.5, steps=0),
        LearnRanks(0.5, documents=0),
        LearnRanks(0.5, period=0),
        LearnRanks(0.5, components="best"),
        LearnRanks(0.5, weighting="hessian"),
        LearnRanks(0.5, temperature=0.0),
    ],
)
def test_impossible_settings_are_refused(step):
    model = tiny_model()
    with pytest.raises(ConfigError):
        compress(model, [step], tiny_calibration(model))
