# %% [markdown]
# # Low rank
#
# A matrix of 256 by 256 has 65,536 numbers. If its rows were all multiples of one row, 512 would do. Real weights are
# not so simple, but perhaps nearly: **a sum of a few simple matrices may be close enough.** This lesson replaces
# weights by the product of two thin matrices, finds out when that saves anything at all, and lets the model say which
# layers can be thin.
#
# You need: lesson 02 (linear layers), lesson 03 (gradients), lesson 06 (a teacher), lesson 07 (the Hessian `X^T X`).

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.evaluation import measure_loss
from tinyslm.recipes import Calibration, Factorize, LearnRanks, Distill, compress
from tinyslm.reporting.pictures import (
    show_lines,
    show_matrix,
    use_lesson_style,
)
from tinyslm.reporting.source import numbered_source
from tinyslm.reporting.summary import summary
from tinyslm.text.corpus import town_corpus

use_lesson_style()
model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=200, validation=40)
calibration = Calibration(corpus.training, model, statistics_documents=48)
print(summary({"dense": model}, corpus))


def loss_of(each):
    """Nats per token on the validation documents."""
    return measure_loss(each, corpus.validation).nats


# %% [markdown]
# ## Look at the numbers
#
# Every matrix is a sum of *components*: a column times a row, times a *singular value* that says how large the
# component is. The singular value decomposition (SVD) finds them, largest first. How quickly do they fall in a trained
# model? Beside three layers stands a matrix of random numbers, which has no structure at all.

# %%
from tinyslm.compression.factorization import svd_components

layer = model.layers[2]
weights = {
    "query": layer.attention.query.weight,
    "attention output": layer.attention.output.weight,
    "up": layer.feed_forward.up.weight,
    "random": np.random.default_rng(0).standard_normal((256, 256)),
}
values = {name: svd_components(each).singular_values for name, each in weights.items()}
figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.2))
show_lines(
    left,
    {name: each / each[0] for name, each in values.items()},
    "component",
    "singular value / largest",
)
energy = {name: np.cumsum(each**2) / np.sum(each**2) for name, each in values.items()}
show_lines(
    right,
    {name: 100 * each for name, each in energy.items()},
    "components kept",
    "% of the sum of squares",
)
plt.show()
print("components that hold 90 % of the sum of squares, of", len(values["query"]))
for name, each in energy.items():
    print(f"{name:17} {np.argmax(each >= 0.9) + 1}")

# %% [markdown]
# A few components of the query stand out, and the attention output falls faster than chance. But none of the matrices
# is of low rank: to hold nine tenths of the sum they need about as many components as random numbers do. That is what
# makes this technique harder than pruning and quantization.
#
# ## The idea, on a matrix of 4 by 4

# %%
from tinyslm.compression.factorization import truncated_svd

small = np.array(
    [[0.9, 0.8, -0.2, 0.1], [0.4, 0.5, 0.1, 0.0], [-0.1, 0.1, 0.8, 0.6], [0.7, 0.6, 0.3, 0.2]]
)
components = svd_components(small)
left, right = truncated_svd(small, 2)
figure, axes = plt.subplots(1, 5, figsize=(8.4, 2.0))
show_matrix(axes[0], small, "weights")
for i in range(2):
    one = components.keep([i], small.dtype)
    show_matrix(
        axes[1 + i],
        one[0] @ one[1],
        f"component {i}: {components.singular_values[i]:.2f}",
        limit=0.9,
    )
show_matrix(axes[3], left @ right, "the two together", limit=0.9)
show_matrix(axes[4], left @ right - small, "error", limit=0.9)
plt.show()
print("singular values", np.round(components.singular_values, 3))
print(f"error {np.linalg.norm(left @ right - small):.3f}, "
      f"root of the dropped squares "
      f"{np.linalg.norm(components.singular_values[2:]):.3f}")  # fmt: skip

