# %% [markdown]
# # Pruning weights
#
# Many weights of a trained model are close to zero. Unstructured pruning sets weights to exactly zero. **How many
# weights can be removed, and which, before the loss increases?** This lesson prunes the built-in model with three
# methods, which differ in the statistics that they use. The next lesson removes whole neurons, heads and layers.

# %%
from setup_lesson import np, plt, show, show_histogram, tinyslm

model, tokenizer = tinyslm.load("teacher")
weight = model.layers[2].feed_forward.up.weight  # (F, C): y = x W^T
deviation = weight.std()
figure, axes = plt.subplots(figsize=(6.4, 2.9))
show_histogram(axes, {"layer 2, up projection": weight}, "weight", limit=0.25)
axes.axvspan(-deviation / 2, deviation / 2, color="#dddddd", zorder=0)
show(
    "Histogram of the weights of one layer. It has its peak at zero and falls to both sides; "
    "few weights are large. A grey band marks the weights below half of the standard deviation."
)
below = np.mean(np.abs(weight) < deviation / 2)
print(f"standard deviation {deviation:.4f}; {below:.0%} of the weights are below half of it (grey)")

# %% [markdown]
# The weights of one linear layer of the built-in model. Most are close to zero, and a few are large.
#
# After this lesson you can
#
# - compute masks by magnitude with an exact number of zeros, and Wanda's scores;
# - explain how SparseGPT updates the remaining weights;
# - decide when sparse weights save memory or time, and when they do not.
#
# You need: lesson 02 (the linear layers of a transformer), lesson 04 (the loss and its floor).
#
# ## The dense model

# %%
from setup_lesson import median_milliseconds, summary, town_corpus, validation_loss
from tinyslm.recipes import Calibration

corpus = town_corpus(tokenizer, end_id=0, training=400, validation=80)
calibration = Calibration(corpus.training, model, statistics_documents=24)
print(summary({"dense": model}, corpus))

# %% [markdown]
# The dense model is the baseline for all smaller models below. The loss is in nats per token. The floor is the entropy
# of the text, a lower bound on the expected loss (lesson 01).
#
# ## The idea, on a 4 by 4 matrix
#
# *Magnitude pruning* removes the half of the weights with the smallest magnitude and keeps the others unchanged. A
# *mask* marks the weights that are kept.

# %%
from setup_lesson import show_matrix
from tinyslm.compression.pruning import magnitude_mask

small = np.array(
    [[0.9, -0.1, 0.3, 0.2], [-0.4, 0.1, 0.7, -0.6], [0.1, 0.5, -0.2, 0.8], [-0.3, 0.2, 0.1, 0.4]]
)
mask = magnitude_mask(small, sparsity=0.5)
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(6.4, 2.3))
show_matrix(left, small, "weights")
show_matrix(middle, mask, "mask: 1 is kept", "{:.0f}")
show_matrix(right, small * mask, "half of them removed")
show(
    "Three matrices: the weights, the mask, and the product of both. The mask is 1 for the "
    "eight largest magnitudes and 0 for the others."
)

# %% [markdown]
# Among all masks that remove eight weights, this one has the smallest squared error. The squared error is the sum of
# the squares of the removed weights, and the eight smallest weights have the smallest sum. A comparison with a hundred
# thousand random masks:

# %%
rng = np.random.default_rng(0)
# Each row is a permutation of the mask, so it removes the same number of weights.
random_masks = rng.permuted(np.tile(mask.reshape(-1), (100_000, 1)), axis=1)
errors = np.sum(np.square(small.reshape(-1) * ~random_masks), axis=1)
by_magnitude = np.sum(np.square(small * ~mask))
print(f"squared error by magnitude {by_magnitude:.2f}, of the best random mask {errors.min():.2f}")

# %% [markdown]
# ## The library's function
#
# The function called above (`tinyslm/compression/pruning/magnitude.py`). It does not use the simple expression
# `abs(weight) > threshold`.

# %%
from setup_lesson import numbered_source

print(numbered_source(magnitude_mask))

# %% [markdown]
# `np.partition` finds the magnitude of the last removed weight without sorting the whole array. Several weights can
# have exactly this magnitude (*ties*), and only some of them must be removed. The simple expression removes all ties or
# none:

# %%
count = round(0.5 * small.size)
magnitude = np.abs(small).reshape(-1)
threshold = np.partition(magnitude, count - 1)[count - 1]
print(f"{count} weights are to be removed; the threshold is {threshold}")
print(f"`magnitude <= threshold` removes {np.sum(magnitude <= threshold)}")
print(f"`magnitude < threshold`  removes {np.sum(magnitude < threshold)}")
print(f"magnitude_mask           removes {np.sum(~mask)}")

# %% [markdown]
# Ties are frequent in matrices that were quantized or pruned before: then thousands of weights are equal.
#
# **In a debugger**: set a breakpoint at the line with `np.partition` in `tinyslm/compression/pruning/magnitude.py`.
# Inspect `count`, `threshold` and `undecided`.
#
# ## Sensitivity of single layers
#
# The next cell prunes one layer at a time, keeps all others dense, and measures the loss. The matrix shows the mean
# over the layers of each kind.

# %%
from tinyslm.recipes import PruneMagnitude
from tinyslm.recipes.sensitivity import single_layer_losses

levels = (0.5, 0.7, 0.9)
pruned = {level: PruneMagnitude(level)(model, calibration) for level in levels}
sample = calibration.sample()[:4]
alone = single_layer_losses(model, pruned, sample)  # {path: {level: loss}}
kinds = list(dict.fromkeys(path.split(".")[-1] for path in alone))
table = np.array(
    [
        [np.mean([alone[path][level] for path in alone if path.endswith(kind)]) for level in levels]
        for kind in kinds
    ]
)
dense = np.mean([tinyslm.next_token_loss(model, task.inputs["token_ids"]) for task in sample])
figure, axes = plt.subplots(figsize=(4.6, 3.2))
title = "increase of the loss, thousandths of a nat"
columns = [f"{level:.0%} removed" for level in levels]
show_matrix(axes, 1000 * (table - dense), title, "{:.0f}", kinds, columns)
show(
    "Matrix of the increase of the loss: a row per kind of layer, a column per sparsity. With "
    "half of the weights removed the numbers are near zero; only in the last column are they "
    "large in every row."
)

# %% [markdown]
# For a single layer, removing half of the weights changes the loss only slightly. For the whole model the increase is
# larger, because the errors of the layers accumulate:

# %%
from setup_lesson import show_lines
from tinyslm.recipes import PruneSparseGPT, PruneWanda

sparsities = (0.0, 0.3, 0.5, 0.7, 0.8)
steps = {"magnitude": PruneMagnitude, "Wanda": PruneWanda, "SparseGPT": PruneSparseGPT}
dense_loss = validation_loss(model, corpus)
losses = {
    name: [dense_loss]
    + [validation_loss(step(each)(model, calibration), corpus) for each in sparsities[1:]]
    for name, step in steps.items()
}
figure, axes = plt.subplots()
labels = "fraction of the weights removed", "loss, nats per token"
show_lines(axes, losses, *labels, sparsities, corpus.floor.nats, markers=True)
axes.set_ylim(0.6, 2.0)
show(
    "Line chart of the loss against the fraction of the weights removed, for three methods. Up "
    "to half of the weights the loss hardly changes; then it rises steeply, with SparseGPT "
    "later than with the other two."
)
print("removed   " + "".join(f"  {sparsity:6.0%}" for sparsity in sparsities))
for name, values in losses.items():
    print(f"{name:10}" + "".join(f"  {value:6.3f}" for value in values))

# %% [markdown]
# ## Wanda: weights times input norms
#
# Two of the three methods use statistics of the layer's inputs on calibration text. A large weight whose input feature
# is always near zero has little effect on the output. **Wanda** removes the weights with the smallest `|W_ij| *
# ||X_j||`, where `||X_j||` is the norm of input feature j over the calibration tokens
# (`tinyslm/compression/pruning/wanda.py`, applied to models in `tinyslm/recipes/pruning/wanda.py`):

# %%
from tinyslm.compression.pruning import wanda_mask

