# %% [markdown]
# # Encoders: from BERT to DistilBERT
#
# The models so far read from left to right and write. An **encoder** reads a text as a whole, every word with what
# stands before *and after* it, and writes nothing: it is used to find, compare and classify texts. BERT (2018) made
# this kind known, DistilBERT (2019) made it small: half the layers, and nearly all that the larger one could do. This
# lesson trains a small encoder from nothing, cuts it to half of its layers and distils it, with the loss that
# DistilBERT used.
#
# You need: lesson 02 (attention, encoder and decoder), lesson 06 (soft targets, layer maps).

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.compression.distillation import cosine_loss, layer_map, soft_target_loss
from tinyslm.models import EncoderConfig, random_model
from tinyslm.ops import IGNORED
from tinyslm.recipes import Calibration, FreshStudent, KeepLayers, Distill, compress
from tinyslm.reporting.pictures import (
    show_attention,
    show_bars,
    show_lines,
    show_matrix,
    use_lesson_style,
)
from tinyslm.reporting.source import numbered_source
from tinyslm.text import town
from tinyslm.text.batches import encode_documents, pad_documents
from tinyslm.text.town import ambiguity
from tinyslm.text.town.grammar import SamplingPage

use_lesson_style()
_, tokenizer = tinyslm.load("teacher")
TOKENS = 24  # of a document


def written(split, count):
    """Documents of the town about names that can be a person or a city, as token ids."""
    texts = []
    for index in range(count):
        page = SamplingPage(town.generator(split, index))
        ambiguity.write(page, town.TOWN)
        texts.append(page.text)
    return [document[:TOKENS] for document in encode_documents(tokenizer, texts, end_id=0)]


training, validation = written("train", 8000), written("validation", 300)
print(tokenizer.decode(training[1]))

# %% [markdown]
# The encoder is to learn in less than a minute. So it reads one kind of the town's documents only, the beginning of
# each, and its vocabulary consists of the tokens that occur there. One more token is added, `[MASK]`, which hides
# others.

# %%
used = np.unique(np.concatenate(training + validation))  # the tokens that occur
training, validation = ([np.searchsorted(used, document) for document in documents]
                        for documents in (training, validation))  # fmt: skip
MASK = len(used)


def readable(token):
    """A token as text."""
    if token == MASK:
        return "[MASK]"
    return tokenizer.decode([used[token]]).strip() or "<begin>"


def encode(text):
    """A text as token ids (T,), from the mark of a beginning on."""
    parts = text.split(" [MASK]")
    ids = [0]  # a document begins
    for i, part in enumerate(parts):
        ids += ([MASK] if i else []) + np.searchsorted(
            used, tokenizer.encode(part, add_special_tokens=False).ids
        ).tolist()
    return np.array(ids)


print(f"{MASK} tokens, and [MASK]")

# %% [markdown]
# ## The idea, on four tokens
#
# What may a token look at? In a decoder, only at itself and what comes before it, since it is to predict what comes
# after. In an encoder, at everything. The same scores, with both rules:

# %%
from scipy.special import softmax

scores = np.random.default_rng(0).normal(size=(4, 4))
causal = softmax(np.where(np.tri(4, dtype=bool), scores, -np.inf), axis=-1)
figure, (left, right) = plt.subplots(1, 2, figsize=(6, 2.4))
words = ["Otto", "went", "to", "Paris"]
show_matrix(left, causal, "decoder", "{:.2f}", words, words, limit=1)
show_matrix(right, softmax(scores, axis=-1), "encoder", "{:.2f}", words, words, limit=1)
plt.show()

# %% [markdown]
# But then "predict the next word" is no task any more: the next word can be seen. The task of an encoder is to
# predict words that were **hidden** from it. 15 % of the tokens are replaced by `[MASK]`, and only those count:

# %%
config = EncoderConfig(
    "distilbert", vocab_size=MASK + 1, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
    num_attention_heads=4, head_dim=32, max_position_embeddings=32,
)  # fmt: skip
model = random_model(config)
calibration = Calibration(training, model, mask_token_id=MASK)
inputs, targets = calibration.task(*pad_documents(training[:3]))
for row, wanted in zip(inputs["token_ids"], targets):
    print(" ".join(readable(token) for token in row))
    print("   hidden:", ", ".join(readable(token) for token in wanted[wanted != IGNORED]))

# %% [markdown]
# The library's function that hides them. The chances come from the document itself: the same document, the same
# hidden tokens. So teacher and student, today and tomorrow, get the same task. `[MASK]` always stands for what was
# hidden; BERT shows the true token or another one in one of five cases, because in later use there is no `[MASK]`.

# %%
from tinyslm.recipes.tasks import hide_tokens

print(numbered_source(hide_tokens))

# %% [markdown]
# The loss is the cross entropy at the hidden positions:

