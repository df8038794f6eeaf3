# %% [markdown]
# # Pruning structure
#
# Single weights that are zero make a model neither smaller nor faster (lesson 07). Here whole parts go: neurons,
# attention heads, channels, layers. What is left is an ordinary model with smaller arrays. Three questions: **what
# belongs together and must go together, which parts matter least, and is a narrow model or a shallow one the better
# choice?**
#
# You need: lesson 02 (what a block consists of), lesson 06 (recovery by distillation), lesson 07 (masks).

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.evaluation import measure_loss
from tinyslm.evaluation.parameters import parameters_by_part
from tinyslm.recipes import (
    Calibration,
    DropLayers,
    FoldMasks,
    KeepLayers,
    PruneMagnitude,
    Distill,
    SliceChannels,
    SliceGroups,
    SliceHeads,
    SliceNeurons,
    compress,
)
from tinyslm.reporting.pictures import (
    COLOURS,
    LINES,
    MARKERS,
    show_bars,
    show_floor,
    show_lines,
    show_matrix,
    use_lesson_style,
    use_powers,
)
from tinyslm.reporting.source import numbered_source
from tinyslm.reporting.summary import summary
from tinyslm.text.corpus import town_corpus

use_lesson_style()
model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=200, validation=40)
calibration = Calibration(corpus.training, model, statistics_documents=48)
print(summary({"dense": model}, corpus))
print()
for part, count in parameters_by_part(model).items():
    print(f"{part:13} {count:9,}  {count / tinyslm.footprint(model).parameters:.0%}")

# %% [markdown]
# That is the baseline, and where its parameters are. Most of them are in the feed-forward layers: that is where most
# can be saved.
#
# ## Look at the numbers
#
# A feed-forward layer computes `down(silu(gate(x)) * up(x))`. Between `up` and `down` there are F numbers per token,
# the *neurons*. How much do they matter? A simple measure: the mean magnitude of a neuron over some text, times the
# norm of the weights that carry it on. Sorted, for all layers:

# %%
from tinyslm.recipes.pruning.neurons import neuron_scores

scores = neuron_scores(model, calibration, "activation")  # {path of a feed-forward layer: (F,)}
figure, axes = plt.subplots()
curves = {path.removesuffix(".feed_forward").replace("layers.", "layer "): np.sort(values)[::-1]
          for path, values in scores.items()}  # fmt: skip
show_lines(axes, curves, "neurons, sorted", "|activation| times |down|")
use_powers(axes, "y")
plt.show()
for name, values in curves.items():
    half = values[len(values) // 2 :].sum() / values.sum()
    print(f"{name}: the less important half of the neurons has {half:.0%} of the importance")

# %% [markdown]
# The neurons are not alike, but there is no cliff either: each of them does something.
#
# ## The idea, on matrices of 4 by 4
#
# Neuron i is computed by *row* i of `up` (and of `gate`), and read by *column* i of `down`. These arrays are coupled:
# what one of them writes, another reads. So neuron 2, framed, goes from all of them:

# %%
from tinyslm.compression.pruning import slice_neurons

rng = np.random.default_rng(1)
up, gate, down = (np.round(rng.normal(size=(4, 4)), 1) for _ in range(3))
keep = np.array([0, 1, 3])
small_up, small_down, small_gate = slice_neurons(up, down, gate, keep)
figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.4))
for panel, (name, matrix) in zip(axes, {"up": up, "up, sliced": small_up, "down": down,
                                        "down, sliced": small_down}.items()):  # fmt: skip
    show_matrix(panel, matrix, f"{name}: {matrix.shape[0]} x {matrix.shape[1]}", limit=2)
axes[0].add_patch(plt.Rectangle((-0.46, 1.5), 3.92, 1, fill=False, linewidth=2.5))
axes[2].add_patch(plt.Rectangle((1.5, -0.46), 1, 3.92, fill=False, linewidth=2.5))
plt.show()

# %% [markdown]
# The output still has four numbers: what the layer gives to the rest of the model has the shape it had. Slicing
# computes exactly what the whole layer computes when the neuron is set to zero:

# %%
from scipy.special import expit

x = rng.normal(size=4)


def feed_forward(up, down, gate, switched_on=1.0):
    """down(silu(gate(x)) * up(x)); switched_on: 0 for a neuron that is set to zero."""
    g = gate @ x
    return down @ (g * expit(g) * (up @ x) * switched_on)


print("neuron 2 set to zero", np.round(feed_forward(up, down, gate, np.array([1, 1, 0, 1])), 3))
print("neuron 2 sliced away", np.round(feed_forward(small_up, small_down, small_gate), 3))
try:
    slice_neurons(small_up, down, small_gate, np.array([0, 1]))
