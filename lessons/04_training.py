# %% [markdown]
# # Training to the floor
#
# The last lesson gave the direction in which every weight should move. This one decides **how far, and how often**,
# trains a small model for a minute, and compares its loss with the floor that no model can pass, and with the training
# of the built-in model, which took three quarters of an hour.
#
# You need: lesson 01 (the corpus and its floor), lesson 03 (gradients).

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.models.builder import random_model
from tinyslm.models.tiny_shapes import tiny_config
from tinyslm.reporting.pictures import show_bars, show_lines, use_lesson_style, use_powers
from tinyslm.reporting.source import numbered_source
from tinyslm.reporting.summary import summary
from tinyslm.text import town
from tinyslm.text.batches import document_rows, encode_documents
from tinyslm.text.corpus import town_corpus

use_lesson_style()
teacher, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, validation=200)
untrained = random_model(tiny_config("small", tokenizer.get_vocab_size()))
print(summary({"untrained": untrained, "teacher": teacher}, corpus))

# %% [markdown]
# Before training a model guesses: its loss is even a little above the logarithm of the vocabulary's size, that of
# somebody who finds all tokens equally likely. The teacher shows where one can get with this code.
#
# ## A valley
#
# Why not simply go against the gradient? Because the loss does not rise equally fast in all directions. Here are two
# weights $a$ and $b$ with the loss $\frac{1}{2}(a^2 + 50\,b^2)$, a long and steep valley. *Gradient descent* subtracts
# the gradient times a learning rate. **AdamW** is what trains nearly every language model, and what the rest of this
# section takes apart.

# %%
from tinyslm.training import AdamW

steepness = np.array([1.0, 50.0])
start = np.array([-4.0, 1.0])


def descend(rate, steps=60):
    """The places that gradient descent visits."""
    places = [start]
    for _ in range(steps):
        places.append(places[-1] - rate * steepness * places[-1])
    return np.array(places)


def adam(rate, steps=60):
    """The places that AdamW visits, without decay."""
    weights = {"place": start.copy()}
    optimizer = AdamW(weights, weight_decay=0.0)
    places = [start]
    for _ in range(steps):
        optimizer.step({"place": steepness * weights["place"]}, rate)
        places.append(weights["place"].copy())
    return np.array(places)


paths = {
    "gradient descent, rate 0.039": descend(0.039),
    "gradient descent, rate 0.005": descend(0.005),
    "AdamW, rate 0.15": adam(0.15),
}
figure, panels = plt.subplots(3, 1, figsize=(6.4, 5.2), sharex=True)
grid = np.meshgrid(np.linspace(-4.5, 1, 200), np.linspace(-1.3, 1.3, 100))
for axes, (name, places) in zip(panels, paths.items()):
    height = 0.5 * (grid[0] ** 2 + 50 * grid[1] ** 2)
    levels = [0.5, 2, 5, 10, 20, 40]
    axes.contour(*grid, height, levels=levels, colors="#bbbbbb", linewidths=0.8, linestyles="-")
    axes.plot(*places.T, color="#0072b2", marker="o", markersize=3, linewidth=1, linestyle="-")
    axes.plot(0, 0, "*", color="#d55e00", markersize=11)
    axes.set_title(f"{name}: {len(places) - 1} steps", fontsize=9)
    axes.set_ylabel("b")
    axes.grid(False)
axes.set_xlabel("a (the star is the lowest place)")
plt.show()

# %% [markdown]
# With a large rate the steep direction is thrown from wall to wall, and just a little more would throw it out of the
# valley. With a small rate the flat direction crawls. One rate for both weights has to be wrong for one of them. AdamW
# gives each weight a step of its own.
#
# ## AdamW by hand
#
# It keeps two running means per weight: $m$ of the gradient $g$, and $v$ of its square. The step is their ratio:
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\,g^2, \qquad
# w \leftarrow w - \eta\,\frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \epsilon}$$
#
# $\eta$ is the learning rate, $t$ the number of the step. Four weights whose gradients differ by a factor of ten
# thousand:

