"""SmoothQuant, LLM.int8(), GPTQ, static quantization and quantization-aware training on models of every family."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.models import ALL_FAMILIES, assert_same_model, small_model
from tests.recipes.families import assert_outputs, calibrated, drawn, outputs
from tests.recipes.models import tiny_calibration, tiny_model
from tests.transforms import inject_outliers
from tinyslm.checkpoints import load_model, save_model
from tinyslm.compression.quantization import (
    CodebookLinear,
    OutlierLinear,
    PackedLinear,
    QuantizedEmbedding,
    QuantizedLinear,
    StaticQuantizedLinear,
    gptq,
)
from tinyslm.errors import ConfigError, DataError, Error
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.modules import Embedding, Linear, MixtureOfExperts
from tinyslm.recipes import (
    Distill,
    PruneMagnitude,
    PruneSparseGPT,
    PruneWanda,
    Quantize,
    QuantizeFormat,
    QuantizeGPTQ,
    QuantizeOutlierAware,
    QuantizeStatic,
    Smooth,
    StoreSparse,
    TrainQuantized,
    compress,
)
from tinyslm.recipes.distillation.distill import distillation_loss
from tinyslm.recipes.linear_layers import is_compressible, paths_by_block
from tinyslm.recipes.quantization.smoothquant import inner_pairs, norm_readers
from tinyslm.recipes.statistics import gram, input_maxima, input_statistics
from tinyslm.tree import map_arrays, map_modules, named_arrays, named_modules

POST_NORM = ("bert", "distilbert", "olmo2")
STEPS = {
    "outlier aware": QuantizeOutlierAware(threshold=2.0),
    "gptq": QuantizeGPTQ(),
    "gptq, act order": QuantizeGPTQ(bits=3, symmetric=False, act_order=True),
    "gptq, 8 bits": QuantizeGPTQ(bits=8),
    "nearest, 5 bits": Quantize(bits=5, symmetric=False),
    "nearest, groups of one": Quantize(bits=8, group_size=1),
    "nearest, per tensor with activations": Quantize(bits=4, per_channel=False, dynamic_activations=True),
    "static": QuantizeStatic(),
    "static, percentile": QuantizeStatic("percentile", documents=2),
    "levels": QuantizeFormat("fp4"),
    "trained": TrainQuantized(steps=2, bits=3, batch_size=4),
    "trained with activations": TrainQuantized(steps=1, bits=4, dynamic_activations=True, batch_size=4),
}


def output_error(model, calibration, *steps):
    """Root mean square difference between the outputs after these steps and before."""
    found = outputs(compress(model, list(steps), calibration)[0], calibration)
    wanted = outputs(model, calibration)
    return np.sqrt(np.mean(np.concatenate([np.square(a - b).ravel() for a, b in zip(found, wanted, strict=True)])))


def in_float64(model):
    """The model in float64, where function-preserving changes are exact up to rounding."""
    return map_arrays(lambda path, array: array.astype(np.float64), model)


@given(drawn(), st.floats(0, 1), st.booleans())
def test_smoothing_computes_the_same_on_every_family(case, alpha, inner):
    model = in_float64(case.model())
    calibration = calibrated(model)
    inner = inner or model.config.family in POST_NORM
    smooth, _ = compress(model, [Smooth(alpha, inner)], calibration)
    assert_outputs(outputs(smooth, calibration), outputs(model, calibration), rtol=1e-4, atol=1e-4)
    before = named_arrays(model)
    changed = [path for path, array in named_arrays(smooth).items() if np.any(array != before[path])]
    assert changed and all("layers" in path.split(".") or path == "encoder.norm.weight" for path in changed)


@given(drawn([family for family in ALL_FAMILIES if family not in POST_NORM]))
def test_smoothed_activations_and_weights_are_equally_large(case):
    """The maxima of each norm's features, over all readers; smoothing a second time changes nothing."""
    model = in_float64(case.model())
    calibration = calibrated(model)
    smooth, _ = compress(model, [Smooth(inner=True)], calibration)
    modules = named_modules(smooth, Linear)
    readers = norm_readers(smooth)
    maxima = input_maxima(smooth, calibration.sample(), {path for _, paths in readers for path in paths})
    for _, paths in readers:
        largest = np.max([maxima[path] for path in paths], axis=0)
        columns = np.max([np.abs(modules[path].weight).max(axis=0) for path in paths], axis=0)
        weights_changed_after = any(path.endswith((".value", ".up")) for path in paths)  # by the inner pairs
        if not weights_changed_after:
            np.testing.assert_allclose(largest, columns, rtol=1e-3)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_every_norm_that_feeds_linear_layers_is_read_by_all_that_it_names(family):
    """Scaling a norm's gain and its readers' columns changes nothing; leaving one reader out does."""
    model = in_float64(small_model(family))
    calibration = calibrated(model)
    readers = norm_readers(model)
    assert (not readers) == (family in POST_NORM)
    reached = {path for _, paths in readers for path in paths}
    others = {path for path in named_modules(model, Linear) if is_compressible(path)} - reached
    if family in POST_NORM:
        with pytest.raises(ConfigError, match="inner=True"):
            Smooth()(model, calibration)
        return
    if family == "modernbert":  # its layer 0 has no attention norm
        others -= {f"layers.0.attention.{name}" for name in ("query", "key", "value")}
    assert all(path.endswith((".output", ".down")) or "encoder.layers" in path for path in others)
    wanted = outputs(model, calibration)
    left_out = readers[0][1][0]
    smooth = Smooth()(model, calibration)
    broken = map_modules(
        lambda path, linear: named_modules(model)[path] if path == left_out else linear, smooth, Linear
    )
    assert_outputs(outputs(smooth, calibration), wanted, rtol=1e-4, atol=1e-4)
    assert any(np.max(np.abs(a - b)) > 1e-3 for a, b in zip(outputs(broken, calibration), wanted, strict=True))


