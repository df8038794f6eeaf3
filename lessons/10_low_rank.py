# %% [markdown]
# # Low-rank factorization
#
# A 256 by 256 matrix has 65,536 numbers. If all rows were multiples of one row, 512 numbers would be enough: the matrix
# would have rank 1. Trained weight matrices have full rank, but **a product of two smaller matrices may approximate
# them well enough.** This lesson factorizes weight matrices, computes when this reduces the number of parameters, and
# learns the rank of each layer.

# %%
from setup_lesson import np, plt, show, show_lines, tinyslm
from tinyslm.compression.factorization import svd_components

model, tokenizer = tinyslm.load("teacher")
attention = model.layers[2].attention
weights = {"query": attention.query.weight, "attention output": attention.output.weight}
weights["up"] = model.layers[2].feed_forward.up.weight
weights["random"] = np.random.default_rng(0).standard_normal((256, 256))
values = {name: svd_components(each).singular_values for name, each in weights.items()}
relative = {name: each / each[0] for name, each in values.items()}
energy = {name: np.cumsum(each**2) / np.sum(each**2) for name, each in values.items()}
figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.0))
show_lines(left, relative, "component", "singular value / largest")
percent = {name: 100 * each for name, each in energy.items()}
show_lines(right, percent, "components kept", "% of the sum of squares")
show(
    "Two line charts for three weight matrices and a random one: singular values in descending "
    "order, and the share of the sum of squares in the components kept. The curves of the "
    "weights are similar to that of the random matrix."
)

# %% [markdown]
# Every matrix is a sum of *components*: the outer product of a column and a row, times a *singular value*, the size of
# the component. The singular value decomposition (SVD) computes them in descending order. The figure shows three weight
# matrices of one layer, and a random matrix for comparison. A matrix of low rank would need only a few components.
#
# After this lesson you can
#
# - factorize a weight matrix by SVD, and compute the break-even rank;
# - explain the weighted forms FWSVD, ASVD and SVD-LLM, and which error each minimizes;
# - allocate ranks to layers uniformly, greedily, or by training rank masks (LLRC).
#
# You need: lesson 02 (linear layers), lesson 03 (gradients), lesson 06 (distillation), lesson 07 (the Hessian `X^T X`).
#
# ## The dense model

# %%
from setup_lesson import median_milliseconds, summary, town_corpus, validation_loss
from tinyslm.recipes import Calibration

corpus = town_corpus(tokenizer, end_id=0, training=200, validation=40)
calibration = Calibration(corpus.training, model, statistics_documents=48)
print(summary({"dense": model}, corpus))

# %% [markdown]
# ## Singular values of trained weights
#
# How many components of the matrices in the first figure contain nine tenths of the sum of squares?

# %%
print("components for 90 % of the sum of squares, of", len(values["query"]))
for name, each in energy.items():
    print(f"{name:17} {np.argmax(each >= 0.9) + 1}")

# %% [markdown]
# The query has a few large singular values. But none of the matrices has low rank: for nine tenths of the sum of squares
# the square ones need nearly as many components as the random matrix. This makes factorization harder than pruning and
# quantization.
#
# ## The idea, on a 4 by 4 matrix

# %%
from setup_lesson import show_matrix
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
    title = f"component {i}: {components.singular_values[i]:.2f}"
    show_matrix(axes[1 + i], one[0] @ one[1], title, limit=0.9)
show_matrix(axes[3], left @ right, "sum of both", limit=0.9)
show_matrix(axes[4], left @ right - small, "error", limit=0.9)
show(
    "Five matrices: the weights, two components, their sum and the error. The sum is close to "
    "the weights, and the errors are small compared with the weights."
)
removed = components.singular_values[2:]
print("singular values", np.round(components.singular_values, 3))
print(f"error {np.linalg.norm(left @ right - small):.3f}, "
      f"norm of the removed singular values {np.linalg.norm(removed):.3f}")  # fmt: skip

# %% [markdown]
# The factors have 4 x 2 and 2 x 4 numbers, as many as the matrix itself. So nothing is saved at this rank.

# %%
from diagrams import low_rank

low_rank()

# %% [markdown]
# ## The break-even rank
#
# Rank $R$ costs $R(m + n)$ numbers instead of $mn$. The factors are smaller only below the *break-even rank* $mn / (m +
# n)$. For a square matrix it is half of the full rank.

# %%
from tinyslm.compression.factorization import break_even_rank, rank_for_ratio