# %%
gradient = np.array([[0.001, -0.1, 10.0, 0.0]])
weights = np.array([[0.5, 1.0, -2.0, 3.0]])
m = (1 - 0.9) * gradient
v = (1 - 0.95) * gradient**2
step = 0.01 * (m / (1 - 0.9)) / (np.sqrt(v / (1 - 0.95)) + 1e-8)  # rate 0.01, t = 1

parameters = {"weights": weights.copy()}
optimizer = AdamW(parameters, weight_decay=0.0)
optimizer.step({"weights": gradient}, learning_rate=0.01)
print("gradient              ", gradient[0])
print("step by hand          ", np.round(0 - step[0], 3))
print("step of the library   ", np.round((parameters["weights"] - weights)[0], 3))

# %% [markdown]
# The first step is the learning rate, up or down, whatever the size of the gradient. Later it is smaller where the
# gradient changes its sign from step to step, because then $m$ is small beside $\sqrt{v}$. A weight with gradient zero
# stays.
#
# ## The library's function, taken apart

# %%
print(numbered_source(AdamW.step))

# %% [markdown]
# - `*=` and `+=` change the arrays in place, so that few new ones are made.
# - Every number moves by itself. So the arrays are cut into `blocks`, small enough for the cache of a core with all that
#   is computed for them, and `map_shares` gives each thread its share of them.
# - The two corrections matter in the first steps, when $m$ and $v$ still remember that they began at zero. Without them
#   the first step is less than half as long as it should be. With $\beta_2 = 0.999$, the value of the paper, all steps
#   of the beginning would be several times too long:

