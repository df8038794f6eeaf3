# %% [markdown]
# # Combining techniques: the Pareto frontier
#
# Each of the four techniques has parameters. Which techniques should be combined, how strongly, and in which order?
# **No single model is best. A model is Pareto-optimal if no other model is better in both size and loss; these models
# form the Pareto frontier.** This lesson writes recipes, runs a small grid of them as `tinyslm sweep` does, and
# measures which steps can be combined.

# %%
import json

from setup_lesson import np, plt, show, show_frontier
from tinyslm.load_save import data_directory

claims = json.loads((data_directory() / "claims.json").read_text())["claims"]
seeds = next(claim["measured"] for claim in claims if claim["name"] == "pipeline")
sizes = {name: f"{name} megabytes" for name in seeds[0] if f"{name} megabytes" in seeds[0]}
means = {key: np.mean([measured[key] for measured in seeds]) for key in seeds[0]}
figure, axes = plt.subplots(figsize=(6.4, 3.2))
points = {name: (means[size], means[name]) for name, size in sizes.items()}
show_frontier(axes, points, "memory, MB")
axes.set_ylim(bottom=0.6)
show(
    "Scatter plot of loss against memory for seven small models, in two groups of similar size. "
    "In each group the losses differ several times; the frontier connects the lowest."
)

# %% [markdown]
# Recorded measurements of seven models about a tenth as large as the dense model, from which they were made: quantized
# with GPTQ or with training, a small *student*, and a *pipeline* that slices, distills and quantizes. Each point is the
# mean of three seeds (`data/README.md` has the command). Models of similar size have very different losses. The thin
# line is the frontier.
#
# After this lesson you can
#
# - write recipes in Python and TOML, with grids of settings;
# - predict which steps can be combined, and in which order;
# - read a Pareto frontier for bytes and for multiply-adds, and compare models on the same documents.
#
# You need: lessons 06 to 10.
#
# ## The dense model

# %%
from setup_lesson import numbered_source, summary, tinyslm, town_corpus
from tinyslm.recipes import Calibration

model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=200, validation=40)
calibration = Calibration(corpus.training, model, statistics_documents=16)
print(summary({"dense": model}, corpus))

# %% [markdown]
# ## A recipe is a list of steps
#
# A step takes a model and returns a new one. A recipe is a list of steps. `compress` tries them on a few layers of the
# model, so that a recipe that cannot be applied fails at once. Then it applies the steps in order and measures the model
# after each (`tinyslm/recipes/recipe.py`):

# %%
from tinyslm.recipes import compress

print(numbered_source(compress))

# %%
from tinyslm.recipes import Distill, Quantize, SliceNeurons

recipe = [
    SliceNeurons(0.75),
    Distill(steps=10, learning_rate=5e-4, batch_size=8),
    Quantize(bits=4, group_size=32),
]
combined, records = compress(model, recipe, calibration)
print("after             parameters   stored bytes   multiply-adds")
for record in records:
    sizes = f"{record['parameters']:12,} {record['bits'] // 8:14,} {record['multiply_adds']:15,}"
    print(f"{record['step']:15} {sizes}")

# %% [markdown]
# Slicing reduces all three sizes. Training changes none. Quantization reduces only the bytes; the number of
# multiply-adds stays the same. So there are several measures of size, and each has its own Pareto frontier.
#
# **In a debugger**: set a breakpoint in `compress` (`tinyslm/recipes/recipe.py`), at the line that calls `step`.
# Inspect `step`, `model.layers[0]` before and after, and `records`.
#
# ## Steps that cannot be combined
#
# Some steps raise an error after certain others, because they would have no effect or the wrong one. Some need another
# step between them.

# %%
import textwrap

from tinyslm.recipes import Factorize, FoldMasks, PruneWanda

