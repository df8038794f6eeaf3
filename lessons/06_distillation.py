# %% [markdown]
# # Distillation
#
# A text contains one next token at each position. A trained model predicts a probability for every possible next token.
# **Knowledge distillation** trains a small model, the *student*, to match the predictions of a larger model, the
# *teacher*. This lesson shows what these predictions contain, explains the loss, and measures when it helps. The short
# trainings in the following lessons all use distillation.

# %%
from setup_lesson import np, plt, show, show_bars, tinyslm

model, tokenizer = tinyslm.load("teacher")
token_ids = np.array([tokenizer.encode("It was a quiet Thursday").ids])  # begins with the end mark
logits = model(token_ids)[0, -1]  # (V,) for the next token
probability = np.exp(tinyslm.ops.log_softmax(logits))
best = np.argsort(-logits)[:6]
words = [tokenizer.decode([token]).strip() for token in best]
label = tokenizer.encode(" night").ids[-1]  # the next token of the text
figure, axes = plt.subplots(figsize=(6.4, 2.9))
show_bars(axes, {"label": best == label, "teacher": probability[best]}, words, "probability")
show(
    "Bars for six tokens that can follow a text. The label has probability 1 at night and 0 "
    "elsewhere; the teacher gives similar probabilities to evening, afternoon, morning and "
    "night, and nearly none to the others."
)

# %% [markdown]
# What follows *It was a quiet Thursday*? The label is the one token that follows in the text, *night*. The built-in
# model, as the teacher, predicts a distribution over the whole vocabulary; the figure shows its six most probable
# tokens.
#
# After this lesson you can
#
# - compute the soft target loss and its gradient, and explain the temperature and the factor τ²;
# - choose between forward, reverse and Jensen-Shannon divergence;
# - initialize a student from layers of its teacher, and train it on soft targets and hidden states.
#
# You need: lesson 03 (gradients), lesson 04 (the loss and its floor).
#
# ## The teacher

# %%
from setup_lesson import median_milliseconds, summary, town_corpus, use_powers, validation_loss
from tinyslm.recipes import Calibration

corpus = town_corpus(tokenizer, end_id=0, training=200, validation=50)
calibration = Calibration(corpus.training, model)
print(summary({"teacher": model}, corpus))

# %% [markdown]
# The built-in model is the teacher, and the baseline of this lesson.
#
# ## Labels and soft targets
#
# The first figure shows the teacher's distribution for the beginning of a document of the corpus. Its most probable
# tokens, and its entropy:


# %%
def probabilities(logits, temperature=1.0):
    """softmax(logits / temperature) in float64."""
    exponentials = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    return exponentials / exponentials.sum()


distribution = probabilities(logits)
print(f"the first four together {distribution[best[:4]].sum():.3f}")
print(f"entropy {-distribution @ np.log(distribution):.3f} nats")

# %% [markdown]
# The label is "night". The teacher's distribution contains more information: the next token is one of four times of
# day, with similar probabilities. From labels alone a student would need many sentences to learn this.
#
# The set-up of knowledge distillation:

# %%
from diagrams import distillation

distillation()

# %% [markdown]
# ## Temperature
#
# Dividing the logits by a *temperature* τ before the softmax makes the distribution flatter and keeps the order of the
# tokens. With a higher temperature unlikely tokens contribute more to the loss:

# %%
from setup_lesson import show_lines

figure, axes = plt.subplots()
ranks = np.arange(1, logits.size + 1)
flattened = {f"τ = {tau}": np.sort(probabilities(logits, tau))[::-1] for tau in (1, 2, 4, 8)}
show_lines(axes, flattened, "rank of the token", "probability", ranks)
use_powers(axes)
axes.set_ylim(bottom=1e-9)
show(
    "Line chart of the probability against the rank of the token at four temperatures, both "
    "axes logarithmic. At τ = 1 it falls by orders of magnitude after four tokens; the higher "
    "the temperature, the flatter the curve."
)
for tau in (1, 2, 4, 8):
    distribution = probabilities(logits, tau)
    entropy = -distribution @ np.log(distribution)
    print(f"τ = {tau}: most likely token {distribution.max():.3f}, entropy {entropy:.3f} nats")