# %%
t = np.arange(1, 61)
without = (1 - 0.9**t) / np.sqrt(1 - 0.95**t)
slower = (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
lines = {
    "corrected": np.ones(len(t)),
    "not corrected": without,
    "not corrected, beta2 = 0.999": slower,
}
figure, axes = plt.subplots()
show_lines(axes, lines, "step", "length of the step, in learning rates", t)
plt.show()

# %% [markdown]
# - `self.decays(path)`: **weight decay** pulls every weight of a matrix towards zero, by a fixed share per step, so
#   that what the data does not ask for goes away. The *W* of AdamW says that this happens apart from the gradient.
#   Adam's older way was to add `decay * weight` to the gradient, and then it is divided by $\sqrt{v}$ like the
#   gradient. See what that does to weights that all start at 1 and have gradients that are pure noise:

# %%
rng = np.random.default_rng(0)
scales = np.array([[0.01], [10.0]])  # two rows of weights: noise of different size
apart = {"weight": np.ones((2, 400))}
inside = {"weight": np.ones((2, 400))}
decoupled = AdamW(apart, weight_decay=0.1)
coupled = AdamW(inside, weight_decay=0.0)
history = []
for _ in range(300):
    noise = scales * rng.standard_normal((2, 400))
    decoupled.step({"weight": noise}, 0.01)
    coupled.step({"weight": noise + 0.1 * inside["weight"]}, 0.01)
    history.append([apart["weight"].mean(axis=1), inside["weight"].mean(axis=1)])
history = np.array(history)  # (steps, way, row)
lines = {
    "apart (AdamW), small gradients": history[:, 0, 0],
    "apart (AdamW), large gradients": history[:, 0, 1],
    "in the gradient, small gradients": history[:, 1, 0],
    "in the gradient, large gradients": history[:, 1, 1],
}
figure, axes = plt.subplots()
show_lines(axes, lines, "step", "mean weight")
plt.show()

# %% [markdown]
# Apart, both rows decay alike. In the gradient, the weights with small gradients are gone soon, and those with large
# ones hardly decay at all: the decay depends on something that it has nothing to do with.
#
# **In a debugger**: set a breakpoint at the line `parameter -= ...` in `tinyslm/training/adamw.py` and look at `m`,
# `denominator` and `np.abs(m / denominator).mean()` for one `path`: how much of the learning rate is used.
#
# ## Warm up, then slow down
#
# The rate itself changes over time. It rises for some steps, because in the beginning $v$ is a mean of few gradients
# and not yet to be trusted, and then falls along half a cosine, because near the end large steps only shake the
# weights.

# %%
from tinyslm.training import warmup_cosine

print(numbered_source(warmup_cosine))
rates = [0.003 * warmup_cosine(step, steps=150, warmup_steps=15, final=0.05) for step in range(150)]
figure, axes = plt.subplots(figsize=(6.4, 2.4))
show_lines(axes, {"rate": rates}, "step", "learning rate")
plt.show()

# %% [markdown]
# Does it matter, and which rate is right? The smallest model of the project is trained for 30 steps, from the same
# random weights, with five rates, with and without a warm-up.

# %%
from tinyslm.training import Settings, State, train

documents = town.documents("train", 0, 6000)  # (family, text, exact log-probability)
encoded = encode_documents(tokenizer, [text for _, text, _ in documents], end_id=0)
token_ids, labels = document_rows(encoded, 256)


def short_training(rate, warmup_steps):
    """The mean loss of the last 5 of 30 steps with the smallest model; 10 if it diverged."""
    settings = Settings(30, 20, learning_rate=rate, warmup_steps=warmup_steps, threads=2)
    state = State.start(random_model(tiny_config("smallest", 1536)), settings)
    try:
        return np.mean(train(state, token_ids, labels, settings).losses[-5:])
    except tinyslm.Error:
        return 10.0


rates = [0.001, 0.003, 0.01, 0.03, 0.1]
lines = {
    name: [short_training(rate, warmup) for rate in rates]
    for name, warmup in (("warm-up of 8 steps", 8), ("no warm-up", 1))
}
figure, axes = plt.subplots()
show_lines(axes, lines, "learning rate at its peak", "loss, nats per token", rates, markers=True)
use_powers(axes, "x")
axes.set_xticks(rates)
plt.show()

# %% [markdown]
# Between too little and too much there is a best rate, and the warm-up moves it to the right: with it a larger rate can
# be used, which goes further. At small rates it only costs time. Thirty steps are few; for a wider model and a longer
# training smaller rates are usual, as below.
#
# ## A batch
#
# A step uses 40 documents. They differ in length, and rows of a batch must be equally long, so the short ones are
# padded. The loop sorts the 40 by length and cuts them into 8 *micro-batches* of 5, each padded only to its own longest
# row.

# %%
from tinyslm.training.loop import batch_gradients, batch_rows

settings = Settings(150, 40, learning_rate=3e-3, warmup_steps=15, threads=2)
rows = batch_rows(0, len(token_ids), settings)
lengths = np.array([len(encoded[row]) for row in rows])
whole = 1 - lengths.sum() / (lengths.max() * len(lengths))
sorted_lengths = np.sort(lengths).reshape(-1, 5)
pieces = 1 - lengths.sum() / (5 * sorted_lengths.max(axis=1).sum())
print(f"documents of {lengths.min()} to {lengths.max()} tokens")
print(f"padding if the batch is one piece: {whole:.0%}")
print(f"padding in micro-batches of similar length: {pieces:.0%}")

# %% [markdown]
# Micro-batches are shared among the processor's cores, and their gradients are added. For the sum to be the gradient of
# the batch's mean loss, each must weigh as many tokens as it has. To take the plain mean of their means is a common
# mistake:

# %%
micro = batch_gradients(
    tinyslm.next_token_loss, untrained, token_ids[rows], labels[rows], settings
)[1]
one = Settings(150, 40, micro_batch_size=40, threads=1)
whole = batch_gradients(tinyslm.next_token_loss, untrained, token_ids[rows], labels[rows], one)[1]
order = np.argsort(lengths, kind="stable").reshape(-1, 5)
differentiate = tinyslm.value_and_grad(tinyslm.next_token_loss)
means = [
    differentiate(untrained, token_ids[each], labels[each])[1].layers[0].attention.value.weight
    for each in rows[order]
]
path = "layers.0.attention.value.weight"
error = np.linalg.norm(np.mean(means, axis=0) - whole[path]) / np.linalg.norm(whole[path])
print(
    "8 micro-batches, weighted, give the gradient of the batch:",
    np.allclose(micro[path], whole[path], atol=1e-6),
)
print(f"the plain mean of their means is off by {error:.1%}")

# %% [markdown]
# ## A minute of training
#
# This is the whole loop:

# %%
print(numbered_source(train))

# %% [markdown]
# `clip_by_global_norm` shortens the gradient where it is longer than a limit, so that one odd batch cannot ruin the
# model. Now 150 steps with a model of four layers and 128 numbers per token; every document is seen once.

# %%
state = train(State.start(untrained, settings), token_ids, labels, settings)
losses = np.array(state.losses)
print("steps        loss, nats per token")
for first in range(0, 150, 25):
    print(f"{first:3} to {first + 24:3}   {losses[first : first + 25].mean():.3f}")

# %% [markdown]
# The loss falls fast, then slowly. The built-in model's training was recorded; it is a larger model, with as many
# documents per step. Beside it, the floor:

# %%
from tinyslm.load_save import data_directory

record = json.loads((data_directory() / "teacher" / "training.json").read_text())
recorded = np.array(record["losses"])


def smooth(values, width):
    """Running means, and the steps that they stand for."""
    return np.arange(width / 2, len(values) - width / 2 + 1), np.convolve(
        values, np.ones(width) / width, "valid"
    )


figure, axes = plt.subplots(figsize=(6.4, 3.6))
floor = record["floor"]["nats"]
for values, name, colour, line in (
    (losses, "this page: 150 steps", "#0072b2", "-"),
    (recorded, "the teacher, recorded: 3,400 steps", "#d55e00", "--"),
):
    axes.plot(
        np.arange(1, len(values) + 1),
        values,
        color=colour,
        alpha=0.25,
        linewidth=0.7,
        linestyle="-",
    )
    axes.plot(*smooth(values, 10), color=colour, linestyle=line, label=name)
show_lines(axes, {}, "step (of 40 documents)", "loss, nats per token")
axes.axhline(floor, color="#555555", linestyle=(0, (8, 3)), linewidth=1)
axes.text(1, floor - 0.5, f"floor {floor:.3f}", fontsize=8, color="#555555")
use_powers(axes, "x")
axes.set_ylim(0, 8)
axes.legend(fontsize=8)
plt.show()
print(
    f"after 150 steps: here {losses[-20:].mean():.3f}, the teacher {recorded[130:150].mean():.3f}"
)
minutes = record["seconds"] / 60
print(f"after 3,400 steps ({minutes:.0f} minutes) the teacher {recorded[-100:].mean():.3f}")
print(f"floor {floor:.3f}")

# %% [markdown]
# The small model is ahead at first: its rate is twice as high and its warm-up shorter. In the end both meet; but here
# the learning rate has come down to nearly nothing, while the teacher has hardly begun. What is left above the floor is
# what there is still to learn. On logarithmic axes:

# %%
figure, axes = plt.subplots()
for values, name, line in ((losses, "this page", "-"), (recorded, "the teacher", "--")):
    steps, means = smooth(values, 20)
    axes.plot(steps, means - floor, linestyle=line, label=name)
axes.axhline(record["validation"]["nats"] - floor, color="#555555", linestyle=":", linewidth=1)
axes.set_xlabel("step")
axes.set_ylabel("loss above the floor, nats per token")
use_powers(axes)
axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5])
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# The dotted line is what the finished teacher has on documents kept for validation. After a flatter stretch the curve
# ends nearly straight, and what a straight line means on these axes is hard work: to halve what is left, the training
# must be about twice as long.
#
# ## Which documents are at their floor
#
# The floor is known for every document, so it is known for every family of documents. The loss of a model and the floor
# are compared on the same documents; the error is that of their difference.

