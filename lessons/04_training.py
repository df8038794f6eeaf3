# %% [markdown]
# # Training
#
# The last lesson computed the direction in which to change every weight. This lesson determines **the size of the steps
# and their number**. It trains a small model for a minute and compares its loss with the floor, the entropy of the
# corpus, and with the recorded training of the built-in model, which took about two hours.

# %%
import json

from setup_lesson import np, plt, show, show_lines, tinyslm, town_corpus
from tinyslm.load_save import data_directory

teacher, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, validation=200)
record = json.loads((data_directory() / "teacher" / "training.json").read_text())
recorded_steps, recorded = np.array(record["validation_curve"]).T
options, floor = record["options"], corpus.floor.nats
figure, axes = plt.subplots(figsize=(6.4, 2.8))
show_lines(axes, {"": recorded}, "step (of 40 documents)", "loss, nats per token", recorded_steps)
axes.axhline(floor, color="#555555", linestyle=(0, (8, 3)), linewidth=1)
axes.text(0, floor - 0.05, f"floor {floor:.3f}", fontsize=8, color="#555555")
axes.set_ylim(0.6, 1.3)
show(
    "Line chart of the validation loss in the recorded training of the built-in model. It falls "
    "fast in the first few hundred steps and then slowly towards the floor, the dashed line."
)

# %% [markdown]
# The recorded training of the built-in model: its loss on validation documents. The learning rate is constant for the
# first half and falls to zero in the second half. (Shorter trainings on drills came before it; a section below explains
# why.)
#
# After this lesson you can
#
# - implement one step of AdamW, and explain bias correction and decoupled weight decay;
# - choose a learning rate, a warm-up and a schedule by experiment;
# - form batches and micro-batches whose gradient is that of the mean loss;
# - judge a training by its distance to the floor, per family of documents.
#
# You need: lesson 01 (the corpus and its floor), lesson 03 (gradients).
#
# ## Before and after training

# %%
from setup_lesson import summary
from tinyslm.models.builder import random_model
from tinyslm.models.tiny_shapes import tiny_config

untrained = random_model(tiny_config("small", tokenizer.get_vocab_size()))
print(summary({"untrained": untrained, "teacher": teacher}, corpus))

# %% [markdown]
# The loss of the untrained model is slightly above the logarithm of the vocabulary size, the loss of the uniform
# distribution over all tokens. The teacher is the built-in model, trained with the code of this lesson.
#
# ## Gradient descent on a quadratic
#
# *Gradient descent* subtracts the gradient times a learning rate. It is slow if the loss has very different curvatures
# in different directions. An example: two weights $a$ and $b$ with the loss $\frac{1}{2}(a^2 + 50\,b^2)$. **AdamW** is
# the optimizer of nearly all language models; this section explains it.

# %%
from tinyslm.training import AdamW

curvature = np.array([1.0, 50.0])
start = np.array([-4.0, 1.0])


def gradient_descent(rate, steps=60):
    """The sequence of weights (a, b) under gradient descent."""
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - rate * curvature * path[-1])
    return np.array(path)


def adamw(rate, steps=60):
    """The sequence of weights (a, b) under AdamW without weight decay."""
    parameters = {"weights": start.copy()}
    optimizer = AdamW(parameters, weight_decay=0.0)
    path = [start]
    for _ in range(steps):
        optimizer.step({"weights": curvature * parameters["weights"]}, rate)
        path.append(parameters["weights"].copy())
    return np.array(path)


# %%
paths = {
    "gradient descent, rate 0.039": gradient_descent(0.039),
    "gradient descent, rate 0.005": gradient_descent(0.005),
    "AdamW, rate 0.15": adamw(0.15),
}
figure, panels = plt.subplots(3, 1, figsize=(6.4, 5.2), sharex=True)
grid = np.meshgrid(np.linspace(-4.5, 1, 200), np.linspace(-1.3, 1.3, 100))
height = 0.5 * (grid[0] ** 2 + 50 * grid[1] ** 2)
levels = [0.5, 2, 5, 10, 20, 40]
for axes, (name, path) in zip(panels, paths.items()):
    axes.contour(*grid, height, levels=levels, colors="#bbbbbb", linewidths=0.8, linestyles="-")
    axes.plot(*path.T, color="#0072b2", marker="o", markersize=3, linewidth=1, linestyle="-")
    axes.plot(0, 0, "*", color="#d55e00", markersize=11)
    axes.set_title(f"{name}: {len(path) - 1} steps", fontsize=9)
    axes.set_ylabel("b")
    axes.grid(False)
