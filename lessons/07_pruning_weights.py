# %% [markdown]
# # Pruning weights
#
# A trained model holds millions of weights, and many of them are close to zero. Pruning asks: **how many can be exactly
# zero, and which ones, before the model notices?** This lesson removes single weights from the built-in model, in four
# ways that differ in what they look at. Cutting out whole neurons, heads and layers is the next lesson.
#
# You need: lesson 02 (what a linear layer in a transformer multiplies), lesson 04 (the loss and its floor).

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.recipes import (
    Calibration,
    FoldMasks,
    PruneMagnitude,
    PruneSparseGPT,
    PruneWanda,
    Distill,
    StoreSparse,
    compress,
)
from tinyslm.reporting.pictures import (
    show_frontier,
    show_histogram,
    show_lines,
    show_matrix,
    use_lesson_style,
)
from tinyslm.reporting.source import numbered_source
from tinyslm.reporting.summary import summary
from tinyslm.text.corpus import town_corpus

use_lesson_style()
model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=400, validation=80)
calibration = Calibration(corpus.training, model)
print(summary({"dense": model}, corpus))

# %% [markdown]
# That is the baseline: what every smaller model below is measured against. The loss is in nats per token, and the floor
# is the entropy of the text itself: no model can expect less (lesson 01).
#
# ## Look at the numbers
#
# First the weights of one linear layer. Most of them lie close to zero, and a few are large.

# %%
weight = model.layers[2].feed_forward.up.weight  # (F, C): y = x W^T
figure, axes = plt.subplots()
show_histogram(
    axes, {"layer 2, up projection": weight}, "weight (a number without unit)", limit=0.25
)
plt.show()
below = np.mean(np.abs(weight) < 0.5 * weight.std())
print(
    f"standard deviation {weight.std():.4f}; {below:.0%} of the weights are smaller than half of it"
)

# %% [markdown]
# ## The idea, on a matrix of 4 by 4
#
# Remove the half of the weights with the smallest magnitude, and keep the rest as they are. A *mask* says which weights
# stay.

# %%
from tinyslm.compression.pruning import magnitude_mask

small = np.array(
    [[0.9, -0.1, 0.3, 0.2], [-0.4, 0.1, 0.7, -0.6], [0.1, 0.5, -0.2, 0.8], [-0.3, 0.2, 0.1, 0.4]]
)
mask = magnitude_mask(small, sparsity=0.5)
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(6.4, 2.3))
show_matrix(left, small, "weights")
show_matrix(middle, mask, "mask: 1 stays", "{:.0f}")
show_matrix(right, small * mask, "half of them removed")
plt.show()

# %% [markdown]
# Of all masks that remove eight weights, this one changes the matrix least: the squared error is the sum of the squares
# of what is removed, and nobody can remove eight weights with a smaller sum than the eight smallest. A hundred thousand
# random masks, to be sure:

# %%
rng = np.random.default_rng(0)
random_masks = rng.permuted(
    np.tile(mask.reshape(-1), (100_000, 1)), axis=1
)  # as many weights removed in each
errors = np.sum(np.square(small.reshape(-1) * ~random_masks), axis=1)
print(
    f"magnitude {np.sum(np.square(small * ~mask)):.2f}, the best of the random ones {errors.min():.2f}"
)

# %% [markdown]
# ## The library's function, taken apart
#
# This is the function that you just called. It avoids the obvious one-liner `abs(weight) > threshold`, for a reason.

# %%
print(numbered_source(magnitude_mask))

# %% [markdown]
# `np.partition` finds the magnitude that the last removed weight has, without sorting everything. Then come ties: several
# weights can have exactly that magnitude, and only some of them are to go. The one-liner removes all of them or none:

# %%
count = round(0.5 * small.size)
magnitude = np.abs(small).reshape(-1)
threshold = np.partition(magnitude, count - 1)[count - 1]
print(f"{count} weights are to go; the threshold is {threshold}")
print(f"`magnitude <= threshold` removes {np.sum(magnitude <= threshold)}")
print(f"`magnitude < threshold`  removes {np.sum(magnitude < threshold)}")
print(f"magnitude_mask           removes {np.sum(~mask)}")

# %% [markdown]
# On real weights ties look unlikely, until a matrix was quantized or pruned before: then thousands of weights are equal.
#
# **In a debugger**: set a breakpoint at the line with `np.partition` in `tinyslm/compression/pruning/magnitude.py` and look
# at `count`, `threshold` and `undecided`.
#
# ## How much is too much: a sensitivity scan
#
# Each kind of layer is pruned alone, everything else stays dense, and the loss is measured.

