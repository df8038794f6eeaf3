# %% [markdown]
# # Attention and the transformer
#
# In the town of the built-in corpus, Paris may be a person or a city. The name is the same token with the same number,
# so **only the rest of the text can tell, and attention is how a model brings the rest of the text to the name.** This
# lesson watches the built-in model do it, computes one whole pass by hand with the model's own arrays, and ends with
# what divides the two families of transformers: decoders look back, encoders look both ways.
#
# You need: lesson 00 (the built-in model), lesson 01 (tokens, documents, the loss).

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm import ops
from tinyslm.reporting.pictures import show_attention, show_lines, show_matrix, use_lesson_style
from tinyslm.reporting.source import numbered_source

use_lesson_style()
model, tokenizer = tinyslm.load("teacher")
opening = "What Simon loved most was Paris, and after that Vienna."
sentences = {
    "person": " Otto softly danced with Paris at the mill.",
    "city": " Otto took the Monday night train to Paris.",
}
ending = " Vienna bought a small bell at the harbour.\nQuestion: What are Paris and Vienna? Answer:"
texts = {meaning: opening + sentence + ending for meaning, sentence in sentences.items()}
token_ids = {
    meaning: np.array([tokenizer.encode(text).ids]) for meaning, text in texts.items()
}  # (1, T)
for meaning, ids in token_ids.items():
    answer = tokenizer.decode(tinyslm.generate(model, ids, 7)[0].tolist()).split(".")[0]
    print(f"{meaning:7}{sentences[meaning]}\n       the model answers:{answer}")

# %% [markdown]
# Two texts that differ in one sentence, and the model gives the right answer to both. It was trained on documents of
# this kind (`tinyslm/text/town/ambiguity.py` writes them), on other sentences than these.
#
# ## Look at the numbers
#
# Here is the second text as the model gets it, a list of tokens. `␣` is a space at the beginning of a token.


# %%
def readable(ids):
    """What stands for each token in a picture."""
    names = {"<|endoftext|>": "end", "Ċ": "↵"}
    words = [tokenizer.id_to_token(int(i)) for i in np.ravel(ids)]
    return [names.get(word, word.replace("Ġ", "␣")) for word in words]


words = {meaning: readable(ids) for meaning, ids in token_ids.items()}
print(" ".join(words["city"]))
places = {m: [i for i, word in enumerate(words[m]) if word == "␣Paris"] for m in words}
number = token_ids["city"][0, places["city"][0]]
print(f"Paris stands at {places['city']}, each time as token {number}")

# %% [markdown]
# A model begins by looking up one vector per token in a table, the *embedding*. Three times the same token means three
# times the same vector. `tinyslm.trace` runs the model once and keeps every intermediate array with its name, so that
# the *hidden state* of each token can be compared before and after each layer:

# %%
seen = {meaning: tinyslm.trace(model, ids) for meaning, ids in token_ids.items()}
layers = len(model.layers)


def alike(one, other):
    """The cosine of the angle of two vectors: 1 for the same direction, 0 for a right angle."""
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


pairs = {"first Paris": 0, "second Paris, after the sentence's words": 1}
cosines = {
    name: [
        alike(*(seen[m][f"hidden_states.{i}"][0, places[m][number]] for m in texts))
        for i in range(layers + 1)
    ]
    for name, number in pairs.items()
}
figure, axes = plt.subplots()
show_lines(
    axes, cosines, "after layer (0: the embedding)", "cosine, person against city", markers=True
)
axes.set_ylim(0, 1.05)
plt.show()

# %% [markdown]
# The first Paris stands before the sentences differ, and its state is the same in both texts in all layers. The second
# one begins as the same vector too, and layer by layer it becomes another one in each text. Something in the layers
# carried over to it what stands around it.
#
# ## The idea, on a matrix of 4 by 4
#
# Attention is a soft look-up. Every token sends out a *query*, what it looks for, and offers a *key*, what it can be
# found by, and a *value*, what it hands over. How well a query fits a key is their dot product, the *score*. Four
# tokens, with queries and keys of two numbers that are made up here: the first number is about travel, and the name
# asks for that.