# %%
print(numbered_source(tinyslm.masked_token_loss))
print()
print(numbered_source(type(model).states))

# %% [markdown]
# **In a debugger**: set a breakpoint in `Encoder.states` in `tinyslm/models/encoder.py`, at the line with
# `embedding_norm`, and look at `token_ids`, `context` and the shape of `x`; then step into `block`: its norms stand
# *behind* what is added (post-norm), those of the decoder in lesson 02 in front.
#
# ## Train it
#
# An encoder has no notion of order, but for a vector per position that is added to each token's. Here these vectors
# begin as sine waves (Vaswani et al. 2017): two neighbours then differ in the same way everywhere, and to look at the
# neighbour is quickly learned. The encoder begins with two layers, which take a third of the time of six, and goes on
# with three copies of each (progressive stacking; Gong et al. 2019).

# %%
from tinyslm.training import Settings, State, train
from tinyslm.tree import map_arrays

positions, waves = np.arange(config.max_position_embeddings)[:, None], np.arange(64)
angles = positions / 1000 ** (waves / 64)
table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1) * (2 / config.hidden_size) ** 0.5
model = model.replace(
    position_embedding=model.position_embedding.replace(table=table.astype(np.float32))
)


def task_loss(model, token_ids, labels):
    """The masked loss of a batch of documents."""
    inputs, targets = calibration.task(token_ids, labels)
    return tinyslm.masked_token_loss(model, labels=targets, **inputs)


def learn(model, steps, learning_rate, seed):
    """The model after that many steps, and the loss of each."""
    settings = Settings(
        steps=steps, batch_size=64, micro_batch_size=16, learning_rate=learning_rate,
        warmup_steps=steps // 10, weight_decay=0.0, seed=seed,
    )  # fmt: skip
    state = train(State.start(model, settings), *calibration.rows(), settings,
                  loss_function=task_loss, count_predicted=calibration.count_targets)  # fmt: skip
    return state.model, state.losses


# %%
model, first = learn(model, 160, 3e-3, seed=0)
stacked = [
    map_arrays(lambda path, array: array.copy(), layer) for layer in model.layers for _ in range(3)
]
model = model.replace(layers=stacked, config=replace(config, num_hidden_layers=len(stacked)))
teacher, second = learn(model, 100, 2e-3, seed=1)

# %%
tokens = np.concatenate(training)
shares = np.bincount(tokens) / tokens.size
shares = shares[shares > 0]
figure, axes = plt.subplots()
smooth = [
    np.mean(part[max(0, i - 4) : i + 1]) for part in (first, second) for i in range(len(part))
]
show_lines(axes, {"masked loss": smooth}, "step", "nats per hidden token")
axes.axvline(len(first), color="#555555", linestyle=":", linewidth=1)
axes.annotate("2 layers become 6", (len(first), max(smooth)), (-4, -8), textcoords="offset points",
              ha="right", fontsize=8)  # fmt: skip
axes.axhline(-np.sum(shares * np.log(shares)), color="#555555", linestyle=(0, (8, 3)), linewidth=1)
axes.annotate("what token frequencies alone give", (len(smooth), -np.sum(shares * np.log(shares))),
              (0, 4), textcoords="offset points", ha="right", fontsize=8)  # fmt: skip
plt.show()

# %% [markdown]
# There is no floor in this picture. The town's entropy is known for texts written from left to right (lesson 01);
# what a hidden word could still be, given all others, is another question. The limit that is drawn is the upper one:
# who knows how often each token occurs, and looks at nothing, has the loss of the dashed line.
#
# ## Look at what it learned
#
# The share of the hidden tokens that it finds, and two texts. Up to the hidden word they are the same; what tells it
# stands *after* it, so no decoder could know.

# %%
hidden_in, wanted = calibration.task(*pad_documents(validation))


def score(model):
    """(accuracy, loss in nats per token) at the hidden tokens of the validation documents."""
    logits = model(**hidden_in)
    there = wanted != IGNORED
    loss = tinyslm.ops.cross_entropy(logits, wanted)
    return np.mean(np.argmax(logits, axis=-1)[there] == wanted[there]), float(loss)


commonest = np.argmax(np.bincount(tokens))
always = np.mean(wanted[wanted != IGNORED] == commonest)
print(f"always '{readable(commonest)}': {always:.3f} of the hidden tokens are right")
print("encoder: accuracy {:.3f}, loss {:.3f}".format(*score(teacher)))