norms = np.array([4.0, 1.0, 1.0, 0.1])  # the last input is nearly always zero
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(6.4, 2.3))
show_matrix(left, small, "weights")
show_matrix(middle, np.abs(small) * norms, "weight times input norm")
show_matrix(right, small * wanda_mask(small, norms, 0.5), "half of each row removed")
show(
    "Three matrices: the weights, the weights times the input norms, and the weights with half "
    "of each row removed. The last column is removed completely, although it contains large "
    "weights."
)

# %% [markdown]
# In the last column even the weight 0.8 is removed. Wanda compares weights only within a row, so each output keeps the
# same number of weights.
#
# ## SparseGPT: updates of the remaining weights
#
# **SparseGPT** processes the weights column by column. After each column it updates the weights to the right, so that
# the layer's output changes as little as possible. The update is computed from the inverse of `X^T X`, which contains
# the correlations of the input features: if two features are correlated, the weight of one can compensate for the
# removed weight of the other (`tinyslm/compression/pruning/sparsegpt.py`, `tinyslm/recipes/pruning/sparsegpt.py`).

# %%
from tinyslm.compression.pruning import least_squares_refit, sparsegpt

rng = np.random.default_rng(4)
inputs = rng.standard_normal((1000, 2)) @ rng.standard_normal((2, 4))
inputs += 0.2 * rng.standard_normal((1000, 4))
hessian = inputs.T @ inputs  # X^T X, (in, in): the features are correlated
by_magnitude = small * magnitude_mask(small, 0.5)
by_wanda = small * wanda_mask(small, np.sqrt(np.diag(hessian)), 0.5)
updated = sparsegpt(small, hessian, 0.5)
refitted = least_squares_refit(small, hessian, updated != 0)
variants = {
    "magnitude": by_magnitude, "Wanda": by_wanda, "SparseGPT": updated, "refitted": refitted
}  # fmt: skip
for name, changed in variants.items():
    error = np.linalg.norm(inputs @ (changed - small).T) / np.linalg.norm(inputs @ small.T)
    print(f"{name:10} relative error of the output {error:.3f}")
figure, (left, right) = plt.subplots(1, 2, figsize=(4.6, 2.3))
show_matrix(left, by_magnitude, "magnitude")
show_matrix(right, updated, "SparseGPT: updated weights", "{:.2f}")
show(
    "Two matrices with half of the weights removed. By magnitude the others are unchanged. "
    "SparseGPT removes other weights, and the remaining ones have new values."
)

# %% [markdown]
# The last line is a lower bound for SparseGPT's mask: all remaining weights are refitted by least squares
# (`tinyslm/compression/pruning/refit.py`).
#
# ## Distillation after pruning
#
# A short training reduces the loss of the pruned model. The masks are fixed during training: a removed weight has
# gradient exactly zero, no momentum and no decay. The teacher is the dense model (lesson 06).

# %%
from tinyslm.recipes import Distill, compress

distill = Distill(steps=30, learning_rate=5e-4, batch_size=8)
half, _ = compress(model, [PruneSparseGPT(0.5)], calibration)
half_distilled, _ = compress(half, [distill], calibration)
most, _ = compress(model, [PruneSparseGPT(0.8)], calibration)
most_distilled, _ = compress(most, [distill], calibration)
trained = half_distilled.layers[0].attention.query
largest = np.max(np.abs(trained.weight[~trained.mask]))
print(f"largest magnitude of a removed weight after training: {largest}")

# %% [markdown]
# ## Comparison

# %%
from tinyslm.recipes import FoldMasks, StoreSparse

models = {
    "dense": model,
    "50 % removed": half,
    "50 %, distilled": half_distilled,
    "80 % removed": most,
    "80 %, distilled": most_distilled,
    "80 %, stored sparse": StoreSparse("bitmap")(FoldMasks()(most_distilled)),
}
print(summary(models, corpus))

# %%
from setup_lesson import show_frontier

figure, axes = plt.subplots()
points = {
    name: (tinyslm.footprint(each).non_zeros / 1e6, validation_loss(each, corpus))
    for name, each in models.items()
    if "stored" not in name
}
show_frontier(axes, points, "non-zero weights, millions", floor=corpus.floor.nats)
show(
    "Scatter plot of loss against non-zero weights. With half of the weights the loss is close "
    "to the dense model's. At 80 % removed it is far higher, and the short distillation removes "
    "half of that increase."
)

