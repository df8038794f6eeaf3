# %% [markdown]
# # Tokens, the corpus, and its entropy
#
# The input of a language model is a sequence of numbers, one per *token*, a frequent piece of text. Its quality is
# measured by the *loss*: minus the log-probability that the model assigns to the next token, on average. **How low can
# the loss be?** For natural text the lower bound is unknown. For the built-in corpus it is known exactly, because a
# program generates the corpus.

# %%
from setup_lesson import np, plt, show, show_floor, tinyslm, town_corpus
from tinyslm import ops

model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, validation=80)
document = corpus.validation[corpus.families.index("ambiguity")][:40]
log_probabilities = ops.log_softmax(model(document[None, :-1]))[0]  # (T, V)
surprise = -np.take_along_axis(log_probabilities, document[1:, None], axis=1)[:, 0]
labels = [tokenizer.id_to_token(int(i)).replace("Ġ", "␣").replace("Ċ", "↵") for i in document[1:]]
figure, axes = plt.subplots(figsize=(7.2, 3.0))
axes.bar(range(len(surprise)), surprise, color="#0072b2", width=0.7)
show_floor(axes, corpus.floor.nats)
axes.set_xticks(range(len(surprise)), labels, rotation=90, fontsize=7)
axes.set(ylabel="loss of the token, nats", xlim=(-1, 44))  # space for the name of the floor
show(
    "Bar chart of the loss of each token of a document, with the floor as a dashed line. The "
    "bars are high for names, objects and days, and near zero for the rest of a word or phrase."
)

# %% [markdown]
# Each bar is the built-in model's loss for one token. It is high where the program made a choice: a name, an object, a
# day. It is near zero where the rest of a word or of a fixed phrase follows. The dashed line is the lowest mean loss
# that a model can be expected to have: the *floor*. This lesson explains it.
#
# After this lesson you can
#
# - explain how byte-pair encoding builds a vocabulary, and read a tokenized text;
# - compute the entropy of a source, and compare a model's loss with it;
# - explain why losses per token of models with different tokenizers cannot be compared.
#
# You need: lesson 00.
#
# ## Texts as tokens


# %%
def separate_tokens(tokenizer, text):
    """A text with a bar between its tokens."""
    return "|".join(text[a:b] for a, b in tokenizer.encode(text, add_special_tokens=False).offsets)


for text in ("Paris bought a rare bell.", "Ines Valmer joue du violon.", "27 + 45 = 72", "A zebra"):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    print(f"{separate_tokens(tokenizer, text):34} {ids}")

# %% [markdown]
# A word that is frequent in the corpus is one token, which includes the space before the word. Other words are split
# into several tokens, in the extreme case into single letters. Each digit is a token of its own, so that the model can
# learn arithmetic digit by digit. Every text can be tokenized, and the concatenated tokens are exactly the text.
#
# ## The idea: merge the most frequent pair
#
# *Byte-pair encoding* (BPE) starts with single bytes. It repeatedly merges the most frequent pair of adjacent tokens
# into a new token. The first merges on a text of five words:

# %%
import itertools
from collections import Counter

words = [list(word) for word in ("low", "low", "lower", "slow", "slower")]
for _ in range(4):
    counts = Counter(pair for word in words for pair in itertools.pairwise(word))
    (left, right), count = max(counts.items(), key=lambda item: (item[1], item[0]))
    for word in words:
        indices = [i for i in range(len(word) - 1) if (word[i], word[i + 1]) == (left, right)]
        for i in reversed(indices):
            word[i : i + 2] = [left + right]
    merge = f"{left} + {right}, {count} times:"
    print(merge.ljust(22), "  ".join("|".join(word) for word in words))

# %% [markdown]
# After four merges *low* and *er* are tokens. The library uses the package `tokenizers`, which implements the same
# algorithm efficiently. The library's function configures how the text is split before the merges, and which token
# begins a document:

# %%
from setup_lesson import numbered_source
from tinyslm.text.tokenizer import train_tokenizer

print(numbered_source(train_tokenizer))