axes.set_xlabel("a (the star is the minimum)")
show(
    "Three contour plots with the path of the weights towards the minimum. Gradient descent "
    "with a large rate oscillates and with a small rate stops far away; the path of AdamW "
    "reaches the minimum."
)

# %% [markdown]
# With the large rate, $b$ oscillates; with a slightly larger rate it would diverge. With the small rate, $a$ converges
# slowly. No single rate suits both weights. AdamW uses a separate step size for each weight.
#
# ## AdamW by hand
#
# AdamW keeps two exponential moving averages per weight: $m$ of the gradient $g$, and $v$ of its square. The step is
# their ratio:
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\,g^2, \qquad w \leftarrow w - \eta\,\frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \epsilon}$$
#
# $\eta$ is the learning rate, $t$ the number of the step. The first step for four weights whose gradients differ by a
# factor of ten thousand:

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
# The first step has the size of the learning rate, independent of the size of the gradient. Later steps are smaller for
# weights whose gradient often changes its sign, because then $m$ is small compared with $\sqrt{v}$. A weight with
# gradient zero does not change.
#
# ## The library's function

# %%
from setup_lesson import numbered_source
from tinyslm.training.adamw import adamw_update

print(numbered_source(adamw_update))
print()
print(numbered_source(AdamW.step))

# %% [markdown]
# - `adamw_update` returns new arrays. Inside it, `+=` and `-=` change its own new arrays in place, which avoids further
#   allocations.
# - The update is elementwise. So the arrays are split into `blocks` that fit into the cache of a core together with all
#   intermediate results, and `map_shares` distributes the blocks over threads.
# - The divisions by $1-\beta^t$ are the *bias correction*. They matter in the first steps, because $m$ and $v$ start at
#   zero. Without them the first step is less than half as long. With $\beta_2 = 0.999$, the value of the paper, the
#   early steps would be several times too long:

# %%
t = np.arange(1, 61)
lines = {
    "corrected": np.ones(len(t)),
    "not corrected": (1 - 0.9**t) / np.sqrt(1 - 0.95**t),
    "not corrected, beta2 = 0.999": (1 - 0.9**t) / np.sqrt(1 - 0.999**t),
}
figure, axes = plt.subplots()
show_lines(axes, lines, "step", "length of the step, in learning rates", t)
show(
    "Line chart of the length of a step over the first steps. Corrected it is constant. Without "
    "correction the first step is shorter; with the larger beta2 the steps are several times "
    "too long."
)

# %% [markdown]
# - `self.decays(path)`: **weight decay** multiplies the weights of matrices by a factor slightly below 1 in each step,
#   so that weights without influence on the loss shrink to zero. In AdamW the decay is *decoupled* from the gradient
#   (the *W* in the name). The original Adam added `decay * weight` to the gradient (L2 regularization), so the decay
#   was divided by $\sqrt{v}$ like the gradient. The next figure compares both, for weights that start at 1 and have
#   random gradients with mean zero:

# %%
rng = np.random.default_rng(0)
scales = np.array([[0.01], [10.0]])  # two rows of weights with gradients of different size
with_decoupled, with_coupled = {"weight": np.ones((2, 400))}, {"weight": np.ones((2, 400))}
decoupled = AdamW(with_decoupled, weight_decay=0.1)
coupled = AdamW(with_coupled, weight_decay=0.0)
history = []
for _ in range(300):
    noise = scales * rng.standard_normal((2, 400))
    decoupled.step({"weight": noise}, 0.01)
    coupled.step({"weight": noise + 0.1 * with_coupled["weight"]}, 0.01)
    history.append([each["weight"].mean(axis=1) for each in (with_decoupled, with_coupled)])