# %%
tokens = ["train", "to", "Paris", "."]
query = np.array([[0.0, 1.0], [1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])  # (T, D): Paris asks for travel
key = np.array([[2.0, 0.0], [1.0, 0.5], [-0.5, 0.5], [0.0, 1.0]])  # (T, D): train offers it
value = np.array([[0.0, 1.0], [0.0, 0.2], [0.0, 0.0], [0.0, 0.0]])  # (T, 2): says person, says city
settings = {"scale": 2**-0.5}
both_ways = ops.attention_probabilities(
    query[None, :, None], key[None, :, None], causal=False, **settings
)[0, 0]
causal = ops.attention_probabilities(query[None, :, None], key[None, :, None], **settings)[
    0, 0
]  # (T, T)
figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.3), gridspec_kw={"width_ratios": (4, 4, 4, 2.4)})
show_matrix(axes[0], query @ key.T * 2**-0.5, "scores", "{:.1f}", tokens, tokens)
show_matrix(axes[1], both_ways, "softmax of each row", "{:.2f}", [""] * 4, tokens)
show_matrix(axes[2], causal, "the same, looking back only", "{:.2f}", [""] * 4, tokens)
show_matrix(axes[3], causal @ value, "mixed values", "{:.2f}", [""] * 4, ["person", "city"])
plt.show()

# %% [markdown]
# Rows look at columns. The *softmax* turns the scores of a row into shares that add up to 1, with a large share for a
# large score: $p_{ij} = e^{s_{ij}} / \sum_k e^{s_{ik}}$. The new vector of a token is the values of all tokens, mixed
# in these shares. The row of Paris takes nearly all of its mixture from *train*, and so it says: city.
#
# The third matrix has a *causal mask*: scores of tokens that come later are replaced by a number so low that its
# exponential is 0, and the rest of the row still adds up to 1. The whole in one formula, with $D$ numbers per query:
#
# $$\mathrm{attention}(Q, K, V) = \mathrm{softmax}\left(\frac{Q K^T}{\sqrt{D}} + \mathrm{mask}\right) V$$
#
# ## The library's function, taken apart
#
# This is the function that you just called, and the softmax inside of it.

# %%
from tinyslm.ops.attention import masked_softmax

print(numbered_source(ops.attention_probabilities))
print()
print(numbered_source(masked_softmax))

# %% [markdown]
# - The letters are B texts in a batch, T tokens, D numbers per query, and H *heads*: the same thing is done H times
#   side by side with other queries and keys, so that a token can look for several things at once. The keys have G heads
#   only. Here G is smaller than H, and `r = H / G` query heads share a key head (*grouped-query attention*): fewer keys
#   to keep in memory.
# - `transpose` brings the numbers that are multiplied to the end. `@` then multiplies T x D by D x S for every text and
#   head.
# - `_mask_bias` is the causal mask, 0 or very low. `padding` does the same for tokens that only fill up a row of a
#   batch.
# - `scores -= np.max(...)` changes no share, since it divides above and below by the same number. Without it `np.exp`
#   of a large score would be infinite.
#
# **In a debugger**: set a breakpoint at the line `probabilities, capped = masked_softmax(...)` in `attention` in
# `tinyslm/ops/attention.py`, the form of this function that every pass uses. Look at `scores` before the line and at
# `probabilities` after it, both with their shapes, and add up a row.
#
# ## One pass by hand
#
# Now the whole model, with its own weights, for the text about the city. First attention of layer 0.

