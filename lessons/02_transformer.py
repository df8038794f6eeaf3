# %% [markdown]
# # Attention and the transformer
#
# In the built-in corpus, Paris can be a person or a city. The name is the same token in both cases, so **only the rest
# of the text determines the meaning. Attention is the operation that moves information between the positions of a
# text.** This lesson measures this in the built-in model, computes one forward pass step by step from the model's
# arrays, and explains the difference between decoders, with a causal mask, and encoders, without one.

# %%
from setup_lesson import np, plt, show, show_attention, tinyslm

model, tokenizer = tinyslm.load("teacher")
opening = "What Simon loved most was Paris, and after that Vienna."
sentences = {
    "person": " Otto softly danced with Paris at the mill.",
    "city": " Otto took the Monday night train to Paris.",
}
figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.7))
for each, (meaning, sentence) in zip(axes, sentences.items(), strict=True):
    ids = tokenizer.encode(opening + sentence).ids
    weights = tinyslm.trace(model, np.array([ids]))["attentions.0"][0, 1, -9:, -9:]
    show_attention(each, weights, [tokenizer.decode([i]) for i in ids[-9:]], meaning)
show(
    "Two attention maps of one head, with a row per query token and a column per key token. In "
    "the row of Paris the largest probability is at danced in the left text, and at train in "
    "the right text."
)

# %% [markdown]
# One of the model's attention heads, for two sentences. Each row shows from which tokens the head collects information
# for the token of the row. Compare the rows of Paris: in one text the head selects *danced*, in the other *train*.
#
# After this lesson you can
#
# - compute attention from queries, keys and values, with a causal mask;
# - compute the forward pass of a transformer from its weights, and explain each step;
# - read attention maps, and test with a probe or an ablation what a layer or head contributes.
#
# You need: lesson 00 (the built-in model), lesson 01 (tokens, documents, the loss).
#
# ## Two texts about Paris
#
# One more sentence and a question follow. The built-in model answers the question:

# %%
ending = " Vienna bought a small bell at the harbour.\nQuestion: What are Paris and Vienna? Answer:"
texts = {meaning: opening + sentence + ending for meaning, sentence in sentences.items()}
# (1, T) each
token_ids = {meaning: np.array([tokenizer.encode(text).ids]) for meaning, text in texts.items()}
for meaning, ids in token_ids.items():
    answer = tokenizer.decode(tinyslm.generate(model, ids, 7)[0].tolist()).split(".")[0]
    print(f"{meaning:7}{sentences[meaning]}\n       the model answers:{answer}")

# %% [markdown]
# The two texts differ in one sentence, and the model answers both correctly. It was trained on documents of this family
# (`tinyslm/text/town/ambiguity.py` generates them), but with other sentences.
#
# ## The input: tokens and their vectors
#
# The second text as tokens. `␣` marks a space at the beginning of a token.


# %%
def token_labels(ids):
    """A printable label for each token."""
    names = {"<|endoftext|>": "end", "Ċ": "↵"}
    words = [tokenizer.id_to_token(int(i)) for i in np.ravel(ids)]
    return [names.get(word, word.replace("Ġ", "␣")) for word in words]


words = {meaning: token_labels(ids) for meaning, ids in token_ids.items()}
print(" ".join(words["city"]))
positions = {m: [i for i, word in enumerate(words[m]) if word == "␣Paris"] for m in words}
token = token_ids["city"][0, positions["city"][0]]
print(f"Paris is at the positions {positions['city']}, each time as token {token}")

# %% [markdown]
# The first operation of a model looks up one vector per token in a table, the *embedding*. The same token has the same
# vector at every position. `tinyslm.trace` runs the model once and returns every intermediate array by name. With it
# the *hidden state* of each token can be compared before and after each layer:

# %%
traces = {meaning: tinyslm.trace(model, ids) for meaning, ids in token_ids.items()}
layers = len(model.layers)


def cosine(one, other):
    """Cosine of the angle between two vectors: 1 for the same direction, 0 for a right angle."""
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


mentions = {"first Paris": 0, "second Paris, in the sentence that differs": 1}
cosines = {
    name: [
        cosine(*(traces[m][f"hidden_states.{i}"][0, positions[m][mention]] for m in texts))
        for i in range(layers + 1)
    ]
    for name, mention in mentions.items()
}

# %%
from setup_lesson import show_lines