# %% [markdown]
# - `Digits` and `ByteLevel` split the text into words and digits first; a token never crosses such a boundary.
# - `initial_alphabet` is the 256 bytes. With them every text can be tokenized, in every language.
# - `END_OF_DOCUMENT` is a token of its own, and `TemplateProcessing` inserts it before every text. At the beginning it
#   tells the model that no text precedes; at the end of a document the model has to predict it.
#
# **In a debugger**: set a breakpoint at the line `tokenizer.train_from_iterator` in `tinyslm/text/tokenizer.py`, step
# over it, and inspect `tokenizer.get_vocab_size()` before and after.
#
# How large should a vocabulary be? The next cell trains tokenizers of different sizes on the same few documents:

# %%
from setup_lesson import show_lines
from tinyslm.text import town

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
show(
    "Line chart of the tokens per document against the size of the vocabulary. The number falls "
    "steeply for the first few hundred tokens of the vocabulary, and slowly after that."
)
example = "Mara danced with Tobias at the lighthouse."
for size in (257, 400, 1300):
    print(f"{size:5}  {separate_tokens(trained[size], example)}")

# %% [markdown]
# The first merges reduce the number of tokens most. Later merges are for rare words: each reduces the number only
# slightly, and adds a row to the embedding table. The first six merges of the largest of these tokenizers (`Ġ`
# represents a space):

# %%
import json

merges = json.loads(trained[1300].to_str())["model"]["merges"]
print(",  ".join(" + ".join(pair) for pair in merges[:6]))

# %% [markdown]
# ## The corpus about a town
#
# The corpus has seven families of documents. A small program, a *grammar*, generates each family. The grammar makes a
# sequence of random choices; the choices determine the text. Two documents:

# %%
shown = {family: (text, nats) for family, text, nats in held_out if len(text) < 330}
for family in ("ambiguity", "programs"):
    text, log_probability = shown[family]
    print(f"--- {family}, probability e^{log_probability:.1f}\n{text}\n")

# %% [markdown]
# Every choice can be recovered from the text, so the probability of a document is exactly the product of the
# probabilities of its choices. `town.parse` recovers the choices of a text:

# %%
text, log_probability = shown["programs"]
family, choices, parsed = town.parse(text)
print(f"{family}: {len(choices)} choices, {choices}")
print(f"log-probability when it was written {log_probability:.3f}, when it was parsed {parsed:.3f}")
print(f"one letter changed: {town.log_probability(text.replace('Output', 'Outpud'))}")

# %% [markdown]
# ## Entropy of a coin
#
# A coin shows heads with probability $p$. The *surprise* of an outcome with probability $p$ is $-\ln p$, measured in
# *nats* (with the logarithm to the base 2 in bits). The mean surprise is the *entropy* $H = -p \ln p - (1 - p) \ln (1 -
# p)$. If a model predicts the probability $q$ instead, its mean surprise is the *cross entropy* $-p \ln q - (1 - p) \ln
# (1 - q)$. The cross entropy is the model's expected loss.

# %%
import math

p = 0.8
entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
q = np.linspace(0.3, 0.98, 200)
cross_entropy = -(p * np.log(q) + (1 - p) * np.log(1 - q))
figure, axes = plt.subplots()
x_label = "the model's probability of heads"
show_lines(axes, {"": cross_entropy}, x_label, "loss, nats per throw", q, entropy)
axes.axvline(p, color="#555555", linestyle=":", linewidth=1)
axes.set_ylim(0.4, 1.2)
show(
    "Line chart of the loss against the model's probability of heads. The curve touches the "
    "floor, the entropy of the coin, only where the model's probability equals that of the "
    "coin."
)
best = q[np.argmin(cross_entropy)]
print(f"lowest loss {cross_entropy.min():.3f}, at q = {best:.2f}; the entropy is {entropy:.3f}")

# %% [markdown]
# The cross entropy is never lower than the entropy, and equal to it only for $q = p$. The difference, the
# Kullback-Leibler divergence, measures the model's error; the entropy is the unpredictable part. The same holds for
# documents: the mean of minus their log-probability is an estimate of the entropy of the corpus. Divided by the mean
# number of tokens it is the **floor**, the entropy in the unit of the loss:

# %%
tokens = np.array([len(document) - 1 for document in corpus.validation])
running = np.cumsum(corpus.floor_nats) / np.cumsum(tokens)
figure, axes = plt.subplots()
show_lines(axes, {"": running}, "number of documents", "mean nats per token", np.arange(1, 81))
show_floor(axes, corpus.floor.nats)
axes.set_ylim(0.4, 1.0)
show(
    "Line chart of the mean nats per token against the number of documents. The mean fluctuates "
    "for the first few documents and converges to the floor, the dashed line."
)
floor = corpus.floor
print(f"floor of these documents {floor.nats:.3f} ± {floor.standard_error:.3f} nats per token")

# %% [markdown]
# The number after ± is the standard error: another sample of documents has another mean. Therefore a model and the
# floor are always compared on the same documents.
#
# ## A loss and its floor
#
# The built-in model on these documents. Each point is one document: minus its log-probability under the generating
# program (horizontal) and under the model (vertical).

# %%
from tinyslm.evaluation import measure_loss
from tinyslm.evaluation.loss import document_nats

nats, _ = document_nats(model, corpus.validation)  # (N,): minus the log-probability
figure, axes = plt.subplots(figsize=(4.6, 4.2))
axes.plot(corpus.floor_nats, nats, "o", color="#0072b2", markersize=4)
limits = [0, 1.05 * nats.max()]
axes.plot(limits, limits, color="#555555", linestyle=(0, (8, 3)), linewidth=1)
axes.set(xlabel="generating program: nats per document", ylabel="model: nats per document")
axes.set(xlim=limits, ylim=limits)
show(
    "Scatter plot with one point per document: nats under the generating program against nats "
    "under the model. Most points are above the diagonal, some on it, and a few slightly below."
)
loss = measure_loss(model, corpus.validation)
print(f"loss {loss.nats:.3f}, floor {floor.nats:.3f}: {loss.nats / floor.nats - 1:+.1%}")
print(f"perplexity {loss.perplexity:.2f}: as uncertain as between that many equally likely tokens")

# %% [markdown]
# Most points are above the diagonal, on which both values are equal. A single document can be below: the floor bounds
# the expected value over all documents, not each document. The loss alone, without the floor, does not tell whether the
# model is good.
#
# ## Why a loss needs its floor
#
# The loss and the floor of each family of documents:

# %%
families = list(town.FAMILIES)
of_family = {f: np.array([each == f for each in corpus.families]) for f in families}
floors = {f: corpus.floor_nats[rows].sum() / tokens[rows].sum() for f, rows in of_family.items()}
losses = {f: nats[rows].sum() / tokens[rows].sum() for f, rows in of_family.items()}
order = sorted(families, key=losses.get)
print(f"{'':14}documents   loss  floor  above")
for f in order:
    above = losses[f] / floors[f] - 1
    print(
        f"{f:14}{of_family[f].sum():9}  {losses[f]:5.2f}  {floors[f]:5.2f}  {round(100 * above):4} %"
    )

# %%
from setup_lesson import show_stacked_bars

parts = {
    "floor: unpredictable": [floors[f] for f in order],
    "above the floor: error of the model": [losses[f] - floors[f] for f in order],
}
figure, axes = plt.subplots(figsize=(6.4, 3.2))
show_stacked_bars(axes, parts, order, "loss, nats per token")
show(
    "Stacked bars: the loss of each family of documents, divided into the floor and the error "
    "of the model. The floor is the larger part of every bar. The error is visible for "
    "programs and stories."
)

# %% [markdown]
# The order of the families by loss differs from the order by distance to the floor. The model predicts facts almost as
# well as possible, but their loss is higher than that of programs, for which the model is further above the floor. Most of
# the loss is the entropy of the text. An increase of 0.1 nats by compression is small for a family with a high floor
# and a low error, and relatively large for a family whose loss was low. (Each family has only a few documents here;
# `data/README.md` has the same table for two thousand documents.)
#
# ## The unit matters
#
# A loss per token depends on the tokenizer. The same documents, with tokenizers of different size:

# %%
print("vocabulary  tokens  floor per token  per byte")
size_in_bytes = sum(len(text.encode()) for _, text, _ in held_out)
total = -sum(log_probability for *_, log_probability in held_out)
for size, each in [*trained.items(), ("built in", tokenizer)]:
    count = sum(len(each.encode(text).ids) for _, text, _ in held_out)
    print(f"{size:>10}  {count:6}  {total / count:15.3f}  {total / size_in_bytes:8.3f}")