# %% [markdown]
# The two thin matrices have 4 x 2 and 2 x 4 numbers: as many as the matrix itself. Nothing was saved, and that is the
# rule rather than the exception.
#
# ## Why the SVD can make a model larger
#
# Rank $k$ costs $k(m + n)$ numbers in place of $mn$. Up to the *break-even rank* $mn / (m + n)$ that is less. For a
# square matrix it is half of the full rank.

# %%
from tinyslm.compression.factorization import break_even_rank, rank_for_ratio

shapes = {"square (query)": (256, 256), "twice as long (up)": (512, 256)}
shares = np.linspace(0, 1, 50)
figure, axes = plt.subplots()
costs = {
    f"{name}, {m} x {n}": 100 * shares * min(m, n) * (m + n) / (m * n)
    for name, (m, n) in shapes.items()
}
show_lines(axes, costs, "rank, % of the full rank", "parameters, % of dense", 100 * shares)
axes.axhline(100, color="#555555", linewidth=1)
axes.annotate("as large as before", (1, 103), ha="left", fontsize=8, color="#555555")
plt.show()
print("shape          full rank   break-even   rank for half of the parameters")
for m, n in shapes.values():
    print(
        f"{m:4} x {n:4} {min(m, n):11} {break_even_rank((m, n)):12} "
        f"{rank_for_ratio((m, n), 0.5):12}"
    )

# %% [markdown]
# To halve the parameters of a square matrix, three quarters of its components have to go. Look back at the spectra:
# there is much in them. (A matrix that is twice as wide, such as keys and values here, costs the same as one twice as
# long.)
#
# ## The library's function, taken apart

# %%
from tinyslm.compression.factorization import factorize_linear
from tinyslm.compression.factorization.components import Components, balanced_components

for function in (svd_components, balanced_components, Components.first, factorize_linear):
    print(numbered_source(function))
    print()

# %% [markdown]
# The decomposition is computed in float64, whatever the weight is. `balanced_components` gives each factor the root of
# the singular value, so that both have entries of similar size. `factorize_linear` leaves a layer alone where two
# factors would be larger than the matrix. That no other matrix of this rank is closer is the theorem of Eckart and
# Young. A check against other subspaces, each with the best weights for it:

# %%
rng = np.random.default_rng(0)
errors = []
for _ in range(20_000):
    basis, _ = np.linalg.qr(rng.standard_normal((4, 2)))
    errors.append(np.linalg.norm(small - basis @ (basis.T @ small)))
print(
    f"SVD {np.linalg.norm(left @ right - small):.3f}, "
    f"the best of the random subspaces {min(errors):.3f}"
)

# %% [markdown]
# **In a debugger**: set a breakpoint in `svd_components` (`tinyslm/compression/factorization/svd.py`), at its last
# line, and look at `S`, at `U.T @ U`, and at `np.abs(U * S @ Vt - weight).max()`.
#
# ## How much is too much: a sensitivity scan
#
# Each kind of layer alone is factorized to a share of its parameters.

# %%
from tinyslm.recipes.sensitivity import single_layer_losses

levels = (0.8, 0.6, 0.4)
sample = calibration.sample()[:3]
thin = {level: Factorize(level)(model, calibration) for level in levels}
alone = single_layer_losses(model, thin, sample)  # {path: {level: loss}}
kinds = list(dict.fromkeys(path.split(".")[-1] for path in alone))
table = np.array(
    [
        [np.mean([alone[p][level] for p in alone if p.endswith(kind)]) for level in levels]
        for kind in kinds
    ]
)
dense = np.mean([tinyslm.next_token_loss(model, task.inputs["token_ids"]) for task in sample])
figure, axes = plt.subplots(figsize=(4.6, 3.2))
show_matrix(axes, 1000 * (table - dense), "loss above dense, thousandths of a nat", "{:.0f}", kinds,
            [f"{level:.0%} kept" for level in levels])  # fmt: skip
plt.show()