shapes = {"square (query)": (256, 256), "twice as many rows (up)": (512, 256)}
fractions = np.linspace(0, 1, 50)
costs = {
    f"{name}, {m} x {n}": 100 * fractions * min(m, n) * (m + n) / (m * n)
    for name, (m, n) in shapes.items()
}
figure, axes = plt.subplots()
show_lines(axes, costs, "rank, % of the full rank", "parameters, % of dense", 100 * fractions)
axes.axhline(100, color="#555555", linewidth=1)
axes.annotate("same size as dense", (1, 103), ha="left", fontsize=8, color="#555555")
show(
    "Line chart of the parameters against the rank for a square and a rectangular matrix, both "
    "in percent. Both lines are straight; that of the square matrix reaches the size of the "
    "dense matrix at half of the full rank."
)
print("shape          full rank   break-even   rank for half of the parameters")
for m, n in shapes.values():
    cells = f"{min(m, n):11} {break_even_rank((m, n)):12} {rank_for_ratio((m, n), 0.5):12}"
    print(f"{m:4} x {n:4} {cells}")

# %% [markdown]
# To halve the parameters of a square matrix, three quarters of its components must be removed. The spectra above show
# that these contain a large part of the sum of squares. (A matrix with twice as many columns as rows has the same cost
# as one with twice as many rows.)
#
# ## The library's functions
#
# `tinyslm/compression/factorization/svd.py` and `tinyslm/compression/factorization/components.py`:

# %%
from setup_lesson import numbered_source
from tinyslm.compression.factorization import factorize_linear
from tinyslm.compression.factorization.components import Components, balanced_components

for function in (svd_components, balanced_components, Components.first, factorize_linear):
    print(numbered_source(function))
    print()

# %% [markdown]
# The decomposition is computed in float64 for every dtype of the weight. `balanced_components` multiplies each factor
# by the root of the singular value, so that both have entries of similar size. `factorize_linear` returns the dense
# layer if two factors would be larger than the matrix. By the theorem of Eckart and Young no other matrix of this rank
# is closer. A comparison with random subspaces, each with the optimal weights for it:

# %%
rng = np.random.default_rng(0)
errors = []
for _ in range(20_000):
    basis, _ = np.linalg.qr(rng.standard_normal((4, 2)))
    errors.append(np.linalg.norm(small - basis @ (basis.T @ small)))
of_svd = np.linalg.norm(left @ right - small)
print(f"error of the SVD {of_svd:.3f}, of the best random subspace {min(errors):.3f}")

# %% [markdown]
# **In a debugger**: set a breakpoint in `svd_components` (`tinyslm/compression/factorization/svd.py`), at its last
# line. Inspect `S`, `U.T @ U`, and `np.abs(U * S @ Vt - weight).max()`.
#
# ## Sensitivity of single layers
#
# The next cell factorizes one layer at a time to a fraction of its parameters. The matrix shows the mean over the
# layers of each kind.

# %%
from tinyslm.recipes import Factorize
from tinyslm.recipes.sensitivity import single_layer_losses

levels = (0.8, 0.6, 0.4)
sample = calibration.sample()[:3]
factorized = {level: Factorize(level)(model, calibration) for level in levels}
alone = single_layer_losses(model, factorized, sample)  # {path: {level: loss}}
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
columns = [f"{level:.0%} kept" for level in levels]
show_matrix(axes, 1000 * (table - dense), title, "{:.0f}", kinds, columns)
show(
    "Matrix of the increase of the loss: a row per kind of layer, a column per fraction kept. "
    "Only in the last column are there clear increases, most of all for output and value."
)

# %% [markdown]
# For a single layer, 60 % of the parameters are nearly enough. Below that, "output" and "value" have the largest
# increase. For the whole model the increase is larger, as shown below.
#
# ## Weighted SVD
#
# The plain SVD minimizes the error of the *weights*. Three methods minimize other errors:
#
# - **Fisher-weighted SVD** (FWSVD, `tinyslm/compression/factorization/fwsvd.py`) weights errors by their effect on the
#   *loss*, estimated by the mean squared gradient of each weight. The sums over the outputs give one number per input
#   feature; the SVD is computed of the matrix with its columns scaled by the square roots.
# - **ASVD** (`tinyslm/compression/factorization/asvd.py`) scales the columns by the mean magnitudes of the *input
#   features*.
# - **SVD-LLM** (whitening, `tinyslm/compression/factorization/svd_llm.py`) minimizes the error of the *outputs*. With
#   $X^T X = L L^T$ the error of the outputs is $\|X (W - W')^T\| = \|(W - W') L\|$, so the truncated SVD of $W L$
#   minimizes it exactly.
#
# On the small matrix, with correlated inputs:

# %%
from tinyslm.compression.factorization import fisher_weighted_svd, whitened_svd

rng = np.random.default_rng(3)
inputs = rng.standard_normal((500, 4)) @ np.diag([0.2, 0.3, 2.0, 1.0])
inputs += rng.standard_normal((500, 1))
fisher = np.tile([1.0, 1.0, 1.0, 25.0], (4, 1))  # the loss is most sensitive to the last column
candidates = {
    "plain SVD": truncated_svd(small, 2),
    "Fisher weights": fisher_weighted_svd(small, fisher, 2),
    "whitened": whitened_svd(small, inputs.T @ inputs, 2),
}
figure, axes = plt.subplots(1, 3, figsize=(6.4, 2.3))
whole = np.linalg.norm(inputs @ small.T)
print("rank 2            error of: weights   weights by Fisher   outputs")
for panel, (name, (left, right)) in zip(axes, candidates.items(), strict=True):
    error = left @ right - small
    show_matrix(panel, error, f"error, {name}", "{:.2f}", limit=0.4)
    print(f"{name:16} {np.linalg.norm(error):18.3f} {np.sqrt(np.sum(fisher * error**2)):19.3f} "
          f"{np.linalg.norm(inputs @ error.T) / whole:9.3f}")  # fmt: skip
show(
    "Three matrices of errors, for the plain SVD, with Fisher weights and whitened. With Fisher "
    "weights the errors in the last column are near zero and those in the third are larger."
)

# %% [markdown]
# Each method has the smallest error in its own column. Which error predicts the loss of the model must be measured:

# %%
from tinyslm.recipes.factorization.components import model_components, with_ranks
from tinyslm.recipes.factorization.rank_allocation import uniform_ranks

ratios = (0.5, 0.65, 0.8, 0.9)
losses = {}
for name in ("none", "fisher", "activation", "whitened"):
    found = model_components(model, calibration, name)  # {path: components}
    models = [with_ranks(model, found, uniform_ranks(found, ratio)) for ratio in ratios]
    losses[name] = [validation_loss(each, corpus) for each in models]
figure, axes = plt.subplots()
labels = "fraction of the parameters kept", "loss, nats per token"
show_lines(axes, losses, *labels, ratios, corpus.floor.nats, markers=True)
show(
    "Line chart of the loss against the fraction of the parameters kept, for four weightings. "
    "All curves fall; the whitened one is the lowest at every ratio, and the other three are "
    "close together."
)
print("kept        " + "".join(f"{ratio:8.0%}" for ratio in ratios))
for name, each in losses.items():
    print(f"{name:12}" + "".join(f"{loss:8.3f}" for loss in each))

# %% [markdown]
# Whitening has the lowest loss at every ratio, with the largest difference at small ratios. ASVD is better than the
# plain SVD. With Fisher weights the loss is *higher* than with the plain SVD at three of the four ratios. The paper
# reports the opposite for models that were fine-tuned to one task before the factorization, and trained again
# afterwards.
#
# Only whitening uses the correlations of the inputs. For one layer:

# %%
from tinyslm.recipes.statistics import input_grams

path = "layers.2.feed_forward.up"
products = input_grams(model, calibration.sample(), {path})[path][0]  # X^T X
norms = np.sqrt(np.diag(products))
cosines = products / np.outer(norms, norms)
eigenvalues = np.linalg.eigvalsh(cosines)[::-1]
figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.0))
show_matrix(left, cosines[:48, :48], "48 inputs of one layer: cosines (dark is 1)", limit=1)
percent = 100 * np.cumsum(eigenvalues) / np.sum(eigenvalues)
show_lines(right, {"inputs": percent}, "eigenvectors", "% of the sum of squares")
right.set_ylim(0, 101)
show(
    "Left, a matrix of cosines between input features, dark on the diagonal and pale elsewhere. "
    "Right, a line chart of the sum of squares against the eigenvectors: it rises steeply first "
    "and then flattens."
)
count = np.argmax(percent >= 90) + 1
print(f"{count} of {len(percent)} eigenvectors contain 90 % of the inputs' sum of squares")