attempts = {
    "quantize, then prune": [Quantize(), PruneWanda(0.5)],
    "factorize, then quantize": [Factorize(0.7), Quantize()],
    "prune, then quantize": [PruneWanda(0.5), Quantize()],
    "prune, fold, then quantize": [PruneWanda(0.5), FoldMasks(), Quantize()],
    "prune, fold, then factorize": [PruneWanda(0.5), FoldMasks(), Factorize(0.7)],
}
for name, steps in attempts.items():
    try:
        result, _ = compress(model, steps, calibration)
    except tinyslm.ConfigError as error:
        line = f"{name:28} error: {error}"
        print(textwrap.fill(line, 96, subsequent_indent=" " * 29))
    else:
        size = tinyslm.footprint(result)
        share = size.non_zeros / size.parameters
        print(f"{name:28} {share:.0%} of {size.parameters:,} numbers are not zero")

# %% [markdown]
# The last two combinations run, but only the first is useful. Quantization preserves zeros, because 0 is always one of
# the levels (lesson 09). The SVD does not, because every entry of a factor depends on all weights: the pruning has no
# benefit.
#
# ## Are the increases of the loss additive?
#
# The next cells measure the increase of the loss for four steps alone, without training, and for pairs of them. If the
# increases were additive, a pair would cost the sum.

# %%
from tinyslm.evaluation.loss import document_nats

alone = {
    "prune": [PruneWanda(0.5), FoldMasks()],
    "slice": [SliceNeurons(0.875)],
    "factorize": [Factorize(0.9, "whitened")],
    "quantize": [Quantize(bits=3, group_size=32)],
}
pairs = [("slice", "prune"), ("slice", "factorize"), ("slice", "quantize"), ("prune", "quantize")]
pairs += [("prune", "factorize")]
dense_nats, tokens = document_nats(model, corpus.validation)


def loss_increase(steps):
    """Increase of the loss on the same documents, in thousandths of a nat per token."""
    result, _ = compress(model, steps, calibration)
    nats, _ = document_nats(result, corpus.validation)
    return 1000 * np.sum(nats - dense_nats) / np.sum(tokens)


single = {name: loss_increase(steps) for name, steps in alone.items()}
together = {(one, other): loss_increase(alone[one] + alone[other]) for one, other in pairs}
for name, value in single.items():
    print(f"{name:10} alone {value:5.0f} thousandths")

# %%
for (one, other), value in together.items():
    print(f"{one}, then {other:10} {value:5.0f}, the sum {single[one] + single[other]:5.0f}")
figure, axes = plt.subplots(figsize=(6.4, 2.8))
rows = np.arange(len(pairs))
axes.barh(rows + 0.2, list(together.values()), 0.36, color="#0072b2", label="both steps")
sums = [single[one] + single[other] for one, other in pairs]
axes.barh(rows - 0.2, sums, 0.36, color="white", edgecolor="black", hatch="///",
          label="sum of each alone")  # fmt: skip
axes.set_yticks(rows, [f"{one}, then {other}" for one, other in pairs])
axes.set_xlabel("increase of the loss, thousandths of a nat")
axes.invert_yaxis()
axes.legend(fontsize=8)
show(
    "Bars of the increase of the loss for five pairs of steps, beside the sum of each step "
    "alone. Every pair costs more than the sum, pruning and then factorization about three "
    "times as much."
)

# %% [markdown]
# Every pair costs more than the sum, pruning and then factorization about three times as much: the second step acts on a
# model that has less redundancy than the dense one. So the loss of a technique on the dense model does not predict its
# loss at the end of a recipe.
#
# ## The order of the steps
#
# Training should follow the step that increases the loss, and quantization should be last: integer codes cannot be
# trained, only the parameters that remain in floating point, such as the gains of the norms.

# %%
slicing = SliceNeurons(0.5)
distill = Distill(steps=12, learning_rate=5e-4, batch_size=8)
rounding = Quantize(bits=4, group_size=32)
orders = {
    "slice, quantize": [slicing, rounding],
    "slice, quantize, distill": [slicing, rounding, distill],
    "slice, distill, quantize": [slicing, distill, rounding],
}
ordered = {name: compress(model, steps, calibration)[0] for name, steps in orders.items()}
print(summary({"dense": model} | ordered, corpus))

