"""Every technique on every family: a level of nothing is the identity, what is sliced computes what is masked, the
configuration says what the arrays are, and what is saved comes back bit for bit. Families and sizes are drawn."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.models import ALL_FAMILIES, assert_same_model, small_model
from tests.recipes.families import (
    apply,
    assert_config_equals_shapes,
    assert_outputs,
    calibrated,
    drawn,
    layer_numbers,
    outputs,
)
from tinyslm.checkpoints import load_model, save_model
from tinyslm.compression.factorization import LowRankLinear, truncated_svd
from tinyslm.errors import ConfigError
from tinyslm.evaluation import footprint
from tinyslm.models import Decoder
from tinyslm.modules import FeedForward, Linear, MixtureOfExperts
from tinyslm.recipes import (
    Distill,
    Factorize,
    FoldMasks,
    KeepLayers,
    PruneMagnitude,
    Quantize,
    SliceExperts,
    SliceNeurons,
    compress,
)
from tinyslm.recipes.distillation.distill import distillation_loss
from tinyslm.recipes.linear_layers import is_compressible
from tinyslm.tree import map_modules, named_arrays, named_modules


def neuron_counts(model):
    return {layer.down.in_features for layer in named_modules(model, FeedForward).values()}


@given(drawn())
def test_parameters_are_the_sizes_of_the_arrays_that_the_configuration_names(case):
    model = case.model()
    assert_config_equals_shapes(model)
    assert footprint(model).parameters == sum(array.size for array in named_arrays(model).values())


@given(drawn())
def test_nothing_removed_is_the_identity(case):
    model = case.model()
    same, found, wanted = apply(
        model, PruneMagnitude(0.0), FoldMasks(), SliceNeurons(1.0), KeepLayers(*layer_numbers(model))
    )
    assert_outputs(found, wanted, rtol=0, atol=0)
    assert same.config == model.config


@given(drawn())
def test_full_rank_is_the_identity(case):
    model = case.model()

    def factorize(path, linear):
        if not is_compressible(path):
            return linear
        return LowRankLinear(*truncated_svd(linear.weight, min(linear.weight.shape)), linear.bias)

    factorized = map_modules(factorize, model, Linear)
    calibration = calibrated(model)
    assert_outputs(outputs(factorized, calibration), outputs(model, calibration), rtol=2e-3, atol=2e-3)


@given(drawn(), st.floats(0.1, 0.9))
def test_sliced_neurons_are_those_that_a_mask_would_silence(case, ratio):
    model = case.model()
    sliced, found, _ = apply(model, SliceNeurons(ratio))
    assert neuron_counts(sliced) == {max(1, round(ratio * count)) for count in neuron_counts(model)}
    assert_config_equals_shapes(sliced)
    small = named_modules(sliced, Linear)

    def silence(path, layer):
        if not path.endswith("feed_forward.down") and ".experts." not in path:
            return layer
        if not path.endswith(".down"):
            return layer
        kept = [(column == layer.weight.T).all(axis=1).nonzero()[0][0] for column in small[path].weight.T]
        return layer.replace(weight=layer.weight * np.isin(np.arange(layer.in_features), kept).astype(np.float32))

    masked = map_modules(silence, model, Linear)
    assert_outputs(found, outputs(masked, calibrated(model)), rtol=1e-3, atol=1e-3)


@given(drawn(["mixtral", "qwen3_moe"]), st.data())
def test_sliced_experts_are_those_that_the_router_may_not_choose(case, data):
    model = case.model()
    count = data.draw(st.integers(1, model.config.num_experts))
    method = data.draw(st.sampled_from(["routing", "magnitude"]))
    sliced, found, wanted = apply(model, SliceExperts(count, method))
    assert_config_equals_shapes(sliced)
    if count == model.config.num_experts:
        assert_outputs(found, wanted, rtol=0, atol=0)
    small = named_modules(sliced, MixtureOfExperts)

    def close(path, mixture):
        kept = [(row == mixture.router.weight).all(axis=1).nonzero()[0][0] for row in small[path].router.weight]
        assert kept == sorted(kept) and len(kept) == count
        closed = np.where(np.isin(np.arange(len(mixture.experts)), kept), 0, -1e9).astype(np.float32)
        return mixture.replace(
            router=mixture.router.replace(bias=closed), experts_per_token=small[path].experts_per_token
        )

    masked = map_modules(close, model, MixtureOfExperts)
    assert_outputs(found, outputs(masked, calibrated(model)), rtol=1e-4, atol=1e-4)


def test_families_without_experts_have_none_to_slice():
    with pytest.raises(Exception, match="llama model has no experts"):
        apply(small_model("llama"), SliceExperts(1))


STEPS = {
    "pruned": (PruneMagnitude(0.5),),
    "folded": (PruneMagnitude(0.5, "global"), FoldMasks()),
    "sliced": (SliceNeurons(0.6),),
    "int8": (Quantize(),),
    "integer products": (Quantize(symmetric=False, dynamic_activations=True),),
    "svd": (Factorize(0.6),),
    "fisher": (Factorize(0.6, "fisher"),),
    "all": (SliceNeurons(0.6), Distill(steps=1), PruneMagnitude(0.3), FoldMasks(), Quantize()),
}


@settings(max_examples=40)
@given(drawn(), st.sampled_from(sorted(STEPS)), st.booleans())
def test_what_is_saved_comes_back_bit_for_bit(case, steps, compressed):
    model = case.model()
    smaller, wanted, _ = apply(model, *(STEPS[steps] if compressed else ()))
    with tempfile.TemporaryDirectory() as directory:
        save_model(Path(directory) / "saved", smaller)
        again = load_model(Path(directory) / "saved")
    assert_same_model(again, smaller)
    assert_outputs(outputs(again, calibrated(model)), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_every_linear_layer_of_the_blocks_is_reached(family):
    """Cross-attention and experts too; a router never."""
    model = small_model(family)
    linears = {path for path, _ in named_modules(model, Linear).items() if "layers" in path.split(".")}
    for step, kind in ((PruneMagnitude(0.5), "MaskedLinear"), (Quantize(), "QuantizedLinear")):
        smaller, _, _ = apply(model, step)
        modules = named_modules(smaller)
        left = {path for path in linears if type(modules[path]).__name__ != kind}
        assert left == {path for path in linears if path.endswith("router")}


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_fewer_layers_are_those_layers(family):
    model = small_model(family)
    if family == "modernbert":
        with pytest.raises(ConfigError, match=r"layers to keep are \(1,\), but layer 0 of a modernbert model"):
            KeepLayers((1,))(model)
        return
    student, _ = compress(model, [KeepLayers((1,))], calibrated(model))
    assert_config_equals_shapes(student)
    kept, whole = named_arrays(student), named_arrays(model)
    for path, array in kept.items():
        assert array is whole[path.replace("layers.0.", "layers.1.")]
    if isinstance(model, Decoder):
        assert (student.config.ropes, student.config.windows) == (model.config.ropes[1:], model.config.windows[1:])


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_recovery_trains_every_family_on_its_own_task(family):
    """The student of a copy has nothing to learn; a sliced one comes nearer to its teacher."""
    model = small_model(family)
    calibration = calibrated(model, count=12)
    same, _ = compress(model, [Distill(steps=2)], calibration)
    before = named_arrays(model)
    for path, array in named_arrays(same).items():
        np.testing.assert_allclose(array, before[path], rtol=0, atol=1e-6, err_msg=path)
    sliced, _ = compress(model, [SliceNeurons(0.3)], calibration)
    step = Distill(steps=20, learning_rate=4e-3, batch_size=12)
    trained, _ = compress(sliced, [step], calibration)
    loss = distillation_loss(calibration, step)
    assert loss(trained, *calibration.rows()) < 0.9 * loss(sliced, *calibration.rows())
