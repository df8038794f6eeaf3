"""Slices of every unit on every family: they equal masked models, and the configuration has the new sizes."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
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
from tests.strategies import generic_model
from tinyslm.checkpoints import load_model, save_model
from tinyslm.compression.pruning import layer_importance, most_important
from tinyslm.errors import ConfigError
from tinyslm.models import shape_model
from tinyslm.modules import Attention, Block, CrossAttention, FeedForward, RMSNorm
from tinyslm.recipes import DropLayers, KeepLayers, SliceChannels, SliceGroups, SliceHeads, SliceNeurons
from tinyslm.recipes.pruning.channels import CHANNEL_METHODS, channel_axes, channel_scores, first_readers
from tinyslm.recipes.pruning.heads import HEAD_METHODS, group_parts
from tinyslm.recipes.pruning.layers import LAYER_METHODS, layer_scores, layer_states
from tinyslm.recipes.pruning.neurons import NEURON_METHODS, neuron_scores
from tinyslm.recipes.statistics import input_grams, mean_gradients
from tinyslm.tree import map_arrays, map_modules, named_arrays, named_modules

GROUPED = (
    "granite",
    "gemma2",
    "gemma3_text",
    "llama",
    "ministral",
    "mistral",
    "mixtral",
    "olmo2",
    "phi",
    "phi3",
    "qwen3",
    "smollm3",
)
ratios = st.floats(0.1, 0.9)


def with_heads(case, heads, groups):
    """The drawn case with other numbers of heads, where its family can count key/value heads."""
    sizes = {"num_attention_heads": heads, "num_key_value_heads": groups}
    return case._replace(config=replace(case.config, **sizes))


def masked_heads(model, sliced):
    """The model with zero columns in its output projections for the heads that the sliced model does not have.

    Norms over all heads together are those of the other heads.
    """
    D, small = model.config.head_dim, named_modules(sliced, Attention | CrossAttention)

    def silence(path, layer):
        heads = layer.output.weight.T.reshape(-1, D * layer.output.out_features)
        left = small[path].output.weight.T.reshape(-1, D * layer.output.out_features)
        kept = [np.flatnonzero((heads == head).all(axis=1))[0] for head in left]
        assert kept == sorted(set(kept))
        mask = np.repeat(np.isin(np.arange(len(heads)), kept), D).astype(np.float32)
        layer = layer.replace(output=layer.output.replace(weight=layer.output.weight * mask))
        if not getattr(layer, "joint_norms", False):
            return layer
        groups = layer.key.out_features // D
        key_mask = np.repeat(np.isin(np.arange(groups), np.array(kept) // (len(heads) // groups)), D)
        query, query_norm = silence_normalized(layer.query, layer.query_norm, mask)
        key, key_norm = silence_normalized(layer.key, layer.key_norm, key_mask.astype(np.float32))
        return layer.replace(query=query, query_norm=query_norm, key=key, key_norm=key_norm)

    def silence_normalized(linear, norm, mask):
        """Zero rows, and the norm of the other features: their mean square is larger by 1 / mean(mask)."""
        bias = None if linear.bias is None else linear.bias * mask
        linear = linear.replace(weight=linear.weight * mask[:, None], bias=bias)
        return linear, norm.replace(weight=norm.weight * np.sqrt(mask.mean()), eps=norm.eps * mask.mean())

    return map_modules(silence, model, Attention | CrossAttention)


@given(drawn(GROUPED), st.sampled_from([(6, 2), (4, 1), (3, 1)]), ratios, st.sampled_from(HEAD_METHODS))
def test_sliced_query_heads_equal_masked_heads(case, heads, ratio, method):
    model = with_heads(case, *heads).model()
    r = heads[0] // heads[1]
    count = max(1, round(ratio * r))
    assume(count < r)
    sliced, found, _ = apply(model, SliceHeads(ratio, method))
    assert sliced.config.num_attention_heads == count * heads[1]
    assert sliced.config.head_dim == model.config.head_dim and sliced.config.scale == model.config.scale
    assert_config_equals_shapes(sliced)
    assert_outputs(found, outputs(masked_heads(model, sliced), calibrated(model)), rtol=1e-3, atol=1e-3)


@given(drawn(), ratios, st.sampled_from(HEAD_METHODS))
def test_sliced_groups_equal_masked_groups(case, ratio, method):
    model = case.model()
    config = model.config
    count = max(1, round(ratio * config.num_key_value_heads))
    assume(count < config.num_key_value_heads)
    sliced, found, _ = apply(model, SliceGroups(ratio, method))
    r = config.num_attention_heads // config.num_key_value_heads
    assert (sliced.config.num_attention_heads, sliced.config.num_key_value_heads) == (r * count, count)
    assert sliced.config.head_dim == config.head_dim
    assert {layer.scale for layer in named_modules(sliced, Attention).values()} == {
        layer.scale for layer in named_modules(model, Attention).values()
    }
    assert_config_equals_shapes(sliced)
    assert_outputs(found, outputs(masked_heads(model, sliced), calibrated(model)), rtol=1e-3, atol=1e-3)


@given(drawn(), ratios, st.sampled_from(CHANNEL_METHODS))
def test_sliced_channels_equal_zero_channels_in_an_rms_model(case, ratio, method):
    model = case.model()
    sliced, found, _ = apply(model, SliceChannels(ratio, method))
    count = max(1, round(ratio * model.config.hidden_size))
    assert sliced.config.hidden_size == count
    assert_config_equals_shapes(sliced)
    norms = named_modules(sliced, RMSNorm).values()
    assert all(norm.eps == sliced.config.norm_eps for norm in norms)
    if model.config.norm != "rms":
        return
    keep = most_important(channel_scores(model, calibrated(model), method), count)
    axes = channel_axes(model.config)

    def silence(path, array):
        for axis in axes[path]:
            shape = [-1 if i == axis else 1 for i in range(array.ndim)]
            array = array * np.isin(np.arange(array.shape[axis]), keep).astype(array.dtype).reshape(shape)
        return array

    def shrink(path, norm):
        """With query and key norms eps is not corrected: it equals a smaller eps in the wider model."""
        corrected = not getattr(model.config, "query_key_norm", False) or path.endswith(("query_norm", "key_norm"))
        return norm if corrected else norm.replace(eps=norm.eps * count / model.config.hidden_size)

    masked = map_modules(shrink, map_arrays(silence, model), RMSNorm)
    assert_outputs(found, outputs(masked, calibrated(model)), rtol=3e-3, atol=3e-3)


@given(drawn())
def test_the_axes_of_channels_are_all_axes_of_this_width(case):
    """With a hidden_size that no other size equals, they are the axes of this size."""
    config = replace(case.config, hidden_size=997)
    arrays = named_arrays(shape_model(config))
    for path, axes in channel_axes(config).items():
        assert axes == tuple(i for i, size in enumerate(arrays[path].shape) if size == 997)


@pytest.mark.parametrize(
    ("family", "readers"),
    [
        ("llama", ("attention.query", "feed_forward.up")),
        ("gpt_neox", ("attention.query", "feed_forward.up")),
        ("phi", ("attention.query",)),
        ("mixtral", ("attention.query", "feed_forward.router")),
    ],
)
def test_every_norm_of_a_block_counts_once_for_channels(family, readers):
    expected = [f"layers.{i}.{name}" for i in range(2) for name in readers]
    assert first_readers(small_model(family)) == expected


@pytest.mark.parametrize("family", ["llama", "olmo2", "phi"])
def test_groups_of_heads_together_are_all_of_attention(family):
    """But the bias of the output, and norms that all heads share."""
    attention = small_model(family).layers[0].attention
    parts = group_parts(attention.query.out_features // 2, attention.head_dim)(attention)
    shared = ("output.bias",) if attention.joint_norms else ("output.bias", "query_norm", "key_norm")
    arrays = {path: array for path, array in named_arrays(attention).items() if not path.startswith(shared)}
    assert sum(part.size for part in parts) == sum(array.size for array in arrays.values())
    assert {len(part) for part in parts} == {2}


@given(drawn(), st.sampled_from(NEURON_METHODS), ratios, st.booleans())
def test_every_method_slices_its_least_important_neurons(case, method, ratio, refit):
    model = case.model()
    sliced, found, _ = apply(model, SliceNeurons(ratio, method, refit))
    assert_config_equals_shapes(sliced)
    count = max(1, round(ratio * model.config.intermediate_size))
    scores = neuron_scores(model, calibrated(model), method)
    small = named_modules(sliced, FeedForward)
    for path, layer in named_modules(model, FeedForward).items():
        keep = most_important(scores[path], count)
        np.testing.assert_array_equal(small[path].up.weight, layer.up.weight[keep])
        if not refit:
            np.testing.assert_array_equal(small[path].down.weight, layer.down.weight[:, keep])
    assert all(np.isfinite(each).all() for each in found)


@given(drawn(), ratios)
def test_a_refit_never_increases_the_output_error_of_the_first_layer(case, ratio):
    """Its inputs are those of the whole model; the error is measured with X^T X of the inputs of down."""
    model = case.model()
    calibration = calibrated(model)
    path, layer = next(iter(named_modules(model, FeedForward).items()))
    gram, _ = input_grams(model, calibration.sample())[f"{path}.down"]
    keep = most_important(neuron_scores(model, calibration, "activation")[path], max(1, round(ratio * len(gram))))

    def error(refit):
        sliced, _, _ = apply(model, SliceNeurons(ratio, "activation", refit))
        whole = np.zeros(layer.down.weight.shape)
        whole[:, keep] = named_modules(sliced, FeedForward)[path].down.weight
        difference = whole - layer.down.weight
        return np.trace(difference @ gram @ difference.T)

    assert error(True) <= error(False) * (1 + 1e-5) + 1e-9


@given(drawn([family for family in ALL_FAMILIES if family != "modernbert"]), st.sampled_from(LAYER_METHODS), st.data())
def test_dropped_layers_are_the_least_important(case, method, data):
    model = case.model()
    stacks = [stack for stack in layer_numbers(model) if stack is not None]
    count = data.draw(st.integers(0, min(map(len, stacks)) - 1))
    smaller, found, _ = apply(model, DropLayers(count, method))
    scores = layer_scores(model, calibrated(model), method)
    kept = [tuple(most_important(each, each.size - count)) for each in scores.values()]
    _, wanted, _ = apply(model, KeepLayers(*kept))
    assert_outputs(found, wanted, rtol=0, atol=0)
    assert_config_equals_shapes(smaller)


@given(drawn(["modernbert"]), st.sampled_from(LAYER_METHODS))
def test_layer_0_is_kept_where_it_alone_has_no_attention_norm(case, method):
    model = case.model()
    smaller, found, _ = apply(model, DropLayers(len(model.layers) - 1, method))
    _, wanted, _ = apply(model, KeepLayers((0,)))
    assert_outputs(found, wanted, rtol=0, atol=0)
    assert_config_equals_shapes(smaller)
    assert smaller.config.windows == model.config.windows[:1]


@given(drawn(["mpnet"]), st.sampled_from(HEAD_METHODS))
def test_the_layers_of_an_mpnet_keep_the_same_heads(case, method):
    """They share one table of relative positions, with one column per head."""
    model = case.model()
    sliced, found, _ = apply(model, SliceGroups(0.5, method))
    assert sliced.relative_positions.table.shape == (32, 2)
    assert_config_equals_shapes(sliced)
    assert_outputs(found, outputs(masked_heads(model, sliced), calibrated(model)), rtol=1e-3, atol=1e-3)


@given(drawn())
def test_influence_is_measured_on_the_input_and_output_of_each_layer(case):
    """The output of each layer is the input of the next."""
    model = case.model()
    if not hasattr(model, "layers"):
        return
    tasks = calibrated(model).sample()
    states = []
    for task in tasks:
        seen = {}
        model.hidden_states(**task.inputs, observe=seen.__setitem__)
        states.append(layer_states(seen, "", model.layers))
        if isinstance(model.layers[0], Block):
            last = model.norm(states[-1][-1])
            np.testing.assert_allclose(last, seen[f"hidden_states.{len(model.layers)}"][0], rtol=1e-4, atol=1e-4)
    joined = [np.concatenate(each) for each in zip(*states, strict=True)]
    found = layer_scores(model, calibrated(model), "influence")[""]
    np.testing.assert_allclose(found, layer_importance(joined), rtol=1e-6, atol=1e-7)


def idle(block):
    """The block with output and down at 0."""

    def silence(path, array):
        writes = path.startswith(("attention.output.", "feed_forward.down.", "cross_attention.output."))
        return np.zeros_like(array) if writes or ".down." in path else array

    return map_arrays(silence, block)


@pytest.mark.parametrize("family", [family for family in ALL_FAMILIES if "bert" not in family and family != "t5"])
def test_a_layer_with_zero_outputs_has_no_influence_and_is_removed_without_loss(family):
    model = small_model(family)
    model = model.replace(layers=[idle(model.layers[0]), model.layers[1]])
    influence = layer_scores(model, calibrated(model), "influence")[""]
    assert abs(influence[0]) < 1e-6 < influence[1]
    smaller, found, wanted = apply(model, DropLayers(1))
    assert len(smaller.layers) == 1
    assert_outputs(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ALL_FAMILIES)
@pytest.mark.parametrize("step", [SliceChannels(1.0), DropLayers(0), SliceNeurons(1.0, "random", refit=True)])
def test_nothing_removed_is_the_identity_bit_for_bit(family, step):
    model = small_model(family)
    same, found, wanted = apply(model, step)
    assert same.config == model.config
    assert_outputs(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("family", ALL_FAMILIES)
@pytest.mark.parametrize("step", [SliceHeads(1.0), SliceGroups(1.0)])
def test_all_heads_kept_is_the_identity_bit_for_bit(family, step):
    model = small_model(family)
    same, found, wanted = apply(model, step)
    assert same.config == model.config
    assert_outputs(found, wanted, rtol=0, atol=0)


STEPS = {
    "channels": SliceChannels(0.6),
    "groups": SliceGroups(0.5),
    "layers": DropLayers(1),
    "refit": SliceNeurons(0.5, "minitron", refit=True),
}


@pytest.mark.filterwarnings("ignore::tinyslm.errors.CheckpointWarning")
@pytest.mark.parametrize("family", ALL_FAMILIES)
@pytest.mark.parametrize("name", STEPS)
def test_a_saved_model_is_loaded_bit_for_bit(family, name):
    model = small_model(family)
    if name == "groups" and model.config.num_key_value_heads == 1:
        pytest.skip("one key/value head")
    smaller, wanted, _ = apply(model, STEPS[name])
    with tempfile.TemporaryDirectory() as directory:
        save_model(Path(directory) / "saved", smaller)
        again = load_model(Path(directory) / "saved")
    assert_same_model(again, smaller)
    assert_outputs(outputs(again, calibrated(model)), wanted, rtol=0, atol=0)


def test_ratios_that_remove_nothing_are_refused():
    one_group = replace(small_model("llama").config, num_key_value_heads=1)
    with pytest.raises(ConfigError, match="1 key/value heads removes none; SliceHeads"):
        apply(generic_model(one_group, 0, np.float32), SliceGroups(0.5))
    with pytest.raises(ConfigError, match="1 query heads per key/value head removes none; SliceGroups"):
        apply(small_model("bert"), SliceHeads(0.5))
    for step in (SliceChannels(0.5, "luck"), SliceHeads(0.5, "luck"), SliceNeurons(0.5, "luck"), DropLayers(1, "luck")):
        with pytest.raises(ConfigError, match="importance is 'luck'"):
            apply(small_model("llama"), step)
    for step in (SliceChannels(0.0), SliceHeads(1.5), SliceGroups(-1), SliceNeurons(0.0)):
        with pytest.raises(ConfigError, match="ratio"):
            apply(small_model("llama"), step)
    for count in (2, -1, 0.5):
        with pytest.raises(ConfigError, match="layers to drop"):
            apply(small_model("llama"), DropLayers(count))


@given(drawn(["llama", "gpt2", "t5", "mixtral"]))
def test_taylor_scores_of_neurons_come_from_the_gradients_of_the_documents(case):
    model = case.model()
    gradients = mean_gradients(model, calibrated(model).sample())
    scores = neuron_scores(model, calibrated(model), "taylor_element")
    for path, layer in named_modules(model, FeedForward).items():
        total = 0
        for name in ("up", "gate"):
            for field in ("weight", "bias"):
                array = getattr(getattr(layer, name), field, None)
                if array is not None:
                    products = np.abs(array * gradients[f"{path}.{name}.{field}"])
                    total = total + products.reshape(len(array), -1).sum(axis=1)
        total = total + np.abs(layer.down.weight * gradients[f"{path}.down.weight"]).sum(axis=0)
        np.testing.assert_allclose(scores[path], total, rtol=1e-4, atol=1e-9)