# %% [markdown]
# Pairs of input features are only weakly correlated, but half of the eigenvectors contain nine tenths of the sum of
# squares. Errors of the weights in the other directions have little effect on the outputs; whitening moves the error
# into these directions.
#
# ## Learned ranks
#
# So far every layer kept the same fraction of its parameters. **LLRC** (learned ranks,
# `tinyslm/compression/factorization/llrc.py`, `tinyslm/recipes/factorization/llrc.py`) multiplies the components of
# every layer by a mask and trains only the masks. Each component has one trained number, its *logit*; the component is
# kept if the logit is positive. Noise on the logits changes the selection in every step. The gradient of the step
# function is replaced by that of a sigmoid (straight-through). The loss compares the hidden states with those of the
# dense model; a second term decreases all logits until the parameter budget is met.

# %%
from tinyslm.compression.factorization import rank_mask

print(numbered_source(rank_mask))

# %%
from tinyslm.modules import LinearLayer
from tinyslm.recipes import LearnRanks
from tinyslm.tree import named_modules

budget = 0.6
learn_ranks = LearnRanks(budget, steps=40, batch_size=4, period=20, learning_rate=0.2)
allocations = {
    "uniform": Factorize(budget, "whitened")(model, calibration),
    "greedy": Factorize(budget, "whitened", "greedy")(model, calibration),
    "learned": learn_ranks(model, calibration),
}
for name, each in allocations.items():
    count = tinyslm.footprint(each).parameters
    print(f"{name:8} {count:,} parameters, loss {validation_loss(each, corpus):.3f}")


# %%
def ranks_of(model):
    """(kinds, layers): the rank of every layer; the full rank for a dense layer."""
    layers = named_modules(model, LinearLayer)
    return [
        [getattr(layer, "rank", min(layer.in_features, layer.out_features))
         for path, layer in layers.items() if path.endswith(f".{kind}")]
        for kind in kinds
    ]  # fmt: skip


figure, axes = plt.subplots(1, 3, figsize=(9.0, 3.0), sharey=True)
columns = range(len(model.layers))
for panel, (name, each) in zip(axes, allocations.items(), strict=True):
    show_matrix(panel, ranks_of(each), f"rank, {name}", "{:.0f}", kinds, columns, limit=256)
    panel.set_xlabel("layer")
show(
    "Three matrices of ranks, with a row per kind of layer and a column per layer. Uniform "
    "ranks are equal within a row. Greedy keeps full ranks for key, value and most "
    "queries; learned ranks are largest in the first layer."
)

# %% [markdown]
# The three models have the same number of parameters, up to the rounding of ranks. A full rank (128 for keys and
# values, 256 for all others) means that the layer is dense.
#
# "Greedy" selects the components with the largest reduction of error per parameter, with the error of each layer
# relative to its norm (`tinyslm/compression/factorization/rank_allocation.py`). It keeps keys, values and most queries
# dense. Its loss is higher than that of uniform ranks, because the sum of the layers' errors does not predict the loss
# of the model. The learned ranks are optimized for the whole model. They are largest in the first layer, whose errors
# affect all later layers, and smallest for queries, keys and values. No weight was trained, and the loss is the lowest.
#
# ## Distillation after factorization
#
# Both factors can be trained. A short training with the dense model as teacher removes much of the plain SVD's increase
# of the loss. For the learned ranks the increase was smaller, and so is the improvement.

# %%
from tinyslm.recipes import Distill, compress

distill = Distill(steps=15, learning_rate=1e-3, batch_size=8)
plain, _ = compress(model, [Factorize(budget)], calibration)
plain_distilled, _ = compress(plain, [distill], calibration)
learned_distilled, _ = compress(allocations["learned"], [distill], calibration)

# %% [markdown]
# ## Comparison

# %%
models = {
    "dense": model,
    "SVD": plain,
    "SVD, distilled": plain_distilled,
    "whitened": allocations["uniform"],
    "whitened, greedy": allocations["greedy"],
    "learned ranks": allocations["learned"],
    "learned, distilled": learned_distilled,
}
print(summary(models, corpus))

# %%
figure, axes = plt.subplots(figsize=(6.4, 2.8))
heights = [validation_loss(each, corpus) for each in models.values()]
bars = axes.barh(list(models), heights, 0.6, color="#0072b2")
axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
axes.axvline(corpus.floor.nats, color="black", linestyle="--", linewidth=1)
axes.set_xlabel("loss, nats per token (dashed: the floor)")
axes.invert_yaxis()
show(
    "Bars of the loss of seven models, with the floor as a dashed line. The untrained SVD has the "
    "longest bar by far, then greedy and uniform whitening; the learned ranks and the distilled "
    "models have shorter ones."
)