except tinyslm.Error as error:
    print(f"`down` was forgotten: {error}")

# %% [markdown]
# The last line is what happens when one of the coupled arrays is forgotten: they no longer fit. That is the lucky
# case. If an array is sliced by *other* indices, everything fits and the results are wrong.
#
# ## The library's functions, taken apart

# %%
from tinyslm.compression.pruning import neuron_importance

print(numbered_source(slice_neurons))
print()
print(numbered_source(neuron_importance))

# %% [markdown]
# `take_outputs` takes rows and entries of the bias, `take_inputs` takes columns. The bias of `down` belongs to no
# neuron and stays. The indices must be ascending, so that the neurons keep their order, and a sliced model can be
# compared with a masked one number by number. In a model, `intermediate_size` in the configuration becomes smaller
# too: a checkpoint whose configuration does not agree with its arrays cannot be loaded.
#
# **In a debugger**: set a breakpoint at the last line of `slice_neurons` in
# `tinyslm/compression/pruning/neurons.py` and look at `keep` and at the shapes of `up`, `down` and `gate` before
# and after `take_outputs` and `take_inputs`.
#
# ## Which neurons?
#
# `neuron_importance` has three measures, and the library knows some more: *Taylor* estimates from the gradient how
# much the loss changes without a neuron, and *random* knows nothing and is the control. A fifth of the neurons goes,
# without any training:

# %%
methods = ("activation", "taylor_element", "taylor_vector", "random", "peak_to_peak", "magnitude")
found = {}
for method in methods:
    sliced = SliceNeurons(0.8, method)(model, calibration)
    found[method] = measure_loss(sliced, corpus.validation).nats
dense = measure_loss(model, corpus.validation).nats
figure, axes = plt.subplots()
show_bars(
    axes, {"loss above dense": np.array([*found.values()]) - dense}, list(found), "nats per token"
)
plt.show()
for method, nats in found.items():
    print(f"{method:15} loss {nats:.3f}")

# %% [markdown]
# Two measures that look at data are best. The norm of the weights is worse than chance. That was seen in large models
# too: LLaMA-7B without 20 % of its parameters and without training had a perplexity of 27.5 with random choice, 582
# with the L2 norm, and 19.1 with Taylor by element (Ma, Fang & Wang 2023). `taylor_vector` adds up the products of
# weights and gradients before it takes the magnitude, so that they can cancel; there it was better than chance
# (22.3), here it is not. A reason for the norm's failure: the norm can be changed at will without changing the model.
# Multiply a neuron's row of `up` by 10 and divide its column of `down` by 10:

# %%
layer = model.layers[2].feed_forward
factors = np.ones(layer.up.out_features, np.float32)
factors[np.argsort(scores["layers.2.feed_forward"])[:50]] = 10  # the 50 that matter least
larger = {"up": layer.up.weight * factors[:, None], "down": layer.down.weight / factors}
seen = tinyslm.trace(model, corpus.validation[0][None])
states = seen["layers.2.feed_forward.neurons"][0]  # (T, F)
same = np.allclose(states @ layer.down.weight.T, (states * factors) @ larger["down"].T, atol=1e-4)
print(f"the layer computes the same: {same}")
activation = np.mean(np.abs(states), axis=0)
measures = {
    "magnitude": (
        neuron_importance(layer.up.weight, layer.down.weight, layer.gate.weight),
        neuron_importance(**larger, gate=layer.gate.weight),
    ),
    "activation": (
        neuron_importance(layer.up.weight, layer.down.weight, method="activation",
                          mean_activation=activation),
        neuron_importance(**larger, method="activation", mean_activation=activation * factors),
    ),
}  # fmt: skip
for name, (before, after) in measures.items():
    most = [set(np.argsort(-each)[:409]) for each in (before, after)]  # 80 % of 512
    print(f"{name:10} of the 409 neurons to keep, {len(most[0] & most[1])} are the same as before")

# %% [markdown]
# ## Heads
#
# In attention the units are heads. Here 8 query heads share 4 key/value heads, two and two (grouped-query attention,
# lesson 02). Which key/value head a query head reads follows from its place. So one query head can only go if every
# group loses as many; or a key/value head goes with all query heads that read it. How much each head gives out, over
# some text:

# %%
from tinyslm.recipes.pruning.heads import head_parts, head_scores

of_heads = head_scores(model, calibration, "minitron", head_parts(model.config.head_dim))
table = np.array([*of_heads.values()])  # (layers, H)
figure, axes = plt.subplots(figsize=(6, 2.8))
shares = 100 * table / table.sum(axis=1, keepdims=True)
layers = [f"layer {i}" for i in range(len(table))]
heads = [f"head {h}\ngroup {h // 2}" for h in range(8)]
show_matrix(axes, shares, "share of the layer's output, %", "{:.0f}", layers, heads)
plt.show()
from tinyslm.compression.pruning import slice_heads

