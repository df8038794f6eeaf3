"""Recipes on tiny models: what a step changes, what it leaves alone, and that a level of nothing is the identity."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.recipes.models import tiny_calibration, tiny_model
from tinyslm.compression.distillation import soft_target_loss
from tinyslm.compression.factorization import LowRankLinear, factorized_parameters, rank_for_ratio
from tinyslm.compression.pruning import MaskedLinear
from tinyslm.compression.quantization import QuantizedEmbedding, QuantizedLinear
from tinyslm.errors import ConfigError, DataError
from tinyslm.evaluation import footprint
from tinyslm.modules import Embedding, Linear
from tinyslm.recipes import (
    Distill,
    Factorize,
    FoldMasks,
    KeepLayers,
    PruneMagnitude,
    Quantize,
    Recipe,
    SliceNeurons,
    compress,
    default_recipes,
)
from tinyslm.recipes.default_recipes import presets, select_recipes
from tinyslm.tree import map_modules, named_arrays, named_modules

token_ids = np.random.default_rng(5).integers(0, 31, (2, 12))


def test_a_recipe_leaves_its_model_alone_and_records_its_steps():
    model = tiny_model()
    before = {path: array.copy() for path, array in named_arrays(model).items()}
    recipe = Recipe("all", (SliceNeurons(0.5), Distill(steps=2), Quantize()))
    smaller, records = compress(model, recipe, tiny_calibration(model))
    for path, array in named_arrays(model).items():
        np.testing.assert_array_equal(array, before[path])
    assert [record["step"] for record in records] == ["SliceNeurons", "Distill", "Quantize"]
    assert records[1]["settings"]["steps"] == 2
    assert records[-1]["parameters"] == footprint(smaller).parameters < footprint(model).parameters
    assert smaller(token_ids).shape == model(token_ids).shape


@pytest.mark.parametrize("experts", [0, 3])
@pytest.mark.parametrize(
    "step", [KeepLayers((0, 1, 2)), PruneMagnitude(0.0), PruneMagnitude(0.0, "global"), SliceNeurons(1.0)]
)
def test_nothing_removed_is_the_identity(step, experts):
    """Level 0 of every technique gives the same logits, bit for bit."""
    model = tiny_model(experts)
    same, _ = compress(model, [step, FoldMasks()], tiny_calibration(model))
    np.testing.assert_array_equal(same(token_ids), model(token_ids))


@pytest.mark.parametrize("weighting", ["none", "fisher"])
def test_a_rank_that_costs_more_keeps_the_dense_layer(weighting):
    model = tiny_model()
    same, _ = compress(model, [Factorize(1.0, weighting)], tiny_calibration(model))
    for path, layer in named_modules(same).items():
        if isinstance(layer, LowRankLinear):
            original = named_modules(model)[path].weight
            assert layer.left.size + layer.right.size < original.size


def test_layers_are_kept_as_they_are():
    model = tiny_model()
    student, _ = compress(model, [KeepLayers((0, 2))], tiny_calibration(model))
    assert student.layers == [model.layers[0], model.layers[2]]
    assert student.config.num_hidden_layers == 2 and len(student.config.ropes) == 2
    with pytest.raises(ConfigError, match="layers to keep"):
        compress(model, [KeepLayers((2, 1))], tiny_calibration(model))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_masks_survive_recovery(scope):
    """Half of the weights are zero after pruning, and the same ones after training."""
    model = tiny_model()
    calibration = tiny_calibration(model)
    pruned, _ = compress(model, [PruneMagnitude(0.5, scope)], calibration)
    trained, _ = compress(pruned, [Distill(steps=4, learning_rate=1e-2)], calibration)
    folded, _ = compress(trained, [FoldMasks()], calibration)
    masks = named_modules(pruned, MaskedLinear)
    kept = sum(np.count_nonzero(layer.mask) for layer in masks.values())
    assert abs(kept - sum(layer.mask.size for layer in masks.values()) / 2) <= len(masks)
    assert len(masks) == 3 * 7
    for path, layer in named_modules(folded, Linear).items():
        assert path in masks
        np.testing.assert_array_equal(layer.weight != 0, masks[path].mask)
        assert np.any(layer.weight != masks[path].weight)  # it was trained


@pytest.mark.parametrize("experts", [0, 3])
def test_sliced_neurons_are_those_that_a_mask_would_silence(experts):
    """The smaller arrays compute what the large ones do with the other neurons' outputs set to zero."""
    model = tiny_model(experts)
    calibration = tiny_calibration(model)
    sliced, _ = compress(model, [SliceNeurons(0.4)], calibration)
    count = round(0.4 * model.config.intermediate_size)
    assert sliced.config.intermediate_size == count
    small, large = named_modules(sliced, Linear), named_modules(model, Linear)
    silenced = {}
    for path, layer in large.items():
        if path.endswith(".down"):
            kept = [np.flatnonzero((column == layer.weight.T).all(axis=1))[0] for column in small[path].weight.T]
            assert len(kept) == count and kept == sorted(kept)
            mask = np.zeros(layer.weight.shape[1], bool)
            mask[kept] = True
            silenced[path] = layer.replace(weight=layer.weight * mask)
    masked = map_modules(lambda path, layer: silenced.get(path, layer), model, Linear)
    np.testing.assert_allclose(sliced(token_ids), masked(token_ids), rtol=1e-4, atol=1e-5)


