# %% [markdown]
# # Distillation
#
# A text says which word came next. A trained model says more: which words could have come, and how likely each of
# them was. **Distillation** trains a small model, the *student*, on what a larger one, the *teacher*, says. This
# lesson shows what the student gets to see, takes the loss apart, and measures when it helps. Every recovery in the
# lessons that follow is a distillation.
#
# You need: lesson 03 (gradients), lesson 04 (the loss and its floor).

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.compression.distillation import (
    hidden_state_loss,
    jensen_shannon_loss,
    layer_map,
    reverse_kl_loss,
    soft_target_loss,
)
from tinyslm.evaluation import measure_loss
from tinyslm.recipes import Calibration, FreshStudent, KeepLayers, Distill, compress
from tinyslm.reporting.pictures import (
    show_bars,
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
corpus = town_corpus(tokenizer, end_id=0, training=200, validation=50)
calibration = Calibration(corpus.training, model)
print(summary({"teacher": model}, corpus))

# %% [markdown]
# That is the teacher, and the baseline of this lesson.
#
# ## Look at the numbers
#
# The beginning of a document of the town. The label, the word that stands in the text, is one word. The teacher's
# answer is a distribution over the whole vocabulary, and these are the first six of it:

# %%
sentence = "It was a quiet Thursday"
token_ids = np.array([tokenizer.encode(sentence).ids])  # the first one: a document begins
logits = model(token_ids)[0, -1]  # (V,) for the word that follows


def probabilities(logits, temperature=1.0):
    """softmax(logits / T) in float64."""
    exponentials = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    return exponentials / exponentials.sum()


best = np.argsort(-logits)[:6]
words = [tokenizer.decode([token]).strip() for token in best]
label = tokenizer.encode(" night").ids[-1]  # what stands in the text
figure, axes = plt.subplots()
bars = {"label": best == label, "teacher": probabilities(logits)[best]}
show_bars(axes, bars, words, "probability")
plt.show()
share = probabilities(logits)
print(f"the first four together {share[best[:4]].sum():.3f}")
print(f"entropy {-share @ np.log(share):.3f} nats")

# %% [markdown]
# The label says "night" and nothing else. The teacher says: a time of the day, there are four of them, and all are
# about equally likely. A student that learns from labels needs many sentences to find that out; here it is told with
# one.
#
# ## Temperature
#
# Dividing the logits by a *temperature* T before the softmax makes the distribution flatter. The order stays the
# same. What the teacher considers unlikely becomes large enough to matter in the loss:

# %%
figure, axes = plt.subplots()
ranks = np.arange(1, logits.size + 1)
flattened = {f"T = {T}": np.sort(probabilities(logits, T))[::-1] for T in (1, 2, 4, 8)}
show_lines(axes, flattened, "rank of the token", "probability", ranks)
use_powers(axes)
axes.set_ylim(bottom=1e-9)
plt.show()
for T in (1, 2, 4, 8):
    share = probabilities(logits, T)
    entropy = -share @ np.log(share)
    print(f"T = {T}: the most likely token {share.max():.3f}, entropy {entropy:.3f} nats")
print(f"the largest entropy that {logits.size} tokens can have is {np.log(logits.size):.3f} nats")

# %% [markdown]
# ## The idea, on four tokens
#
# The loss is the Kullback-Leibler divergence from the teacher's distribution $p$ to the student's $q$, both at the
# temperature T:
#
# $$L = T^2 \sum_i p_i \log \frac{p_i}{q_i}, \qquad p = \mathrm{softmax}(t / T), \quad q = \mathrm{softmax}(s / T)$$
#
# Its gradient with respect to the student's logits is simple: $T (q - p)$. Each logit is pushed by how much too
# likely the student finds that token. Four tokens, at four temperatures:

# %%
four_teacher = np.array([[4.0, 2.0, 1.0, -1.0]])
four_student = np.array([[1.0, 3.0, 0.0, 0.0]])
temperatures = (1, 2, 4, 8)
p = np.array([probabilities(four_teacher[0], T) for T in temperatures])
q = np.array([probabilities(four_student[0], T) for T in temperatures])
names = [f"T = {T}" for T in temperatures]
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(7.6, 2.4))
show_matrix(left, p, "teacher: p", "{:.2f}", names)
show_matrix(middle, q, "student: q", "{:.2f}", names)
show_matrix(
    right, np.array(temperatures)[:, None] * (q - p), "gradient: T (q - p)", "{:.2f}", names
)
plt.show()