attention = model.layers[0].attention
try:
    slice_heads(attention.query, attention.output, np.arange(7), groups=4, head_dim=32)
except tinyslm.Error as error:
    print(f"without head 7 only: {error}")

# %% [markdown]
# ## Channels
#
# A *channel* is one of the C numbers of the state that runs through the whole model, the residual stream. Every array
# that reads or writes the state has it: the embedding, all projections, all norms. One channel goes from all of them
# at once:

# %%
from tinyslm.recipes.pruning.channels import channel_axes

for path, axes_of_array in channel_axes(model.config).items():
    if path.startswith(("embedding", "layers.0.", "norm")):
        shape = tinyslm.named_arrays(model)[path].shape
        names = ("rows", "columns") if len(shape) == 2 else ("entries",)
        cuts = ", ".join(names[axis] for axis in axes_of_array)
        print(f"{path:36} {shape!s:11} loses {cuts}")

# %% [markdown]
# The norms need care. RMS norm divides by the root of the *mean* square. Without channels that were zero the mean is
# larger, although nothing was lost; the gain must make up for it, and the small number eps too:

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
# A block adds something to the state. If that is little, the state hardly turns, and the block can be left out.
# *Block influence* is one minus the cosine of the angle between the states before and after (Men et al. 2024). Beside
# it, what really happens without each layer:

# %%
from tinyslm.recipes.pruning.layers import influences

influence = influences(model, calibration.sample())[""]
count = len(model.layers)
others = [tuple(j for j in range(count) if j != i) for i in range(count)]
without = [measure_loss(KeepLayers(kept)(model), corpus.validation).nats for kept in others]
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
names = [str(i) for i in range(count)]
show_bars(left, {"influence": influence}, names, "block influence, no unit")
show_bars(right, {"more": np.array(without) - dense}, names, "loss above dense, nats per token")
for axes in (left, right):
    axes.set_xlabel("layer left out" if axes is right else "layer")
use_powers(right, "y")
plt.show()
for i in range(count):
    print(f"layer {i}: influence {influence[i]:.3f}, loss without it {without[i]:.3f}")

# %% [markdown]
# The first layer is indispensable: it turns word vectors into states that the others can work with. The layer with
# the smallest influence is also the one that is missed least. In the middle, the two orders agree only roughly.
#
# ## A sensitivity scan of the units
#
# Neurons, heads with their groups, channels and layers, each cut alone to several sizes, without training:

# %%
scan = {
    "neurons": [SliceNeurons(ratio) for ratio in (0.9, 0.75, 0.6, 0.5)],
    "query heads": [SliceHeads(0.5)],
    "groups of heads": [SliceGroups(ratio) for ratio in (0.75, 0.5)],
    "channels": [SliceChannels(ratio) for ratio in (0.95, 0.9, 0.8)],
    "layers": [DropLayers(1), DropLayers(2)],
}
dense_size = tinyslm.footprint(model).parameters
figure, axes = plt.subplots(figsize=(6.4, 3.8))
for (unit, steps), colour, line, marker in zip(scan.items(), COLOURS, LINES, MARKERS):
    cut = [step(model, calibration) for step in steps]
    sizes = [100.0, *(100 * tinyslm.footprint(each).parameters / dense_size for each in cut)]
    losses = [dense, *(measure_loss(each, corpus.validation).nats for each in cut)]
    axes.plot(sizes, losses, color=colour, linestyle=line, marker=marker, label=unit)
    print(
        f"{unit:16}"
        + "".join(f"  {s:3.0f} %: {nats:.3f}" for s, nats in zip(sizes[1:], losses[1:]))
    )
show_floor(axes, corpus.floor.nats)
axes.set(xlabel="parameters left, %", ylabel="loss, nats per token")
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# For a given number of parameters, neurons cost least in this model, and heads most: attention has fewer parameters
# to give, and no head can be called idle (see the picture of the heads). In the literature, too, feed-forward layers
# are the first place to cut (Muralidharan et al. 2024).
#
# ## Apply, and recover: width against depth
#
# Two models of nearly the same size: one without two layers, one with all layers but fewer neurons in each. Both are
# recovered by the same short distillation from the dense model:

# %%
recover = Distill(steps=16, learning_rate=5e-4, batch_size=10)
shallow, _ = compress(model, [DropLayers(2)], calibration)
removed = dense_size - tinyslm.footprint(shallow).parameters
ratio = 1 - removed / parameters_by_part(model)["feed-forward"]
narrow, _ = compress(model, [SliceNeurons(ratio)], calibration)
models = {
    "dense": model,
    "4 layers": shallow,
    "4 layers, recovered": compress(shallow, [recover], calibration)[0],
    "narrow": narrow,
    "narrow, repaired": compress(model, [SliceNeurons(ratio, refit=True)], calibration)[0],
    "narrow, recovered": compress(narrow, [recover], calibration)[0],
}
print(f"the narrow model keeps {ratio:.1%} of the neurons")
print(summary(models, corpus))