# %% [markdown]
# ## Questions
#
# **Why does the model not take less memory?** A zero takes the same memory as any other number. Only the last row of
# the table uses a sparse format: one bit per weight marks whether it is non-zero, and only the non-zero weights are
# stored.
#
# **Why is the model not faster?** A dense matrix product multiplies by the zeros too. Sparse formats skip the zeros,
# but reading the positions of the non-zero weights takes time:

# %% tags=["measured"]
from tinyslm.compression.pruning import CsrLinear
from tinyslm.modules import Linear

large = rng.standard_normal((2048, 2048)).astype(np.float32)
x = rng.standard_normal((1, 2048)).astype(np.float32)
print("one token through 2048 x 2048   dense     CSR")
for sparsity in (0.5, 0.8, 0.95):
    dense = Linear(np.where(magnitude_mask(large, sparsity), large, np.float32(0)))
    sparse = CsrLinear.from_linear(dense)
    times = [median_milliseconds(lambda: layer(x)) for layer in (dense, sparse)]
    print(f"{sparsity:.0%} zeros {times[0]:26.2f} ms {times[1]:4.2f} ms")

# %% [markdown]
# Compressed sparse rows (CSR) are faster only if most weights are zero. Some hardware skips zeros in a fixed pattern,
# such as 2 of every 4 weights (N:M sparsity); NumPy does not.
#
# **Is one threshold for all layers better than one per layer?** A global threshold minimizes the squared error of the
# weights, but not necessarily the loss of the model:

# %%
for scope in ("layer", "global"):
    each = PruneMagnitude(0.6, scope=scope)(model, calibration)
    print(f"60 % removed, threshold per {scope:6}: loss {validation_loss(each, corpus):.3f}")

# %% [markdown]
# ## Summary
#
# - Magnitude pruning removes the smallest weights; with ties the number of zeros is exact only if ties are resolved
#   explicitly.
# - Wanda multiplies each weight by the norm of its input feature; SparseGPT also updates the remaining weights. With
#   half of the weights removed, the losses were 0.749 (magnitude), 0.759 (Wanda) and 0.724 (SparseGPT) nats per token;
#   the dense model has 0.704.
# - A short distillation reduced the loss at 80 % sparsity from 3.355 to 1.952.
# - Zeros save memory only in a sparse format: 4.87 MB instead of 19.3 MB with masks. They save time only at high
#   sparsity or with special hardware.
#
# The code: the mathematics in `tinyslm/compression/pruning/magnitude.py`, `tinyslm/compression/pruning/wanda.py`,
# `tinyslm/compression/pruning/sparsegpt.py`, `tinyslm/compression/pruning/n_m.py` and
# `tinyslm/compression/pruning/sparse_linear.py`; the steps in `tinyslm/recipes/pruning/magnitude.py`,
# `tinyslm/recipes/pruning/wanda.py` and `tinyslm/recipes/pruning/sparsegpt.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("magnitude-mask")

# %% tags=["exercise"]
exercise("n-m-mask")

# %% tags=["exercise"]
exercise("wanda")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Prune the model to 90 % with `PruneGradually`, and with `PruneMagnitude` followed by `Distill` with the same number
#    of steps. At which number of steps is gradual pruning better?
# 2. `PruneMagnitude(0.5, pattern="2:4")` keeps 2 of every 4 weights in a row. Add it to the comparison. Why is its loss
#    higher than with 50 % and no pattern, and why is the pattern useful nevertheless?
#
# ## Sources
#
# - Han, Pool, Tran & Dally 2015, *Learning both weights and connections for efficient neural networks*: magnitude
#   pruning and retraining.
# - Sun, Liu, Bair & Kolter 2024, *A simple and effective pruning approach for large language models*: Wanda.
# - Frantar & Alistarh 2023, *SparseGPT: massive language models can be accurately pruned in one shot*.
# - Hassibi & Stork 1993, *Second order derivatives for network pruning: optimal brain surgeon*.