# %% [markdown]
# The three models have the same size. The last two differ only in the order of their steps.
#
# ## A grid of recipes
#
# In a file, recipes are written in TOML. A *grid* expands into one recipe per combination of its values
# (`tinyslm/recipes/recipe_files.py`). `tinyslm sweep my.toml` reads such a file:

# %%
text = """
[[recipe]]
name = "{bits} bits"
grid.bits = [8, 4, 3]
step = [{use = "Quantize", bits = "{bits}", group_size = 32}]

[[recipe]]
name = "slice {ratio}, {bits} bits"
grid.ratio = [0.75, 0.5]
grid.bits = [8, 4]
step = [
  {use = "SliceNeurons", ratio = "{ratio}"},
  {use = "Distill", steps = 12, learning_rate = 5e-4, batch_size = 8},
  {use = "Quantize", bits = "{bits}", group_size = 32},
]

[[recipe]]
name = "whitened {ratio}"
grid.ratio = [0.9, 0.8]
step = [{use = "Factorize", ratio = "{ratio}", weighting = "whitened", documents = 16}]
"""

# %%
import tempfile
from pathlib import Path

from tinyslm.recipes import STEPS
from tinyslm.recipes.recipe_files import read_recipes

folder = tempfile.TemporaryDirectory()
file = Path(folder.name) / "my.toml"
file.write_text(text)
recipes = read_recipes(file, STEPS)
print(len(recipes), "recipes:", "; ".join(each.name for each in recipes))

# %% [markdown]
# A sweep consists of independent jobs; each job is a recipe with a seed. Every finished job is a line in a file, so an
# interrupted sweep can be resumed (`tinyslm/recipes/sweep.py`):

# %%
from tinyslm.recipes.sweep import sweep

print(numbered_source(sweep))

# %% [markdown]
# The work of a job is a function of plain values that returns plain values, so that it can run in another process or on
# another machine. The function below applies a recipe, and measures the model on the same documents as the dense one:

# %%
from dataclasses import asdict

from tinyslm.recipes.recipe_files import make_step
from tinyslm.text.loss_estimate import estimate_loss


def measure_recipe(job):
    """One point of the grid: the sizes and the loss of the recipe's model."""
    steps = [make_step(step, STEPS, job["name"]) for step in job["step"]]
    result, records = compress(model, steps, calibration)
    nats, _ = document_nats(result, corpus.validation)
    size = tinyslm.footprint(result)
    measured = {
        "bits": size.bits,
        "parameters": size.parameters,
        "multiply_adds": size.multiply_adds,
        "loss": asdict(estimate_loss(nats, tokens)),
        "change": asdict(estimate_loss(nats - dense_nats, tokens)),
    }
    return {"name": job["name"], "steps": records, "measured": measured}


# %%
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tinyslm.recipes import Recipe
from tinyslm.recipes.recipe_files import recipe_entry
from tinyslm.reporting.frontier import format_frontier

jobs = {each.name: recipe_entry(each) for each in [Recipe("dense", ()), *recipes]}
points_file = Path(folder.name) / "points.jsonl"
workers = partial(ThreadPoolExecutor, 1)
points = sweep(jobs, measure_recipe, workers, points_file)
print(format_frontier(points.values()))

# %% [markdown]
# The command `tinyslm sweep` calls the same function `sweep`. Its jobs can also measure the exam and generate a sample,
# and run in processes or on a cluster. A second run has nothing to do, because the file contains every point:

# %%
again = sweep(jobs, measure_recipe, workers, points_file)
print("the same points:", again == points)
print("lines in the file:", len(points_file.read_text().splitlines()))

# %% [markdown]
# ## Two frontiers: bytes and multiply-adds

# %%
from tinyslm.reporting.frontier import spots

found = spots(points.values())
figure, axes = plt.subplots(figsize=(7.0, 4.2))
by_bytes = {spot.name: (spot.bits / 8e6, spot.loss) for spot in found}
show_frontier(axes, by_bytes, "stored, MB (logarithmic)", floor=corpus.floor.nats)
show(
    "Scatter plot of loss against stored megabytes for all points of the grid. The frontier is "
    "nearly flat from the dense model down to few bits and rises steeply at the smallest model."
)

