# %% [markdown]
# # Putting them together: the frontier
#
# Four techniques, each with a knob. Which of them, how strongly, and in which order? **There is no best model, only
# models that no other beats in both size and loss**: the frontier. This lesson writes recipes, runs a small grid of
# them as `tinyslm sweep` does, and measures what composes and what does not.
#
# You need: lessons 06 to 10.

# %%
import textwrap

import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.evaluation.loss import document_nats
from tinyslm.recipes import (
    STEPS,
    Calibration,
    Factorize,
    FoldMasks,
    PruneWanda,
    Quantize,
    Recipe,
    Distill,
    SliceNeurons,
    compress,
)
from tinyslm.reporting.pictures import show_frontier, use_lesson_style
from tinyslm.reporting.source import numbered_source
from tinyslm.reporting.summary import summary
from tinyslm.text.corpus import town_corpus

use_lesson_style()
model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=200, validation=40)
calibration = Calibration(corpus.training, model, statistics_documents=16)
print(summary({"dense": model}, corpus))

# %% [markdown]
# ## A recipe is a list
#
# A step takes a model and returns another one. A recipe is a list of steps, and `compress` applies one after the other,
# with a measurement after each. This is all of it:

# %%
print(numbered_source(compress))

# %%
recipe = [
    SliceNeurons(0.75),
    Distill(steps=10, learning_rate=5e-4, batch_size=8),
    Quantize(bits=4, group_size=32),
]
combined, records = compress(model, recipe, calibration)
print("after             parameters   stored bytes   multiply-adds")
for record in records:
    print(
        f"{record['step']:15} {record['parameters']:12,} {record['bits'] // 8:14,} "
        f"{record['multiply_adds']:15,}"
    )

# %% [markdown]
# Look at the columns. Slicing changes all three. Training changes none. Quantizing changes the bytes only: there are as
# many multiplications as before. Size is not one number, and a frontier of bytes is not a frontier of time.
#
# **In a debugger**: set a breakpoint in `compress` (`tinyslm/recipes/recipe.py`), at the line that calls `step`, and
# look at `step`, at `model.layers[0]` before and after, and at `records`.
#
# ## What does not compose
#
# Some steps refuse each other, because they would silently do nothing or something else. Others need a step between
# them.

# %%
attempts = {
    "quantize, then prune": [Quantize(), PruneWanda(0.5)],
    "factorize, then quantize": [Factorize(0.7), Quantize()],
    "prune, then quantize": [PruneWanda(0.5), Quantize()],
    "prune, fold, then quantize": [PruneWanda(0.5), FoldMasks(), Quantize()],
    "prune, fold, then factorize": [PruneWanda(0.5), FoldMasks(), Factorize(0.7)],
}
for name, steps in attempts.items():
    try:
        made, _ = compress(model, steps, calibration)
    except tinyslm.ConfigError as problem:
        said = f"{name:28} refused: {problem}"
        print(textwrap.fill(said, 96, subsequent_indent=" " * 29))
    else:
        size = tinyslm.footprint(made)
        print(
            f"{name:28} {size.non_zeros / size.parameters:.0%} of "
            f"{size.parameters:,} numbers are not zero"
        )

# %% [markdown]
# The last two lines show the difference between "runs" and "makes sense". Zeros survive rounding, because 0 is always a
# code (lesson 09). They do not survive the SVD, which mixes all entries: the pruning was for nothing.
#
# ## Do the damages add up?
#
# Each of four steps alone, without recovery, and each pair of them. If they were independent, a pair would cost the
# sum.

# %%
alone = {
    "prune": [PruneWanda(0.5), FoldMasks()],
    "slice": [SliceNeurons(0.875)],
    "factorize": [Factorize(0.9, "whitened")],
    "quantize": [Quantize(bits=3, group_size=32)],
}
dense_nats, tokens = document_nats(model, corpus.validation)