history = np.array(history)  # (steps, decoupled or coupled, row)
lines = {
    "decoupled (AdamW), small gradients": history[:, 0, 0],
    "decoupled (AdamW), large gradients": history[:, 0, 1],
    "in the gradient, small gradients": history[:, 1, 0],
    "in the gradient, large gradients": history[:, 1, 1],
}
figure, axes = plt.subplots()
show_lines(axes, lines, "step", "mean weight")
show(
    "Line chart of the mean weight over the steps. With decoupled decay both lines fall "
    "together. With decay in the gradient, weights with small gradients fall fast to zero and "
    "those with large gradients hardly fall."
)

# %% [markdown]
# With decoupled decay both rows decay at the same rate. With the decay in the gradient, weights with small gradients
# decay fast and weights with large gradients hardly at all: the decay depends on the scale of the gradient, which is
# not intended.
#
# **In a debugger**: set a breakpoint at the line `updated -= ...` of `adamw_update` in `tinyslm/training/adamw.py`.
# Inspect `m`, `denominator` and `np.abs(m / denominator).mean()`: the mean step as a fraction of the learning rate,
# before the bias correction of `m`.
#
# ## Learning rate schedule
#
# The learning rate changes during training. First it increases (*warm-up*), because the early $v$ is the average of few
# gradients and therefore unreliable. Then it decreases along half a cosine, because near the end large steps only add
# noise (`tinyslm/training/schedule.py`).

# %%
from tinyslm.training import warmup_cosine

print(numbered_source(warmup_cosine))
rates = [0.003 * warmup_cosine(step, steps=100, warmup_steps=10, final=0.05) for step in range(100)]
figure, axes = plt.subplots(figsize=(6.4, 2.4))
show_lines(axes, {"rate": rates}, "step", "learning rate")
show(
    "Line chart of the learning rate over the steps: a straight rise during the warm-up, then a "
    "fall along half a cosine to a small final rate."
)

# %% [markdown]
# Which peak rate is right, and does the warm-up matter? The next cells train the smallest model of the project for 30
# steps, from the same random weights, with five rates, with and without warm-up.

# %%
from tinyslm.text import town
from tinyslm.text.batches import document_rows, encode_documents
from tinyslm.training import Settings, State, train

documents = town.documents("train", 0, 4000)  # (family, text, exact log-probability)
encoded = encode_documents(tokenizer, [text for _, text, _ in documents], end_id=0)
token_ids, labels = document_rows(encoded, 256)


def short_training(rate, warmup_steps):
    """Mean loss of the last 5 of 30 steps with the smallest model; 10 if it diverged."""
    settings = Settings(30, 12, learning_rate=rate, warmup_steps=warmup_steps, threads=2)
    state = State.start(random_model(tiny_config("smallest", 1536)), settings)
    try:
        return np.mean(train(state, token_ids, labels, settings).losses[-5:])
    except tinyslm.Error:
        return 10.0


# %%
from setup_lesson import use_powers

rates = [0.001, 0.003, 0.01, 0.03, 0.1]
lines = {
    name: [short_training(rate, warmup) for rate in rates]
    for name, warmup in (("warm-up of 8 steps", 8), ("no warm-up", 1))
}
figure, axes = plt.subplots()
show_lines(axes, lines, "peak learning rate", "loss, nats per token", rates, markers=True)
use_powers(axes, "x")
axes.set_xticks(rates)
show(
    "Line chart of the loss against the peak learning rate, with and without warm-up. Both "
    "curves have a minimum. With warm-up it is lower and at a larger rate."
)

# %% [markdown]
# There is an optimal rate. With warm-up the optimal rate is larger and the loss lower. At small rates the warm-up only
# costs steps. Thirty steps are few; wider models and longer trainings use smaller rates, as below.
#
# ## Batches and micro-batches
#
# A step uses 40 documents. The rows of a batch must have equal length, so shorter documents are padded. The training
# loop sorts the 40 documents by length and splits them into 8 *micro-batches* of 5. Each micro-batch is padded only to
# its own longest document.