# %%
# Quantization does not change the multiply-adds, so each number is shown once.
same_products = ("8 bits", "4 bits", "3 bits", "slice 0.75, 4 bits", "slice 0.5, 4 bits")
by_products = {
    spot.name: (spot.multiply_adds / 1e6, spot.loss)
    for spot in found
    if spot.name not in same_products
}
figure, axes = plt.subplots(figsize=(7.0, 3.6))
show_frontier(axes, by_products, "multiply-adds per token, millions", floor=corpus.floor.nats)
show(
    "Scatter plot of loss against multiply-adds per token. Sliced models are on the frontier, on "
    "which the loss rises as the multiply-adds fall; factorized models are above it."
)

# %% [markdown]
# For bytes, quantization to 4 bits is the first choice and hardly increases the loss; slicing is on the frontier only
# at smaller sizes. (The dense model has a star because its loss differs from that with 8 bits in digits that are not
# printed.) For multiply-adds quantization has no effect. The sliced models are on the frontier; the factorized ones,
# which were not trained, are not. So the first question is which resource is limited: memory or computation.
#
# ## Questions
#
# **Is one point of the frontier significantly better than another?** Both models were measured on the same documents.
# So compute the difference for each document; the difficulty of the document cancels out.

# %%
print("                         loss            change against dense, same documents")
for name in ("4 bits", "3 bits", "slice 0.75, 8 bits"):
    measured = points[name]["measured"]
    loss, change = measured["loss"], measured["change"]
    print(
        f"{name:20} {loss['nats']:8.3f} ± {loss['standard_error']:.3f} "
        f"{change['nats']:18.3f} ± {change['standard_error']:.3f}"
    )

# %% [markdown]
# Most of the uncertainty of a loss is the variation between documents. The uncertainty of the difference is much
# smaller. Overlapping error bars therefore do not show that two models measured on the same text are equal.
#
# **Does a grid need several seeds?** Steps without training give the same model for every seed. Steps with training do
# not; `tinyslm sweep --seeds 0 1 2` shows the variation. A difference smaller than this variation is not significant.
#
# **Is it wrong to select on the validation documents?** The selected point looks better than it is, because the best of
# many is partly best by chance. Select on one set of documents and report the loss on another.
#
# ## Summary
#
# - A recipe is a list of steps. Slicing and factorization reduce parameters and multiply-adds, quantization reduces
#   bytes.
# - The increases of the loss are not additive: every pair of steps cost more than the sum, pruning and then
#   factorization about three times as much.
# - The order matters: slice, distill, quantize had a loss of 0.826 nats per token; slice, quantize, distill 0.887, at
#   the same size.
# - Each measure of size has its own Pareto frontier. For bytes, 4 bits (2.64 MB, loss 0.701) and 3 bits (2.19 MB, loss
#   0.718) are on it.
# - Models should be compared by the difference on the same documents: 3 bits increased the loss by 0.019 ± 0.003.
#
# The code: `tinyslm/recipes/recipe.py`, `tinyslm/recipes/recipe_files.py`, `tinyslm/recipes/sweep.py`,
# `tinyslm/reporting/frontier.py`.
#
# ## Exercises
#
# 1. Add `PruneSparseGPT`, `FoldMasks` and 4 bits to the grid. Is the point on the frontier of bytes? Why does
#    `StoreSparse` not help after quantization?
# 2. Save the text above as `my.toml`, and run `tinyslm sweep my.toml --seeds 0 1 2`. Which points are on the frontier
#    for every seed?
# 3. Replace the 12 steps of distillation by 100 in the points with `slice 0.5`. How much does the loss decrease, and
#    how long does it take?
# 4. The dense model is on the frontier of multiply-adds. Find a recipe with fewer multiply-adds and no higher loss.
#
# ## Sources
#
# - Kim & Rush 2016, *Sequence-level knowledge distillation*, section 5: distillation and pruning combined.
# - Han, Mao & Dally 2016, *Deep compression*: pruning, quantization and coding, in this order.
# - Dietterich 1998, *Approximate statistical tests for comparing supervised classification learning algorithms*: paired
#   tests.