# %% [markdown]
# At T = 1 the gradient is about the first two tokens. At T = 8 the last two take part as well: the student gives them
# the same logit, the teacher does not.
#
# ## The library's function, taken apart

# %%
print(numbered_source(soft_target_loss))

# %% [markdown]
# `forward_kl` is all that is special about this loss: the divergence of each row, and its gradient `q - p`. What all
# divergences share is in `mean_divergence`:

# %%
from tinyslm.compression.distillation.divergence import mean_divergence

print(numbered_source(mean_divergence))

# %% [markdown]
# - The teacher's logits are brought to the student's precision first. Normalized in two precisions, a divergence can
#   come out below zero.
# - `select_positions` leaves out padding. The mean is over the positions that are left, not over `positions * V`.
# - The softmax and its logarithm come from one exponential, 256 rows at a time, so that they stay in the processor's
#   cache.
# - `vjp` multiplies by T, not by T squared: the loss has T squared in front, and the derivative of `s / T` divides by
#   T.
#
# The formula against differences of the loss, and where the divergence is zero:

# %%
error = tinyslm.check_gradient(soft_target_loss, four_student, four_teacher, 2.0)
_, vjp = soft_target_loss.with_vjp(four_student, four_teacher, 2.0)
print(f"relative error of the gradient below a millionth: {error < 1e-6}")
print("gradient  ", np.round(vjp(1.0)[0][0], 3))
print("T (q - p) ", np.round(2 * (q[1] - p[1]), 3))
shifted = soft_target_loss(four_teacher + 5, four_teacher, 2.0)
print(f"loss of the teacher's logits plus 5: {abs(shifted):.3f}")

# %% [markdown]
# The last line: the loss is zero for the same *distribution*, not only for the same logits.
#
# **In a debugger**: set a breakpoint in `forward_kl` in `tinyslm/compression/distillation/soft_targets.py` and look
# at `teacher`, `student` and `student - teacher`; one level up, in `mean_divergence`, at `values` and `gradient`.
#
# ## Why T squared
#
# The size of the gradient is what counts, since it is what the optimizer sees. Here it is measured on the text, for a
# student that begins to learn: two layers of random weights.

# %%
rows = np.stack([document[:32] for document in corpus.validation if len(document) >= 32][:16])
teacher_logits = model(rows)  # (B, T, V)
fresh = FreshStudent(
    layers=2, hidden_size=96, intermediate_size=192, num_attention_heads=4, num_key_value_heads=2
)
student_logits = fresh(model)(rows)
temperatures = (1, 2, 4, 8, 16, 32)


def gradient_size(temperature):
    """The norm of the gradient of the soft targets' loss."""
    _, vjp = soft_target_loss.with_vjp(student_logits, teacher_logits, temperature)
    return float(np.linalg.norm(vjp(np.float32(1))[0]))


_, labels_vjp = tinyslm.ops.cross_entropy.with_vjp(student_logits[:, :-1], rows[:, 1:])
of_labels = float(np.linalg.norm(labels_vjp(np.float32(1))[0]))
with_square = np.array([gradient_size(T) for T in temperatures])
figure, axes = plt.subplots()
lines = {"with T squared": with_square, "without": with_square / np.square(temperatures),
         "cross entropy of the labels": [of_labels] * len(temperatures)}  # fmt: skip
show_lines(axes, lines, "temperature T", "norm of the gradient", temperatures, markers=True)
use_powers(axes)
axes.set_xticks(temperatures, temperatures)
plt.show()
print("norm of the gradient, in thousandths")
for name, values in lines.items():
    print(f"{name:28}" + "".join(f"{1000 * value:8.3f}" for value in values))