before = "Otto spoke of Paris and Dallas all evening. Anna [MASK]"
texts = {
    "... the Monday night train to Paris": encode(f"{before} the Monday night train to Paris."),
    "... a white room near the tower": encode(f"{before} a white room near the tower"),
}
place = int(np.flatnonzero(texts["... a white room near the tower"] == MASK)[0])
chances = {name: softmax(teacher(text[None])[0, place]) for name, text in texts.items()}
best = np.argsort(-sum(chances.values()))[:7]
figure, axes = plt.subplots()
bars = {name: each[best] for name, each in chances.items()}
show_bars(axes, bars, [readable(token) for token in best], "probability")
plt.show()

# %% [markdown]
# One attention head, of all heads the one that looks most from the hidden word to what stands behind it:

# %%
text = texts["... the Monday night train to Paris"]
seen = tinyslm.trace(teacher, text[None])
attention = np.array([seen[f"attentions.{i}"][0] for i in range(6)])  # (layers, H, T, T)
behind = attention[:, :, place, place + 1 :].sum(axis=-1)  # (layers, H)
layer, head = np.unravel_index(np.argmax(behind), behind.shape)
figure, axes = plt.subplots(figsize=(6.4, 6))
words = [readable(token) for token in text]
show_attention(axes, attention[layer, head], words, f"layer {layer}, head {head}")
plt.show()

# %% [markdown]
# In the row of `[MASK]` the darkest cell is the word that decides, some places further on.
#
# ## Which layers could go? A sensitivity scan
#
# The encoder without one of its layers, and then with three of six by each of the library's layer maps:

# %%
scan = {f"without layer {i}": tuple(j for j in range(6) if j != i) for i in range(6)}
scan |= {f"{strategy} {layer_map(strategy, 3, 6)}": layer_map(strategy, 3, 6)
         for strategy in ("uniform", "spread", "top", "bottom")}  # fmt: skip
for name, kept in scan.items():
    print("{:20} accuracy {:.3f}, loss {:.3f}".format(name, *score(KeepLayers(kept)(teacher))))

# %% [markdown]
# Any single layer can be missed. Of three layers it matters much which ones they are: layers 0 to 2 began as copies
# of one layer and 3 to 5 as copies of the other, and "top" and "bottom" keep only one kind. DistilBERT takes about
# one layer of every two, from the first to the last: that is "spread".
#
# ## Half the layers, and three losses
#
# The student begins with the teacher's layers and embeddings, and learns from three things at once:
#
# 1. **soft targets**: the teacher's distribution at the hidden tokens, at T = 2 (lesson 06),
# 2. **labels**: the hidden tokens themselves,
# 3. **cosine**: the direction of its last states, at all tokens, is to be the teacher's.
#
# Their weights in the program that trained DistilBERT are 5, 2 and 1. The third loss is new here:

# %%
print(numbered_source(cosine_loss))

# %% [markdown]
# Only directions count, lengths do not. The gradient is at a right angle to the student's state, since to make it
# longer changes nothing:

# %%
state, other = np.array([[2.0, 1.0]]), np.array([[1.0, 2.0]])
_, vjp = cosine_loss.with_vjp(state, other)
gradient = vjp(1.0)[0]
figure, axes = plt.subplots(figsize=(3.6, 3.2))
for vector, name, line in (
    (state, "student", "-"),
    (other, "teacher", "--"),
    (-4 * gradient, "a step", "-"),
):
    start = state[0] if name == "a step" else (0, 0)
    axes.annotate(
        "", np.add(start, vector[0]), start, arrowprops={"arrowstyle": "->", "linestyle": line}
    )
    axes.annotate(name, np.add(start, vector[0]), (-14, 5), textcoords="offset points", fontsize=8)
axes.set(xlim=(0, 3), ylim=(0, 2.6), xlabel="first number of the state", ylabel="second number")
axes.set_aspect("equal")
plt.show()
print(f"gradient times state: {abs(np.vdot(gradient, state)):.3f}")

# %% [markdown]
# Now the training, and beside it what happens without each of the losses, and from random weights. The teacher trains
# as many steps more, so that the student is not compared with a model that had less training:

# %%
triple = Distill(50, 1e-3, batch_size=40, temperature=2.0, soft_weight=5 / 7, cosine_weight=1 / 7)
half = KeepLayers(layer_map("spread", 3, 6))
learning = Calibration(training, teacher, seed=2, mask_token_id=MASK)
recipes = {
    "half, as cut": [half],
    "half, all three losses": [half, triple],
    "without soft targets": [half, replace(triple, soft_weight=0.0, cosine_weight=0.5)],
    "without labels": [half, replace(triple, soft_weight=1.0, cosine_weight=0.2)],
    "without cosine": [half, replace(triple, cosine_weight=0.0)],
    "half, random weights": [FreshStudent(3), triple],
    "teacher, further on labels": [replace(triple, soft_weight=0.0, cosine_weight=0.0)],
}
models = {"teacher": teacher} | {
    name: compress(teacher, recipe, learning)[0] for name, recipe in recipes.items()
}

# %% [markdown]
# ## The table