def test_quantization_reaches_every_matrix():
    model = tiny_model()
    quantized, _ = compress(model, [Quantize()], tiny_calibration(model))
    assert not named_modules(quantized, Linear) and not named_modules(quantized, Embedding)
    assert len(named_modules(quantized, QuantizedLinear)) == 3 * 7
    assert len(named_modules(quantized, QuantizedEmbedding)) == 1
    assert footprint(quantized).bytes < 0.35 * footprint(model).bytes
    widened = map_modules(lambda _, layer: Linear(layer.dense_weight(), layer.bias), quantized, QuantizedLinear)
    widened = map_modules(lambda _, layer: Embedding(layer.table), widened, QuantizedEmbedding)
    np.testing.assert_allclose(quantized(token_ids), widened(token_ids), rtol=1e-4, atol=1e-5)
    products, _ = compress(model, [Quantize(dynamic_activations=True)], tiny_calibration(model))
    for smaller in (quantized, products):
        logits = model(token_ids)
        assert 0 < np.linalg.norm(smaller(token_ids) - logits) < 0.05 * np.linalg.norm(logits)


def test_the_router_of_a_mixture_is_left_alone():
    model = tiny_model(experts=3)
    for step in (Quantize(), PruneMagnitude(0.5), Factorize(0.5)):
        smaller, _ = compress(model, [step], tiny_calibration(model))
        assert smaller.layers[0].feed_forward.router is model.layers[0].feed_forward.router


def test_factorization_keeps_the_share_of_parameters_it_names():
    model = tiny_model()
    smaller, _ = compress(model, [Factorize(0.5)], tiny_calibration(model))
    for path, layer in named_modules(smaller, LowRankLinear).items():
        shape = named_modules(model, Linear)[path].weight.shape
        assert layer.rank == rank_for_ratio(shape, 0.5)
        assert layer.left.size + layer.right.size == factorized_parameters(shape, layer.rank) <= 0.5 * np.prod(shape)


def test_a_copy_of_the_teacher_has_nothing_to_learn():
    """Soft targets of itself give no gradient, so recovery leaves every weight where it is."""
    model = tiny_model()
    same, _ = compress(model, [Distill(steps=3, hidden_weight=0.5)], tiny_calibration(model))
    for path, array in named_arrays(same).items():
        np.testing.assert_array_equal(array, named_arrays(model)[path], err_msg=path)


def test_recovery_approaches_the_teacher():
    model = tiny_model()
    calibration = tiny_calibration(model)
    sliced, _ = compress(model, [SliceNeurons(0.3)], calibration)
    trained, _ = compress(sliced, [Distill(steps=80, learning_rate=3e-3)], calibration)
    rows, _ = calibration.rows()
    before, after = (soft_target_loss(m(rows), model(rows), 1.0) for m in (sliced, trained))
    assert after < 0.5 * before


def test_recovery_on_labels_alone_does_not_depend_on_the_teacher():
    """soft_weight 0 is ordinary training."""
    model = tiny_model()
    calibration = tiny_calibration(model)
    step = Distill(steps=3, soft_weight=0.0)
    first, _ = compress(model, [step], calibration)
    second, _ = compress(model, [step], replace(calibration, teacher=tiny_model(seed=9)))
    for path, array in named_arrays(first).items():
        np.testing.assert_array_equal(array, named_arrays(second)[path])


def test_built_in_recipes_have_names_that_can_be_chosen():
    lists = presets(tiny_model())
    recipes = [recipe for recipes in lists.values() for recipe in recipes]
    assert len({recipe.directory for recipe in recipes}) == len(set(recipes)) > len(lists["training"])
    assert all(recipes[0].steps == () for recipes in lists.values())
    chosen = select_recipes(["int8-weights", "Wanda 2:4", "SVD 0.7"], lists)
    assert [recipe.name for recipe in chosen] == ["dense", "INT8 weights", "SVD 0.7", "Wanda 2:4"]
    own = Recipe("own", (FoldMasks(),))
    assert select_recipes(["no-training", "gptq-4-bits"], lists, [own])[-1] == own
    for name, recipes in lists.items():
        assert {*select_recipes([name], lists)} == {*recipes}
    with pytest.raises(ConfigError, match=r"'INT9' is not one of dense, .*, default, training, no-training"):
        select_recipes(["INT9"], lists)
    with pytest.raises(ConfigError, match="two recipes are called 'int8-weights'"):
        select_recipes(["training"], lists, [Recipe("INT8 weights", ())])