# %% [markdown]
# Without the factor the gradient falls as $1/T^2$ once T is large: one factor $1/T$ from the division of the logits,
# and one because the two distributions approach each other. Mixed with the cross entropy of labels, soft targets at a
# high temperature would hardly be heard. With the factor it tends to a constant, so that one weight for the soft
# targets serves all higher temperatures. It is not the same for all T: in a vocabulary of this size it rises at first
# and then falls, until the logits divided by T are small.
#
# For large T nothing but the logits themselves is compared. The loss tends to half the mean squared difference of the
# centred logits, $\frac{1}{2V} \|(s - \bar s) - (t - \bar t)\|^2$:

# %%
difference = (student_logits - teacher_logits).astype(np.float64)
centred = difference - difference.mean(axis=-1, keepdims=True)
limit = np.mean(np.square(centred)) / 2
for T in (1, 4, 16, 64):
    exact = soft_target_loss(
        student_logits.astype(np.float64), teacher_logits.astype(np.float64), T
    )
    print(f"T = {T:2}: loss {exact:.3f}, the limit {limit:.3f}")

# %% [markdown]
# ## Three divergences
#
# $\mathrm{KL}(p \| q)$ and $\mathrm{KL}(q \| p)$ are not the same. Which one is the better teacher depends on what
# the student cannot do. Here the teacher has two peaks, and the student can only have one, of whatever place and
# width. All places and widths are tried, and the best is drawn:

# %%
tokens = np.arange(60.0)
two_peaks = 0.6 * np.exp(-np.square(tokens - 18) / 18) + 0.4 * np.exp(-np.square(tokens - 42) / 18)
two_peaks = np.log(two_peaks + 1e-4)[None]  # (1, V) logits
one_peak = {(place, width): -np.square(tokens - place)[None] / (2 * width**2)
            for place in range(10, 51) for width in (2, 3, 4, 6, 8, 10, 12, 14, 16)}  # fmt: skip
divergences = {
    "forward: KL(p || q)": lambda q, p: soft_target_loss(q, p, 1.0),
    "Jensen-Shannon": lambda q, p: jensen_shannon_loss(q, p, 0.5),
    "reverse: KL(q || p)": reverse_kl_loss,
}
figure, panels = plt.subplots(1, 3, figsize=(9, 2.6), sharey=True)
for axes, (name, divergence) in zip(panels, divergences.items()):
    found = min(one_peak, key=lambda key: divergence(one_peak[key], two_peaks))
    peaks = {"teacher": probabilities(two_peaks[0]), "student": probabilities(one_peak[found][0])}
    show_lines(axes, peaks, "token", "probability" if axes is panels[0] else "")
    axes.set_title(name, fontsize=9)
    print(f"{name:20} place {found[0]}, width {found[1]}")
plt.show()

# %% [markdown]
# Forward: wherever the teacher says something, the student must say something too, or the logarithm grows without
# bound. So it covers both peaks, and puts much probability between them, where the teacher says nearly nothing.
# Reverse: wherever the *student* says something, the teacher must. So it takes one peak and leaves the other out.
# Jensen-Shannon compares both with their mean, never exceeds log 2, and so forgives a peak that is left out: here it
# decides as the reverse one does.
#
# For language models that means: the forward divergence asks for all that the teacher could say, and goes with a low
# cross entropy; the reverse one asks for text that the teacher would write too, and a small student is expected to
# write better with it (Gu et al. 2024).
#
# ## Little data
#
# Now a student: a model of two layers with random weights, and no more than 24 documents to learn from. Once it
# learns from the labels only, once from the teacher's soft targets only, at two temperatures. Everything else is the
# same: the first weights, the order of the documents, the steps.