# %%
accuracy = {name: score(each)[0] for name, each in models.items()}
print(f"{'':28}parameters  multiply-adds     nats  accuracy  of the teacher's")
for name, each in models.items():
    size = tinyslm.footprint(each)
    right, nats = score(each)
    print(f"{name:28}{size.parameters:10,} {size.multiply_adds:14,} {nats:8.3f} {right:9.3f} "
          f"{right / accuracy['teacher']:11.1%}")  # fmt: skip
print(f"{'the commonest token':28}{'':34}{always:9.3f} {always / accuracy['teacher']:11.1%}")
hidden = np.count_nonzero(wanted != IGNORED)
error = np.sqrt(accuracy["teacher"] * (1 - accuracy["teacher"]) / hidden)
print(f"of {hidden:,} hidden tokens; the standard error of an accuracy is {error:.3f}")
figure, axes = plt.subplots(figsize=(6.4, 3.6))
show_bars(axes, {"accuracy": list(accuracy.values())}, list(accuracy), "hidden tokens found, share")
plt.show()

# %% [markdown]
# DistilBERT has 40 % fewer parameters than BERT and kept 97 % of its score in GLUE, a collection of tasks that a text
# is to be understood for (Sanh et al. 2019). Here the measure is the task of the training itself, so the last column
# can be compared with that figure in kind only: cutting costs several percent, and the short distillation wins back
# most of them. Two things are as published: half the layers are enough for nearly all of it, and where the student
# begins is decisive. From random weights, positions among them, it does not come near (GLUE lower by 3.69; table 4 there).
#
# One thing is not. Without soft targets, GLUE was lower by 2.96, without cosine by 1.46, without labels by 0.31. Here
# the four variants lie within the sampling error of each other: the student begins near its goal, and each of the
# losses leads it there.
#
# ## Smaller and faster?

# %% tags=["measured"]
import time


def milliseconds(model):
    """The median of 7 passes over 100 documents."""
    times = []
    for _ in range(7):
        began = time.perf_counter()
        model(hidden_in["token_ids"][:100], hidden_in["attention_mask"][:100])
        times.append(1000 * (time.perf_counter() - began))
    return np.median(times)


for name in ("teacher", "half, all three losses"):
    print(f"{name:24} {milliseconds(models[name]):6.0f} ms for 100 documents")

# %% [markdown]
# ## What people ask
#
# **What is the third loss for, if the logits agree already?** The logits say what the states are good for in *this*
# task. An encoder is used for others, which read its states. How similar are the states of teacher and student, one
# minus the cosine?

# %%
states = {name: each.hidden_states(**hidden_in) for name, each in models.items()}
mask = hidden_in["attention_mask"]
for name in ("half, as cut", "without cosine", "half, all three losses", "half, random weights"):
    print(f"{name:24} {cosine_loss(states[name], states['teacher'], mask=mask):.3f}")

# %% [markdown]
# **How much of the teacher's answer is in its first choice?** The divergence between teacher and student at the
# hidden tokens says whether the student has learned the other choices as well:

# %%
logits = {name: each.predict(states[name]) for name, each in models.items()}
for name in ("half, as cut", "without soft targets", "half, all three losses"):
    divergence = soft_target_loss(logits[name], logits["teacher"], 1.0, mask=wanted != IGNORED)
    print(f"{name:24} {divergence:.3f} nats per hidden token")

# %% [markdown]
# **Can I write with an encoder?** Not well: it never learned to go on without seeing what follows. **Why was a
# token-type table dropped from BERT?** It marks the first and the second of two texts and is not needed by most uses;
# DistilBERT has neither it nor the pooler, the layer that makes one vector of a text.
#
# ## Exercises
#
# 1. `tinyslm exercise new mask-tokens`: write the hiding of tokens yourself.
# 2. Train with 30 % of the tokens hidden instead of 15 % (Wettig et al. 2023 recommend 40 %): change the share in a
#    copy of `hide_tokens`. Does the loss fall faster per step?
# 3. Keep two layers of six. How much of the teacher's accuracy is left?
# 4. Replace the sine waves by the random vectors of `random_model`. How many more steps does the encoder need?
# 5. `KeepLayers` with "uniform" instead of "spread", recovered by the same steps: is the difference of the scan still
#    there?
#
# ## Sources
#
# - Devlin, Chang, Lee & Toutanova 2019, *BERT*: the masked language model.
# - Sanh, Debut, Chaumond & Wolf 2019, *DistilBERT, a distilled version of BERT*: half the layers, three losses.
# - Vaswani et al. 2017, *Attention is all you need*: sine waves for positions.
# - Gong et al. 2019, *Efficient training of BERT by progressively stacking*.
# - Wettig, Gao, Zhong & Chen 2023, *Should you mask 15 % in masked language modeling?*