def test_large_models_get_the_recipes_without_training(monkeypatch):
    model = tiny_model()
    size = footprint(model).parameters
    for limit, name in ((size, "training"), (size - 1, "no-training")):
        monkeypatch.setattr(sys.modules[presets.__module__], "LARGE_MODEL", limit)
        assert default_recipes(model) == presets(model)["default"] == presets(model)[name]
    monkeypatch.setattr(sys.modules[presets.__module__], "MAPPED_MODEL", size - 1)
    names = ["dense", "INT8 weights", "INT8 products", "GPTQ 4 bits", "SparseGPT 2:4", "Wanda 2:4"]
    assert [recipe.name for recipe in default_recipes(model)] == names
    trains = [[hasattr(step, "learning_rate") for recipe in recipes for step in recipe.steps]
              for recipes in (presets(model)["no-training"], presets(model)["training"])]  # fmt: skip
    assert not any(trains[0]) and any(trains[1])
    for recipe in presets(model)["no-training"]:
        compress(model, recipe, tiny_calibration(model))


@pytest.mark.parametrize(
    "step",
    [
        PruneMagnitude(1.5),
        PruneMagnitude(0.5, "row"),
        SliceNeurons(0.0),
        SliceNeurons(1.2),
        Factorize(0.0),
        Factorize(0.5, "hessian"),
        KeepLayers(()),
        KeepLayers((7,)),
        Distill(steps=0),
        Distill(steps=1, batch_size=0),
        Distill(steps=1.5),
    ],
)
def test_settings_that_mean_nothing_are_refused(step):
    model = tiny_model()
    with pytest.raises(ConfigError):
        compress(model, [step], tiny_calibration(model))


@pytest.mark.parametrize("documents", [[], [np.array([], np.int32)]])
def test_recovery_without_a_token_is_refused(documents):
    model = tiny_model()
    with pytest.raises(DataError, match="the documents have no tokens"):
        compress(model, [Distill(steps=1)], replace(tiny_calibration(model), documents=documents))


@pytest.mark.parametrize("first", [PruneMagnitude(0.5), Factorize(0.5), Quantize()])
@pytest.mark.parametrize("second", [PruneMagnitude(0.5), Factorize(0.5), Quantize(), SliceNeurons(0.5)])
def test_a_step_that_would_pass_replaced_layers_by_is_refused(first, second):
    model = tiny_model()
    with pytest.raises(ConfigError, match="already: put this step before") as raised:
        compress(model, [first, second], tiny_calibration(model))
    assert ("FoldMasks" in str(raised.value)) == isinstance(first, PruneMagnitude)  # it helps with masks alone


def test_steps_compose_in_an_order_that_leaves_them_something_to_do():
    """Slice, prune, fold, quantize: the zeros of pruning are zeros of the codes."""
    model = tiny_model()
    steps = [SliceNeurons(0.5), PruneMagnitude(0.5), FoldMasks(), Quantize()]
    smaller, _ = compress(model, steps, tiny_calibration(model))
    for layer in named_modules(smaller, QuantizedLinear).values():
        assert np.mean(layer.codes == 0) >= 0.49


def test_a_single_step_is_a_recipe():
    model = tiny_model()
    found = [compress(model, recipe) for recipe in (Quantize(), [Quantize()], Recipe("one", (Quantize(),)))]
    for quantized, records in found:
        assert [record["step"] for record in records] == ["Quantize"]
        assert footprint(quantized) == footprint(found[0][0])
    trained, _ = compress(model, Distill(steps=1), tiny_calibration(model))  # its field `steps` is a number
    assert footprint(trained) == footprint(model)


def test_only_some_steps_need_documents():
    assert len(compress(tiny_model(), [PruneMagnitude(0.5), FoldMasks(), Quantize()])[1]) == 3
    with pytest.raises(
        ConfigError, match=r"^Distill needs calibration documents: compress\(model, recipe, Calibration\("
    ):
        compress(tiny_model(), [SliceNeurons(0.5, "magnitude"), Distill(steps=2)])


@pytest.mark.parametrize(
    "recipe", ["Quantize", ["Quantize"], Quantize, [Quantize], [Quantize(), None], [Recipe("a", ())]]
)
def test_what_is_not_a_step_is_refused(recipe):
    with pytest.raises(ConfigError, match=r"is not a step; expected an object such as Quantize\(bits=8\)"):
        compress(tiny_model(), recipe)
