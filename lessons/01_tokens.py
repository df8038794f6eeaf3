# %% [markdown]
# # Tokens, the town, and the floor
#
# A language model does not see letters. It sees numbers, one for each *token*, a piece of text that occurs often; and
# it is judged by one number, its *loss*: how surprised it is by the next token, on average. **How low can that number
# get, and how would anyone know?** For the text of the world nobody knows. For the text of the built-in corpus it is
# known exactly, because a program writes it.
#
# You need: lesson 00.

# %%
import itertools
import json
import math
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.reporting.pictures import show_floor, show_lines, use_lesson_style
from tinyslm.reporting.source import numbered_source
from tinyslm.text import town
from tinyslm.text.tokenizer import train_tokenizer

use_lesson_style()
model, tokenizer = tinyslm.load("teacher")


def pieces(tokenizer, text):
    """A text with a bar between its tokens."""
    return "|".join(text[a:b] for a, b in tokenizer.encode(text, add_special_tokens=False).offsets)


for text in ("Paris bought a rare bell.", "Ines Valmer joue du violon.", "27 + 45 = 72", "A zebra"):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    print(f"{pieces(tokenizer, text):34} {ids}")

# %% [markdown]
# Frequent words of the town are one token, with the space before them; a word that the town does not know falls into
# pieces, in the end into single letters. Digits always stand alone, so that sums can be learned digit by digit. No text
# is impossible, and nothing is lost: the tokens, joined, are the text.
#
# ## The idea: join what stands together most often
#
# *Byte-pair encoding* begins with single bytes and, again and again, joins the pair of neighbours that is most frequent
# into one new token. On a text of five words the first joins can be done by hand:

# %%
words = [list(word) for word in ("low", "low", "lower", "slow", "slower")]
for _ in range(4):
    counts = Counter(pair for word in words for pair in itertools.pairwise(word))
    (left, right), count = max(counts.items(), key=lambda item: (item[1], item[0]))
    for word in words:
        places = [i for i in range(len(word) - 1) if (word[i], word[i + 1]) == (left, right)]
        for i in reversed(places):
            word[i : i + 2] = [left + right]
    print(
        f"{left} + {right}, {count} times:".ljust(22), "  ".join("|".join(word) for word in words)
    )

# %% [markdown]
# Four joins, and *low* is a token, and so is *er*. The library's tokenizers are made by the package `tokenizers`, which
# does this fast. What is left to say is how the text is cut before, and what stands at the beginning of a document:

# %%
print(numbered_source(train_tokenizer))

# %% [markdown]
# - `Digits` and `ByteLevel` cut the text into words and digits first: no token reaches across them.
# - `initial_alphabet` are the 256 bytes. With them every text can be written, whatever its language.
# - `END_OF_DOCUMENT` is a token of its own, and `TemplateProcessing` puts it before every text. It tells the model that
#   nothing came before; at the end of a document it is the last token to be predicted.
#
# **In a debugger**: set a breakpoint at the line `tokenizer.train_from_iterator` in `tinyslm/text/tokenizer.py`, step
# over it, and look at `tokenizer.get_vocab_size()` before and after.
#
# How large should a vocabulary be? Tokenizers of different sizes, trained on the same few documents:

# %%
texts = [text for _, text, _ in town.documents("train", 0, 300)]
held_out = town.documents("validation", 0, 60)
sizes = (257, 300, 400, 600, 900, 1300)
trained = {size: train_tokenizer(texts, size) for size in sizes}
lengths = [
    np.mean([len(trained[size].encode(text).ids) for _, text, _ in held_out]) for size in sizes
]
figure, axes = plt.subplots()
show_lines(
    axes, {"": lengths}, "tokens in the vocabulary", "tokens per document", sizes, markers=True
)
axes.set_ylim(0, None)
plt.show()
example = "Mara danced with Tobias at the lighthouse."
for size in (257, 400, 1300):
    print(f"{size:5}  {pieces(trained[size], example)}")

# %% [markdown]
# The first joins save most. Later ones are rare words, each of which saves little and costs a row of the embedding. The
# first six joins that the largest of these tokenizers learned (`Ġ` stands for a space):

# %%
merges = json.loads(trained[1300].to_str())["model"]["merges"]
print(",  ".join(" + ".join(pair) for pair in merges[:6]))

# %% [markdown]
# ## The town
#
# The corpus has seven families of documents, each written by a small program, a *grammar*. Wherever it has a choice it
# draws one at random; all the rest follows. Two of them:

# %%
shown = {family: (text, nats) for family, text, nats in held_out if len(text) < 330}
for family in ("ambiguity", "programs"):
    text, log_probability = shown[family]
    print(f"--- {family}, probability e^{log_probability:.1f}\n{text}\n")

# %% [markdown]
# Every choice can be read off the text, so the probability of a document is exactly the product of the probabilities of
# its choices. `town.parse` finds the choices of a given text again:

# %%
text, log_probability = shown["programs"]
family, choices, parsed = town.parse(text)
print(f"{family}: {len(choices)} choices, {choices}")
print(f"log-probability when it was written {log_probability:.3f}, when it was parsed {parsed:.3f}")
print(f"one letter changed: {town.log_probability(text.replace('Output', 'Outpud'))}")

# %% [markdown]
# ## Entropy, on a coin
#
# A coin shows heads with probability $p$. Who is told an outcome of probability $p$ is surprised by $-\ln p$, measured
# in *nats* (with a logarithm to the base 2 they would be bits). The mean surprise is the *entropy* $H = -p \ln p - (1 -
# p) \ln (1 - p)$. A model that believes in $q$ instead is surprised by $-\ln q$, on average by the *cross entropy* $-p
# \ln q - (1 - p) \ln (1 - q)$. That is its loss.

# %%
p = 0.8
entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
q = np.linspace(0.3, 0.98, 200)
cross_entropy = -(p * np.log(q) + (1 - p) * np.log(1 - q))
figure, axes = plt.subplots()
show_lines(axes, {"": cross_entropy}, "probability of heads that the model believes in",
           "loss, nats per throw", q, entropy)  # fmt: skip
axes.axvline(p, color="#555555", linestyle=":", linewidth=1)
axes.set_ylim(0.4, 1.2)
plt.show()
best = q[np.argmin(cross_entropy)]
print(
    f"the lowest loss is {cross_entropy.min():.3f}, at q = {best:.2f}; the entropy is {entropy:.3f}"
)

# %% [markdown]
# No belief gets below the entropy, and only the true one reaches it. What lies between is what the model does not know;
# the rest is what nobody can know. The same holds for documents: the mean of minus their log-probability is the entropy
# of the corpus. Divided by the number of tokens it is the **floor**, in the unit of a loss:

# %%
from tinyslm.evaluation import measure_loss
from tinyslm.evaluation.loss import document_nats
from tinyslm.text.corpus import town_corpus

corpus = town_corpus(tokenizer, end_id=0, validation=80)
tokens = np.array([len(document) - 1 for document in corpus.validation])
running = np.cumsum(corpus.floor_nats) / np.cumsum(tokens)
figure, axes = plt.subplots()
show_lines(axes, {"": running}, "documents so far", "mean nats per token", np.arange(1, 81))
show_floor(axes, corpus.floor.nats)
axes.set_ylim(0.4, 1.0)
plt.show()
floor = corpus.floor
print(f"floor of these documents {floor.nats:.3f} ± {floor.standard_error:.3f} nats per token")

# %% [markdown]
# The number behind ± is the standard error: other documents would have another mean. That is why a model and the floor
# are always compared on the same documents.
#
# ## A loss with its floor
#
# Now the built-in model on these documents. Each point is one document: how many nats the program needed for it, and
# how many the model did.

# %%
nats, _ = document_nats(model, corpus.validation)  # (N,): minus the log-probability
figure, axes = plt.subplots(figsize=(4.6, 4.2))
axes.plot(corpus.floor_nats, nats, "o", color="#0072b2", markersize=4)
limits = [0, 1.05 * nats.max()]
axes.plot(limits, limits, color="#555555", linestyle=(0, (8, 3)), linewidth=1)
axes.set(
    xlabel="the program: nats of a document",
    ylabel="the model: nats of a document",
    xlim=limits,
    ylim=limits,
)
plt.show()
loss = measure_loss(model, corpus.validation)
print(f"loss {loss.nats:.3f}, floor {floor.nats:.3f}: {loss.nats / floor.nats - 1:+.1%}")
print(f"perplexity {loss.perplexity:.2f}: as uncertain as among so many equally likely tokens")

# %% [markdown]
# The points lie along the line where both are the same, and on the whole above it. A single document can come out
# below: the floor holds for the mean over all that the program could have written, not for each. The loss alone,
# without the line, would not say whether it is good.
#
# ## Why a loss means nothing without it
#
# Here is each family of documents alone.

# %%
families = list(town.FAMILIES)
of_family = {f: np.array([each == f for each in corpus.families]) for f in families}
floors = {f: corpus.floor_nats[rows].sum() / tokens[rows].sum() for f, rows in of_family.items()}
losses = {f: nats[rows].sum() / tokens[rows].sum() for f, rows in of_family.items()}
order = sorted(families, key=losses.get)
figure, axes = plt.subplots(figsize=(6.4, 3.2))
axes.barh(order, [floors[f] for f in order], color="#bbbbbb", label="floor: nobody can know")
above = [losses[f] - floors[f] for f in order]
axes.barh(order, above, left=[floors[f] for f in order], color="#0072b2", hatch="///",
          edgecolor="white", label="above it: the model does not know")  # fmt: skip
axes.set_xlabel("loss, nats per token")
axes.set_xlim(0, 1.6)
axes.legend(fontsize=8)
axes.grid(False)
plt.show()
print(f"{'':14}documents   loss  floor  above")
for f in order:
    above = losses[f] / floors[f] - 1
    print(f"{f:14}{of_family[f].sum():9}  {losses[f]:5.2f}  {floors[f]:5.2f}  {100 * above:4.0f} %")