# %% [markdown]
# One layer at a time, 60 % of the parameters are nearly enough. Below that, "down" and "value" suffer most. The whole
# model is another matter, as below.
#
# ## Three questions that the plain SVD does not ask
#
# It makes the error of the *weights* small. That is not what counts.
#
# - **Fisher weights**: where does the *loss* feel an error? The mean of the squared gradients says it for each weight.
#   Summed over the outputs, that is one number per input feature, and the SVD is taken of the matrix with its columns
#   scaled by the root.
# - **Activations** (ASVD): which inputs are *large*? Their mean magnitudes scale the columns.
# - **Whitening** (SVD-LLM): which *outputs* come out wrong? With $X^T X = L L^T$, the error of the outputs is
#   $\|X (W - W')^T\| = \|(W - W') L\|$, so the SVD of $W L$ makes exactly that the smallest possible.
#
# On the small matrix, with inputs that depend on each other:

# %%
from tinyslm.compression.factorization import fisher_weighted_svd, whitened_svd

rng = np.random.default_rng(3)
inputs = rng.standard_normal((500, 4)) @ np.diag([0.2, 0.3, 2.0, 1.0]) + rng.standard_normal(
    (500, 1)
)
gram = inputs.T @ inputs
fisher = np.tile([1.0, 1.0, 1.0, 25.0], (4, 1))  # as if the loss felt the last input most
candidates = {
    "plain SVD": truncated_svd(small, 2),
    "Fisher weights": fisher_weighted_svd(small, fisher, 2),
    "whitened": whitened_svd(small, gram, 2),
}
figure, axes = plt.subplots(1, 3, figsize=(6.4, 2.3))
whole = np.linalg.norm(inputs @ small.T)
print("rank 2            error of: weights   weights by Fisher   outputs")
for place, (name, (left, right)) in zip(axes, candidates.items(), strict=True):
    error = left @ right - small
    show_matrix(place, error, f"error, {name}", "{:.2f}", limit=0.4)
    print(f"{name:16} {np.linalg.norm(error):18.3f} {np.sqrt(np.sum(fisher * error**2)):19.3f} "
          f"{np.linalg.norm(inputs @ error.T) / whole:9.3f}")  # fmt: skip
plt.show()

# %% [markdown]
# Each is the best in its own column. Which column is the one that matters, only the loss of the model can say:

# %%
from tinyslm.recipes.factorization.components import model_components
from tinyslm.recipes.factorization.factorize import uniform_ranks, with_ranks

ratios = (0.5, 0.65, 0.8, 0.9)
losses = {}
for name in ("none", "fisher", "activation", "whitened"):
    found = model_components(model, calibration, name)  # {path: components}
    losses[name] = [
        loss_of(with_ranks(model, found, uniform_ranks(found, ratio))) for ratio in ratios
    ]
figure, axes = plt.subplots()
show_lines(
    axes,
    losses,
    "parameters kept, as a share",
    "loss, nats per token",
    ratios,
    corpus.floor.nats,
    True,
)
plt.show()
print("kept        " + "".join(f"{ratio:8.0%}" for ratio in ratios))
for name, each in losses.items():
    print(f"{name:12}" + "".join(f"{loss:8.3f}" for loss in each))

# %% [markdown]
# Whitening is ahead everywhere, and the more so the less is kept. ASVD helps a little. The Fisher weights make this
# model *worse* than the plain SVD, which is not what the paper reports: there, models had been tuned to one task
# before, and were trained again afterwards.
#
# What whitening knows, and the two others do not, is how inputs depend on each other. For one layer:

# %%
from tinyslm.recipes.statistics import input_grams

path = "layers.2.feed_forward.up"
correlation = input_grams(model, calibration.sample(), {path})[path][0]
size = np.sqrt(np.diag(correlation))
correlation = correlation / np.outer(size, size)
eigenvalues = np.linalg.eigvalsh(correlation)[::-1]
figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.0))
show_matrix(left, correlation[:48, :48], "48 inputs of one layer: cosines (dark is 1)", limit=1)
share = 100 * np.cumsum(eigenvalues) / np.sum(eigenvalues)
show_lines(right, {"inputs": share}, "directions", "% of the inputs' squares")
right.set_ylim(0, 101)
plt.show()
print(
    f"{np.argmax(share >= 90) + 1} of {len(share)} directions hold 90 % of what enters this layer"
)