print(f"the maximal entropy of {logits.size} tokens is {np.log(logits.size):.3f} nats")

# %% [markdown]
# ## The idea, on four tokens
#
# The loss is the Kullback-Leibler divergence of the student's distribution $q$ from the teacher's distribution $p$,
# both at the temperature τ, with logits $s$ of the student and $t$ of the teacher:
#
# $$L = \tau^2 \sum_i p_i \log \frac{p_i}{q_i}, \qquad p = \mathrm{softmax}(t / \tau), \quad q = \mathrm{softmax}(s / \tau)$$
#
# Its gradient with respect to the student's logits is $\tau (q - p)$: each logit's gradient is proportional to the
# difference of the two probabilities. For four tokens and four temperatures:

# %%
from setup_lesson import show_matrix

four_teacher = np.array([[4.0, 2.0, 1.0, -1.0]])
four_student = np.array([[1.0, 3.0, 0.0, 0.0]])
temperatures = (1, 2, 4, 8)
p = np.array([probabilities(four_teacher[0], tau) for tau in temperatures])
q = np.array([probabilities(four_student[0], tau) for tau in temperatures])
gradient = np.array(temperatures)[:, None] * (q - p)
names = [f"τ = {tau}" for tau in temperatures]
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(7.6, 2.4))
show_matrix(left, p, "teacher: p", "{:.2f}", names)
show_matrix(middle, q, "student: q", "{:.2f}", names)
show_matrix(right, gradient, "gradient: τ (q - p)", "{:.2f}", names)
show(
    "Three matrices with a row per temperature and a column per token: the teacher's p, the "
    "student's q, and the gradient. From the first row to the last, p and q become flatter and "
    "the last column of the gradient grows."
)

# %% [markdown]
# At τ = 1 the first two tokens have the largest gradients. At τ = 8 the last two have gradients too: the student's
# logits of these tokens are equal, the teacher's are not.
#
# ## The library's function

# %%
from setup_lesson import numbered_source
from tinyslm.compression.distillation import soft_target_loss

print(numbered_source(soft_target_loss))

# %% [markdown]
# `forward_kl` computes the divergence of each row and its gradient `q - p`. All divergences share `mean_divergence`:

# %%
from tinyslm.compression.distillation.divergence import mean_divergence

print(numbered_source(mean_divergence))

# %% [markdown]
# - The teacher's logits are first converted to the student's dtype. If the two distributions were normalized in
#   different precisions, the computed divergence could be negative.
# - `select_positions` removes padding. The mean is over the remaining positions, not over `positions * V`.
# - The softmax and its logarithm are computed from the same exponentials, for 256 rows at a time, so that they fit into
#   the processor's cache.
# - `vjp` multiplies by τ, not by τ²: the loss has the factor τ², and the derivative of `s / τ` is 1 / τ.
#
# The next cell tests the gradient, and evaluates the loss for logits that differ only by a constant:

# %%
error = tinyslm.check_gradient(soft_target_loss, four_student, four_teacher, 2.0)
_, vjp = soft_target_loss.with_vjp(four_student, four_teacher, 2.0)
print(f"relative error of the gradient below a millionth: {error < 1e-6}")
print("gradient  ", np.round(vjp(1.0)[0][0], 3))
print("τ (q - p) ", np.round(2 * (q[1] - p[1]), 3))
plus_constant = soft_target_loss(four_teacher + 5, four_teacher, 2.0)
print(f"loss of the teacher's logits plus 5: {abs(plus_constant):.3f}")