# %%
ids = token_ids["city"]
T = ids.shape[1]
config, block = model.config, model.layers[0]
H, G, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
x = model.embedding.table[ids]  # (1, T, C): one row of the table per token
normed = ops.rms_norm(
    x, block.attention_norm.weight, eps=config.norm_eps
)  # every vector to the same size
query = (normed @ block.attention.query.weight.T).reshape(1, T, H, D)
key = (normed @ block.attention.key.weight.T).reshape(1, T, G, D)
value = (normed @ block.attention.value.weight.T).reshape(1, T, G, D)
cos, sin = ops.rotary_tables(config.ropes[0], np.arange(T))  # where each token stands: see below
query, key = ops.rotary(query, cos=cos, sin=sin), ops.rotary(key, cos=cos, sin=sin)
probabilities = ops.attention_probabilities(query, key, scale=config.scale)  # (1, H, T, T)
heads = np.repeat(value, H // G, axis=2).transpose(
    0, 2, 1, 3
)  # (1, H, T, D): each query head's values
mixed = (probabilities @ heads).transpose(0, 2, 1, 3).reshape(1, T, H * D)  # heads side by side
branch = mixed @ block.attention.output.weight.T  # (1, T, C)


def compare(**steps):
    """The shape of each step, and how far it is from what the model itself computed."""
    for name, (array, traced) in steps.items():
        error = np.max(np.abs(array - seen["city"][traced]))
        print(f"{name:14} {array.shape!s:18} largest difference {error:.3f}   {traced}")


compare(
    x=(x, "hidden_states.0"),
    query=(query, "layers.0.attention.queries"),
    key=(key, "layers.0.attention.keys"),
    value=(value, "layers.0.attention.values"),
    probabilities=(probabilities, "attentions.0"),
    branch=(branch, "layers.0.attention.output"),
)

# %% [markdown]
# What attention found is *added* to `x`. This running sum is the *residual stream*: each layer reads all of it and adds
# a little. Attention is the only place where tokens meet. The second half of a layer, the *feed-forward layer*, works
# on every token alone: it widens the vector to F *neurons*, switches each on or off by a gate, and comes back to C
# numbers. Then the next layer does the same with its own weights. At the end, every token's vector is compared with all
# rows of the embedding: the products are the *logits*, and their softmax is the prediction of the next token.

# %%
from tinyslm.modules import Context

x = x + branch
normed = ops.rms_norm(x, block.feed_forward_norm.weight, eps=config.norm_eps)
gate, up = (
    normed @ block.feed_forward.gate.weight.T,
    normed @ block.feed_forward.up.weight.T,
)  # (1, T, F)
neurons = (
    gate / (1 + np.exp(-gate)) * up
)  # SiLU: near 0 for a negative gate, the gate itself for a large one
x = x + neurons @ block.feed_forward.down.weight.T  # (1, T, C)
first = x
for block in model.layers[1:]:
    x = block(x, Context(np.arange(T)))  # the same again, with the weights of each layer
states = ops.rms_norm(x, model.norm.weight, eps=config.norm_eps)
logits = states @ model.embedding.table.T  # (1, T, V)
compare(
    neurons=(neurons, "layers.0.feed_forward.neurons"),
    first=(first, "hidden_states.1"),
    states=(states, f"hidden_states.{layers}"),
    logits=(logits, "logits"),
)

# %% [markdown]
# That is a transformer, all of it. Nothing else happens in the models with billions of weights; they have more of each.
#
# **Where a token stands** is not in its vector. The dot product of a query with a key does not know which one comes
# first, so each is turned first by an angle that grows with its position (*rotary positions*). What is left of two
# turns in a dot product is their difference. One query and one key of the model, put at all positions from 0 to 5:

# %%
at = np.arange(6)
cos, sin = ops.rotary_tables(config.ropes[0], at)
block = model.layers[4]
normed = block.attention_norm(seen["city"]["hidden_states.4"][0])  # (T, C)
one_query = (normed[places["city"][1]] @ block.attention.query.weight.T)[:D]  # of Paris, head 0
one_key = (normed[1] @ block.attention.key.weight.T)[:D]  # of the first word
turned = [
    ops.rotary(np.tile(vector, (1, len(at), 1, 1)), cos=cos, sin=sin)[0, :, 0]
    for vector in (one_query, one_key)
]
figure, axes = plt.subplots(figsize=(3.4, 3.0))
show_matrix(axes, turned[0] @ turned[1].T, "dot products of the same two vectors", "{:.1f}", at, at)
axes.set(xlabel="position of the key", ylabel="position of the query")
plt.show()

# %% [markdown]
# Along each diagonal the number is the same: the score depends on the distance, not on the place.
#
# ## Paris, resolved
#
# Back to the two texts. Layer 4, head 6, rows and columns cut to the sentence that differs. Look at the row of Paris.

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.9))
for each, meaning in zip(axes, texts, strict=True):
    begin = words[meaning].index("␣Otto")
    part = slice(begin, begin + 9)
    weights = seen[meaning]["attentions.4"][0, 6, part, part]
    show_attention(each, weights, words[meaning][part], f"{meaning}: layer 4, head 6")
plt.show()

# %% [markdown]
# The same head, the same name, the same weights: in one text the name looks at *danced*, in the other at *train*. Above
# the diagonal nothing is ever looked at, that is the causal mask. Here are all heads of that layer, each one a row:
# what Paris looks at in the text about the city.

# %%
figure, axes = plt.subplots(figsize=(7.0, 3.0))
begin = words["city"].index("␣Otto")
part = slice(begin, places["city"][1] + 1)
shares = 100 * seen["city"]["attentions.4"][0, :, places["city"][1], part]
show_matrix(axes, shares, "layer 4, from Paris: hundredths of each head's attention", "{:.0f}",
            [f"head {i}" for i in range(H)], words["city"][part], limit=100)  # fmt: skip
plt.show()

# %% [markdown]
# Several heads look at *train*, one at *to*. A row that does not add up to a hundred spends the rest on the opening.
#
# The answer is written at the last colon, far away from the sentence. What does the colon look at? Layer 1, head 7:

# %%
figure, axes = plt.subplots(2, 1, figsize=(7.4, 4.4))
for each, meaning in zip(axes, texts, strict=True):
    weights = seen[meaning]["attentions.1"][0, 7, -1]
    each.bar(range(T), 100 * weights, color="#0072b2", width=0.7)
    each.set_xticks(range(T), words[meaning], rotation=90, fontsize=7)
    each.set_ylabel("% of attention")
    each.set_ylim(0, 105)
    each.set_title(f"{meaning}: what the last colon looks at", fontsize=9)
plt.show()

# %% [markdown]
# It finds a word that gives the meaning away. When does the answer settle? Each layer's state can be read as if it were
# the last (the *logit lens*): through the final norm and the head. The right answer begins with *two* where Paris is a
# person, and with *a* where it is a city.

# %%
first_words = {
    word: tokenizer.encode(f" {word}", add_special_tokens=False).ids[0] for word in ("two", "a")
}
lines = {}
for meaning, right in (("person", "two"), ("city", "a")):
    shares = []
    for i in range(layers + 1):
        state = seen[meaning][f"hidden_states.{i}"][:, -1:]
        logits = model.predict(state if i == layers else model.norm(state))
        shares.append(np.exp(ops.log_softmax(logits))[0, 0, first_words[right]])
    lines[f"{meaning}: probability of '{right}'"] = shares
figure, axes = plt.subplots()
show_lines(axes, lines, "after layer (0: the embedding)", "probability", markers=True)
plt.show()

# %% [markdown]
# For the city it settles only in the last two layers. A transformer needs its depth: what one layer has written into
# the stream is what the next can look for.
#
# ## Where is it known?
#
# Two texts are an anecdote. Take a few hundred documents of this kind with their names, the meaning of each read off
# its answer. A *probe* is a linear function of a state, fitted by least squares on half of the names to say person or
# city, and tried on the other half. If it does better than a coin, the meaning stands in that state.

