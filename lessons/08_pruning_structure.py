# %% [markdown]
# # Pruning structure
#
# Zero weights alone make a model neither smaller nor faster (lesson 07). Structured pruning removes whole units:
# neurons, attention heads, channels, layers. The result is an ordinary model with smaller arrays. **Which arrays must
# be sliced together, which units are least important, and is it better to reduce the width or the depth?**

# %%
from diagrams import structured_slicing

structured_slicing()

# %% [markdown]
# The removal of one neuron from a feed-forward layer. The three arrays are coupled: if only one of them is sliced, the
# shapes do not match.
#
# After this lesson you can
#
# - slice the coupled arrays of neurons, heads and channels, and check the result against masking;
# - rank units by importance, and explain why the weight norm can be a poor measure;
# - compare width and depth pruning in loss, memory and speed.
#
# You need: lesson 02 (the transformer block), lesson 06 (distillation), lesson 07 (masks).
#
# ## The dense model

# %%
from setup_lesson import np, plt, show, show_floor, summary, tinyslm, town_corpus, validation_loss
from tinyslm.evaluation.parameters import parameters_by_part
from tinyslm.recipes import Calibration

model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=200, validation=40)
calibration = Calibration(corpus.training, model, statistics_documents=48)
print(summary({"dense": model}, corpus))
print()
for part, count in parameters_by_part(model).items():
    print(f"{part:13} {count:9,}  {count / tinyslm.footprint(model).parameters:.0%}")

# %% [markdown]
# The output shows the baseline and its parameters by part. Most parameters are in the feed-forward layers, so most can
# be removed there.
#
# ## The importance of neurons
#
# A feed-forward layer computes `down(silu(gate(x)) * up(x))`. The F intermediate numbers per token are its *neurons*. A
# simple measure of a neuron's importance is its mean absolute activation on calibration text, times the norm of its
# column of `down`. The importance in every layer, sorted:

# %%
from setup_lesson import show_lines, use_powers
from tinyslm.recipes.pruning.neurons import neuron_scores

scores = neuron_scores(model, calibration, "activation")  # {path of a feed-forward layer: (F,)}
figure, axes = plt.subplots()
curves = {path.removesuffix(".feed_forward").replace("layers.", "layer "): np.sort(values)[::-1]
          for path, values in scores.items()}  # fmt: skip
show_lines(axes, curves, "neurons, sorted", "|activation| times |down|")
use_powers(axes, "y")
show(
    "Line chart of the importance of the neurons of each of six layers, sorted, on a "
    "logarithmic axis. Every curve falls gradually after a few large values; none approaches "
    "zero."
)
for name, values in curves.items():
    half = values[len(values) // 2 :].sum() / values.sum()
    print(f"{name}: the less important half of the neurons has {half:.0%} of the importance")

# %% [markdown]
# The importance differs between neurons, but it decreases gradually; no group of neurons has importance near zero.
#
# ## The idea: coupled arrays
#
# Neuron j is computed by *row* j of `up` and of `gate`, and used by *column* j of `down` (the first figure). An example
# with 4 by 4 matrices; neuron 2, framed, is removed:

# %%
from setup_lesson import show_matrix
from tinyslm.compression.pruning import slice_neurons

rng = np.random.default_rng(1)
up, gate, down = (np.round(rng.normal(size=(4, 4)), 1) for _ in range(3))
keep = np.array([0, 1, 3])
small_up, small_down, small_gate = slice_neurons(up, down, gate, keep)
figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.4))
matrices = {"up": up, "up, sliced": small_up, "down": down, "down, sliced": small_down}
for panel, (name, matrix) in zip(axes, matrices.items()):
    show_matrix(panel, matrix, f"{name}: {matrix.shape[0]} x {matrix.shape[1]}", limit=2)
axes[0].add_patch(plt.Rectangle((-0.46, 1.5), 3.92, 1, fill=False, linewidth=2.5))
axes[2].add_patch(plt.Rectangle((1.5, -0.46), 1, 3.92, fill=False, linewidth=2.5))
show(
    "Four matrices: up and down before and after slicing. A frame marks the row of up and the "
    "column of down that are missing in the sliced matrices; all other numbers are the same."
)

# %% [markdown]
# The output still has four numbers, so the rest of the model does not change. The sliced layer computes exactly the
# same as the original layer with the neuron set to zero:

# %%
from scipy.special import expit

x = rng.normal(size=4)