# %% [markdown]
# The last line shows that the loss is zero whenever the *distributions* are equal, even if the logits differ.
#
# **In a debugger**: set a breakpoint in `forward_kl` in `tinyslm/compression/distillation/soft_targets.py`. Inspect
# `teacher`, `student` and `student - teacher`, and in the caller `mean_divergence` the arrays `values` and `gradient`.
#
# ## The factor τ²
#
# The optimizer uses the gradient, so its size matters. The next cell measures it on documents of the corpus, for a
# student with two layers of random weights.

# %%
from tinyslm.recipes import FreshStudent

rows = np.stack([document[:32] for document in corpus.validation if len(document) >= 32][:16])
teacher_logits = model(rows)  # (B, T, V)
fresh = FreshStudent(
    layers=2, hidden_size=96, intermediate_size=192, num_attention_heads=4, num_key_value_heads=2
)
student_logits = fresh(model)(rows)
temperatures = (1, 2, 4, 8, 16, 32)


def gradient_norm(temperature):
    """Norm of the gradient of the soft target loss."""
    _, vjp = soft_target_loss.with_vjp(student_logits, teacher_logits, temperature)
    return float(np.linalg.norm(vjp(np.float32(1))[0]))


_, labels_vjp = tinyslm.ops.cross_entropy.with_vjp(student_logits[:, :-1], rows[:, 1:])
of_labels = float(np.linalg.norm(labels_vjp(np.float32(1))[0]))
with_square = np.array([gradient_norm(tau) for tau in temperatures])

# %%
figure, axes = plt.subplots()
lines = {"with τ²": with_square, "without": with_square / np.square(temperatures),
         "cross entropy of the labels": [of_labels] * len(temperatures)}  # fmt: skip
show_lines(axes, lines, "temperature τ", "norm of the gradient", temperatures, markers=True)
use_powers(axes)
axes.set_xticks(temperatures, temperatures)
show(
    "Line chart of the norm of the gradient against the temperature, both axes logarithmic. "
    "Without the factor τ² it falls steadily; with the factor it converges to a constant below "
    "the gradient of the labels."
)
print("norm of the gradient, in thousandths")
for name, values in lines.items():
    print(f"{name:28}" + "".join(f"{1000 * value:8.3f}" for value in values))

# %% [markdown]
# Without the factor the gradient is proportional to $1/\tau^2$ for large τ: one factor $1/\tau$ comes from the division
# of the logits, and one because both distributions approach the uniform distribution. In a sum with the cross entropy
# of the labels, the soft target loss at a high temperature would have almost no effect. With the factor the gradient
# converges to a constant, so the same weight of the soft target loss suits all high temperatures. For moderate τ the
# gradient is not constant: with a vocabulary of this size it first increases and then decreases.
#
# For large τ the loss converges to half the mean squared difference of the centred logits, $\frac{1}{2V} \|(s - \bar s)
# - (t - \bar t)\|^2$:

# %%
difference = (student_logits - teacher_logits).astype(np.float64)
centred = difference - difference.mean(axis=-1, keepdims=True)
limit = np.mean(np.square(centred)) / 2
student64, teacher64 = student_logits.astype(np.float64), teacher_logits.astype(np.float64)
for tau in (1, 4, 16, 64):
    loss = soft_target_loss(student64, teacher64, tau)
    print(f"τ = {tau:2}: loss {loss:.3f}, the limit {limit:.3f}")

# %% [markdown]
# ## Three divergences
#
# $\mathrm{KL}(p \| q)$ and $\mathrm{KL}(q \| p)$ differ. Which one is better depends on how the student's capacity is
# limited. In the next example the teacher's distribution has two peaks, and the student's has one peak of any position
# and width. The cell searches all positions and widths, and draws the best for each divergence
# (`tinyslm/compression/distillation/reverse_kl.py`, `tinyslm/compression/distillation/jensen_shannon.py`):

# %%
from tinyslm.compression.distillation import jensen_shannon_loss, reverse_kl_loss