# %%
from tinyslm.text import town
from tinyslm.text.batches import pad_documents
from tinyslm.text.town.ambiguity import VERDICTS


def named_places(text):
    """Of a document: its token ids, where each name is mentioned first and second, its meanings."""
    names, verdict = text.split("What are ")[1].rstrip(".").split("? Answer: ")
    encoding, found = tokenizer.encode(text), []
    for name in names.split(" and "):
        starts = [text.index(name)]
        starts.append(text.index(name, starts[0] + 1))
        ends = [start + len(name) - 1 for start in starts]
        found.append([encoding.char_to_token(end) for end in ends])
    return encoding.ids, found, next(key for key, said in VERDICTS.items() if said == verdict)


documents = [
    named_places(text)
    for family, text, _ in town.documents("train", 0, 4000)
    if family == "ambiguity"
]
is_person = np.array([meaning == "person" for *_, meanings in documents for meaning in meanings])


def name_states(model, size=16):
    """The states of all names: (names, first or second mention, layers + 1, C)."""
    gathered = []
    for start in range(0, len(documents), size):
        batch = documents[start : start + size]
        rows, labels = pad_documents([ids for ids, *_ in batch])
        seen = tinyslm.trace(model, rows, attention_mask=labels >= 0)
        stack = np.stack(
            [seen[f"hidden_states.{i}"] for i in range(layers + 1)], axis=2
        )  # (B, T, layers + 1, C)
        gathered += [stack[row, found] for row, (_, both, _) in enumerate(batch) for found in both]
    return np.array(gathered, np.float64)


def probe(states, ridge=0.1):
    """After each layer: the share of names that a probe gets right, fitted on the other half."""
    half, right = len(states) // 2, []
    for i in range(layers + 1):
        vectors = states[:, i] / np.linalg.norm(states[:, i], axis=1, keepdims=True)
        vectors -= vectors[:half].mean(axis=0)
        fitted, target = vectors[:half], np.where(is_person[:half], 1.0, -1.0)
        gram = fitted.T @ fitted + ridge * np.eye(vectors.shape[1])
        direction = np.linalg.solve(gram, fitted.T @ (target - target.mean()))
        right.append(np.mean((vectors[half:] @ direction + target.mean() > 0) == is_person[half:]))
    return right