# %%
from tinyslm.training.loop import batch_gradients, batch_rows

settings = Settings(100, 40, learning_rate=3e-3, warmup_steps=10, threads=2)
rows = batch_rows(0, len(token_ids), settings)
lengths = np.array([len(encoded[row]) for row in rows])
one_batch = 1 - lengths.sum() / (lengths.max() * len(lengths))
sorted_lengths = np.sort(lengths).reshape(-1, 5)
micro_batches = 1 - lengths.sum() / (5 * sorted_lengths.max(axis=1).sum())
print(f"documents of {lengths.min()} to {lengths.max()} tokens")
print(f"padding in one batch: {one_batch:.0%}")
print(f"padding in micro-batches of similar length: {micro_batches:.0%}")

# %% [markdown]
# The micro-batches are distributed over the cores, and their gradients are added. The sum is the gradient of the
# batch's mean loss only if each micro-batch is weighted by its number of tokens. A common mistake is the unweighted
# mean:

# %%
next_token_loss = tinyslm.next_token_loss
batch = token_ids[rows], labels[rows]
one = Settings(100, 40, micro_batch_size=40, threads=1)
weighted = batch_gradients(next_token_loss, untrained, *batch, settings)[1]
whole = batch_gradients(next_token_loss, untrained, *batch, one)[1]
order = np.argsort(lengths, kind="stable").reshape(-1, 5)
differentiate = tinyslm.value_and_grad(next_token_loss)
means = [
    differentiate(untrained, token_ids[each], labels[each])[1].layers[0].attention.value.weight
    for each in rows[order]
]
path = "layers.0.attention.value.weight"
error = np.linalg.norm(np.mean(means, axis=0) - whole[path]) / np.linalg.norm(whole[path])
equal = np.allclose(weighted[path], whole[path], atol=1e-6)
print("8 micro-batches, weighted, give the gradient of the batch:", equal)
print(f"relative error of the unweighted mean: {error:.1%}")

# %% [markdown]
# ## A training of one minute
#
# The complete training loop (`tinyslm/training/loop.py`):

# %%
print(numbered_source(train))

# %% [markdown]
# `clip_by_global_norm` scales the gradient down if its norm exceeds a limit, so that one unusual batch cannot change
# the model too much. The next cell trains a model with four layers of width 128 for 100 steps; every document is used
# once.

# %%
state = train(State.start(untrained, settings), token_ids, labels, settings)
losses = np.array(state.losses)
print("steps        loss, nats per token")
for first in range(0, 100, 25):
    print(f"{first:3} to {first + 24:3}   {losses[first : first + 25].mean():.3f}")

# %% [markdown]
# The loss decreases fast at first, then slowly. The next figure compares its distance to the floor with that of the
# recorded training, on logarithmic axes. That model is larger, and used the same number of documents per step.


# %%
def running_mean(values, width):
    """Step numbers, and the mean of `width` values around each."""
    steps = np.arange(width / 2, len(values) - width / 2 + 1)
    return steps, np.convolve(values, np.ones(width) / width, "valid")


print(f"after 100 steps: this lesson {losses[-20:].mean():.3f}")
half = int(np.searchsorted(recorded_steps, options["steps"] // 2))
for i in (1, half - 1, -1):
    excess = recorded[i] / floor - 1
    steps = f"{recorded_steps[i]:,.0f} steps"
    print(f"after {steps}: the teacher {recorded[i]:.3f}, {excess:.1%} above the floor")
print(f"time of the teacher's training: {record['seconds'] / 60:.0f} minutes")

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6))
steps, means = running_mean(losses, 20)
axes.plot(steps, means - floor, linestyle="-", label="this lesson")
axes.plot(recorded_steps[1:], recorded[1:] - floor, "o--", markersize=3, label="the teacher")
axes.axvline(options["steps"] // 2, color="#555555", linestyle=":", linewidth=1)
axes.set_xlabel("step (of 40 documents)")
axes.set_ylabel("loss above the floor, nats per token")
use_powers(axes)
axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5])
axes.legend(fontsize=8)
show(
    "Line chart of the loss above the floor over the steps, both axes logarithmic. Up to the "
    "dotted line the teacher's curve falls evenly. From there on, where its learning rate begins "
    "to fall, it is much steeper."
)