def damage(steps):
    """Nats per token above the dense model, on the same documents."""
    made, _ = compress(model, steps, calibration)
    nats, _ = document_nats(made, corpus.validation)
    return np.sum(nats - dense_nats) / np.sum(tokens)


names = list(alone)
single = {name: damage(steps) for name, steps in alone.items()}
pairs = [
    ("slice", "prune"),
    ("slice", "factorize"),
    ("slice", "quantize"),
    ("prune", "quantize"),
    ("prune", "factorize"),
]
together = {(one, other): damage(alone[one] + alone[other]) for one, other in pairs}
figure, axes = plt.subplots(figsize=(6.4, 2.8))
places = np.arange(len(pairs))
axes.barh(
    places + 0.2,
    [1000 * together[pair] for pair in pairs],
    0.36,
    color="#0072b2",
    label="both steps",
)
sums = [1000 * (single[one] + single[other]) for one, other in pairs]
axes.barh(places - 0.2, sums, 0.36, color="white", edgecolor="black", hatch="///",
          label="sum of each alone")  # fmt: skip
axes.set_yticks(places, [f"{one}, then {other}" for one, other in pairs])
axes.set_xlabel("loss above dense, thousandths of a nat")
axes.invert_yaxis()
axes.legend(fontsize=8)
plt.show()
for name, value in single.items():
    print(f"{name:10} alone {1000 * value:5.0f} thousandths")

# %% [markdown]
# No pair costs less than the sum of its parts. With rounding it is not much more: rounding disturbs everything a
# little, whatever was done before. Factorizing after another step costs far more than the sum. A loss that was measured
# for one technique on the dense model therefore says little about the same technique at the end of a recipe.
#
# ## In which order?
#
# Training belongs after the damage, and rounding at the end: codes cannot be trained, only what is left in floating
# point, such as the gains of the norms.

# %%
cut = SliceNeurons(0.5)
recover = Distill(steps=12, learning_rate=5e-4, batch_size=8)
rounding = Quantize(bits=4, group_size=32)
orders = {
    "cut, round": [cut, rounding],
    "cut, round, train": [cut, rounding, recover],
    "cut, train, round": [cut, recover, rounding],
}
ordered = {name: compress(model, steps, calibration)[0] for name, steps in orders.items()}
print(summary({"dense": model} | ordered, corpus))

# %% [markdown]
# Three models of the same size. The order alone makes the difference between the last two.
#
# ## A grid
#
# In a file, a recipe is TOML, and a *grid* stands for one recipe for each combination of its values. This is what
# `tinyslm sweep my.toml` reads:

# %%
import tempfile
from functools import partial
from pathlib import Path

from tinyslm.recipes.recipe_files import read_recipes

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
grid.ratio = [0.8, 0.6]
step = [{use = "Factorize", ratio = "{ratio}", weighting = "whitened", documents = 16}]
"""
folder = tempfile.TemporaryDirectory()
file = Path(folder.name) / "my.toml"
file.write_text(text)
recipes = read_recipes(file, STEPS)
print(len(recipes), "recipes:", "; ".join(each.name for each in recipes))

# %% [markdown]
# A sweep is many independent jobs, each of which is a recipe with a seed. What is done is a line in a file, so a sweep
# that was stopped goes on where it was:

# %%
from tinyslm.recipes.sweep import sweep

print(numbered_source(sweep))

# %% [markdown]
# What a job does is a function that takes plain values and returns plain values, so that it can run in another process
# or on another machine. This one makes the model of a recipe, and measures it beside the dense one:

# %%
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from tinyslm.recipes.recipe_files import make_step, recipe_entry
from tinyslm.reporting.frontier import format_frontier, spots
from tinyslm.text.loss_estimate import estimate_loss


def work(job):
    """One point of the grid: what the recipe's model costs, and its loss."""
    steps = [make_step(step, STEPS, job["name"]) for step in job["step"]]
    made, records = compress(model, steps, calibration)
    nats, _ = document_nats(made, corpus.validation)
    size = tinyslm.footprint(made)
    measured = {
        "bits": size.bits,
        "parameters": size.parameters,
        "multiply_adds": size.multiply_adds,
        "loss": asdict(estimate_loss(nats, tokens)),
        "change": asdict(estimate_loss(nats - dense_nats, tokens)),
    }
    return {"name": job["name"], "steps": records, "measured": measured}