def feed_forward(up, down, gate, mask=1.0):
    """down(silu(gate(x)) * up(x) * mask); mask: 0 for a neuron that is set to zero."""
    g = gate @ x
    return down @ (g * expit(g) * (up @ x) * mask)


print("neuron 2 set to zero", np.round(feed_forward(up, down, gate, np.array([1, 1, 0, 1])), 3))
print("neuron 2 removed    ", np.round(feed_forward(small_up, small_down, small_gate), 3))
try:
    slice_neurons(small_up, down, small_gate, np.array([0, 1]))
except tinyslm.Error as error:
    print(f"`down` was not sliced: {error}")

# %% [markdown]
# The last line shows the error if one of the coupled arrays is not sliced: the shapes do not match. If an array is
# sliced by *different* indices, the shapes match and the results are wrong without an error.
#
# ## The library's functions

# %%
from setup_lesson import numbered_source
from tinyslm.compression.pruning import neuron_importance

print(numbered_source(slice_neurons))
print()
print(numbered_source(neuron_importance))

# %% [markdown]
# `take_outputs` selects rows of the weight and entries of the bias; `take_inputs` selects columns. The bias of `down`
# does not belong to a neuron and is kept. The indices must be ascending, so that the order of the neurons is preserved,
# and a sliced model can be compared with a masked one. In a model, `intermediate_size` in the configuration is reduced
# too: a checkpoint whose configuration does not match its arrays cannot be loaded. The step for models is in
# `tinyslm/recipes/pruning/neurons.py`.
#
# **In a debugger**: set a breakpoint at the last line of `slice_neurons` in `tinyslm/compression/pruning/neurons.py`.
# Inspect `keep`, and the shapes of `up`, `down` and `gate` before and after `take_outputs` and `take_inputs`.
#
# ## Importance measures
#
# `neuron_importance` has three measures, and the library several more (`tinyslm/compression/pruning/importance.py`).
# *Taylor* importance estimates from the gradient how much the loss changes without a neuron. *Random* scores are the
# baseline. The next cell removes a fifth of the neurons, without training:

# %%
from setup_lesson import show_bars
from tinyslm.recipes import SliceNeurons

methods = ("activation", "taylor_element", "taylor_vector", "random", "peak_to_peak", "magnitude")
losses = {
    method: validation_loss(SliceNeurons(0.8, method)(model, calibration), corpus)
    for method in methods
}
dense = validation_loss(model, corpus)
figure, axes = plt.subplots()
increase = np.array([*losses.values()]) - dense
show_bars(axes, {"increase of the loss": increase}, list(losses), "nats per token")
show(
    "Bars of the increase of the loss for six importance measures. Four are low, among them the "
    "activation and the weight magnitude; Taylor importance by vector and random are far higher."
)
for method, nats in losses.items():
    print(f"{method:15} loss {nats:.3f}")

# %% [markdown]
# Four measures increase the loss little, and the weight norm (`magnitude`), which needs no data, is one of them.
# `taylor_vector` sums the products of weights and gradients before it takes the magnitude, so that they can cancel; it
# is hardly better than random. Ma, Fang & Wang (2023) found another order for large models: LLaMA-7B without 20 % of its
# parameters and without training had a perplexity of 27.5 with random choice, 582 with the L2 norm, and 19.1 with Taylor
# importance by element.
#
# So the norm can be a good measure or a very bad one. It is not invariant to rescaling that preserves the function:
# multiply a neuron's row of `up` by 10 and divide its column of `down` by 10.

# %%
layer = model.layers[2].feed_forward
factors = np.ones(layer.up.out_features, np.float32)
factors[np.argsort(scores["layers.2.feed_forward"])[:50]] = 10  # the 50 least important
rescaled = {"up": layer.up.weight * factors[:, None], "down": layer.down.weight / factors}
trace = tinyslm.trace(model, corpus.validation[0][None])
neurons = trace["layers.2.feed_forward.neurons"][0]  # (T, F)
after = (neurons * factors) @ rescaled["down"].T
print(
    f"the layer computes the same: {np.allclose(neurons @ layer.down.weight.T, after, atol=1e-4)}"
)
original = {"up": layer.up.weight, "down": layer.down.weight}
activation = {"method": "activation", "mean_activation": np.mean(np.abs(neurons), axis=0)}
activation_rescaled = activation | {"mean_activation": activation["mean_activation"] * factors}
gate = {"gate": layer.gate.weight}
measures = {
    "magnitude": [neuron_importance(**each, **gate) for each in (original, rescaled)],
    "activation": [
        neuron_importance(**original, **activation),
        neuron_importance(**rescaled, **activation_rescaled),
    ],
}
for name, pair in measures.items():
    kept = [set(np.argsort(-each)[:409]) for each in pair]  # 80 % of 512
    print(f"{name:10} of the 409 neurons to keep, {len(kept[0] & kept[1])} are the same as before")