# %%
from tinyslm.recipes.sensitivity import single_layer_losses

levels = (0.5, 0.7, 0.9)
pruned = {level: PruneMagnitude(level)(model, calibration) for level in levels}
alone = single_layer_losses(model, pruned, calibration.sample()[:8])  # {path: {level: loss}}
kinds = list(dict.fromkeys(path.split(".")[-1] for path in alone))
table = np.array(
    [
        [np.mean([alone[p][level] for p in alone if p.endswith(kind)]) for level in levels]
        for kind in kinds
    ]
)
dense = np.mean(
    [tinyslm.next_token_loss(model, task.inputs["token_ids"]) for task in calibration.sample()[:8]]
)
figure, axes = plt.subplots(figsize=(4.6, 3.2))
show_matrix(axes, 1000 * (table - dense), "loss above dense, in thousandths of a nat", "{:.0f}", kinds,
            [f"{level:.0%} removed" for level in levels])  # fmt: skip
plt.show()

# %% [markdown]
# One layer at a time, half of the weights can go almost for free. Of the whole model it is another matter, because errors
# add up:

# %%
sparsities = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8)
steps = {"magnitude": PruneMagnitude, "Wanda": PruneWanda, "SparseGPT": PruneSparseGPT}
from tinyslm.evaluation import measure_loss

losses = {
    name: [
        measure_loss(step(sparsity)(model, calibration), corpus.validation).nats
        for sparsity in sparsities
    ]
    for name, step in steps.items()
}
figure, axes = plt.subplots()
show_lines(
    axes,
    losses,
    "fraction of the weights removed",
    "loss, nats per token",
    sparsities,
    corpus.floor.nats,
    True,
)
axes.set_ylim(0.6, 2.0)
plt.show()
print("removed   " + "".join(f"  {sparsity:6.0%}" for sparsity in sparsities))
for name, values in losses.items():
    print(f"{name:10}" + "".join(f"  {value:6.3f}" for value in values))

# %% [markdown]
# ## Looking at the data
#
# The two other lines look at what the layer is fed with. A large weight that multiplies an input that is always near zero
# does nothing. **Wanda** removes the weights with the smallest `|W_ij| * ||X_j||`, where `||X_j||` is the norm of input
# feature j over some text:

# %%
from tinyslm.compression.pruning import wanda_mask

norms = np.array([4.0, 1.0, 1.0, 0.1])  # the last input is nearly always zero
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(6.4, 2.3))
show_matrix(left, small, "weights")
show_matrix(middle, np.abs(small) * norms, "weight times input norm")
show_matrix(right, small * wanda_mask(small, norms, 0.5), "half of each row removed")
plt.show()

# %% [markdown]
# In the last column even the weight of 0.8 goes. Wanda compares weights within a row only: each output keeps as many.
#
# **SparseGPT** goes one step further. It removes weights column by column, and after each column it changes the weights
# further right so that the layer's output stays as close as possible to what it was. How far right and by how much follows
# from the inverse of `X^T X`, the correlations of the inputs: if two inputs always say the same, one weight can take over
# the other's work.

# %%
from tinyslm.compression.pruning import least_squares_refit, sparsegpt

rng = np.random.default_rng(4)
inputs = rng.standard_normal((1000, 2)) @ rng.standard_normal((2, 4))
inputs += 0.2 * rng.standard_normal((1000, 4))
gram = inputs.T @ inputs  # (in, in): the inputs depend on each other
by_size = small * magnitude_mask(small, 0.5)
by_input = small * wanda_mask(small, np.sqrt(np.diag(gram)), 0.5)
moved = sparsegpt(small, gram, 0.5)
refitted = least_squares_refit(small, gram, moved != 0)


def output_error(changed):
    """How much of the layer's output is lost, as a share."""
    return np.linalg.norm(inputs @ (changed - small).T) / np.linalg.norm(inputs @ small.T)


for name, changed in {
    "magnitude": by_size,
    "Wanda": by_input,
    "SparseGPT": moved,
    "refitted": refitted,
}.items():
    print(f"{name:10} error of the output {output_error(changed):.3f}")
figure, (left, right) = plt.subplots(1, 2, figsize=(4.6, 2.3))
show_matrix(left, by_size, "magnitude")
show_matrix(right, moved, "SparseGPT: the rest has moved", "{:.2f}")
plt.show()