# %% [markdown]
# Two single inputs hardly depend on each other. All together they do: half of the directions hold nine tenths of it.
# What the weights do in the other half matters less, and that is where whitening puts the error.
#
# ## Which layer gets which rank: learned ranks
#
# So far every layer kept the same share. **Learned ranks** (LLRC) put a mask on the components of every layer and train
# only the masks: one number per component, its *logit*, which says keep (above 0) or drop. Noise on the logits makes
# every step try another selection; the gradient passes the step function as if it were a sigmoid. The loss wants the
# hidden states to stay what they were, and a second term pulls all logits down until the budget is met.

# %%
from tinyslm.compression.factorization import rank_mask

print(numbered_source(rank_mask))

# %%
from tinyslm.modules import LinearLayer
from tinyslm.tree import named_modules

budget = 0.6
learned = LearnRanks(budget, steps=40, batch_size=4, period=20, learning_rate=0.2)(
    model, calibration
)
uniform = Factorize(budget, "whitened")(model, calibration)
greedy = Factorize(budget, "whitened", "greedy")(model, calibration)


def ranks_of(each):
    """(kinds, layers): the rank of every layer; the full one where it stayed dense."""
    layers = named_modules(each, LinearLayer)
    return [
        [getattr(layer, "rank", min(layer.in_features, layer.out_features))
         for path, layer in layers.items() if path.endswith(f".{kind}")]
        for kind in kinds
    ]  # fmt: skip


figure, axes = plt.subplots(1, 3, figsize=(9.0, 3.0), sharey=True)
for place, (name, each) in zip(
    axes, {"uniform": uniform, "greedy": greedy, "learned": learned}.items(), strict=True
):
    show_matrix(
        place, ranks_of(each), f"rank, {name}", "{:.0f}", kinds, range(len(model.layers)), limit=256
    )
    place.set_xlabel("layer")
plt.show()
for name, each in {"uniform": uniform, "greedy": greedy, "learned": learned}.items():
    print(f"{name:8} {tinyslm.footprint(each).parameters:,} parameters, loss {loss_of(each):.3f}")

# %% [markdown]
# The three models have the same number of parameters, up to the rounding of ranks. A number in the pictures that is the
# full rank (128 for keys and values, 256 for all others) means that the layer stayed dense.
#
# "Greedy" takes the components that are worth most per parameter, with the error of each layer relative to its size. It
# keeps keys and values dense, because they cost little, and gains nothing over the same share for everybody: it adds up
# errors of layers as if they had nothing to do with each other. The learned ranks saw the whole model. They keep nearly
# all of the first layer, whose errors pass through all others, and make the later layers thin. No weight was trained
# for this, and it is by far the best.
#
# ## Distill
#
# Both factors can be trained, and a short training with the dense model as the teacher repairs much of what the plain
# SVD broke. Where less was broken, there is less to repair in so few steps.

# %%
recover = Distill(steps=15, learning_rate=1e-3, batch_size=8)
plain, _ = compress(model, [Factorize(budget)], calibration)
plain_recovered, _ = compress(plain, [recover], calibration)
learned_recovered, _ = compress(learned, [recover], calibration)

# %% [markdown]
# ## The table

# %%
models = {
    "dense": model,
    "SVD": plain,
    "SVD, recovered": plain_recovered,
    "whitened": uniform,
    "whitened, greedy": greedy,
    "learned ranks": learned,
    "learned, recovered": learned_recovered,
}
print(summary(models, corpus))

# %%
figure, axes = plt.subplots(figsize=(6.4, 2.8))
bars = axes.barh(list(models), [loss_of(each) for each in models.values()], 0.6, color="#0072b2")
axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
axes.axvline(corpus.floor.nats, color="black", linestyle="--", linewidth=1)
axes.set_xlabel("loss, nats per token (dashed: the floor)")
axes.invert_yaxis()
plt.show()