def test_inner_pairs_are_exact_with_shared_heads_and_biases():
    model = in_float64(tiny_model())
    calibration = tiny_calibration(model)
    smooth = Smooth(alpha=0.7, inner=True)(model, calibration)
    pairs = inner_pairs(model)
    assert {producer.split(".")[-1] for producer, _, _ in pairs} == {"value", "up"} and pairs[0][2][1] == 2
    for producer, consumer, _ in pairs:
        for path in (producer, consumer):
            assert np.any(named_modules(smooth)[path].weight != named_modules(model)[path].weight)
    tokens = np.arange(10)[None]
    np.testing.assert_allclose(smooth(tokens), model(tokens), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("experts", [0, 3])
def test_injected_outliers_break_integer_products_and_both_remedies_restore_them(experts):
    plain = tiny_model(experts)
    model, calibration = inject_outliers(plain, [3, 8], 100.0), tiny_calibration(plain)
    integers = Quantize(dynamic_activations=True)
    remedies = ((QuantizeOutlierAware(6.0),), (Smooth(), integers))
    broken = output_error(model, calibration, integers)
    decomposed, smoothed = (output_error(model, calibration, *steps) for steps in remedies)
    assert smoothed < broken / 3 and decomposed < broken / 3


@given(drawn(), st.sampled_from(sorted(STEPS)))
@settings(max_examples=40)
def test_every_step_works_on_every_family_and_is_saved_bit_for_bit(case, name):
    model = case.model()
    calibration = calibrated(model)
    before = {path: array.copy() for path, array in named_arrays(model).items()}
    smaller, _ = compress(model, [STEPS[name]], calibration)
    for path, array in named_arrays(model).items():
        np.testing.assert_array_equal(array, before[path])
    kinds = {"outlier aware": OutlierLinear, "gptq, 8 bits": QuantizedLinear, "levels": CodebookLinear}
    kind = StaticQuantizedLinear if name.startswith("static") else kinds.get(name, PackedLinear)
    after = named_modules(smaller)
    for path in named_modules(model, Linear):
        expected = Linear if path.endswith(".router") else kind if is_compressible(path) else QuantizedLinear
        assert type(after[path]) is expected, path
    assert not named_modules(smaller, Embedding) and named_modules(smaller, QuantizedEmbedding)
    wanted = outputs(smaller, calibration)
    assert all(np.all(np.isfinite(output)) for output in wanted)
    with tempfile.TemporaryDirectory() as directory:
        save_model(Path(directory) / "saved", smaller)
        again = load_model(Path(directory) / "saved")
    assert_same_model(again, smaller)
    assert_outputs(outputs(again, calibration), wanted, rtol=0, atol=0)


@given(drawn())
def test_threshold_zero_leaves_the_blocks_exact_on_the_calibration_documents(case):
    model = case.model()
    calibration = calibrated(model)
    exact, _ = compress(model, [QuantizeOutlierAware(0.0)], calibration)
    layers, before = named_modules(exact, OutlierLinear), named_modules(model)
    maxima = input_maxima(model, calibration.sample(), set(layers))
    for path, layer in layers.items():
        occurs = maxima[path] > 0
        np.testing.assert_array_equal(layer.columns, np.flatnonzero(occurs))
        np.testing.assert_array_equal(layer.dense_weight()[:, occurs], before[path].weight[:, occurs])


def test_an_infinite_threshold_is_quantize_with_integer_products():
    model = tiny_model()
    calibration = tiny_calibration(model)
    plain, _ = compress(model, [Quantize(dynamic_activations=True)], calibration)
    decomposed, _ = compress(model, [QuantizeOutlierAware(np.inf)], calibration)
    tokens = np.arange(10)[None]
    np.testing.assert_allclose(decomposed(tokens), plain(tokens), rtol=1e-4, atol=1e-4)


def test_gptq_sees_the_inputs_that_the_blocks_before_leave():
    """The last block's codes are those of GPTQ with the Hessian of the model whose earlier blocks are quantized."""
    model = tiny_model()
    calibration = tiny_calibration(model)
    step = QuantizeGPTQ(bits=3)
    rounded, _ = compress(model, [step], calibration)
    blocks = paths_by_block(model)
    assert list(blocks) == ["layers.0", "layers.1", "layers.2"] and all(len(paths) == 7 for paths in blocks.values())
    last = blocks["layers.2"]

    def dense_again(path, layer):  # embeddings and the last block as they were
        return named_modules(model)[path] if path in last or not is_compressible(path) else layer

    half = map_modules(dense_again, rounded, PackedLinear | QuantizedLinear | QuantizedEmbedding)
    tasks = calibration.sample()
    for path, (products, _) in input_statistics(half, tasks, gram, paths=last).items():
        layer, weight = named_modules(rounded)[path], named_modules(model)[path].weight
        np.testing.assert_array_equal(layer.quantized_weight().codes, gptq(weight, products, bits=3).codes)
        dense_gram = input_statistics(model, tasks, gram, paths=[path])[path][0]
        assert np.any(gptq(weight, dense_gram, bits=3).codes != layer.quantized_weight().codes)


def test_gptq_beats_plain_rounding_and_more_bits_are_better():
    model = tiny_model()
    calibration = tiny_calibration(model)
    errors = {bits: output_error(model, calibration, QuantizeGPTQ(bits=bits)) for bits in (2, 3, 4, 8)}
    assert errors[8] < errors[4] < errors[3] < errors[2]

    def round_plainly(model, calibration, progress):
        def quantize(path, linear):
            array = gptq(linear.weight, np.eye(linear.in_features), bits=3)
            return Linear(array.dequantize(), linear.bias) if is_compressible(path) else linear

        return map_modules(quantize, model, Linear)

    plain = round_plainly(model, calibration, None)
    difference = np.concatenate(
        [(a - b).ravel() for a, b in zip(outputs(plain, calibration), outputs(model, calibration), strict=True)]
    )
    assert errors[3] < np.sqrt(np.mean(difference**2))


def test_an_expert_that_no_token_reached_is_rounded_plainly():
    model = tiny_model(experts=3)

    def away(path, mixture):  # from the last expert
        bias = np.array([0, 0, -1e9], np.float32)
        return mixture.replace(router=mixture.router.replace(bias=bias))

    model = map_modules(away, model, MixtureOfExperts)
    rounded, _ = compress(model, [QuantizeGPTQ(bits=8)], tiny_calibration(model))
    for path, layer in named_modules(rounded, QuantizedLinear).items():
        if ".experts.2." in path:
            weight = named_modules(model)[path].weight
            assert np.all(np.abs(layer.dense_weight() - weight) <= layer.scale * 0.501)


@pytest.mark.parametrize("dynamic_activations", [False, True])
def test_training_brings_a_rounded_model_nearer_to_its_teacher(dynamic_activations):
    model = tiny_model()
    calibration = tiny_calibration(model)

    def loss(steps):
        step = TrainQuantized(steps=steps, bits=2, dynamic_activations=dynamic_activations, learning_rate=3e-3)
        trained, _ = compress(model, [step], calibration)
        layers = named_modules(trained, PackedLinear).values()
        assert len(layers) == 21 and all(layer.dynamic_activations == dynamic_activations for layer in layers)
        assert all(np.abs(layer.quantized_weight().codes).max() <= 1 for layer in layers)
        return distillation_loss(calibration, Distill(1))(trained, *calibration.rows())

    assert loss(60) < 0.7 * loss(1)


def test_compressed_models_are_refused():
    model = tiny_model()
    calibration = tiny_calibration(model)
    quantized, _ = compress(model, [Quantize()], calibration)
    for step in (Smooth(), *STEPS.values()):
        with pytest.raises(ConfigError, match="QuantizedLinear already"):
            compress(quantized, [step], calibration)


@pytest.mark.parametrize(
    "step, setting, value, message",
    [
        (Quantize(bits=4), "bits", 9, "bits must be a whole number from 2 to 8, found 9"),
        (Quantize(bits=4), "in_features", 7, "in_features is 7, expected 16"),
        (
            Quantize(bits=4, group_size=4),
            "dynamic_activations",
            True,
            "dynamic activation quantization needs one scale per row, found 4",
        ),
        (QuantizeFormat(block_size=4), "in_features", 7, "in_features is 7, expected 16"),
        (QuantizeFormat(block_size=4), "block_size", 0, "block_size must be at least 1, found 0"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_named(tmp_path, step, setting, value, message):
    """The message names the file, the layer and the setting."""
    save_model(tmp_path / "model", step(tiny_model()))
    config = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    config["tinyslm"]["replaced"]["layers.0.attention.query"][setting] = value
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ConfigError, match=f"config.json.*layers.0.attention.query: {message}"):
        load_model(tmp_path / "model")


def test_settings_that_do_not_fit_the_model_are_refused():
    model = tiny_model()
    for step, message in (
        (Quantize(bits=9), "bits must be"),
        (Quantize(bits=4, group_size=5), "group_size must divide"),
        (Quantize(group_size=4, dynamic_activations=True), "leave out group_size"),
        (QuantizeFormat("nf5"), "format is 'nf5', expected one of nf4, fp4"),
        (QuantizeFormat(block_size=0), "block_size must be"),
        (QuantizeStatic("largest"), "method is 'largest', expected one of min_max"),
    ):
        with pytest.raises(Error, match=message):
            step(model, tiny_calibration(model))


@pytest.mark.parametrize(
    "step",
    [
        Quantize(bits=4, group_size=5),
        QuantizeGPTQ(group_size=5),
        PruneMagnitude(0.8, pattern="1:5"),
        PruneWanda(0.8, "1:5"),
        PruneSparseGPT(0.8, "1:5"),
        StoreSparse("1:5"),
    ],
    ids=lambda step: type(step).__name__,
)
def test_groups_that_do_not_divide_a_row_are_one_kind_of_error_that_names_the_layer(step):
    model = tiny_model()
    with pytest.raises(DataError, match=r"^layers\.0\.attention\.query: .*\b5\b.*"):
        step(model, tiny_calibration(model))


def test_an_invalid_setting_is_not_blamed_on_a_layer():
    model = tiny_model()
    with pytest.raises(ConfigError, match=r"^bits must be"):
        QuantizeGPTQ(bits=9)(model, tiny_calibration(model))


@pytest.mark.parametrize("width", [12, 40, 66, 130])
def test_the_default_blocks_fit_rows_of_every_length(width, tmp_path):
    """The last block of a row is shorter: each block has its own scale, and the layer is saved bit for bit."""
    model = random_model(llama_shape(50, width, 24, 1, 1, 1, 20))
    small = QuantizeFormat()(model)
    layer = small.layers[0].attention.query
    assert layer.block_size == 64 and layer.scales().shape == (width, -(-width // 64))
    weight = model.layers[0].attention.query.weight
    largest = [np.abs(weight[:, start : start + 64]).max(axis=1) for start in range(0, width, 64)]
    step = np.ptp(largest) / 127  # of the scales, which are rounded to 8 bits around their mean
    np.testing.assert_allclose(layer.scales(), np.transpose(largest), rtol=0, atol=step)
    save_model(tmp_path / "model", small)
    np.testing.assert_array_equal(
        load_model(tmp_path / "model").layers[0].attention.query.dense_weight(), layer.dense_weight()
    )


def test_fixed_ranges_are_those_of_the_calibration_documents():
    """They cover the inputs of all calibration documents; with the ranges of two documents the error is larger."""
    model = tiny_model()
    calibration = tiny_calibration(model)
    static, _ = compress(model, [QuantizeStatic()], calibration)
    for path, layer in named_modules(static, StaticQuantizedLinear).items():
        lowest, highest = input_statistics(
            model, calibration.sample()[:32], lambda rows: np.array([rows.min(), -rows.max()]), combine=np.minimum
        )[path][0] * [1, -1]
        np.testing.assert_allclose(layer.input_scale, (highest - lowest) / 255, rtol=1e-5)
        assert layer.input_zero_point == np.round(-128 - lowest / layer.input_scale)
    with_two = output_error(model, calibration, QuantizeStatic(documents=2))
    assert output_error(model, calibration, QuantizeStatic()) < with_two