tokens = np.arange(60.0)
two_peaks = 0.6 * np.exp(-np.square(tokens - 18) / 18) + 0.4 * np.exp(-np.square(tokens - 42) / 18)
two_peaks = np.log(two_peaks + 1e-4)[None]  # (1, V) logits
one_peak = {(position, width): -np.square(tokens - position)[None] / (2 * width**2)
            for position in range(10, 51) for width in (2, 3, 4, 6, 8, 10, 12, 14, 16)}  # fmt: skip
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
    print(f"{name:20} position {found[0]}, width {found[1]}")
show(
    "Three line charts of a teacher with two peaks and the best student with one peak. For the "
    "forward divergence the student is wide and covers both peaks; for the other two it covers "
    "one peak."
)

# %% [markdown]
# The forward divergence is large wherever $p$ is large and $q$ is small. So its optimum covers both peaks
# (*mode-covering*), and puts probability between them, where $p$ is nearly zero. The reverse divergence is large
# wherever $q$ is large and $p$ is small. So its optimum covers one peak and ignores the other (*mode-seeking*). The
# Jensen-Shannon divergence compares both with their mean and is at most log 2, so a missing peak costs a bounded
# amount; here its optimum is that of the reverse divergence.
#
# For language models, the forward divergence corresponds to a low cross entropy: the student must give probability to
# everything that the teacher could generate. The reverse divergence demands that the student's text is probable under
# the teacher; small students trained with it are reported to generate better text (Gu et al. 2024).
#
# ## Little data
#
# The student is a model with two layers of random weights, and only 24 documents for training. Three trainings are
# compared: with labels, with the teacher's soft targets, and with soft targets at τ = 2. The initial weights, the order
# of the documents and the number of steps are the same.

# %%
from tinyslm.evaluation import measure_loss
from tinyslm.recipes import Distill, compress

few = Calibration(corpus.training[:24], model)
trainings = {
    "labels": Distill(80, 3e-3, batch_size=8, soft_weight=0.0),
    "soft targets": Distill(80, 3e-3, batch_size=8),
    "soft targets, τ = 2": Distill(80, 3e-3, batch_size=8, temperature=2.0),
}
small = {name: compress(model, [fresh, distill], few)[0] for name, distill in trainings.items()}
on_training = [measure_loss(each, few.documents).nats for each in small.values()]
on_validation = [validation_loss(each, corpus) for each in small.values()]
figure, axes = plt.subplots()
bars = {"the 24 training documents": on_training, "validation documents": on_validation}
show_bars(axes, bars, list(small), "loss, nats per token")
axes.set_ylim(top=1.25 * max(on_validation))
show(
    "Bars of the loss on training and validation documents for three trainings. With labels the "
    "training loss is nearly zero and the validation loss high. With soft targets the "
    "validation loss is lowest."
)
for name, training, validation in zip(small, on_training, on_validation):
    print(f"{name:20} training {training:.2f}, validation {validation:.2f}")

# %% [markdown]
# Compare the two bars of each group. With labels the student memorizes the training documents and generalizes badly.
# The teacher's distributions are harder to memorize, because they contain the alternatives at every position. The
# student trained on them at τ = 1 has a clearly lower loss on validation documents. With more data the difference is
# expected to be smaller, because many documents together contain similar information (exercise 2 below).
#
# At τ = 2 the student is not better than with labels. The figure of the temperatures shows the reason: with a large
# vocabulary, much of the flattened distribution is on tokens that cannot occur, and the student spends capacity on
# them. Hinton et al. (2015) found higher temperatures useful with few classes, and DistilBERT used τ = 2. For this
# model and few documents τ = 1 is best. The temperature is a hyperparameter to be tuned.
#
# ## Initializing from the teacher's layers
#
# A student can be initialized with some of the teacher's layers. A *layer map* selects them
# (`tinyslm/compression/distillation/layer_maps.py`). The library has four layer maps; here for a student of three
# layers, with the teacher's layers counted from 0:

# %%
from tinyslm.compression.distillation import layer_map
from tinyslm.recipes import KeepLayers

strategies = ("uniform", "spread", "top", "bottom")
maps = {strategy: layer_map(strategy, 3, 6) for strategy in strategies}
selected = np.array([[layer in maps[strategy] for layer in range(6)] for strategy in strategies])
figure, axes = plt.subplots(figsize=(4.2, 2.2))
show_matrix(axes, selected, "", "{:.0f}", strategies, [f"layer {layer}" for layer in range(6)])
show(
    "Matrix of four layer maps (rows) over the six layers of the teacher (columns), with 1 for "
    "a layer that is kept. Each row has three: every second layer, spread from first to last, "
    "the last three, the first three."
)
for strategy in strategies:
    cut = KeepLayers(maps[strategy])(model)
    print(f"{strategy:8} {maps[strategy]}: loss {validation_loss(cut, corpus):.3f}")

# %% [markdown]
# Before training, the loss depends most on whether the first layer is kept, and next on the last. The layers between
# change the hidden states less (lesson 08 measures this). "Uniform" has another purpose: it selects the teacher's layer
# whose hidden states each layer of the student is trained to match.
#
# ## Hidden states
#
# The teacher's hidden states can be targets too: the loss is the mean squared difference between the student's state
# after layer $m$ and the teacher's state after layer $g(m)$ (`tinyslm/compression/distillation/hidden_states.py`). The
# next figure shows the distance between every state of the student and every state of the teacher, relative to the mean
# square of the teacher's state. The last state is the one after the final norm.

# %%
from tinyslm.compression.distillation import hidden_state_loss

cut, _ = compress(model, [KeepLayers(maps["spread"])], calibration)


def state_distances(student):
    """hidden_state_loss of all pairs of layers, divided by the mean square of the teacher's state."""
    student_trace, teacher_trace = tinyslm.trace(student, rows), tinyslm.trace(model, rows)
    table = np.empty((3, 6))
    for m, n in np.ndindex(table.shape):
        target = teacher_trace[f"hidden_states.{n + 1}"]
        table[m, n] = hidden_state_loss(student_trace[f"hidden_states.{m + 1}"], target)
        table[m, n] /= np.mean(np.square(target))
    return table


# %%
states = Distill(12, 1e-3, batch_size=12, hidden_weight=1.0, layers="spread")
with_states, _ = compress(cut, [states], calibration)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6))
for panel, (name, student) in zip(axes, {"before": cut, "after": with_states}.items()):
    title = f"distance of the states, {name} training"
    show_matrix(panel, state_distances(student), title, "{:.2f}",
                [f"student {m}" for m in range(3)], list(range(6)), limit=1.5)  # fmt: skip
    panel.set_xlabel("layer of the teacher", fontsize=8)
show(
    "Two matrices of distances between the student's states (rows) and the teacher's (columns), "
    "before and after training. The distances of the second and third state to layers 2 and 5 "
    "become smaller."
)

# %% [markdown]
# The student has the teacher's layers 0, 2 and 5. Before training its first state equals the teacher's. The third, from
# which the logits are computed, is far from the teacher's last state. During training the second and third states
# approach the teacher's layers 2 and 5, as the loss demands.
#
# ## Comparison
#
# The same student without the hidden state loss for comparison, and the small students from above:

# %%
without_states, _ = compress(cut, [Distill(12, 1e-3, batch_size=12)], calibration)
models = {
    "teacher": model,
    "3 layers, not trained": cut,
    "3 layers, distilled": without_states,
    "and hidden states": with_states,
    "small, labels": small["labels"],
    "small, soft targets": small["soft targets"],
}
print(summary(models, corpus))