# %%
few = Calibration(corpus.training[:24], model)
lessons = {
    "labels": Distill(80, 3e-3, batch_size=8, soft_weight=0.0),
    "soft targets": Distill(80, 3e-3, batch_size=8),
    "soft targets, T = 2": Distill(80, 3e-3, batch_size=8, temperature=2.0),
}
small = {name: compress(model, [fresh, recover], few)[0] for name, recover in lessons.items()}
seen = [measure_loss(each, few.documents).nats for each in small.values()]
unseen = [measure_loss(each, corpus.validation).nats for each in small.values()]
figure, axes = plt.subplots()
bars = {"the 24 documents it has seen": seen, "documents it has not seen": unseen}
show_bars(axes, bars, list(small), "loss, nats per token")
axes.set_ylim(top=1.25 * max(unseen))
plt.show()
for name, on_seen, on_unseen in zip(small, seen, unseen):
    print(f"{name:20} seen {on_seen:.2f}, not seen {on_unseen:.2f}")

# %% [markdown]
# Look at the two bars of each group. Labels make the student fit the documents that it has seen, nearly word by word,
# and that is worth little on others. The teacher's distribution is not so easily learned by heart: it says at every
# position what else could have stood there, and the student that learns it at T = 1 is clearly better on documents
# that it has not seen. With more data the difference is expected to become smaller, since many documents together say
# the same as a distribution (exercise 4).
#
# At T = 2 nothing is left of the advantage. The picture of the temperatures shows why: with so many tokens, a large
# part of the flattened distribution lies on words that cannot come here, and a small student spends its effort on
# them. Higher temperatures were found useful where there are few classes (Hinton et al. 2015), and DistilBERT used T
# = 2; for this model and so few documents the plain distribution teaches best. So T is a setting to be tried, not a
# rule.
#
# ## The teacher's own layers
#
# A student need not begin with random weights. It can take over some of the teacher's layers, and a *layer map* says
# which. The library has four, here for a student of three layers; the numbers are the teacher's layers, from 0:

# %%
strategies = ("uniform", "spread", "top", "bottom")
maps = {strategy: layer_map(strategy, 3, 6) for strategy in strategies}
taken = np.array([[layer in maps[strategy] for layer in range(6)] for strategy in strategies])
figure, axes = plt.subplots(figsize=(4.2, 2.2))
show_matrix(axes, taken, "", "{:.0f}", strategies, [f"layer {layer}" for layer in range(6)])
plt.show()
for strategy in strategies:
    cut = KeepLayers(maps[strategy])(model)
    print(f"{strategy:8} {maps[strategy]}: loss {measure_loss(cut, corpus.validation).nats:.3f}")

# %% [markdown]
# Before any training, what counts is whether the first layer is among those kept, and then the last: between them,
# layers change the state of a token little and can be missed more easily (lesson 08 measures that). "Uniform" is made
# for another purpose, namely to say which of the teacher's layers each layer of a student *learns from*.
#
# ## What the teacher thinks
#
# Besides the teacher's last word, its inner states can be compared: the student's state after layer $m$ with the
# teacher's after layer $g(m)$, by the mean squared difference. How far each of the student's states is from each of
# the teacher's, as a share of the size of the teacher's. The last state is that behind the final norm, on both sides:

# %%
spread = KeepLayers(maps["spread"])
cut, _ = compress(model, [spread], calibration)


def distances(student):
    """hidden_state_loss of all pairs of layers over the mean square of the teacher's states."""
    student_seen, teacher_seen = tinyslm.trace(student, rows), tinyslm.trace(model, rows)
    table = np.empty((3, 6))
    for m, n in np.ndindex(table.shape):
        other = teacher_seen[f"hidden_states.{n + 1}"]
        table[m, n] = hidden_state_loss(student_seen[f"hidden_states.{m + 1}"], other)
        table[m, n] /= np.mean(np.square(other))
    return table


states = Distill(12, 1e-3, batch_size=12, hidden_weight=1.0, layers="spread")
with_states, _ = compress(cut, [states], calibration)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6))
for panel, (name, student) in zip(axes, {"before": cut, "after": with_states}.items()):
    show_matrix(panel, distances(student), f"{name} the training: distance of the states", "{:.2f}",
                [f"student {m}" for m in range(3)], list(range(6)), limit=1.5)  # fmt: skip
    panel.set_xlabel("layer of the teacher", fontsize=8)
plt.show()

