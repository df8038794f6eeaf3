"""Pruning single weights of models of every family: exact counts, block-by-block calibration, masks that hold during
training, and sparse formats that are loaded from a file without change."""

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.models import assert_same_model, small_model
from tests.recipes.families import apply, assert_outputs, calibrated, drawn, outputs
from tests.recipes.models import tiny_calibration, tiny_model
from tinyslm.checkpoints import load_model, save_model
from tinyslm.compression.pruning import (
    MaskedLinear,
    allocate_sparsity,
    cubic_sparsity,
    least_squares_refit,
    magnitude_mask,
    sparsegpt,
    wanda_mask,
)
from tinyslm.compression.quantization import PackedNMLinear
from tinyslm.errors import ConfigError, DataError
from tinyslm.evaluation import footprint
from tinyslm.modules import Linear, LinearLayer
from tinyslm.recipes import (
    Distill,
    Factorize,
    FoldMasks,
    PruneBySensitivity,
    PruneGradually,
    PruneIteratively,
    PruneMagnitude,
    PruneSparseGPT,
    PruneWanda,
    Quantize,
    QuantizeGPTQ,
    RefitWeights,
    SliceNeurons,
    StoreSparse,
    compress,
)
from tinyslm.recipes.linear_layers import is_compressible
from tinyslm.recipes.pruning.schedule import tighten
from tinyslm.recipes.sensitivity import single_layer_losses
from tinyslm.recipes.statistics import gram, input_grams, input_statistics
from tinyslm.recipes.tasks import task_loss
from tinyslm.training import Settings, State
from tinyslm.tree import map_modules, named_arrays, named_modules

token_ids = np.random.default_rng(5).integers(0, 31, (2, 12))
FORMS = ("csr", "bitmap")


def masked_layers(model):
    return named_modules(model, MaskedLinear)