# %%
from tinyslm.evaluation.loss import document_nats
from tinyslm.text.loss_estimate import estimate_loss

larger = town_corpus(tokenizer, end_id=0, validation=400)
families = np.array(larger.families)
models = {"this page": state.model, "teacher": teacher}
totals = {name: document_nats(each, larger.validation)[0] for name, each in models.items()}
tokens = np.array([len(document) - 1 for document in larger.validation])
names = list(town.FAMILIES)
bars = {kind: [] for kind in ("floor", *models)}
print("nats per token         floor   this page          teacher")
for family in names:
    of = families == family
    floors = larger.floor_nats[of]
    bars["floor"].append(estimate_loss(floors, tokens[of]).nats)
    cells = []
    for name in models:
        excess = estimate_loss(totals[name][of] - floors, tokens[of])
        bars[name].append(bars["floor"][-1] + excess.nats)
        cells.append(f"+{excess.nats:.3f} ± {excess.standard_error:.3f}")
    print(f"{family:20} {bars['floor'][-1]:7.3f}   {cells[0]:16}   {cells[1]}")
figure, axes = plt.subplots(figsize=(6.8, 3.4))
show_bars(axes, bars, names, "nats per token")
plt.show()

# %% [markdown]
# The teacher has three families practically at their floor: facts, languages and arithmetic, though what is left is
# still several standard errors. Ambiguity comes next. Stories, programs and instructions are not there: their answers
# depend on what happened over several sentences or lines. The model of this page is far from the floor everywhere, most
# of all in instructions and languages.
#
# Where in a document are the nats lost? Here is a program, and how many nats each of its last tokens costs the teacher:

# %%
from tinyslm.ops import log_softmax

place = larger.families.index("programs")
document = larger.validation[place]
log_probabilities = log_softmax(teacher(document[None])[0, :-1])
nats = -log_probabilities[np.arange(len(document) - 1), document[1:]]
pieces = [
    tokenizer.decode([token]).replace("\n", "\\n") if token else "(end)" for token in document[1:]
]
print(tokenizer.decode(document[1:-1].tolist()))
shown = range(len(nats) - 50, len(nats))
figure, axes = plt.subplots(figsize=(8.2, 3))
axes.bar(shown, nats[shown], color="#0072b2")
axes.set_xticks(shown, [pieces[place] for place in shown], rotation=90, fontsize=8)
axes.set_ylabel("nats of the teacher")
axes.grid(visible=False, axis="x")
axes.margins(x=0.01)
plt.show()

# %% [markdown]
# In the program itself the nats are mostly what they have to be: numbers and names are drawn at random, and nobody can
# know them. From `Trace` on everything follows from the program, so every nat is one above the floor. The teacher
# copies the first number and doubles it without doubt; what comes after that it guesses, up to the output.
#
# ## What people ask
#
# **Why does the loss jump up and down?** Because batches differ, and in each the floor is another. It is known here,
# also for the batches of the teacher, so loss and floor can be drawn together:

# %%


def batch_floor(rows):
    """The floor of a batch of training documents, in nats per token."""
    texts, logs = zip(*[town.documents("train", int(row), 1)[0][1:] for row in rows])
    tokens = sum(len(each) - 1 for each in encode_documents(tokenizer, texts, end_id=0))
    return -sum(logs) / tokens


last = range(3340, 3400)
options = record["options"]
as_recorded = Settings(3400, options["batch"], seed=options["seed"])
series = {
    "this page": (
        range(90, 150),
        losses[90:],
        [batch_floor(batch_rows(step, len(encoded), settings)) for step in range(90, 150)],
    ),
    "the teacher": (
        last,
        recorded[last],
        [batch_floor(batch_rows(step, options["documents"], as_recorded)) for step in last],
    ),
}
figure, panels = plt.subplots(1, 2, figsize=(8.2, 3))
for axes, (name, (steps, loss, floors)) in zip(panels, series.items()):
    lines = {"loss of the batch": loss, "floor of the batch": floors}
    show_lines(axes, lines, "step", "nats per token", steps)
    axes.set_title(name, fontsize=9)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))  # room for the legend
    print(f"{name:12} correlation of loss and floor {np.corrcoef(loss, floors)[0, 1]:.1f}")