# %% [markdown]
# The student has the teacher's layers 0, 2 and 5. Its first state is exactly the teacher's, before the training. The
# third, which the logits are made of, is far from the teacher's last one. In the training the second and the third
# come nearer to the teacher's layers 2 and 5, which is what the loss asks for.
#
# ## The table
#
# The same student without the loss of states, for comparison, and the small ones from above:

# %%
without_states, _ = compress(cut, [Distill(12, 1e-3, batch_size=12)], calibration)
models = {
    "teacher": model,
    "3 layers, as cut": cut,
    "3 layers, distilled": without_states,
    "and states": with_states,
    "small, labels": small["labels"],
    "small, soft targets": small["soft targets"],
}
print(summary(models, corpus))

# %% [markdown]
# A short distillation mends a large part of what cutting half of the layers did, and comparing states helps a little
# more. The small students began with random weights and saw 24 documents; their rows show the difference that soft
# targets make, not what such a model can reach.
#
# ## What people ask
#
# **Why is the loss of my library so small?** If the mean is taken over all numbers instead of over positions, the
# loss is smaller by the size of the vocabulary, here four, and so is the gradient. PyTorch's
# `KLDivLoss(reduction="mean")` does that:

# %%
p, q = probabilities(four_teacher[0]), probabilities(four_student[0])
print(f"mean over positions  {np.sum(p * np.log(p / q)):.3f}")
print(f"mean over all numbers {np.mean(p * np.log(p / q)):.3f}")
print(f"soft_target_loss     {soft_target_loss(four_student, four_teacher, 1.0):.3f}")

# %% [markdown]
# **Is it slow, with a teacher in every step?** The teacher only computes its logits, without gradients. How much of a
# step that is depends on how much smaller the student is:

# %% tags=["measured"]
import time


def seconds(work):
    """The median of 5 runs."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return np.median(times)


differentiate = tinyslm.value_and_grad(tinyslm.next_token_loss)
print(f"teacher, logits            {1000 * seconds(lambda: model(rows)):6.0f} ms")
for name, student in {"3 layers": cut, "small": small["labels"]}.items():
    milliseconds = 1000 * seconds(lambda student=student: differentiate(student, rows))
    print(f"{name + ', loss and gradient':26} {milliseconds:6.0f} ms")

# %% [markdown]
# **Must I store the whole distribution?** No: the most likely tokens and one bucket for all others are nearly as good
# (`Distill(top_k=...)`). At this text, how much of the teacher's probability lies outside the first k:

# %%
ordered = np.sort(np.apply_along_axis(probabilities, -1, teacher_logits.reshape(-1, logits.size)))[
    :, ::-1
]
for k in (1, 4, 16, 64):
    print(f"outside the first {k:2}: {1 - ordered[:, :k].sum(axis=1).mean():.3f}")

# %% [markdown]
# ## Exercises
#
# 1. `tinyslm exercise new soft-targets`: write the loss and its gradient yourself.
# 2. `tinyslm exercise new layer-map`: write the four layer maps.
# 3. Repeat the comparison with 24 documents at T = 4, and half labels, half soft targets. What matters more, the soft
#    targets or the temperature?
# 4. Give the small student all of the training documents. How much of the difference between labels and soft targets
#    is left?
# 5. `Distill(divergence="reverse")`: distil the student of three layers with it. Is its loss lower or higher, and why
#    would somebody want it all the same?
#
# ## Sources
#
# - Hinton, Vinyals & Dean 2015, *Distilling the knowledge in a neural network*: soft targets, temperature, T squared.
#   With 3 % of the data their speech model got 57.0 % of the frames right on soft targets and 44.5 % on labels (table
#   5).
# - Sanh, Debut, Chaumond & Wolf 2019, *DistilBERT*: a student made of the teacher's layers (lesson 13).
# - Jiao et al. 2020, *TinyBERT*: states, attention and layer maps.
# - Gu, Dong, Wei & Huang 2024, *MiniLLM*: the reverse divergence.
# - Agarwal et al. 2024, *On-policy distillation of language models*: the generalized Jensen-Shannon divergence.