def with_grouped_sizes(case):
    """The same case with a number of inputs that 4 divides in every layer, as patterns need."""
    sizes = {"intermediate_size": 4 * -(-case.config.intermediate_size // 4)}
    return case._replace(config=replace(case.config, **sizes))


@given(drawn(), st.sampled_from([PruneMagnitude, PruneWanda, PruneSparseGPT]), st.floats(0, 1))
def test_every_linear_layer_of_the_blocks_loses_the_given_fraction(case, step, sparsity):
    model = case.model()
    pruned, found, _ = apply(model, step(sparsity))
    dense, masked = named_modules(model, Linear), masked_layers(pruned)
    assert set(masked) == {path for path in dense if is_compressible(path)}
    for path, layer in masked.items():
        rows, columns = layer.weight.shape
        count = rows * round(sparsity * columns) if step is PruneWanda else round(sparsity * rows * columns)
        if step is PruneSparseGPT:  # and those whose input is always 0
            assert count <= np.count_nonzero(~layer.mask)
        else:
            assert np.count_nonzero(~layer.mask) == count
            np.testing.assert_array_equal(layer.weight, dense[path].weight * layer.mask)
        assert not np.any(layer.weight[~layer.mask])
    assert all(np.all(np.isfinite(each)) for each in found)


@given(drawn(), st.sampled_from([PruneMagnitude(0.0), PruneMagnitude(0.0, "global"), PruneWanda(0.0)]))
def test_nothing_removed_is_the_identity(case, step):
    _, found, wanted = apply(case.model(), step, FoldMasks(), StoreSparse("bitmap"))
    assert_outputs(found, wanted, rtol=0, atol=0)


@given(
    drawn().map(with_grouped_sizes),
    st.sampled_from([PruneMagnitude, PruneWanda, PruneSparseGPT]),
    st.sampled_from(["2:4", "1:2", "1:4"]),
)
def test_patterns_hold_in_every_layer_and_their_packed_form_is_loaded_bit_for_bit(case, step, pattern):
    model = case.model()
    n, m = map(int, pattern.split(":"))
    if any(layer.in_features % m for path, layer in named_modules(model, Linear).items() if is_compressible(path)):
        with pytest.raises(DataError, match=f"divisible by {m}"):
            apply(model, step(1 - n / m, pattern=pattern))
        return
    pruned, wanted, _ = apply(model, step(1 - n / m, pattern=pattern))
    for layer in masked_layers(pruned).values():
        groups = np.count_nonzero(layer.mask.reshape(layer.out_features, -1, m), axis=-1)
        assert np.all(groups <= n) and (step is PruneSparseGPT or np.all(groups == n))
    stored, _ = compress(pruned, [StoreSparse(pattern)], calibrated(model))
    assert_outputs(outputs(stored, calibrated(model)), wanted, rtol=1e-5, atol=1e-5)
    assert_loaded_bit_for_bit(stored, calibrated(model))


@settings(max_examples=25)
@given(drawn(), st.sampled_from(FORMS), st.floats(0, 1))
def test_sparse_formats_are_the_same_function_and_are_loaded_bit_for_bit(case, form, sparsity):
    model = case.model()
    pruned, wanted, _ = apply(model, PruneMagnitude(sparsity))
    stored, _ = compress(pruned, [StoreSparse(form)], calibrated(model))
    assert_outputs(outputs(stored, calibrated(model)), wanted, rtol=1e-4, atol=1e-4)
    assert footprint(stored).non_zeros == footprint(pruned).non_zeros
    assert footprint(stored).parameters == footprint(model).parameters
    assert_loaded_bit_for_bit(stored, calibrated(model))


def assert_loaded_bit_for_bit(model, calibration):
    with tempfile.TemporaryDirectory() as directory:
        save_model(Path(directory) / "saved", model)
        again = load_model(Path(directory) / "saved")
    assert_same_model(again, model)
    assert_outputs(outputs(again, calibration), outputs(model, calibration), rtol=0, atol=0)


@pytest.mark.parametrize("form", [*FORMS, "2:4"])
def test_the_size_of_a_sparse_file_equals_its_bits(tmp_path, form):
    model = tiny_model()
    pruned, _ = compress(model, [PruneMagnitude(0.5, pattern="2:4"), StoreSparse(form)], tiny_calibration(model))
    save_model(tmp_path / "model", pruned)
    content = (tmp_path / "model" / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert len(content) - header == footprint(pruned).bytes == footprint(pruned).bits / 8
    assert (footprint(pruned).bytes < 0.75 * footprint(model).bytes) == (form != "csr")  # columns cost as much as zeros


# --- one block after another


def block_of(path):
    return ".".join(path.split(".")[:2])


@pytest.mark.parametrize("step", [PruneWanda(0.5), PruneSparseGPT(0.5)])
def test_a_block_is_pruned_with_the_inputs_from_the_pruned_blocks_before_it(step):
    model = tiny_model()
    calibration = tiny_calibration(model)
    pruned = masked_layers(compress(model, [step], calibration)[0])
    for block in ("layers.0", "layers.1", "layers.2"):
        before = map_modules(
            lambda path, layer, block=block: pruned[path] if path in pruned and block_of(path) < block else layer,
            model,
            Linear,
        )
        grams = input_statistics(before, calibration.sample(), gram)
        for path, layer in pruned.items():
            if block_of(path) == block:
                dense, products = named_modules(model, Linear)[path].weight, grams[path][0]
                if isinstance(step, PruneWanda):
                    mask = wanda_mask(dense, np.sqrt(np.diag(products)), 0.5)
                    np.testing.assert_array_equal(layer.mask, mask)
                else:
                    np.testing.assert_array_equal(layer.weight, sparsegpt(dense, products, 0.5))


def test_an_expert_that_no_token_reaches_is_pruned_by_magnitude():
    """Without inputs there are no statistics; with all norms 0 its first columns would be removed, or all of it."""
    model = tiny_model(experts=3)
    mixtures = [layer.feed_forward for layer in model.layers]
    closed = [
        each.replace(router=each.router.replace(bias=np.array([0, 0, -1e9], np.float32)), experts_per_token=2)
        for each in mixtures
    ]
    layers = [layer.replace(feed_forward=each) for layer, each in zip(model.layers, closed, strict=True)]
    model = model.replace(layers=layers)
    for step in (PruneWanda(0.5), PruneSparseGPT(0.5)):
        pruned, _ = compress(model, [step], tiny_calibration(model))
        layer, dense = pruned.layers[1].feed_forward.experts[2].up, model.layers[1].feed_forward.experts[2].up.weight
        if isinstance(step, PruneWanda):
            np.testing.assert_array_equal(layer.mask, [magnitude_mask(row, 0.5) for row in dense])
        else:
            np.testing.assert_array_equal(layer.weight, dense * magnitude_mask(dense, 0.5))


@given(drawn(), st.floats(0.1, 0.9))
def test_refitted_weights_are_the_least_squares_fit_to_the_teacher(case, sparsity):
    model = case.model()
    calibration = calibrated(model)
    pruned, _ = compress(model, [PruneMagnitude(sparsity)], calibration)
    repaired, _ = compress(pruned, [RefitWeights()], calibration)
    grams, dense = input_grams(model, calibration.sample()), named_modules(model, Linear)
    for path, layer in masked_layers(repaired).items():
        mask, (gram, _) = masked_layers(pruned)[path].mask, grams[path]
        np.testing.assert_array_equal(layer.mask, mask)
        np.testing.assert_array_equal(layer.weight, least_squares_refit(dense[path].weight, gram, mask))
        before, after = (np.float64(dense[path].weight) - each.weight for each in (masked_layers(pruned)[path], layer))
        errors = [np.trace(each @ gram @ each.T) for each in (before, after)]
        assert errors[1] <= errors[0] * (1 + 1e-4) + 1e-6


def test_a_refit_needs_masks_and_a_teacher_of_the_same_shape():
    model = tiny_model()
    with pytest.raises(ConfigError, match="no masks"):
        compress(model, [RefitWeights()], tiny_calibration(model))
    with pytest.raises(ConfigError, match="counterpart"):
        compress(model, [SliceNeurons(0.5), PruneMagnitude(0.5), RefitWeights()], tiny_calibration(model))


# --- while training


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_gradual_pruning_ends_at_its_sparsity_and_removed_weights_are_exactly_zero(scope):
    model = tiny_model()
    before = {path: array.copy() for path, array in named_arrays(model).items()}
    step = PruneGradually(0.7, steps=9, every=2, pruned_by=0.6, scope=scope, learning_rate=1e-2)
    pruned, _ = compress(model, [step], tiny_calibration(model))
    masked = masked_layers(pruned)
    removed = [np.count_nonzero(~layer.mask) for layer in masked.values()]
    sizes = [layer.mask.size for layer in masked.values()]
    if scope == "layer":
        assert removed == [round(0.7 * size) for size in sizes]
    else:
        assert sum(removed) == round(0.7 * sum(sizes)) and len(set(removed)) > 3
    for path, layer in masked.items():
        np.testing.assert_array_equal(layer.weight == 0, ~layer.mask)
        assert np.mean(layer.weight[layer.mask] != before[f"{path}.weight"][layer.mask]) > 0.9  # it was trained
    for path, array in named_arrays(model).items():
        np.testing.assert_array_equal(array, before[path])


def test_gradual_pruning_follows_the_schedule_and_masks_are_nested(monkeypatch):
    model, seen = tiny_model(), []

    def watch(state, masks):
        tighten(state, masks)
        seen.append((state.step, {path: layer.mask.copy() for path, layer in masked_layers(state.model).items()}))

    monkeypatch.setattr("tinyslm.recipes.pruning.schedule.tighten", watch)
    step = PruneGradually(0.8, steps=12, every=3, pruned_by=0.75, learning_rate=1e-2)
    pruned = step(model, tiny_calibration(model))
    assert [number for number, _ in seen] == [3, 6, 9]
    earlier = None
    for number, masks in seen:
        sparsity = cubic_sparsity(number, 0.8, stop=9)
        assert all(np.count_nonzero(~mask) == round(sparsity * mask.size) for mask in masks.values())
        assert earlier is None or not any(np.any(masks[path] & ~earlier[path]) for path in masks)
        earlier = masks
    assert all(np.array_equal(layer.mask, earlier[path]) for path, layer in masked_layers(pruned).items())


def test_removed_weights_lose_their_momentum():
    model, _ = compress(tiny_model(), [PruneMagnitude(0.0)], None)
    state = State.start(model, Settings(steps=1))
    rng = np.random.default_rng(0)
    gradients = {path: rng.standard_normal(array.shape) for path, array in state.optimizer.parameters.items()}
    state.optimizer.step(gradients, 0.01)
    masks = {path: magnitude_mask(layer.weight, 0.5) for path, layer in masked_layers(state.model).items()}
    tighten(state, masks)
    for path, mask in masks.items():
        gradients[f"{path}.weight"] = gradients[f"{path}.weight"] * mask
    state.optimizer.step(gradients, 0.01)
    for path, layer in masked_layers(state.model).items():
        np.testing.assert_array_equal(layer.weight == 0, ~masks[path])


@pytest.mark.parametrize("rewind", ["weights", "learning_rate"])
def test_iterative_pruning_without_pruning_is_the_dense_training_bit_for_bit(rewind):
    model = tiny_model()
    calibration = tiny_calibration(model)
    pruned, _ = compress(model, [PruneIteratively(0.0, rounds=1, steps=3, rewind=rewind), FoldMasks()], calibration)
    trained, _ = compress(model, [Distill(3)] * (1 if rewind == "weights" else 2), calibration)
    for path, array in named_arrays(trained).items():
        np.testing.assert_array_equal(named_arrays(pruned)[path], array)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_rounds_prune_the_trained_weights_and_rewind_the_remaining_ones(scope, monkeypatch):
    """A replacement of every training is observed: it adds noise to the weights that may change."""
    model, given_models, rng = tiny_model(), [], np.random.default_rng(0)

    def noisy(self, current, calibration, progress):
        given_models.append(current)

        def change(path, layer):
            weight = layer.dense_weight()
            return layer.replace(weight=weight + (weight != 0) * rng.standard_normal(weight.shape).astype(np.float32))

        return map_modules(change, current, LinearLayer)

    monkeypatch.setattr(Distill, "__call__", noisy)
    step = PruneIteratively(1 - 0.8**3, rounds=3, steps=1, rewind="weights", scope=scope)
    step(model, tiny_calibration(model))
    assert len(given_models) == 4
    dense, earlier = named_modules(model, Linear), None
    for number, current in enumerate(given_models[1:], 1):
        masks = {path: layer.mask for path, layer in masked_layers(current).items()}
        kept, size = sum(map(np.count_nonzero, masks.values())), sum(mask.size for mask in masks.values())
        assert abs(kept - 0.8**number * size) <= len(masks) / 2
        assert earlier is None or not any(np.any(masks[path] & ~earlier[path]) for path in masks)
        for path, layer in masked_layers(current).items():  # back to the first values
            np.testing.assert_array_equal(layer.weight, dense[path].weight * layer.mask)
        earlier = masks
    differs = [np.any(earlier[p] != magnitude_mask(dense[p].weight, 1 - 0.8**3)) for p in earlier]
    assert all(differs)  # chosen by the trained weights, not the first ones


# --- how much each layer can lose


def test_losses_of_single_layers_are_those_with_only_that_layer_changed():
    model = tiny_model()
    calibration = tiny_calibration(model)
    tasks = calibration.sample()[:3]
    steps = {"pruned": PruneMagnitude(0.5), "int8": Quantize(), "factorized": Factorize(0.5)}
    compressed = {level: compress(model, [step], calibration)[0] for level, step in steps.items()}
    losses = single_layer_losses(model, compressed, tasks)
    assert set(losses) == {path for path in named_modules(model, Linear) if is_compressible(path)}
    for path, level in itertools.product(losses, steps):
        layer = named_modules(compressed[level], LinearLayer)[path]
        changed = map_modules(lambda name, each, path=path, layer=layer: layer if name == path else each, model, Linear)
        assert losses[path][level] == pytest.approx(np.mean([task_loss(changed, task) for task in tasks]), rel=1e-6)


@settings(max_examples=10)
@given(drawn(), st.sampled_from(["magnitude", "wanda"]), st.floats(0, 0.7))
def test_layers_lose_different_fractions_that_meet_the_sparsity_together(case, method, sparsity):
    model = case.model()
    levels = (0.0, 0.4, 0.8)
    pruned, _, _ = apply(model, PruneBySensitivity(sparsity, method, levels, documents=2))
    masked, dense = masked_layers(pruned), named_modules(model, Linear)
    assert set(masked) == {path for path in dense if is_compressible(path)}
    removed = sum(np.count_nonzero(~layer.mask) for layer in masked.values())
    slack = sum(layer.out_features for layer in masked.values())  # Wanda rounds in every row
    assert removed >= sparsity * sum(layer.mask.size for layer in masked.values()) - slack
    for path, layer in masked.items():
        np.testing.assert_array_equal(layer.weight, dense[path].weight * layer.mask)


def test_the_sparsity_of_a_layer_follows_from_its_losses():
    model = tiny_model()
    calibration = tiny_calibration(model)
    levels = (0.0, 0.4, 0.8)
    pruned, _ = compress(model, [PruneBySensitivity(0.5, levels=levels, documents=3)], calibration)
    each = {level: compress(model, [PruneMagnitude(level)], calibration)[0] for level in levels}
    losses = single_layer_losses(model, each, calibration.sample()[:3])
    chosen = allocate_sparsity(losses, {path: layer.mask.size for path, layer in masked_layers(pruned).items()}, 0.5)
    assert set(chosen.values()) == set(levels)
    for path, layer in masked_layers(pruned).items():
        np.testing.assert_array_equal(layer.mask, magnitude_mask(named_modules(model)[path].weight, chosen[path]))


@pytest.mark.parametrize(
    "step",
    [
        PruneMagnitude(0.5, "row"),
        PruneMagnitude(0.5, "global", "2:4"),
        PruneMagnitude(0.6, pattern="2:4"),
        PruneWanda(0.6, "2:4"),
        PruneWanda(-0.1),
        PruneSparseGPT(0.75, "2:4"),
        PruneSparseGPT(0.5, damping=-1.0),
        PruneSparseGPT(0.5, "half"),
        PruneGradually(0.5, steps=0),
        PruneGradually(0.5, steps=2, every=0),
        PruneGradually(0.5, steps=2, pruned_by=0.0),
        PruneGradually(0.5, steps=2, scope="row"),
        PruneGradually(1.5, steps=2),
        PruneIteratively(0.5, rounds=0, steps=1),
        PruneIteratively(0.5, rounds=1, steps=1, rewind="time"),
        PruneIteratively(0.5, rounds=1, steps=1, scope="row"),
        PruneBySensitivity(0.5, "luck"),
        PruneBySensitivity(0.5, documents=0),
        PruneBySensitivity(0.95),
        StoreSparse("coo"),
    ],
    ids=repr,
)
def test_invalid_settings_are_refused(step):
    model = tiny_model()
    with pytest.raises(ConfigError):
        compress(model, [step], tiny_calibration(model))


@pytest.mark.parametrize(
    "step", [PruneWanda(0.5), PruneSparseGPT(0.5), PruneGradually(0.5, 1), PruneBySensitivity(0.5)]
)
def test_a_model_that_is_already_compressed_is_refused(step):
    model = small_model("llama")
    with pytest.raises(ConfigError, match="already: put this step before"):
        apply(model, PruneMagnitude(0.5), step)


def test_gptq_keeps_the_zeros_of_a_pattern_and_both_are_stored_together(tmp_path):
    model = tiny_model()
    calibration = tiny_calibration(model)
    steps = [PruneSparseGPT(0.5, pattern="2:4"), QuantizeGPTQ(bits=4)]
    pruned, _ = compress(model, steps[:1], calibration)
    quantized, _ = compress(pruned, steps[1:], calibration)
    for path, layer in masked_layers(pruned).items():
        assert not np.any(named_modules(quantized, LinearLayer)[path].dense_weight()[~layer.mask])
    stored, _ = compress(quantized, [StoreSparse("2:4")])
    layers = named_modules(stored, PackedNMLinear)
    assert layers.keys() == masked_layers(pruned).keys()
    assert footprint(stored).bits < footprint(quantized).bits
    tokens = np.arange(12)[None]
    np.testing.assert_array_equal(stored(tokens), quantized(tokens))
    save_model(tmp_path / "saved", stored)
    np.testing.assert_array_equal(load_model(tmp_path / "saved")(tokens), stored(tokens))