# %% [markdown]
# The last line is the best that can be done with SparseGPT's mask: every remaining weight chosen anew by least squares.
#
# ## Distill
#
# Pruning is damage, and a short training repairs a part of it. The masks hold while training: a removed weight has gradient
# exactly zero, no momentum, and no decay. The teacher of this training is the dense model itself (lesson 06).

# %%
recover = Distill(steps=30, learning_rate=5e-4)
half, _ = compress(model, [PruneSparseGPT(0.5)], calibration)
recovered, _ = compress(half, [recover], calibration)
most, _ = compress(model, [PruneSparseGPT(0.8)], calibration)
most_recovered, _ = compress(most, [recover], calibration)
trained = recovered.layers[0].attention.query
print(
    f"weights under the mask after training: largest magnitude {np.max(np.abs(trained.weight[~trained.mask]))}"
)

# %% [markdown]
# ## The table

# %%
models = {
    "dense": model,
    "50 % removed": half,
    "50 %, recovered": recovered,
    "80 % removed": most,
    "80 %, recovered": most_recovered,
    "80 %, stored sparse": StoreSparse("bitmap")(FoldMasks()(most_recovered)),
}
print(summary(models, corpus))

# %%
figure, axes = plt.subplots()
places = {name: (tinyslm.footprint(each).non_zeros / 1e6, measure_loss(each, corpus.validation).nats)
          for name, each in models.items() if "stored" not in name}  # fmt: skip
show_frontier(axes, places, "weights that are not zero, millions", floor=corpus.floor.nats)
plt.show()

# %% [markdown]
# ## What people ask
#
# **Why is the model not smaller?** A zero takes as much memory as any other number. The memory column above changes only in
# the last row, where zeros are not stored: a bit per weight says whether it is there, and only those that are there follow.
#
# **Why is it not faster?** A matrix product multiplies by the zeros too. Formats that skip them pay for finding out where
# the others are:

# %% tags=["measured"]
import time

from tinyslm.compression.pruning import CsrLinear
from tinyslm.modules import Linear

large = rng.standard_normal((2048, 2048)).astype(np.float32)
x = rng.standard_normal((1, 2048)).astype(np.float32)


def milliseconds(layer):
    """The median of 15 calls."""
    times = []
    for _ in range(15):
        began = time.perf_counter()
        layer(x)
        times.append(1000 * (time.perf_counter() - began))
    return np.median(times)


print("one token through 2048 x 2048   dense     CSR")
for sparsity in (0.5, 0.8, 0.95):
    layer = Linear(np.where(magnitude_mask(large, sparsity), large, np.float32(0)))
    print(
        f"{sparsity:.0%} zeros {milliseconds(layer):26.2f} ms {milliseconds(CsrLinear.from_linear(layer)):4.2f} ms"
    )

# %% [markdown]
# Compressed sparse rows (CSR) begin to pay when most of the weights are gone. Hardware that knows a fixed pattern, such as
# 2 of every 4, can skip zeros in a product; NumPy cannot.
#
# **Is one threshold for all layers better than one per layer?** For the error of the weights always, for the loss of the
# model not necessarily:

# %%
for scope in ("layer", "global"):
    each = PruneMagnitude(0.6, scope=scope)(model, calibration)
    print(
        f"60 % removed, threshold per {scope:6}: loss {measure_loss(each, corpus.validation).nats:.3f}"
    )

# %% [markdown]
# ## Exercises
#
# 1. `tinyslm exercise new magnitude-mask`: write the mask with exact counts yourself.
# 2. `tinyslm exercise new wanda`: write the scores and the mask of Wanda.
# 3. Prune the model to 90 % with `PruneGradually` and with `PruneMagnitude` followed by `Distill`, with as many steps. When
#    does the gradual way begin to win?
# 4. `PruneMagnitude(0.5, pattern="2:4")` keeps 2 of every 4 weights in a row. Add it to the table. Why is it worse than 50 %
#    without a pattern, and who would want it all the same?
#
# ## Sources
#
# - Han, Pool, Tran & Dally 2015, *Learning both weights and connections for efficient neural networks*: magnitude, retraining.
# - Sun, Liu, Bair & Kolter 2024, *A simple and effective pruning approach for large language models*: Wanda.
# - Frantar & Alistarh 2023, *SparseGPT: massive language models can be accurately pruned in one shot*.
# - Hassibi & Stork 1993, *Second order derivatives for network pruning: optimal brain surgeon*.