# %% [markdown]
# Order the families by loss, and order them by what is above the floor: the two orders are not the same. Facts, of
# which the model knows nearly all that can be known, have a higher loss than programs, of which it misses much. Most of
# the loss of this model is the text's own chance. A compression that adds a tenth of a nat does little harm or much
# harm, depending on how much was there to lose. (Each family has only a few documents here; `data/README.md` has the
# same table for two thousand.)
#
# ## The unit matters
#
# A loss per token depends on what a token is. The same documents, the same program, in tokens of different size:

# %%
print("vocabulary  tokens  floor per token  per byte")
size_in_bytes = sum(len(text.encode()) for _, text, _ in held_out)
total = -sum(log_probability for *_, log_probability in held_out)
for size, each in [*trained.items(), ("built in", tokenizer)]:
    count = sum(len(each.encode(text).ids) for _, text, _ in held_out)
    print(f"{size:>10}  {count:6}  {total / count:15.3f}  {total / size_in_bytes:8.3f}")

# %% [markdown]
# Per byte it stays what it is, and per token it grows with the size of the tokens. Two models with different tokenizers
# must not be compared by their loss per token, though it is often done. Within one tokenizer, as in these lessons, they
# can.
#
# ## From documents to rows
#
# A model computes many documents at once, as rows of a matrix. Short ones are filled up with *padding*, and their
# *labels* say that there is nothing to predict there:

# %%
from tinyslm.text.batches import document_rows

token_ids, labels = document_rows(corpus.validation[:4], length=128)
figure, axes = plt.subplots(figsize=(6.8, 1.9))
axes.imshow(labels >= 0, cmap="Blues", aspect="auto", vmin=0, vmax=1.5, interpolation="nearest")
axes.set(yticks=range(len(labels)), ylabel="row", xlabel="token (dark: real, white: padding)")
axes.grid(False)
plt.show()
print(f"token_ids {token_ids.shape}, of which {np.sum(labels >= 0)} tokens are real")
print(f"the end of row 0: token_ids {token_ids[0, -3:]}, labels {labels[0, -3:]}")

# %%
print(numbered_source(document_rows))

# %% [markdown]
# One document per row: two in the same row would see each other, and a model that is measured on single documents would
# have been trained on something else.
#
# ## What people ask
#
# **Can a model be better than the floor?** On a sample, by luck, as the single points above; and by cheating, when it
# was trained on the documents that it is measured on. A loss below the floor by several standard errors is a defect in
# the measurement, and here it would be seen. On a corpus without a known floor nobody would.
#
# **Where is the uncertainty in a text?** Each bar is the model's surprise by one token of a document:

# %%
from tinyslm import ops

document = next(
    d for d, f in zip(corpus.validation, corpus.families, strict=True) if f == "ambiguity"
)
document = document[:40]
log_probabilities = ops.log_softmax(model(document[None, :-1]))[0]  # (T, V)
surprise = -np.take_along_axis(log_probabilities, document[1:, None], axis=1)[:, 0]
labels = [tokenizer.id_to_token(int(i)) for i in document[1:]]
labels = [label.replace("Ġ", "␣").replace("Ċ", "↵") for label in labels]
figure, axes = plt.subplots(figsize=(7.2, 3.0))
axes.bar(range(len(surprise)), surprise, color="#0072b2", width=0.7)
axes.set_xticks(range(len(surprise)), labels, rotation=90, fontsize=7)
axes.set_ylabel("surprise, nats")
plt.show()

# %% [markdown]
# High where the program had a choice: a name, a thing, a day. Near zero where the rest of a word or of a phrase
# follows. The model cannot be blamed for the high bars, and only the floor says so.
#
# ## Exercises
#
# 1. `tinyslm exercise new document-rows`: write documents as padded rows with labels yourself.
# 2. Join on by hand: how many joins until *slower* is one token? Which words would profit on a text of your own?
# 3. The program of `tinyslm/text/town/ambiguity.py` chooses one of 22 names, then one of the 21 others. How many nats
#    is the second? Compare with its bar above. Why are the bars of the first name together higher?
# 4. Sample 80 other validation documents (`town.documents("validation", 80, 80)`). How far does their floor lie from
#    the one above, in standard errors?
# 5. The floor per byte was computed without any model. Which property of the text makes it so low, compared with the 1
#    bit per letter that Shannon estimated for English?
#
# ## Sources
#
# - Shannon 1948, *A mathematical theory of communication*; 1951, *MaskedLMHead and entropy of printed English*.
# - Gage 1994, *A new algorithm for data compression*: byte pairs. Sennrich, Haddow & Birch 2016, *Neural machine
#   translation of rare words with subword units*: for models.
# - Radford, Wu, Child, Luan, Amodei & Sutskever 2019, *Language models are unsupervised multitask learners*: on bytes.
# - Cochran 1977, *Sampling techniques*, equation 6.4: the standard error of a ratio of means.