# %% [markdown]
# While the teacher's learning rate is constant, the loss falls more and more slowly: steps of this size also add noise to
# the weights. When the rate falls (dotted line), the noise falls with it. A constant rate followed by a linear decay is
# the schedule *warmup-stable-decay* (`--schedule stable`). Its first part does not depend on the number of steps, so a
# training can be made longer afterwards.
#
# ## Muon: an update for matrices
#
# AdamW treats every weight alone. **Muon** uses the fact that most weights belong to matrices. A matrix has the
# decomposition $U S V^T$ with singular values $S$. A gradient has few large singular values and many small ones, so a
# step along it moves the layer in few directions. Muon averages gradients (momentum), and replaces the average
# $U S V^T$ by $U V^T$: all singular values above 0 become 1.
#
# A singular value decomposition in every step would be slow. Five iterations of a polynomial give nearly the same
# result with matrix products only (`tinyslm/training/muon.py`):

# %%
from tinyslm.training.muon import orthogonalized

print(numbered_source(orthogonalized))

# %% [markdown]
# $(X X^T)^k X$ has the same $U$ and $V$ as $X$, and the singular values $s^{2k+1}$. So each iteration applies the
# polynomial $a s + b s^3 + c s^5$ to every singular value and leaves $U$ and $V$ as they are. The gradient computed
# above, before and after:

# %%
matrix = whole["layers.0.feed_forward.down.weight"]
before, after = (np.linalg.svd(each, compute_uv=False) for each in (matrix, orthogonalized(matrix)))
u, _, vt = np.linalg.svd(matrix, full_matrices=False)
distance = np.linalg.norm(orthogonalized(matrix) - u @ vt) / np.linalg.norm(u @ vt)
print(f"largest and smallest singular value of the gradient: {before[0]:.4f} and {before[-1]:.6f}")
print(f"of the update: {after.max():.2f} and {after.min():.2f}")
print(f"relative distance of the update from U V^T: {distance:.2f}")
figure, axes = plt.subplots(figsize=(6.4, 2.8))
lines = {"gradient, relative to its largest": before / before[0], "update": after}
show_lines(axes, lines, "number of the singular value", "singular value")
show(
    "Line chart of the singular values of a gradient and of the update made from it. Those of the "
    "gradient fall steeply; those of the update are all near 1."
)

# %% [markdown]
# The polynomial is chosen to raise small singular values fast, so they end near 1, not at 1. Singular values of 0 stay
# 0: a gradient of rank one gives an update of rank one.
#
# Only the matrices of the blocks get this update. The embedding is a table of vectors, one per token, and gains are
# vectors: AdamW updates them. The factor $0.2 \sqrt{\max(m, n)}$ of an $m \times n$ matrix gives its numbers updates of
# about the size that AdamW gives, so one learning rate serves all parameters. `python -m tests.benchmarks.optimizers`
# compares the learning rates of both optimizers; here Muon has a rate of 0.01, and AdamW the rate used above:

# %%
from dataclasses import replace

with_muon = replace(settings, optimizer="muon", learning_rate=1e-2)
by_muon = train(State.start(untrained, with_muon), token_ids, labels, with_muon)
print("steps        AdamW    Muon")
for first in range(0, 100, 25):
    means = (np.mean(each.losses[first : first + 25]) for each in (state, by_muon))
    print(f"{first:3} to {first + 24:3}   {'   '.join(f'{mean:.3f}' for mean in means)}")

# %% tags=["measured"]
print(f"time of a step: {by_muon.seconds / state.seconds:.2f} times that with AdamW")

# %% [markdown]
# ## Distance to the floor per family
#
# The floor is known for every document, so it can be computed for every family. The model's loss and the floor are
# compared on the same documents; the standard error is that of the difference.

# %%
from tinyslm.evaluation.loss import document_nats
from tinyslm.text.loss_estimate import estimate_loss