jobs = {each.name: recipe_entry(each) for each in [Recipe("dense", ()), *recipes]}
points_file = Path(folder.name) / "points.jsonl"
workers = partial(ThreadPoolExecutor, 1)
points = sweep(jobs, work, workers, points_file)
print(format_frontier(points.values()))

# %% [markdown]
# `tinyslm sweep` hands the same function `sweep` a work of its own, which can also take the exam and writes a sample,
# and an executor of processes or of a cluster. Run again, it has nothing left to do, because every point is in the
# file:

# %%
again = sweep(jobs, work, workers, points_file)
print("the same points:", again == points)
print("lines in the file:", len(points_file.read_text().splitlines()))

# %% [markdown]
# ## The frontier of bytes, and that of multiplications

# %%
found = spots(points.values())
figure, axes = plt.subplots(figsize=(7.0, 4.2))
show_frontier(axes, {spot.name: (spot.bits / 8e6, spot.loss) for spot in found},
              "stored, millions of bytes (logarithmic)", floor=corpus.floor.nats)  # fmt: skip
plt.show()
figure, axes = plt.subplots(figsize=(7.0, 3.6))
others = (
    "8 bits",
    "4 bits",
    "3 bits",
    "slice 0.75, 4 bits",
    "slice 0.5, 4 bits",
)  # as many products
no_bits = {
    spot.name: (spot.multiply_adds / 1e6, spot.loss) for spot in found if spot.name not in others
}
show_frontier(axes, no_bits, "multiply-adds per token, millions", floor=corpus.floor.nats)
plt.show()

# %% [markdown]
# In bytes, rounding to 4 bits comes first and costs next to nothing; smaller models begin where rounding ends. (The
# dense model has a star for a difference to 8 bits that the printed digits do not show.) In multiplications rounding
# does not exist, and slicing and factorizing share the frontier among themselves, the latter here without recovery. The
# first question is therefore not "which technique", but "what is scarce".
#
# ## What people ask
#
# **Is one point of the frontier really better than another?** Both were measured on the same documents, so take the
# difference document by document: how hard a document is cancels out.

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
# The uncertainty of a loss is mostly that of the documents, and the uncertainty of a change is much smaller. Two error
# bars that overlap say little about two models that read the same text.
#
# **Does the grid need seeds?** Steps without training give the same model whatever the seed is. Those with training do
# not, and `tinyslm sweep --seeds 0 1 2` shows by how much. A point that wins by less than that has not won.
#
# **Is it cheating to choose on the validation documents?** A little: the best of many points looks better than it is.
# Choose on some documents and report on others.
#
# ## Exercises
#
# 1. Add `PruneSparseGPT`, `FoldMasks` and 4 bits to the grid. Where does it lie on the frontier of stored bytes, and
#    why does `StoreSparse` not help after rounding?
# 2. Save the text above as `my.toml`, and run `tinyslm sweep my.toml --seeds 0 1 2`. Which points of the frontier stay
#    on it?
# 3. Replace the recovery of 12 steps by one of 100 in the points with `slice 0.5`. How far does it move, and what did
#    it cost?
# 4. The dense model is on the frontier of multiplications. Find a recipe with fewer multiplications and no higher loss.
#
# ## Sources
#
# - Kim & Rush 2016, *Sequence-level knowledge distillation*, section 5: distilling and pruning together.
# - Han, Mao & Dally 2016, *Deep compression*: pruning, quantization and coding, in this order.
# - Dietterich 1998, *Approximate statistical tests for comparing supervised classification learning algorithms*: paired
#   tests.