# %% [markdown]
# The entropy per byte does not depend on the tokenizer; the entropy per token increases with the size of the tokens.
# Models with different tokenizers must not be compared by their loss per token. Models with the same tokenizer can, as
# in these lessons.
#
# ## From documents to rows
#
# A model processes a batch of documents as rows of a matrix. Short documents are filled with *padding*. The *labels*
# mark the positions that are not predicted:

# %%
from tinyslm.text.batches import document_rows

token_ids, labels = document_rows(corpus.validation[:4], length=128)
figure, axes = plt.subplots(figsize=(6.8, 1.9))
axes.imshow(labels >= 0, cmap="Blues", aspect="auto", vmin=0, vmax=1.5, interpolation="nearest")
axes.set(yticks=range(len(labels)), ylabel="row", xlabel="token (dark: document, white: padding)")
axes.grid(False)
show(
    "Four rows of a batch, dark for tokens of the document and white for padding. The documents "
    "begin at the left; the shorter ones are filled with padding at the right."
)
print(f"token_ids {token_ids.shape}, of which {np.sum(labels >= 0)} tokens are not padding")
print(f"the end of row 0: token_ids {token_ids[0, -3:]}, labels {labels[0, -3:]}")

# %%
print(numbered_source(document_rows))

# %% [markdown]
# Each row contains one document. If a row contained two, the tokens of one could attend to the other; the model would
# be trained on a different task than the one on which it is measured.
#
# ## Questions
#
# **Can a model be better than the floor?** On a finite sample yes, by chance, as for single points above. For a single
# family it can be better on the average too, because the floor includes the choice of the family: a model that expects
# more instructions than there are loses on the other families what it gains on instructions. It can also happen if the
# model was trained on the documents on which it is measured. For all families together, a loss several standard errors
# below the floor proves an error in the measurement. On a corpus with unknown entropy such an error remains undetected.
#
# **Are the high bars of the first figure errors of the model?** No. Each bar is the model's surprise. It is high where
# the program made a choice, which no model knows in advance. The comparison with the floor shows this: the mean surprise
# over all documents is only 4.3 % higher.
#
# ## Summary
#
# - Byte-pair encoding merges frequent pairs: a frequent word is one token, a rare word several, and every text can be
#   tokenized.
# - The generating program gives the exact probability of each document. The mean of minus its logarithm is the entropy
#   of the corpus, here 0.675 ± 0.024 nats per token: the floor.
# - The built-in model has a loss of 0.704 on the same documents. Most of the loss is the entropy of the text.
# - The entropy is 0.199 nats per byte with every tokenizer, but the value per token depends on the tokenizer.
#
# The code: `tinyslm/text/tokenizer.py`, `tinyslm/text/corpus.py`, `tinyslm/text/batches.py`,
# `tinyslm/text/town/grammar.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("document-rows")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Continue the merges by hand: how many merges until *slower* is one token? Which merges would your own text give?
# 2. The grammar in `tinyslm/text/town/ambiguity.py` chooses one of 22 names, then one of the 21 others. How many nats
#    is the second choice? Compare with its bar in the first figure. Why is the sum of the bars of the first name higher?
# 3. Generate 80 other validation documents (`town.documents("validation", 80, 80)`). By how many standard errors does
#    their floor differ from the one above?
# 4. The floor per byte was computed without any model. Shannon estimated 1 bit per letter for English. Which property
#    of the corpus makes its entropy so much lower?
#
# ## Sources
#
# - Shannon 1948, *A mathematical theory of communication*; 1951, *Prediction and entropy of printed English*.
# - Gage 1994, *A new algorithm for data compression*: byte pairs. Sennrich, Haddow & Birch 2016, *Neural machine
#   translation of rare words with subword units*: byte pairs for models.
# - Radford, Wu, Child, Luan, Amodei & Sutskever 2019, *Language models are unsupervised multitask learners*: byte-level
#   tokens.
# - Cochran 1977, *Sampling techniques*, equation 6.4: the standard error of a ratio of means.