larger = town_corpus(tokenizer, end_id=0, validation=400)
families = np.array(larger.families)
models = {"this lesson": state.model, "teacher": teacher}
totals = {name: document_nats(each, larger.validation)[0] for name, each in models.items()}
tokens = np.array([len(document) - 1 for document in larger.validation])
bars = {kind: [] for kind in ("floor", *models)}
print("nats per token         floor   this lesson        teacher")
for family in town.FAMILIES:
    rows = families == family
    floors = larger.floor_nats[rows]
    bars["floor"].append(estimate_loss(floors, tokens[rows]).nats)
    cells = []
    for name in models:
        excess = estimate_loss(totals[name][rows] - floors, tokens[rows])
        bars[name].append(bars["floor"][-1] + excess.nats)
        cells.append(f"{excess.nats:+.3f} ± {excess.standard_error:.3f}")
    print(f"{family:20} {bars['floor'][-1]:7.3f}   {cells[0]:16}   {cells[1]}")

# %%
from setup_lesson import show_bars

figure, axes = plt.subplots(figsize=(6.8, 3.4))
show_bars(axes, bars, list(town.FAMILIES), "nats per token")
show(
    "Bars for each family of documents: the floor, the loss of this lesson's model and of the "
    "teacher. The teacher is close to the floor everywhere, the small model far above it."
)

# %% [markdown]
# The teacher is close to the floor, although most differences are several standard errors. Stories and programs have the
# largest ones: their answers depend on several sentences or lines. For instructions the loss is below the floor. The
# floor includes the choice of the family, and the teacher, which was trained on more instructions than there are here,
# expects them more often; it loses on the other families what it gains on this one. The small model is far from the
# floor for all families, most for instructions and languages.
#
# Which tokens contribute to the difference? The next figure shows the teacher's loss for the last tokens of a program:

# %%
from tinyslm.ops import log_softmax

document = larger.validation[larger.families.index("programs")]
log_probabilities = log_softmax(teacher(document[None])[0, :-1])
nats = -log_probabilities[np.arange(len(document) - 1), document[1:]]
pieces = [
    tokenizer.decode([token]).replace("\n", "\\n") if token else "(end)" for token in document[1:]
]
print(tokenizer.decode(document[1:-1].tolist()))
last_tokens = range(len(nats) - 50, len(nats))
figure, axes = plt.subplots(figsize=(8.2, 3))
axes.bar(last_tokens, nats[last_tokens], color="#0072b2")
axes.set_xticks(last_tokens, [pieces[i] for i in last_tokens], rotation=90, fontsize=8)
axes.set_ylabel("loss of the teacher, nats")
axes.grid(visible=False, axis="x")
axes.margins(x=0.01)
show(
    "Bar chart of the teacher's loss for the last tokens of a program. Before the trace some bars "
    "are high, at random numbers and names. After it the copied numbers have no bars, and the "
    "later numbers have high ones."
)

# %% [markdown]
# Within the program most of the loss is entropy: the numbers and names are random. After `Trace` everything is
# determined by the program, so the whole loss is above the floor. The teacher predicts the copied number and its double
# with certainty. It is uncertain about the numbers after that, up to the output.
#
# ## When does a model learn to recall?
#
# In stories, programs and instructions the answer stands earlier in the same document. To give it, a model must
# *recall*. Attention can do so with heads of two layers (Elhage et al. 2021; Olsson et al. 2022, *induction heads*):
#
# - a head of an early layer attends to the preceding token, so that the vector of " rope" also says "after red";
# - a head of a later layer attends from a question about the rope to that vector, and copies the colour.
#
# Neither is useful without the other, so the gradient gives little reason to build the first one. The measurements
# below take some minutes (`python -m tests.benchmarks.recall`) and are recorded. First, the distance to the floor
# during a training of the small shape on all families:

# %%
recall = json.loads((data_directory() / "recall.json").read_text())
points = np.array(recall["families"]["points"])
names = recall["families"]["columns"][1:]
figure, axes = plt.subplots(figsize=(6.4, 3.2))
lines = {name: 100 * points[:, 1 + i] for i, name in enumerate(names)}
show_lines(axes, lines, "step", "loss above the floor, %", points[:, 0])
show(
    "Line chart of the distance to the floor over the steps, a line for each family. All fall; that "
    "of the stories hardly changes in the second half."
)

# %% [markdown]
# The distance of the stories hardly changes in the second half: what is left of it needs recall. Second, only a *drill*:
# a document introduces three things with their colours, and asks for each of them. A model without recall can guess
# among the colours of the story: it then knows the last answer, because only one colour is left. The loss of the *first*
# answer therefore shows recall.

# %%
print("nats                               first   second   third   attention to the thing")
print(f"{'guessing':32}" + "".join(f"{nats:8.2f}" for nats in recall["without_recall"]))
for name, trajectory in recall["trainings"].items():
    print(f"{name:32}" + "".join(f"{value:8.2f}" for value in trajectory[-1][1:]))
figure, panels = plt.subplots(1, 2, figsize=(8.2, 3))
for axes, column, label in (
    (panels[0], 1, "loss of the first answer, nats"),
    (panels[1], 4, "attention"),
):
    for name, trajectory in recall["trainings"].items():
        axes.plot(*np.array(trajectory)[:, [0, column]].T, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
panels[0].axhline(recall["without_recall"][0], color="#555555", linestyle=":", linewidth=1)
panels[1].legend(fontsize=7)
show(
    "Two line charts over the steps of five trainings on the drill: the loss of the first answer, and "
    "the attention from the question to the thing. Where the loss falls below the dotted line of "
    "guessing, the attention rises at the same step."
)

# %% [markdown]
# Only the first training learns to recall, and its attention rises in the same steps in which the loss of the first
# answer falls below that of guessing. Each of the others lacks one thing:
#
# - *Heads for the preceding tokens.* With random weights the attention stays at that of an even distribution. The first
#   training began with biases of queries and keys with which heads of the first layer attend to one of the four
#   preceding tokens (`tinyslm/models/previous_token_heads.py`, `--start previous-token`).
# - *A small learning rate.* With three times the rate the model learns to guess sooner, and stays there.
# - *A loss of the answers alone.* With the loss of all tokens, most of the gradient is about names and colours that
#   nothing predicts. After the same number of steps the model cannot even guess among the colours of the story.
# - *A large batch.* With 16 documents the model has not got beyond guessing after as many steps.
#
# So recall is missing in the first figure because nothing in a mixture of documents makes its parts useful one by one.
# The built-in model was trained on three such drills, 24 minutes in all, before the training on all families; the
# commands are in `data/README.md`.
#
# ## Questions
#
# **Why does the loss fluctuate from step to step?** Each batch contains other documents, and therefore has another
# floor. Both models on the same batches, which no training used:

# %%
batches = np.arange(400).reshape(20, 20)  # numbers of documents of `larger`
floors = [larger.floor_nats[batch].sum() / tokens[batch].sum() for batch in batches]
figure, panels = plt.subplots(1, 2, figsize=(8.2, 3))
for axes, (name, nats) in zip(panels, totals.items()):
    values = [nats[batch].sum() / tokens[batch].sum() for batch in batches]
    lines = {"loss of the batch": values, "floor of the batch": floors}
    show_lines(axes, lines, "batch of 20 documents", "nats per token")
    axes.set_title(name, fontsize=9)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))  # space for the legend
    print(f"{name:12} correlation of loss and floor {np.corrcoef(values, floors)[0, 1]:.1f}")
show(
    "Two line charts of the loss and the floor of twenty batches. The teacher's loss follows the "
    "fluctuation of the floor; the loss of this lesson's model does not."
)

# %% [markdown]
# The fluctuation of the teacher's loss is mostly that of the floor. For the small model it is not: its reducible loss
# is large and differs between families. A batch with many documents in other languages has a higher loss, although its
# floor is not higher.
#
# **Can a training be interrupted and resumed?** Yes, and the result is identical bit for bit, if everything that a step
# changes is saved: the weights, $m$, $v$ and the step number.