def show_probes(lines, label):
    """How often probes were right, with the band in which 19 of 20 coins would end."""
    _, axes = plt.subplots()
    percent = {name: 100 * np.array(values) for name, values in lines.items()}
    show_lines(axes, percent, "after layer (0: the embedding)", label, markers=True)
    width = 1.96 * 50 / np.sqrt(len(is_person) // 2)
    axes.axhspan(50 - width, 50 + width, color="#dddddd", zorder=0)
    axes.annotate("a coin", (layers, 50), ha="right", va="center", fontsize=8, color="#555555")
    axes.set_ylim(40, 103)
    plt.show()


looking_back = name_states(model)
lines = {
    name: probe(looking_back[:, i]) for i, name in enumerate(("first mention", "second mention"))
}
show_probes(lines, "names told right, %")
print(f"{len(documents)} documents, {len(is_person)} names")
for name, values in lines.items():
    print(f"{name:15}" + "".join(f"{100 * value:5.0f} %" for value in values))

# %% [markdown]
# At the second mention the meaning is not in the embedding, and after three layers it can be read off nearly without
# error. At the first mention it stays near a coin's guess after any number of layers: what would tell stands further
# right, and a decoder does not look there.
#
# ## Looking both ways
#
# A decoder must not look ahead, since it is trained to predict what comes next, and there it would find the answer. A
# model that is not for writing may look both ways: an *encoder*, such as BERT. In this library the difference is one
# field of the attention layer, `causal`. Here the built-in model without its mask, with the same weights and no
# training:

# %%
blind = [block.replace(attention=block.attention.replace(causal=False)) for block in model.layers]
unmasked = model.replace(layers=blind)
short = token_ids["city"][:, :12]
figure, axes = plt.subplots(1, 2, figsize=(7.4, 4.0))
for each, (title, which) in zip(
    axes, {"causal mask": model, "no mask": unmasked}.items(), strict=True
):
    weights = tinyslm.trace(which, short)["attentions.0"][0].mean(axis=0)  # (T, T)
    show_attention(each, weights, words["city"][:12], f"{title}: layer 0, mean of all heads")
plt.show()

# %% [markdown]
# The triangle has become a square. And what the first mention knows:

# %%
looking_ahead = name_states(unmasked)
lines = {"causal mask": probe(looking_back[:, 0]), "no mask": probe(looking_ahead[:, 0])}
show_probes(lines, "first mentions told right, %")
for name, values in lines.items():
    print(f"{name:15}" + "".join(f"{100 * value:5.0f} %" for value in values))

# %% [markdown]
# Weights that never saw a token to their right bring some of the meaning to the first mention as soon as they may. An
# encoder is trained without the mask from the beginning; lesson 13 is about one. BERT has three more differences, none
# of them about seeing: it normalizes after each addition instead of before, its positions are a table like the
# embedding, and it predicts tokens that were hidden in the text instead of the next one.
#
# An untrained encoder is enough for one more check. Take the two texts up to the end of the sentence that differs, and
# ask for each token: how much does its last state differ between the two?

# %%
from tinyslm.models import random_model
from tinyslm.models.encoder_config import EncoderConfig

encoder = random_model(EncoderConfig("bert", config.vocab_size, 64, 128, 2, 4, 16, 128), seed=0)
end = words["city"].index("␣Otto") + 9
changes = {}
for name, each in {
    "decoder (the built-in model)": model,
    "encoder (random weights)": encoder,
}.items():
    one, other = (each.hidden_states(token_ids[meaning][:, :end])[0] for meaning in texts)  # (T, C)
    changes[name] = np.linalg.norm(one - other, axis=1) / np.linalg.norm(one, axis=1)
figure, axes = plt.subplots(figsize=(7.0, 3.4))
show_lines(axes, changes, "", "relative change of the state", markers=True)
labels = [
    a if a == b else f"{a} / {b}"
    for a, b in zip(words["person"][:end], words["city"][:end], strict=True)
]
axes.set_xticks(range(end), labels, rotation=90, fontsize=7)
plt.show()
before = words["city"].index("␣Otto") + 1
for name, change in changes.items():
    print(f"{name:29} largest change before the texts differ: {change[:before].max():.3f}")

# %% [markdown]
# In the decoder, the tokens before the difference do not know of it. This is also why a decoder can write fast: what it
# has computed for earlier tokens stays valid when the next one comes, and can be kept (lesson 05). An encoder would
# have to start anew. An *encoder-decoder* such as T5 has both: an encoder reads the source, and a decoder writes while
# every one of its layers also looks at what the encoder left (*cross attention*).
#
# ## What people ask
#
# **Why divide by the square root of D?** A dot product of D independent numbers of size 1 has standard deviation
# $\sqrt{D}$. Softmax of large numbers gives everything to the largest one, and then nothing can be learned from the
# others. Random queries and keys, sixteen keys each:

# %%
rng = np.random.default_rng(0)
sizes = (4, 16, 64, 256)
print("largest share of 16 keys, mean of 400 queries")
print("head size      " + "".join(f"{size:8}" for size in sizes))
for name, exponent in (("not divided", 0.0), ("divided", -0.5)):
    largest = []
    for size in sizes:
        query, key = rng.standard_normal((2, 400, 16, 1, size))
        shares = ops.attention_probabilities(query, key, scale=size**exponent, causal=False)
        largest.append(shares[:, 0, 0].max(axis=-1).mean())
    print(f"{name:15}" + "".join(f"{value:8.2f}" for value in largest))

# %% [markdown]
# **Is the map the reason for the answer?** A map shows where a head looks, not what the rest of the model makes of it.
# To know, take a head away and see what happens: without its columns in the output projection, it adds nothing. The
# loss below is that of the tokens of the answer, over some of the documents.

# %%
from tinyslm.ops import IGNORED

chosen = documents[:24]
rows, labels = pad_documents([np.array([*ids, 0]) for ids, *_ in chosen])
for row, (ids, *_) in zip(labels, chosen, strict=True):
    answer = (
        len(ids) - 1 - ids[::-1].index(tokenizer.token_to_id(":")) + 1
    )  # the token after the last colon
    row[:answer] = IGNORED


def without_heads(heads):
    """The model without these (layer, head)."""
    changed = list(model.layers)
    for number, head in heads:
        attention = changed[number].attention
        weight = attention.output.weight.copy()  # (C, H D)
        weight[:, head * D : (head + 1) * D] = 0
        output = attention.output.replace(weight=weight)
        changed[number] = changed[number].replace(attention=attention.replace(output=output))
    return model.replace(layers=changed)


removed = {
    "nothing": (),
    "layer 1, head 7": [(1, 7)],
    "layer 1, heads 6 and 7": [(1, 6), (1, 7)],
    "layer 4, head 6": [(4, 6)],
    "all heads of layer 4": [(4, head) for head in range(H)],
    "layer 0, head 2": [(0, 2)],
}
for name, heads in removed.items():
    loss = float(tinyslm.next_token_loss(without_heads(heads), rows, labels))
    print(f"without {name:23} {loss:6.3f} nats per token of the answer")

# %% [markdown]
# The head with the clearest map can go without any loss: head 6 of the same layer finds the same word. Both together
# are missed a little, and a whole layer more. A head of layer 0, whose map shows nothing that a person would call a
# reason, is missed more than those two. A map is a place to begin looking; what a head is good for says the loss
# without it, and even that only as long as no other head does the same work. Lesson 08 cuts heads out by such
# measurements.
#
# ## Exercises
#
# 1. `tinyslm exercise new attention`: write the causal attention probabilities yourself.
# 2. `tinyslm exercise new rms-norm`: write the normalization, for now only the forward half; lesson 03 explains the
#    other.
# 3. Exchange Paris and Vienna in the last sentence about the city. Which head of layer 4 changes its mind, and which
#    one does not care?
# 4. Some heads look at the token before, wherever they are. Find the head of the built-in model that does so most, by
#    the mean of the diagonal below the main one in `attentions.{i}`.
# 5. Give all attention layers a window of 8 tokens (`block.attention.replace(window=8)`) and ask for the answer again.
#    The evidence is more than 8 tokens away from the last colon: why can the answer still depend on it? Where does it
#    end?
#
# ## Sources
#
# - Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser & Polosukhin 2017, *Attention is all you need*: equation
#   1.
# - Su, Lu, Pan, Wen & Liu 2021, *RoFormer*: rotary positions.
# - Ainslie, Lee-Thorp, de Jong, Zemlyanskiy, Lebron & Sanghai 2023, *GQA*: heads that share keys and values.
# - Shazeer 2020, *GLU variants improve transformer*: the gated feed-forward layer. Zhang & Sennrich 2019: the RMS norm.
# - Devlin, Chang, Lee & Toutanova 2019, *BERT*: an encoder.
# - Alain & Bengio 2016, *Understanding intermediate layers using linear classifier probes*. nostalgebraist 2020,
#   *interpreting GPT: the logit lens*.
# - Jain & Wallace 2019, *Attention is not explanation*. Michel, Levy & Neubig 2019, *Are sixteen heads really better
#   than one?*: heads that can go.