# %% [markdown]
# ## What people ask
#
# **Why did the SVD make my model larger?** Because the rank was above the break-even rank. A naive replacement at three
# quarters of the full rank, and what the library does:

# %%
query = model.layers[0].attention.query
rank = 192
thin_left, thin_right = truncated_svd(query.weight, rank)
print(f"dense {query.weight.size:,} parameters; "
      f"two factors of rank {rank}: {thin_left.size + thin_right.size:,}; "
      f"break-even rank {break_even_rank(query.weight.shape)}")  # fmt: skip
print("factorize_linear at this rank returns a", type(factorize_linear(query, rank)).__name__)

# %% [markdown]
# **I kept 90 % of the energy. Why is the model hardly smaller?** Energy is the sum of the squared singular values. The
# rank that holds 90 % of it is above the break-even rank in most layers, and those stay dense. Where it begins to save,
# the error is large already: 80 % of the energy is an error of almost half of the norm, in one layer on top of the
# other.

# %%
from tinyslm.compression.factorization import rank_for_energy

found = model_components(model, calibration, "none")
whole = tinyslm.footprint(model).parameters
for energy in (0.95, 0.9, 0.8, 0.7):
    ranks = {path: rank_for_energy(each.singular_values, energy) for path, each in found.items()}
    each = with_ranks(model, found, ranks)
    print(f"energy kept {energy:.0%}: error of the weights {np.sqrt(1 - energy):.2f} of the norm, "
          f"{tinyslm.footprint(each).parameters / whole:.0%} of the parameters, "
          f"loss {loss_of(each):.3f}")  # fmt: skip

# %% [markdown]
# **Is it faster?** Fewer multiplications are fewer multiplications, and NumPy needs no special format for two products
# in place of one. But each product has a fixed cost, and very thin matrices use the processor badly: small matrices
# gain less than their size says.

# %% tags=["measured"]
import time

from tinyslm.modules import Linear

rng = np.random.default_rng(0)


def microseconds(layer, x):
    """The median of 25 calls."""
    times = []
    for _ in range(25):
        began = time.perf_counter()
        layer(x)
        times.append(1e6 * (time.perf_counter() - began))
    return np.median(times)


print("64 tokens         dense    half of the parameters    a quarter    microseconds")
for width in (256, 1024):
    dense_layer = Linear(rng.standard_normal((width, width)).astype(np.float32))
    x = rng.standard_normal((64, width)).astype(np.float32)
    layers = [dense_layer] + [factorize_linear(dense_layer, width // part) for part in (4, 8)]
    cells = [microseconds(layer, x) for layer in layers]
    print(f"{width:4} x {width:4} {cells[0]:12.0f} {cells[1]:25.0f} {cells[2]:12.0f}")

# %% [markdown]
# ## Exercises
#
# 1. `tinyslm exercise new truncated-svd`: the closest matrix of a rank.
# 2. `tinyslm exercise new rank-budget`: what a rank costs, and the rank for a ratio.
# 3. `tinyslm exercise new fisher-svd` and `tinyslm exercise new whitened-svd`: the two weighted forms.
# 4. Gather the statistics of the whitened SVD from 4 documents (`Factorize(0.65, "whitened", documents=4)`). Compare
#    the error of the outputs on those documents and on others.
# 5. `LearnRanks(..., components="first")` keeps as many components as were learned, but the first ones. Is the choice
#    of *which* components worth anything beyond the choice of *how many*?
#
# ## Sources
#
# - Eckart & Young 1936, *The approximation of one matrix by another of lower rank*.
# - Hsu et al. 2022, *Language model compression with weighted low-rank factorization*: Fisher weights.
# - Yuan et al. 2023, *ASVD: activation-aware singular value decomposition*.
# - Wang et al. 2024, *SVD-LLM: truncation-aware singular value decomposition*: whitening.
# - Sundrani, Tudisco & Minervini 2025, *Low-rank compression of language models via differentiable rank selection*:
#   LLRC.