# %%
import tempfile
from pathlib import Path

from tinyslm.training.checkpoint import restore_state, save_state

few = Settings(6, 10, warmup_steps=2, threads=2)
initial = random_model(tiny_config("smallest", 1536))
uninterrupted = train(State.start(initial, few), token_ids, labels, few)


def interrupt(state):
    """Save the state after step 3 and stop."""
    if state.step == 3:
        save_state(Path(folder) / "state", state)
        raise KeyboardInterrupt


with tempfile.TemporaryDirectory() as folder:
    try:
        train(State.start(initial, few), token_ids, labels, few, after_step=interrupt)
    except KeyboardInterrupt:
        restored = restore_state(Path(folder) / "state", State.start(initial, few))
resumed = train(restored, token_ids, labels, few)
one, other = (tinyslm.named_arrays(each.model).values() for each in (uninterrupted, resumed))
print("the same bits:", all(np.array_equal(a, b) for a, b in zip(one, other)))

# %% [markdown]
# **Is the loss on unseen documents higher?** If it is much higher, the model has memorized the training documents
# (*overfitting*). The training losses above do not show this, because each was computed before the step that used the
# batch. The loss after training, minus the floor of the same documents:

# %%
held_out = (larger.validation, larger.floor_nats)
trained_on = (encoded[-400:], -np.array([each for _, _, each in documents[-400:]]))
for name, (each, floors) in {"training": trained_on, "validation": held_out}.items():
    nats, tokens = document_nats(state.model, each)
    excess = estimate_loss(nats - floors, tokens)
    print(f"400 {name} documents: {excess.nats:.3f} ± {excess.standard_error:.3f} above the floor")

# %% [markdown]
# The difference is small compared with the reducible loss. Every document was used only once, so memorizing has little
# effect. With a small corpus and many epochs the difference would be larger.
#
# ## Summary
#
# - AdamW divides the average gradient by the root of the average squared gradient, so each weight has its own step
#   size; bias correction matters in the first steps, and weight decay is decoupled from the gradient.
# - Muon gives all directions of a matrix an update of the same size.
# - A warm-up permits a larger learning rate; the cosine schedule reduces it to the end.
# - Gradients of micro-batches must be weighted by tokens; the unweighted mean had a relative error of 11.4%.
# - A constant learning rate limits the loss by its noise; a decay removes most of it.
# - Recall needs heads of two layers that are useful only together; a short drill makes them appear.
# - A training can be resumed bit for bit if the weights, both averages and the step number are saved.
#
# The code: `tinyslm/training/adamw.py`, `tinyslm/training/muon.py`, `tinyslm/training/schedule.py`,
# `tinyslm/training/loop.py`, `tinyslm/training/checkpoint.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("adamw")

# %% tags=["exercise"]
exercise("warmup-cosine")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Train for 100 steps with `weight_decay=0` and with `weight_decay=1`. Which families change most?
# 2. The teacher was trained with 40 documents per step. Would half of the steps with 80 documents reach the same loss?
#    Compare 100 steps of 40 with 50 steps of 80, with the best rate for each.
# 3. `tinyslm train --shape small --town-documents 20000 --steps 500 --out mine` trains for some minutes. Interrupt it
#    with Control-C and continue with `--resume`. Compare `tinyslm evaluate mine` with the table above.
#
# ## Sources
#
# - Kingma & Ba 2015, *Adam: a method for stochastic optimization*, algorithm 1.
# - Loshchilov & Hutter 2019, *Decoupled weight decay regularization*, algorithm 2: AdamW.
# - Loshchilov & Hutter 2017, *SGDR: stochastic gradient descent with warm restarts*, equation 5: the cosine.
# - Jordan et al. 2024, *Muon: an optimizer for hidden layers in neural networks*.
# - Liu et al. 2025, *Muon is scalable for LLM training*, section 2.2: the factor of the update.
# - Goyal et al. 2017, *Accurate, large minibatch SGD*, section 2.2: warm-up.
# - Pascanu, Mikolov & Bengio 2013, *On the difficulty of training recurrent neural networks*, algorithm 1: clipping.