# %% [markdown]
# A short distillation removes a large part of the loss that the removal of half the layers caused. The hidden state
# loss helps a little more. The small students started with random weights and were trained on 24 documents; their rows
# show the effect of soft targets, not the best loss of such a model.
#
# ## Questions
#
# **Why is the loss of another library smaller?** If the mean is taken over all numbers instead of over positions, the
# loss and its gradient are divided by the size of the vocabulary, here four. PyTorch's `KLDivLoss(reduction="mean")`
# does this:

# %%
p, q = probabilities(four_teacher[0]), probabilities(four_student[0])
print(f"mean over positions   {np.sum(p * np.log(p / q)):.3f}")
print(f"mean over all numbers {np.mean(p * np.log(p / q)):.3f}")
print(f"soft_target_loss      {soft_target_loss(four_student, four_teacher, 1.0):.3f}")

# %% [markdown]
# **How much time does the teacher cost?** The teacher computes only logits, without gradients. Its share of a step
# depends on the size of the student:

# %% tags=["measured"]
differentiate = tinyslm.value_and_grad(tinyslm.next_token_loss)
print(f"teacher, logits            {median_milliseconds(lambda: model(rows), calls=5):6.0f} ms")
for name, student in {"3 layers": cut, "small": small["labels"]}.items():
    time = median_milliseconds(lambda: differentiate(student, rows), calls=5)
    print(f"{name + ', loss and gradient':26} {time:6.0f} ms")

# %% [markdown]
# **Must the whole distribution be stored?** No. The most likely tokens and one class for all others are nearly as good
# (`Distill(top_k=...)`, `tinyslm/compression/distillation/top_k.py`). The teacher's mean probability outside the first
# k tokens on these documents:

# %%
flat_logits = teacher_logits.reshape(-1, logits.size)
ordered = np.sort(np.apply_along_axis(probabilities, -1, flat_logits))[:, ::-1]
for k in (1, 4, 16, 64):
    print(f"outside the first {k:2}: {1 - ordered[:, :k].sum(axis=1).mean():.3f}")

# %% [markdown]
# ## Summary
#
# - Soft targets contain the probabilities of all possible next tokens. With 24 documents, a student trained on them had
#   a validation loss of 4.85 nats per token, with labels 5.48.
# - The soft target loss is τ² times the KL divergence at temperature τ; its gradient is τ (q − p). The factor τ² keeps
#   the gradient of the same size for high temperatures.
# - The forward divergence covers all modes of the teacher, the reverse divergence selects one.
# - A student initialized with layers 0, 2 and 5 of the teacher had a loss of 2.099 before training, 1.148 after a short
#   distillation, and 1.128 with the hidden state loss.
#
# The code: the losses in `tinyslm/compression/distillation/soft_targets.py`,
# `tinyslm/compression/distillation/hidden_states.py` and their neighbours; the steps in
# `tinyslm/recipes/distillation/distill.py` and `tinyslm/recipes/distillation/student.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("soft-targets")

# %% tags=["exercise"]
exercise("layer-map")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Repeat the comparison with 24 documents at τ = 4, and with half labels, half soft targets. Which has the larger
#    effect, the soft targets or the temperature?
# 2. Train the small student on all training documents. How large is the difference between labels and soft targets now?
# 3. Train the student of three layers with `Distill(divergence="reverse")`. Is its loss lower or higher? Why could it
#    be preferred nevertheless?
#
# ## Sources
#
# - Hinton, Vinyals & Dean 2015, *Distilling the knowledge in a neural network*: soft targets, temperature, the factor
#   τ². With 3 % of the data their speech model classified 57.0 % of the frames correctly with soft targets and 44.5 %
#   with labels (table 5).
# - Sanh, Debut, Chaumond & Wolf 2019, *DistilBERT*: a student initialized from the teacher's layers (lesson 13).
# - Jiao et al. 2020, *TinyBERT*: hidden states, attention and layer maps.
# - Gu, Dong, Wei & Huang 2024, *MiniLLM*: the reverse divergence.
# - Agarwal et al. 2024, *On-policy distillation of language models*: the generalized Jensen-Shannon divergence.