# %% [markdown]
# ## Heads
#
# In attention the units are heads. In this model 8 query heads share 4 key/value heads in pairs (grouped-query
# attention, lesson 02). The index of a query head determines its key/value head. Therefore query heads can only be
# removed if every group loses the same number; or a key/value head is removed together with all its query heads
# (`tinyslm/compression/pruning/heads.py`, `tinyslm/recipes/pruning/heads.py`). The mean size of each head's output on
# calibration text:

# %%
from tinyslm.compression.pruning import slice_heads
from tinyslm.recipes.pruning.heads import head_parts, head_scores

of_heads = head_scores(model, calibration, "minitron", head_parts(model.config.head_dim))
table = np.array([*of_heads.values()])  # (layers, H)
figure, axes = plt.subplots(figsize=(6, 2.8))
percent = 100 * table / table.sum(axis=1, keepdims=True)
layers = [f"layer {i}" for i in range(len(table))]
heads = [f"head {h}\ngroup {h // 2}" for h in range(8)]
show_matrix(axes, percent, "share of the layer's output, %", "{:.0f}", layers, heads)
show(
    "Matrix of the share of each head (column) in the output of its layer (row), in percent. "
    "Most shares are similar; only a few heads have a clearly larger one."
)
attention = model.layers[0].attention
try:
    slice_heads(attention.query, attention.output, np.arange(7), groups=4, head_dim=32)
except tinyslm.Error as error:
    print(f"without head 7 only: {error}")

# %% [markdown]
# ## Channels
#
# A *channel* is one of the C numbers of the residual stream. Every array that reads or writes the residual stream has
# an axis of length C: the embedding, all projections, all norms. Removing a channel slices all of them
# (`tinyslm/compression/pruning/channels.py`, `tinyslm/recipes/pruning/channels.py`):

# %%
from tinyslm.recipes.pruning.channels import channel_axes

for path, axes_of_array in channel_axes(model.config).items():
    if path.startswith(("embedding", "layers.0.", "norm")):
        shape = tinyslm.named_arrays(model)[path].shape
        names = ("rows", "columns") if len(shape) == 2 else ("entries",)
        cuts = ", ".join(names[axis] for axis in axes_of_array)
        print(f"{path:36} {shape!s:11} loses {cuts or 'nothing'}")

# %% [markdown]
# The norms need a correction. RMS norm divides by the root of the *mean* square. If channels with value zero are
# removed, the mean of the others is larger than before. The gain and eps are rescaled to compensate:

# %%
from tinyslm.compression.pruning import slice_rms_norm
from tinyslm.ops import rms_norm

state = np.array([[2.0, -1.0, 0.5, 0.0]])  # the last channel is zero
gain, keep = np.array([1.0, 1.5, 0.5, 2.0]), np.array([0, 1, 2])
new_gain, new_eps = slice_rms_norm(gain, 1e-5, keep)
print("whole              ", np.round(rms_norm(state, gain, 1e-5)[0], 3))
print("sliced only        ", np.round(rms_norm(state[:, keep], gain[keep], 1e-5)[0], 3))
print("sliced, corrected  ", np.round(rms_norm(state[:, keep], new_gain, new_eps)[0], 3))

# %% [markdown]
# ## Layers
#
# A block adds its output to the residual stream. If the output is small, the direction of the hidden state changes
# little, and the block can be removed. *Block influence* is one minus the cosine of the angle between the hidden states
# before and after the block (Men et al. 2024; `tinyslm/compression/pruning/layers.py`,
# `tinyslm/recipes/pruning/layers.py`). The right figure shows the measured loss without each layer:

# %%
from tinyslm.recipes import KeepLayers
from tinyslm.recipes.pruning.layers import influences