# %% [markdown]
# ## Questions
#
# **Why did the SVD make the model larger?** The rank was above the break-even rank. Two factors at three quarters of
# the full rank, and the result of the library's function:

# %%
query = model.layers[0].attention.query
rank = 192
left, right = truncated_svd(query.weight, rank)
print(f"dense {query.weight.size:,} parameters; "
      f"two factors of rank {rank}: {left.size + right.size:,}; "
      f"break-even rank {break_even_rank(query.weight.shape)}")  # fmt: skip
print("factorize_linear at this rank returns a", type(factorize_linear(query, rank)).__name__)

# %% [markdown]
# **Why is the model hardly smaller with 90 % of the energy?** Energy is the sum of the squared singular values. In most
# layers the rank for 90 % of the energy is above the break-even rank, so these layers are not factorized. At the ranks that
# save parameters the error is large: 80 % of the energy is an error of almost half of the norm, in every layer.

# %%
from tinyslm.compression.factorization import rank_for_energy

found = model_components(model, calibration, "none")
whole = tinyslm.footprint(model).parameters
for energy in (0.95, 0.9, 0.8, 0.7):
    ranks = {path: rank_for_energy(each.singular_values, energy) for path, each in found.items()}
    each = with_ranks(model, found, ranks)
    print(f"energy kept {energy:.0%}: error of the weights {np.sqrt(1 - energy):.2f} of the norm, "
          f"{tinyslm.footprint(each).parameters / whole:.0%} of the parameters, "
          f"loss {validation_loss(each, corpus):.3f}")  # fmt: skip

# %% [markdown]
# **Is a factorized model faster?** It needs fewer multiplications, and no special format. But each product has a fixed
# overhead, and products with small matrices use the processor less efficiently. So the time decreases less than the
# number of multiplications, most of all for small matrices:

# %% tags=["measured"]
from tinyslm.modules import Linear

rng = np.random.default_rng(0)
print("64 tokens         dense    half of the parameters    a quarter    microseconds")
for width in (256, 1024):
    dense_layer = Linear(rng.standard_normal((width, width)).astype(np.float32))
    x = rng.standard_normal((64, width)).astype(np.float32)
    layers = [dense_layer] + [factorize_linear(dense_layer, width // part) for part in (4, 8)]
    times = [1000 * median_milliseconds(lambda: layer(x), calls=25) for layer in layers]
    print(f"{width:4} x {width:4} {times[0]:12.0f} {times[1]:25.0f} {times[2]:12.0f}")

# %% [markdown]
# ## Summary
#
# - Two factors of rank R have R (out + in) parameters; below the break-even rank this is less than the dense matrix.
#   For a square matrix the break-even rank is half of the full rank.
# - Trained matrices are not of low rank, so the error is large: with 60 % of the parameters and without training, the
#   plain SVD had a loss of 3.424 nats per token, the dense model 0.699.
# - Whitening minimizes the error of the outputs and had the lowest loss of the four weightings at every ratio.
# - Learned ranks had a loss of 1.330 at nearly the same size as uniform ranks with 1.607.
#
# The code: `tinyslm/compression/factorization/svd.py`, `tinyslm/compression/factorization/fwsvd.py`,
# `tinyslm/compression/factorization/asvd.py`, `tinyslm/compression/factorization/svd_llm.py`,
# `tinyslm/compression/factorization/llrc.py`; the steps in `tinyslm/recipes/factorization/factorize.py` and
# `tinyslm/recipes/factorization/llrc.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("rank-budget")

# %% tags=["exercise"]
exercise("truncated-svd")

# %% tags=["exercise"]
exercise("fisher-svd")

# %% tags=["exercise"]
exercise("whitened-svd")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Compute the statistics of the whitened SVD from 4 documents (`Factorize(0.65, "whitened", documents=4)`). Compare
#    the error of the outputs on those documents and on others.
# 2. `LearnRanks(..., components="first")` keeps the learned number of components, but always the first ones. How much
#    of the improvement comes from *which* components are kept, how much from *how many*?
#
# ## Sources
#
# - Eckart & Young 1936, *The approximation of one matrix by another of lower rank*.
# - Hsu et al. 2022, *Language model compression with weighted low-rank factorization*: Fisher weights.
# - Yuan et al. 2023, *ASVD: activation-aware singular value decomposition*.
# - Wang et al. 2024, *SVD-LLM: truncation-aware singular value decomposition*: whitening.
# - Sundrani, Tudisco & Minervini 2025, *Low-rank compression of language models via differentiable rank selection*:
#   LLRC.