figure, axes = plt.subplots()
x_label = "after layer (0: the embedding)"
show_lines(axes, cosines, x_label, "cosine, person against city", markers=True)
axes.set_ylim(0, 1.05)
show(
    "Line chart of the cosine between the hidden states of Paris in the two texts, after each "
    "layer. For the first Paris it stays 1; for the second, in the sentence that differs, it "
    "falls steeply in the first layer and stays low."
)

# %% [markdown]
# The first Paris comes before the sentence that differs. Its hidden state is the same in both texts after every layer.
# The second Paris also starts with the same vector, and its hidden states in the two texts differ after the first
# layer. The layers have transferred information from the surrounding tokens to this position. The operation that does
# this is attention.
#
# ## The idea, on four tokens
#
# Attention is a differentiable look-up. From each token the layer computes a *query*, a *key* and a *value*. The
# *score* of a query and a key is their dot product. The output of a token is the mean of the values, weighted by the
# scores of its query. An example with four tokens and invented queries and keys of two numbers: the first number
# represents "travel", and the query of the name has a large first number.

# %%
from setup_lesson import show_matrix
from tinyslm import ops

tokens = ["train", "to", "Paris", "."]
query = np.array([[0.0, 1.0], [1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])  # (T, D)
key = np.array([[2.0, 0.0], [1.0, 0.5], [-0.5, 0.5], [0.0, 1.0]])  # (T, D)
value = np.array([[0.0, 1.0], [0.0, 0.2], [0.0, 0.0], [0.0, 0.0]])  # (T, 2): person, city
scale = 2**-0.5
# The library's function has axes for texts and heads: (B, T, H, D) -> (B, H, T, T).
arrays = query[None, :, None], key[None, :, None]
bidirectional = ops.attention_probabilities(*arrays, causal=False, scale=scale)[0, 0]  # (T, T)
causal = ops.attention_probabilities(*arrays, scale=scale)[0, 0]  # (T, T)
figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.3), gridspec_kw={"width_ratios": (4, 4, 4, 2.4)})
show_matrix(axes[0], query @ key.T * scale, "scores", "{:.1f}", tokens, tokens)
show_matrix(axes[1], bidirectional, "softmax of each row", "{:.2f}", [""] * 4, tokens)
show_matrix(axes[2], causal, "with causal mask", "{:.2f}", [""] * 4, tokens)
show_matrix(axes[3], causal @ value, "output", "{:.2f}", [""] * 4, ["person", "city"])
show(
    "Four matrices for four tokens: scores, softmax of each row, the same with a causal mask, "
    "and the output. With the mask all cells above the diagonal are 0. In the row of Paris "
    "nearly all probability is at train."
)

# %% [markdown]
# Rows are queries, columns are keys. *Softmax* converts the scores of a row into probabilities, which are positive and
# sum to 1: $p_{ij} = e^{s_{ij}} / \sum_k e^{s_{ik}}$. The output of a token is the sum of the values of all tokens,
# weighted by these probabilities. The row of Paris has a probability near 1 for *train*, so its output is close to the
# value of *train*: city.
#
# The third matrix has a *causal mask*: the scores of later tokens are replaced by a very negative number, whose
# exponential is 0. Each row still sums to 1. The complete formula, with $D$ numbers per query:
#
# $$\mathrm{attention}(Q, K, V) = \mathrm{softmax}\left(\frac{Q K^T}{\sqrt{D}} + \mathrm{mask}\right) V$$
#
# ## The library's definition
#
# The function that you just called, with the functions that it calls. `tinyslm/ops/attention.py` is the definition, and
# computes the whole matrix of scores. Models call `tinyslm/ops/chunked_attention.py`, which computes the same faster; a
# property test checks that both are equal.

# %%
from setup_lesson import numbered_source
from tinyslm.ops.attention import capped_scores, masked_softmax, split_heads

for function in (ops.attention_probabilities, split_heads, capped_scores, masked_softmax):
    print(numbered_source(function))
    print()