influence = influences(model, calibration.sample())[""]
count = len(model.layers)
others = [tuple(j for j in range(count) if j != i) for i in range(count)]
without = [validation_loss(KeepLayers(kept)(model), corpus) for kept in others]
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
names = [str(i) for i in range(count)]
show_bars(left, {"influence": influence}, names, "block influence")
left.set_xlabel("layer")
increase = np.array(without) - dense
show_bars(right, {"increase": increase}, names, "increase of the loss, nats per token")
right.set_xlabel("removed layer")
use_powers(right, "y")
show(
    "Two bar charts over the six layers: block influence, and the increase of the loss without "
    "the layer. In both the first layer has by far the highest bar, and the last layer the "
    "second highest."
)
for i in range(count):
    print(f"layer {i}: influence {influence[i]:.3f}, loss without it {without[i]:.3f}")

# %% [markdown]
# The first layer is indispensable: it converts token embeddings into the hidden states that the other layers process.
# The last layer is next in both. For the middle layers, the two orders agree only roughly: the layer with the smallest
# influence is not the one whose removal costs least.
#
# ## Sensitivity of the units
#
# Neurons, heads, groups of heads, channels and layers, each removed alone in several amounts, without training:

# %%
from tinyslm.recipes import DropLayers, SliceChannels, SliceGroups, SliceHeads

scan = {
    "neurons": [SliceNeurons(ratio) for ratio in (0.9, 0.75, 0.6, 0.5)],
    "query heads": [SliceHeads(0.5)],
    "groups of heads": [SliceGroups(ratio) for ratio in (0.75, 0.5)],
    "channels": [SliceChannels(ratio) for ratio in (0.95, 0.9, 0.8)],
    "layers": [DropLayers(1), DropLayers(2)],
}
dense_size = tinyslm.footprint(model).parameters
figure, axes = plt.subplots(figsize=(6.4, 3.8))
for (unit, steps), marker in zip(scan.items(), "osD^v"):
    sliced = [step(model, calibration) for step in steps]
    sizes = [100.0, *(100 * tinyslm.footprint(each).parameters / dense_size for each in sliced)]
    nats = [dense, *(validation_loss(each, corpus) for each in sliced)]
    axes.plot(sizes, nats, marker=marker, label=unit)
    cells = (f"  {size:3.0f} %: {each:.3f}" for size, each in zip(sizes[1:], nats[1:]))
    print(f"{unit:16}" + "".join(cells))
show_floor(axes, corpus.floor.nats)
axes.set(xlabel="parameters kept, %", ylabel="loss, nats per token")
axes.legend(fontsize=8)
show(
    "Line chart of the loss against the parameters kept, for five kinds of units. The curve of "
    "the neurons is the lowest; those of query heads and groups of heads rise steeply."
)

# %% [markdown]
# For the same number of parameters, removing neurons increases the loss least in this model, and removing heads most:
# attention has fewer parameters, and all heads contribute (see the figure of the heads). Muralidharan et al. (2024)
# also recommend to prune feed-forward layers first.
#
# ## Width or depth, with distillation
#
# Two models of nearly the same size: one without two layers, one with all layers but fewer neurons per layer. Both are
# trained by the same short distillation from the dense model:

# %%
from tinyslm.recipes import Distill, compress

distill = Distill(steps=16, learning_rate=5e-4, batch_size=10)
shallow, _ = compress(model, [DropLayers(2)], calibration)
removed = dense_size - tinyslm.footprint(shallow).parameters
ratio = 1 - removed / parameters_by_part(model)["feed-forward"]
narrow, _ = compress(model, [SliceNeurons(ratio)], calibration)
models = {
    "dense": model,
    "4 layers": shallow,
    "4 layers, distilled": compress(shallow, [distill], calibration)[0],
    "narrow": narrow,
    "narrow, refitted": compress(model, [SliceNeurons(ratio, refit=True)], calibration)[0],
    "narrow, distilled": compress(narrow, [distill], calibration)[0],
}
print(f"the narrow model keeps {ratio:.1%} of the neurons")
print(summary(models, corpus))

# %% [markdown]
# "Refitted" needs no training: the remaining columns of `down` are computed by least squares, so that the layer's
# output on the calibration text is as close as possible to the original output. At this size the narrow model has the
# lower loss, before and after distillation. For a large model the order was the same: Llama-3.1-8B, reduced by half and
# trained again, reached 60.5 in MMLU with reduced width and 58.7 with reduced depth (Sreenivas et al. 2024, table 1).
#
# ## Measured memory and speed
#
# The table above shows the memory: it decreases with the parameters, without a special format. The next cell measures
# the speed. "Half zeros" is the dense model with half of its weights set to zero (lesson 07):

# %% tags=["measured"]
from tinyslm.evaluation.latency import measure_speeds
from tinyslm.recipes import FoldMasks, PruneMagnitude