plt.show()

# %% [markdown]
# For the teacher at the end of its training that is nearly all there is to it: its loss goes up and down with the
# floor. For the model of this page it is not the reason. It is so far from the floor that batches differ more in how
# much of them it has not learned: one with many documents in other languages costs more, although its floor is no
# higher.
#
# **Can a training be stopped and continued?** Yes, and the result is the same to the last bit, if everything is stored
# that a step changes: the weights, $m$, $v$ and the number of the step.

# %%
from tinyslm.training.checkpoint import restore_state, save_state

few = Settings(6, 10, warmup_steps=2, threads=2)
fresh = random_model(tiny_config("smallest", 1536))
through = train(State.start(fresh, few), token_ids, labels, few)
with tempfile.TemporaryDirectory() as folder:
    half = State.start(fresh, few)

    class Stop(Exception):
        """The power went out."""

    def stop(state):
        if state.step == 3:
            save_state(Path(folder) / "state", state)
            raise Stop

    try:
        train(half, token_ids, labels, few, after_step=stop)
    except Stop:
        resumed = restore_state(Path(folder) / "state", State.start(fresh, few))
resumed = train(resumed, token_ids, labels, few)
pairs = zip(
    tinyslm.named_arrays(through.model).values(), tinyslm.named_arrays(resumed.model).values()
)
print("the same bits:", all(np.array_equal(one, other) for one, other in pairs))

# %% [markdown]
# **Is the loss on documents that the model has not seen higher?** If it is much higher, the model has learned documents
# by heart instead of what they have in common: *overfitting*. The losses above are no evidence, they were taken before
# the step that learned from the batch. Afterwards, with the floor of the same documents taken off:

# %%
held_out = (larger.validation, larger.floor_nats)
trained_on = (encoded[-400:], -np.array([each for _, _, each in documents[-400:]]))
for name, (each, floors) in {"trained on": trained_on, "kept apart": held_out}.items():
    nats, tokens = document_nats(state.model, each)
    excess = estimate_loss(nats - floors, tokens)
    print(f"400 documents {name}: {excess.nats:.3f} ± {excess.standard_error:.3f} above the floor")

# %% [markdown]
# The difference is small beside what is left to learn. Every document was seen once only, which leaves little to learn
# by heart; the same would not be true of a small corpus that is read again and again.
#
# ## Exercises
#
# 1. `tinyslm exercise new adamw`: one update of AdamW.
# 2. `tinyslm exercise new warmup-cosine`: the learning rate over time.
# 3. Train for 150 steps with `weight_decay=0` and with `weight_decay=1`. Which families change most?
# 4. The teacher was trained with 3,400 steps of 40 documents. Would 1,700 steps of 80 documents reach the same loss?
#    Try it with 150 of 40 and 75 of 80, and choose the best rate for each.
# 5. `tinyslm train --shape small --documents 20000 --steps 500 --out mine` trains for some minutes; stop it with
#    Control-C and go on with `--resume`. Compare `tinyslm evaluate mine` with the table above.
#
# ## Sources
#
# - Kingma & Ba 2015, *Adam: a method for stochastic optimization*, algorithm 1.
# - Loshchilov & Hutter 2019, *Decoupled weight decay regularization*, algorithm 2: AdamW.
# - Loshchilov & Hutter 2017, *SGDR: stochastic gradient descent with warm restarts*, equation 5: the cosine.
# - Goyal et al. 2017, *Accurate, large minibatch SGD*, section 2.2: warm-up.
# - Pascanu, Mikolov & Bengio 2013, *On the difficulty of training recurrent neural networks*, algorithm 1: clipping.