# %% [markdown]
# "Repaired" is without training: the columns of `down` that are left are chosen anew by least squares, so that the
# layer's output on the calibration text is as near as possible to what it was. At this size the narrow model has the
# lower loss; after the recovery the two are close. Large models show the same order: Llama-3.1-8B, cut to half and
# trained again, got 60.5 in MMLU when cut in width and 58.7 when cut in depth (Sreenivas et al. 2024, table 1).
#
# ## Smaller and faster, really?
#
# Memory is in the table above: it went down with the parameters, without any special format. Time, measured; "half
# zeros" is the dense model with half of its weights set to zero (lesson 07):

# %% tags=["measured"]
from tinyslm.evaluation.latency import measure_speeds

timed = {
    "dense": model,
    "half zeros": FoldMasks()(PruneMagnitude(0.5)(model, calibration)),
    "narrow": models["narrow, recovered"],
    "4 layers": models["4 layers, recovered"],
}
speeds = measure_speeds(list(timed.values()), prompt_length=128, new_tokens=24, rounds=7)
print("tokens per second     prompt    generation")
for name, (prompt, generation) in zip(timed, speeds):
    print(f"{name:18} {prompt.median:10,.0f} {generation.median:13,.0f}")

# %% [markdown]
# Both sliced models are faster than the dense one and the one with zeros is not. When a single token is generated,
# the matrices of this small model are so small that much of the time goes into calling operations at all: fewer
# layers mean fewer operations, fewer neurons do not. That is why depth is cut where time to answer counts, though
# width keeps more of what the model knows.
#
# ## What people ask
#
# **Is the sliced model really the masked one?** Yes, up to rounding:

# %%
from tinyslm.compression.pruning import most_important
from tinyslm.modules import FeedForward
from tinyslm.tree import map_modules

kept = {path: most_important(values, 256) for path, values in scores.items()}


def without_neurons(path, layer):
    """The layer with the columns of `down` at zero for all neurons that are not kept."""
    weight = np.zeros_like(layer.down.weight)
    weight[:, kept[path]] = layer.down.weight[:, kept[path]]
    return layer.replace(down=layer.down.replace(weight=weight))


masked = map_modules(without_neurons, model, FeedForward)
half = SliceNeurons(0.5)(model, calibration)
text = corpus.validation[0][None]
print(f"the same logits: {np.allclose(masked(text), half(text), atol=1e-3)}")
for name, each in {"masked": masked, "sliced": half}.items():
    print(f"{name}: {tinyslm.footprint(each).parameters:,} parameters, intermediate_size "
          f"{each.config.intermediate_size}")  # fmt: skip

# %% [markdown]
# **Can I cut twice?** Yes, and from what is left. But measure anew: what mattered least before the first cut need not
# matter least after it. And since each step leaves an ordinary model, any other step can follow.
#
# **Why not train a small model from the start?** A cut model begins where the large one ended. With as few steps as
# here, random weights learn nearly nothing:

# %%
from tinyslm.models import random_model

start = random_model(replace(model.config, intermediate_size=narrow.config.intermediate_size))
from_scratch, _ = compress(start, [replace(recover, learning_rate=2e-3)], calibration)
print(f"from random weights {measure_loss(from_scratch, corpus.validation).nats:.2f}, "
      f"cut {measure_loss(models['narrow, recovered'], corpus.validation).nats:.2f}")  # fmt: skip

# %% [markdown]
# ## Exercises
#
# 1. `tinyslm exercise new neuron-slicing`: write the slicing of the coupled arrays yourself.
# 2. Distill the six models of "Which neurons?" with 20 steps each. How much of the differences is left?
# 3. `SliceChannels(0.8)` with and without the correction of the norms: comment out the line in a copy of
#    `with_channels` and measure. Then recover both.
# 4. Drop two layers one after the other, measuring the influence anew in between. Are they the same two?
#
# ## Sources
#
# - Li et al. 2017, *Pruning filters for efficient convnets*: whole units by their norm.
# - Ma, Fang & Wang 2023, *LLM-Pruner*: coupled structures, Taylor importance, and how badly the norm can do.
# - Muralidharan et al. 2024, *Compact language models via pruning and knowledge distillation* (Minitron): activations
#   as importance; Sreenivas et al. 2024, *LLM pruning and distillation in practice: the Minitron approach*: width and
#   depth.
# - Men et al. 2024, *ShortGPT*: block influence.