timed = {
    "dense": model,
    "half zeros": FoldMasks()(PruneMagnitude(0.5)(model, calibration)),
    "narrow": models["narrow, distilled"],
    "4 layers": models["4 layers, distilled"],
}
speeds = measure_speeds(list(timed.values()), prompt_length=128, new_tokens=24, rounds=7)
print("tokens per second     prompt    generation")
for name, (prompt, generation) in zip(timed, speeds):
    print(f"{name:18} {prompt.median:10,.0f} {generation.median:13,.0f}")

# %% [markdown]
# Both sliced models are faster than the dense one; the model with zeros is not. For a single token of this small model,
# a large part of the time is the overhead of the Python calls. Fewer layers mean fewer calls and fewer products, fewer
# neurons only smaller products. Depth pruning therefore reduces the latency more, although width pruning has the lower
# loss.
#
# ## Questions
#
# **Is the sliced model equal to the masked one?** Yes, up to rounding:

# %%
from tinyslm.compression.pruning import most_important
from tinyslm.modules import FeedForward
from tinyslm.tree import map_modules

kept = {path: most_important(values, 256) for path, values in scores.items()}


def mask_neurons(path, layer):
    """The layer with columns of zeros in `down` for all neurons that are not kept."""
    weight = np.zeros_like(layer.down.weight)
    weight[:, kept[path]] = layer.down.weight[:, kept[path]]
    return layer.replace(down=layer.down.replace(weight=weight))


masked = map_modules(mask_neurons, model, FeedForward)
sliced = SliceNeurons(0.5)(model, calibration)
text = corpus.validation[0][None]
print(f"the same logits: {np.allclose(masked(text), sliced(text), atol=1e-3)}")
for name, each in {"masked": masked, "sliced": sliced}.items():
    size = each.config.intermediate_size
    print(f"{name}: {tinyslm.footprint(each).parameters:,} parameters, intermediate_size {size}")

# %% [markdown]
# **Can a model be pruned twice?** Yes. But the importance must be measured again on the pruned model, because it
# changes. Every step returns an ordinary model, so any other step can follow.
#
# **Why not train a small model from random weights?** A pruned model starts with trained weights. With as few training
# steps as here, a model with random weights is much worse:

# %%
from dataclasses import replace

from tinyslm.models import random_model

initial = random_model(replace(model.config, intermediate_size=narrow.config.intermediate_size))
from_scratch, _ = compress(initial, [replace(distill, learning_rate=2e-3)], calibration)
print(f"from random weights {validation_loss(from_scratch, corpus):.2f}, "
      f"pruned {validation_loss(models['narrow, distilled'], corpus):.2f}")  # fmt: skip

# %% [markdown]
# ## Summary
#
# - Removing a unit slices all coupled arrays by the same indices; the sliced model equals the masked one up to
#   rounding.
# - The weight norm is not invariant to rescaling, so it can be a poor measure of importance. Here it is a good one: with
#   a fifth of the neurons removed, the losses were 0.703 (activation), 0.702 (magnitude) and 0.753 (random).
# - For the same number of parameters, removing neurons increased the loss least.
# - With 70 % of the parameters the narrow model had a loss of 0.792 after distillation, the model with four layers
#   0.903; the model with four layers is faster.
#
# The code: `tinyslm/compression/pruning/neurons.py`, `tinyslm/compression/pruning/heads.py`,
# `tinyslm/compression/pruning/channels.py`, `tinyslm/compression/pruning/layers.py`, and files of the same names in
# `tinyslm/recipes/pruning/`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("neuron-slicing")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Distill the six models of "Importance measures" with 20 steps each. How large are the differences then?
# 2. `SliceChannels(0.8)` with and without the correction of the norms: remove the line in a copy of `with_channels`,
#    and compare the losses. Then distill both.
# 3. Remove two layers one after the other, and measure the influence again in between. Are they the same two layers as
#    with `DropLayers(2)`?
#
# ## Sources
#
# - Li et al. 2017, *Pruning filters for efficient convnets*: whole units by their norm.
# - Ma, Fang & Wang 2023, *LLM-Pruner*: coupled structures, Taylor importance, results of the norm.
# - Muralidharan et al. 2024, *Compact language models via pruning and knowledge distillation* (Minitron): activations
#   as importance; Sreenivas et al. 2024, *LLM pruning and distillation in practice: the Minitron approach*: width and
#   depth.
# - Men et al. 2024, *ShortGPT*: block influence.