# %% [markdown]
# - The shapes: B texts in a batch, T tokens, D numbers per query, H *heads*. Each head computes attention with its own
#   queries, keys and values, so one layer can select several tokens for different reasons. Keys and values have only G
#   heads. Here G is smaller than H: H / G query heads share one key/value head (*grouped-query attention*). This needs
#   less memory for keys and values.
# - `transpose` moves the axes T and D to the end, and `@` multiplies a (T, D) matrix by a (D, S) matrix for each text
#   and head.
# - `mask_bias` is 0 for allowed keys and very negative for all others. It implements the causal mask, and the mask for
#   the padding of a batch (`attention_mask`).
# - Subtracting `scores.max(...)` does not change the probabilities, because numerator and denominator are divided by
#   the same number. Without it `np.exp` of a large score overflows.
#
# **In a debugger**: set a breakpoint at the line `output = probabilities @ v` in the function `attention` of
# `tinyslm/ops/attention.py`. Call `ops.attention`, or run a model after `ops.chunked_attention = ops.attention`.
# Inspect the shapes of `scores` and `probabilities`, and the sum of a row.
#
# ## The structure of a layer

# %%
from diagrams import transformer_block

transformer_block()

# %% [markdown]
# The built-in model is an embedding, six such blocks, a final norm, and the output projection
# (`tinyslm/modules/block.py`, `tinyslm/models/decoder.py`).
#
# ## A forward pass, step by step
#
# The next cells compute the whole model with its own weights, for the text about the city. First the attention of layer
# 0.

# %%
ids = token_ids["city"]
T = ids.shape[1]
config, block = model.config, model.layers[0]
H, G, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
x = model.embedding.table[ids]  # (1, T, C): one row of the table per token
# RMS norm scales every vector to the same root mean square.
normed = ops.rms_norm(x, block.attention_norm.weight, eps=config.norm_eps)
layer = block.attention  # its projections have biases, as in Qwen2
query = (normed @ layer.query.weight.T + layer.query.bias).reshape(1, T, H, D)
key = (normed @ layer.key.weight.T + layer.key.bias).reshape(1, T, G, D)
value = (normed @ layer.value.weight.T + layer.value.bias).reshape(1, T, G, D)
cos, sin = ops.rotary_tables(config.ropes[0], np.arange(T))  # positions: explained below
query, key = ops.rotary(query, cos=cos, sin=sin), ops.rotary(key, cos=cos, sin=sin)
probabilities = ops.attention_probabilities(query, key, scale=config.scale)  # (1, H, T, T)
# The value of each query head: (1, H, T, D).
repeated = np.repeat(value, H // G, axis=2).transpose(0, 2, 1, 3)
concatenated = (probabilities @ repeated).transpose(0, 2, 1, 3).reshape(1, T, H * D)
attention_output = concatenated @ layer.output.weight.T  # (1, T, C)


# %%
def compare(**steps):
    """Print the shape of each array, and its largest difference from the array in the trace."""
    for name, (array, traced) in steps.items():
        error = np.max(np.abs(array - traces["city"][traced]))
        print(f"{name:17}{array.shape!s:18} largest difference {error:.3f}   {traced}")


compare(
    x=(x, "hidden_states.0"),
    query=(query, "layers.0.attention.queries"),
    key=(key, "layers.0.attention.keys"),
    value=(value, "layers.0.attention.values"),
    probabilities=(probabilities, "attentions.0"),
    attention_output=(attention_output, "layers.0.attention.output"),
)

# %% [markdown]
# The attention output is *added* to `x`. This running sum is the *residual stream*: each sublayer reads it and adds its
# output. Attention is the only operation that combines different positions. The second sublayer, the *feed-forward
# layer*, processes each position separately. It projects the vector to F *neurons*, multiplies each neuron by a gate,
# and projects back to C numbers. The other layers do the same with their own weights. Finally the vector of each
# position is multiplied by all rows of the embedding table. The products are the *logits*, and their softmax is the
# prediction of the next token.

# %%
from tinyslm.modules import Context

x = x + attention_output
normed = ops.rms_norm(x, block.feed_forward_norm.weight, eps=config.norm_eps)
gate = normed @ block.feed_forward.gate.weight.T  # (1, T, F)
up = normed @ block.feed_forward.up.weight.T  # (1, T, F)
# SiLU(gate) * up. SiLU is near 0 for a negative gate and near the gate for a large one.
neurons = gate / (1 + np.exp(-gate)) * up
x = x + neurons @ block.feed_forward.down.weight.T  # (1, T, C)
first_layer = x
for block in model.layers[1:]:
    x = block(x, Context(np.arange(T)))  # the same operations with the weights of each layer
final_states = ops.rms_norm(x, model.norm.weight, eps=config.norm_eps)
logits = final_states @ model.embedding.table.T  # (1, T, V)
compare(
    neurons=(neurons, "layers.0.feed_forward.neurons"),
    first_layer=(first_layer, "hidden_states.1"),
    final_states=(final_states, f"hidden_states.{layers}"),
    logits=(logits, "logits"),
)

# %% [markdown]
# This is the complete transformer. Models with billions of weights use the same operations with larger dimensions and
# more layers.
#
# **Positions.** The dot product of a query and a key does not depend on their positions. Therefore both are first
# rotated by an angle proportional to their position (*rotary position embedding*, RoPE; `tinyslm/ops/rotary.py`). The
# dot product of two rotated vectors depends only on the difference of the angles. One query and one key of the model,
# at all positions from 0 to 5:

# %%
at = np.arange(6)
cos, sin = ops.rotary_tables(config.ropes[0], at)
block = model.layers[4]
normed = block.attention_norm(traces["city"]["hidden_states.4"][0])  # (T, C)
one_query = block.attention.query(normed[positions["city"][1]])[:D]  # Paris, head 0
one_key = block.attention.key(normed[1])[:D]  # the first word
rotated = [
    ops.rotary(np.tile(vector, (1, len(at), 1, 1)), cos=cos, sin=sin)[0, :, 0]
    for vector in (one_query, one_key)
]
figure, axes = plt.subplots(figsize=(3.4, 3.0))
show_matrix(axes, rotated[0] @ rotated[1].T, "dot product after rotation", "{:.1f}", at, at)
axes.set(xlabel="position of the key", ylabel="position of the query")
show(
    "Matrix of dot products for six positions of the query (row) and of the key (column). All "
    "numbers on a diagonal are equal; to the upper right they fall below zero."
)

# %% [markdown]
# All numbers on a diagonal are equal: the score depends on the distance, not on the absolute positions.
#
# ## Attention maps
#
# Back to the first figure: the attention probabilities of layer 0, head 1, for the sentence that differs. The head, its
# weights and the name are the same, but in one text the name attends to *danced*, in the other to *train*. Above the
# diagonal all probabilities are 0 because of the causal mask. The next figure shows all heads of the layer, one per
# row: the probabilities of Paris in the text about the city.

# %%
figure, axes = plt.subplots(figsize=(7.0, 3.0))
begin = words["city"].index("␣Otto")
part = slice(begin, positions["city"][1] + 1)
percent = 100 * traces["city"]["attentions.0"][0, :, positions["city"][1], part]
show_matrix(axes, percent, "layer 0, from Paris: % of each head's attention", "{:.0f}",
            [f"head {i}" for i in range(H)], words["city"][part], limit=100)  # fmt: skip
show(
    "Matrix: the attention of Paris in layer 0, one row per head, one column per token of the "
    "sentence. In several rows nearly all attention is on train, in one row on to."
)

# %% [markdown]
# Several heads attend to *train*, one to *to*. The missing part of a row is attention to the opening sentence. Each of
# these heads prefers a distance: before the training, heads of this layer were set to attend to one of the preceding
# tokens (lesson 04 explains why).
#
# The model predicts the answer at the last colon, far from the sentence that differs. The attention of the colon in
# layer 1, head 7:

# %%
figure, axes = plt.subplots(2, 1, figsize=(7.4, 4.4))
for each, meaning in zip(axes, texts, strict=True):
    weights = traces[meaning]["attentions.1"][0, 7, -1]
    each.bar(range(T), 100 * weights, color="#0072b2", width=0.7)
    each.set_xticks(range(T), words[meaning], rotation=90, fontsize=7)
    each.set_ylabel("% of attention")
    each.set_ylim(0, 105)
    each.set_title(f"{meaning}: attention of the last colon", fontsize=9)
show(
    "Two bar charts of the attention of the last colon, over all tokens of each text. In the text "
    "about the city half of it is at the second Paris; in the other it is spread over many tokens."
)

# %% [markdown]
# In the text about the city, half of the head's attention is at the second Paris, whose vector contains the meaning by
# then. In the other text it is spread. After which layer is the answer determined? The *logit lens*
# applies the final norm and the output projection to the hidden state after each layer. The correct answer begins with
# *two* if Paris is a person, and with *a* if it is a city.

# %%
first_words = {
    word: tokenizer.encode(f" {word}", add_special_tokens=False).ids[0] for word in ("two", "a")
}
lines = {}
for meaning, right in (("person", "two"), ("city", "a")):
    probability = []
    for i in range(layers + 1):
        state = traces[meaning][f"hidden_states.{i}"][:, -1:]
        logits = model.predict(state if i == layers else model.norm(state))
        probability.append(np.exp(ops.log_softmax(logits))[0, 0, first_words[right]])
    lines[f"{meaning}: probability of '{right}'"] = probability
figure, axes = plt.subplots()
show_lines(axes, lines, x_label, "probability", markers=True)
show(
    "Line chart of the probability of the correct answer after each layer, for both texts. It "
    "is small after the first two layers and near 1 at the end; for the person it rises over "
    "three layers, for the city in one."
)

# %% [markdown]
# In neither text is the answer determined before the third layer. Depth is necessary: a layer can only use information
# that earlier layers have written into the residual stream.
#
# ## Probes: where is the meaning represented?
#
# Two texts are not enough for a conclusion. The next cells use a few hundred documents of this family. The meaning of
# each name is known from the document's answer. A *probe* is a linear classifier of a hidden state. It is fitted by
# least squares on half of the names (person or city), and tested on the other half. If its accuracy is above chance,
# the hidden state represents the meaning. First the documents and the hidden states of the names:

# %%
from tinyslm.text import town
from tinyslm.text.batches import pad_documents
from tinyslm.text.town.ambiguity import VERDICTS


def find_names(text):
    """Token ids of a document, positions of the first two mentions of each name, meanings."""
    names, verdict = text.split("What are ")[1].rstrip(".").split("? Answer: ")
    encoding, found = tokenizer.encode(text), []
    for name in names.split(" and "):
        starts = [text.index(name)]
        starts.append(text.index(name, starts[0] + 1))
        ends = [start + len(name) - 1 for start in starts]
        found.append([encoding.char_to_token(end) for end in ends])
    return encoding.ids, found, next(key for key, said in VERDICTS.items() if said == verdict)


documents = [
    find_names(text)
    for family, text, _ in town.documents("train", 0, 4000)
    if family == "ambiguity"
]
is_person = np.array([meaning == "person" for *_, meanings in documents for meaning in meanings])


# %%
def name_states(model, size=16):
    """The hidden states of all names: (names, first or second mention, layers + 1, C)."""
    gathered = []
    for start in range(0, len(documents), size):
        batch = documents[start : start + size]
        rows, labels = pad_documents([ids for ids, *_ in batch])
        arrays = tinyslm.trace(model, rows, attention_mask=labels >= 0)
        # (B, T, layers + 1, C)
        stack = np.stack([arrays[f"hidden_states.{i}"] for i in range(layers + 1)], axis=2)
        gathered += [stack[row, found] for row, (_, both, _) in enumerate(batch) for found in both]
    return np.array(gathered, np.float64)


def probe_accuracy(states, ridge=0.1):
    """Accuracy of a probe after each layer, fitted on the first half of the names."""
    half, accuracy = len(states) // 2, []
    for i in range(layers + 1):
        vectors = states[:, i] / np.linalg.norm(states[:, i], axis=1, keepdims=True)
        vectors -= vectors[:half].mean(axis=0)
        fitted, target = vectors[:half], np.where(is_person[:half], 1.0, -1.0)
        normal_matrix = fitted.T @ fitted + ridge * np.eye(vectors.shape[1])
        direction = np.linalg.solve(normal_matrix, fitted.T @ (target - target.mean()))
        predicted = vectors[half:] @ direction + target.mean() > 0
        accuracy.append(np.mean(predicted == is_person[half:]))
    return accuracy


# %%
def show_probes(lines, label, description):
    """Plot accuracies, with the 95 % band of guessing."""
    _, axes = plt.subplots()
    percent = {name: 100 * np.array(values) for name, values in lines.items()}
    show_lines(axes, percent, x_label, label, markers=True)
    width = 1.96 * 50 / np.sqrt(len(is_person) // 2)
    axes.axhspan(50 - width, 50 + width, color="#dddddd", zorder=0)
    axes.annotate("chance", (layers, 50), ha="right", va="center", fontsize=8, color="#555555")
    axes.set_ylim(40, 103)
    show(description)
    for name, values in lines.items():
        print(f"{name:15}" + "".join(f"{100 * value:5.0f} %" for value in values))


causal_states = name_states(model)
mentions = ("first mention", "second mention")
lines = {name: probe_accuracy(causal_states[:, i]) for i, name in enumerate(mentions)}
print(f"{len(documents)} documents, {len(is_person)} names")
show_probes(
    lines,
    "accuracy of the probe, %",
    "Line chart of the accuracy of a probe after each layer, with a grey band for chance. At the "
    "second mention it rises to all names after one layer; at the first mention it "
    "stays near chance.",
)

# %% [markdown]
# At the second mention the embedding does not represent the meaning, but after the first layer the probe is right for
# all names. At the first mention its accuracy stays near chance after every layer: the words that determine the
# meaning come later, and the causal mask hides them.
#
# ## Encoders: attention without a causal mask
#
# A decoder needs the causal mask because it is trained to predict the next token, which it could otherwise read from
# its input. A model that does not generate text can attend in both directions. Such a model is an *encoder*, for
# example BERT. In this library the difference is one field of the attention layer, `causal`. The built-in model without
# its causal mask, with the same weights and without further training:

# %%
bidirectional_blocks = [
    block.replace(attention=block.attention.replace(causal=False)) for block in model.layers
]
unmasked = model.replace(layers=bidirectional_blocks)
short = token_ids["city"][:, :12]
figure, axes = plt.subplots(1, 2, figsize=(7.4, 4.0))
for each, (title, which) in zip(
    axes, {"causal mask": model, "no mask": unmasked}.items(), strict=True
):
    weights = tinyslm.trace(which, short)["attentions.1"][0].mean(axis=0)  # (T, T)
    show_attention(each, weights, words["city"][:12], f"{title}: layer 1, mean of all heads")
show(
    "Two attention maps of layer 1. With the causal mask all cells above the diagonal are "
    "empty; without the mask attention is spread over earlier and later tokens."
)

# %% [markdown]
# Without the mask the upper triangle has positive probabilities too. The accuracy of the probe at the first mention:

# %%
unmasked_states = name_states(unmasked)
lines = {
    "causal mask": probe_accuracy(causal_states[:, 0]),
    "no mask": probe_accuracy(unmasked_states[:, 0]),
}
show_probes(
    lines,
    "accuracy at the first mention, %",
    "Line chart of the accuracy at the first mention after each layer, with a grey band for "
    "chance. With the causal mask it stays near chance; without the mask it is clearly above.",
)

# %% [markdown]
# The weights were trained with the mask. Even so, without the mask the first mention represents part of the meaning. An
# encoder is trained without the mask from the beginning (lesson 13). BERT differs from this model in three more ways:
# it normalizes after each addition instead of before the sublayer, its positions are a table of vectors, and it
# predicts masked tokens instead of the next one.
#
# One more comparison needs no training: a decoder and an encoder with random weights, on the two texts up to the end of
# the sentence that differs. How much does the final hidden state of each token differ between the texts?

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
pairs = zip(words["person"][:end], words["city"][:end], strict=True)
labels = [a if a == b else f"{a} / {b}" for a, b in pairs]
axes.set_xticks(range(end), labels, rotation=90, fontsize=7)
show(
    "Line chart of the relative change of each token's hidden state between the two texts. In "
    "the decoder it is zero up to the first word that differs; in the encoder it is above zero "
    "for every token."
)
before = words["city"].index("␣Otto") + 1
for name, change in changes.items():
    print(f"{name:29} largest change before the texts differ: {change[:before].max():.3f}")

# %% [markdown]
# In the decoder, the hidden states before the difference are equal. This property makes generation efficient: the keys
# and values of earlier tokens stay valid when a token is appended, so they are computed once and cached (lesson 05). An
# encoder would have to recompute all of them. An *encoder-decoder* such as T5 has both: the encoder processes the
# source text, and each layer of the decoder also attends to the encoder's output (*cross-attention*).
#
# ## Questions
#
# **Why divide by the square root of D?** A dot product of D independent pairs of numbers with variance 1 has standard
# deviation $\sqrt{D}$. Softmax of large scores has one probability near 1, and the gradients of all other scores
# vanish. Random queries, with sixteen random keys each:

# %%
rng = np.random.default_rng(0)
sizes = (4, 16, 64, 256)
print("largest probability of 16 keys, mean of 400 queries")
print("head size      " + "".join(f"{size:8}" for size in sizes))
for name, exponent in (("not divided", 0.0), ("divided", -0.5)):
    largest = []
    for size in sizes:
        query, key = rng.standard_normal((2, 400, 16, 1, size))
        probabilities = ops.attention_probabilities(query, key, scale=size**exponent, causal=False)
        largest.append(probabilities[:, 0, 0].max(axis=-1).mean())
    print(f"{name:15}" + "".join(f"{value:8.2f}" for value in largest))

# %% [markdown]
# **Does an attention map explain the answer?** A map shows where a head attends, not how the rest of the model uses its
# output. An *ablation* measures this: set the head's columns of the output projection to zero, so that its contribution
# is zero, and measure the loss. The loss below is that of the answer's tokens, over some of the documents.

# %%
from tinyslm.ops import IGNORED

chosen = documents[:24]
rows, labels = pad_documents([np.array([*ids, 0]) for ids, *_ in chosen])
colon = tokenizer.token_to_id(":")
for row, (ids, *_) in zip(labels, chosen, strict=True):
    answer_start = len(ids) - ids[::-1].index(colon)  # the token after the last colon
    row[:answer_start] = IGNORED


def without_heads(heads):
    """The model with the output of these (layer, head) set to zero."""
    changed = list(model.layers)
    for number, head in heads:
        attention = changed[number].attention
        weight = attention.output.weight.copy()  # (C, H D)
        weight[:, head * D : (head + 1) * D] = 0
        output = attention.output.replace(weight=weight)
        changed[number] = changed[number].replace(attention=attention.replace(output=output))
    return model.replace(layers=changed)


# %%
removed = {
    "nothing": (),
    "layer 0, head 1": [(0, 1)],
    "layer 0, head 5": [(0, 5)],
    "layer 0, heads 1 and 5": [(0, 1), (0, 5)],
    "layer 0, head 3": [(0, 3)],
    "all heads of layer 5": [(5, head) for head in range(H)],
}
for name, heads in removed.items():
    loss = float(tinyslm.next_token_loss(without_heads(heads), rows, labels))
    print(f"without {name:23} {loss:6.3f} nats per token of the answer")

# %% [markdown]
# Without the head with the clearest map (layer 0, head 1) the loss increases only a little, because head 5 attends to
# the same word. Without both heads it increases far more than without each. Head 3 attends to a word that does not
# determine the meaning here, and without it the loss increases more than without head 1 or head 5. Without the whole
# last layer nothing changes. An attention map suggests a hypothesis. The loss without a head measures its contribution,
# given that no other head does the same.
# Lesson 08 removes heads by such measurements.
#
# ## Summary
#
# - Attention computes, for each token, a weighted mean of values; the weights are the softmax of the scaled dot
#   products of queries and keys. It is the only operation between positions.
# - A transformer block adds the outputs of attention and of a feed-forward layer to the residual stream. The forward
#   pass from the weights agreed with the model's trace.
# - After one layer a linear probe recovered the meaning of a name's second mention for 100 % of the names. With the
#   causal mask the first mention stayed near chance, at 49 %; without the mask the accuracy increased to 74 %.
# - Attention maps and ablations can disagree: only the ablation measures what a head contributes to the loss.
#
# The code: `tinyslm/ops/attention.py`, `tinyslm/ops/rotary.py`, `tinyslm/modules/attention.py`,
# `tinyslm/modules/block.py`, `tinyslm/models/decoder.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("attention")

# %% [markdown]
# Further exercises, without marks:
#
# 1. `tinyslm exercise new rms-norm`: write the normalization, for now only the forward pass; lesson 03 explains the
#    gradient and has the cell to solve it.
# 2. Exchange Paris and Vienna in the last sentence about the city. Which heads of layer 0 attend to another token, and
#    which do not?
# 3. Some heads attend to the previous token at every position. Find the head of the built-in model with the highest
#    mean of the diagonal below the main one in `attentions.{i}`.
# 4. Give all attention layers a window of 8 tokens (`block.attention.replace(window=8)`) and compute the answer again.
#    The sentence that differs is more than 8 tokens before the last colon: why can the answer still depend on it? How
#    far does the dependence reach?
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
#   than one?*: removing heads.
