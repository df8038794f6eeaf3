# %% [markdown]
# # Generation
#
# A language model gives a probability to every token that could come next. Text comes from it in a loop: **choose one,
# append it, ask again**. This lesson is about both halves of the loop: how to choose, and how to ask without computing
# everything again each time.
#
# You need: lesson 02 (attention), lesson 04 (the loss and its floor).

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.generation import (
    KeyValueCache,
    QuantizedKeyValueCache,
    next_token_probabilities,
)
from tinyslm.reporting.pictures import (
    show_bars,
    show_lines,
    show_matrix,
    use_lesson_style,
    use_powers,
)
from tinyslm.reporting.source import numbered_source
from tinyslm.text import town
from tinyslm.text.corpus import town_corpus

use_lesson_style()
model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, validation=60)
prompt = np.array([tokenizer.encode("Mara took the").ids])
logits = model(prompt)[0, -1]  # (V,): one number per token, for what follows the last one
probabilities = next_token_probabilities(logits)
order = np.argsort(-probabilities)
print(f"{len(logits)} logits, probabilities that add up to {probabilities.sum():.3f}")
print("Mara took the ...", ", ".join(tokenizer.decode([token]).strip() for token in order[:6]))

# %% [markdown]
# ## Choosing
#
# The largest logit wins: this is *greedy* decoding. Or a token is drawn with its probability: *sampling*. What lies
# between is three knobs that change the distribution before drawing.
#
# **Temperature** $\tau$ divides the logits: $p_i \propto e^{z_i / \tau}$. Below 1 the likely tokens gain, above 1 the
# unlikely ones; at 0 only the largest is left.

# %%
shown = order[:16]
pieces = [tokenizer.decode([token]).strip() for token in shown]
bars = {
    f"temperature {temperature}": 100 * next_token_probabilities(logits, temperature)[shown]
    for temperature in (0.5, 1.0, 2.0)
}
figure, axes = plt.subplots(figsize=(7, 3.2))
show_bars(axes, bars, pieces, "probability, %")
plt.show()
for temperature in (0.5, 1.0, 2.0):
    rest = 1 - next_token_probabilities(logits, temperature)[shown].sum()
    print(f"temperature {temperature}: the tokens that are not shown have {rest:.1%} together")

# %% [markdown]
# The printed lines show the trouble with sampling: tokens that are unlikely one by one can be likely together. One of
# them in a text of a hundred tokens is enough to derail it. The other two knobs cut the tail off.
#
# **Top-k** keeps the $k$ most probable tokens, **top-p** keeps the fewest that have the share $p$ together (also called
# the *nucleus*). What remains is scaled to add up to one.

# %%
certain = np.array([tokenizer.encode("It was a sunny Monday").ids])
sure = model(certain)[0, -1]
figure, panels = plt.subplots(2, 1, figsize=(7, 5.6))
for axes, which, title in zip(panels, (logits, sure), ("Mara took the", "It was a sunny Monday")):
    first = np.argsort(-which)[:16]
    bars = {
        "all": 100 * next_token_probabilities(which)[first],
        "top-k, k = 8": 100 * next_token_probabilities(which, top_k=8)[first],
        "top-p, p = 0.9": 100 * next_token_probabilities(which, top_p=0.9)[first],
    }
    show_bars(axes, bars, [tokenizer.decode([token]).strip() for token in first], "probability, %")
    axes.set_title(f"{title} ...", fontsize=9)
plt.show()
for text, which in (("Mara took the", logits), ("It was a sunny Monday", sure)):
    kept = [
        np.count_nonzero(next_token_probabilities(which, **knob))
        for knob in ({"top_k": 8}, {"top_p": 0.9})
    ]
    print(f"{text:22} top-k keeps {kept[0]} tokens, top-p keeps {kept[1]}")

# %% [markdown]
# Top-k keeps as many tokens where there are four good ones as where there are dozens. Top-p follows the distribution.
#
# ## The library's function, taken apart

# %%
print(numbered_source(next_token_probabilities))

# %% [markdown]
# - The tokens are sorted once, and all three knobs work on the sorted row `ranked`.
# - `ranked -= ranked[..., :1]` makes the largest logit 0, so that no exponential overflows, however small the
#   temperature.
# - `mass_above` is what the more probable tokens have together. A token goes if they have $p$ already. The first has
#   nothing above it and always stays.
# - The order is fixed: top-p sees what temperature and top-k left.
#
# **In a debugger**: set a breakpoint at the line with `mass_above` in `tinyslm/generation/sampling.py` and look at
# `ranked[:8]` and `mass_above[:8]`.
#
# ## Greedy against sampling
#
# Here is what the model writes when it begins a document of its own:

# %%


def write(temperature, count, seed=0, **knobs):
    """Documents of the model, without the end mark."""
    start = np.zeros((count, 1), int)  # the end mark, with which every document begins
    written = tinyslm.generate(
        model, start, 200, temperature=temperature, seed=seed, stop_tokens=(0,), **knobs
    )
    return [tokenizer.decode([token for token in row if token]) for row in written.tolist()]


for name, settings in {"greedy": (0.0, 1), "sampled, temperature 1": (1.0, 2)}.items():
    for text in write(*settings):
        print(f"[{name}]\n{text}\n")

# %% [markdown]
# The greedy text repeats itself: what has just been written is likely again, and a rule that always takes the likeliest
# never leaves the circle. It is also always the same.
#
# **Which text is better?** For the town there is an answer, because its grammar can say whether a text is a document
# that it could have written, without a contradiction. Forty-eight documents for each temperature:

# %%
temperatures = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
texts = {temperature: write(temperature, 48, seed=2) for temperature in temperatures}
valid = [
    np.mean([np.isfinite(town.log_probability(text)) for text in texts[each]])
    for each in temperatures
]
distinct = [len(set(texts[each])) / 48 for each in temperatures]
stories = [np.mean([text.startswith("It was a") for text in texts[each]]) for each in temperatures]
lines = {
    "valid documents of the town": 100 * np.array(valid),
    "different documents": 100 * np.array(distinct),
    "stories": 100 * np.array(stories),
}
figure, axes = plt.subplots()
show_lines(axes, lines, "temperature", "% of 48 documents", temperatures, markers=True)
axes.set_ylim(-5, 145)  # room for the legend
plt.show()

# %% [markdown]
# Both ends are bad. At a high temperature unlikely tokens derail the text. At a low one, which is often recommended as
# the safe choice, most documents are stories, because that is the most likely way to begin; and hardly one of this
# model's stories is free of contradictions. A little randomness already makes all documents different; the share of
# valid ones is largest somewhat below temperature 1. (48 documents are few: each point is uncertain by several
# hundredths.)
#
# ## Asking again, the slow way
#
# To write a token the model reads the whole text before it. For the next token it reads the same text again, and one
# token more. Nearly all of it is repetition: in a decoder a token looks only at what stands before it, so what it
# computed for earlier tokens cannot change.
#
# For four tokens, this is what attention computes. Each row is a token, and what it looks at:

# %%
rng = np.random.default_rng(0)
queries, keys, values = rng.standard_normal((3, 1, 4, 1, 4))
from tinyslm.ops import attention, attention_probabilities

four = attention_probabilities(queries, keys, scale=0.5)[0, 0]  # (4, 4)
three = attention_probabilities(queries[:, :3], keys[:, :3], scale=0.5)[0, 0]
last = attention_probabilities(queries[:, 3:], keys, scale=0.5)[0, 0]  # one query, four keys
figure, panels = plt.subplots(1, 3, figsize=(6.8, 2.4))
for axes, matrix, title in zip(
    panels, (three, four, last), ("three tokens", "a fourth is added", "all that is new")
):
    show_matrix(axes, matrix, title, "{:.2f}")
plt.show()
print("the first three rows are the same:", np.allclose(four[:3, :3], three))
whole = attention(queries, keys, values, scale=0.5)
new = attention(queries[:, 3:], keys, values, scale=0.5)
print("the fourth token's output from its query alone:", np.allclose(whole[:, 3:], new))

# %% [markdown]
# The new row needs the query of the new token, and the keys and values of *all* tokens. So keys and values are kept:
# this is the **key/value cache**. Queries are not needed again.
#
# ## The cache, taken apart

# %%
print(numbered_source(KeyValueCache.extend))

# %% [markdown]
# Attention (lesson 02) calls it with the keys and values of the new tokens, and goes on with those of all tokens. The
# arrays are as large as the whole text will be, from the beginning: to enlarge them at every token would copy them
# every time.
#
# Nothing else in the model needs to know. Positions go on counting where the cache ends. A text can be read in any
# pieces:

# %%
document = np.array(corpus.validation[0])[None]  # (1, T)
T = document.shape[1]
naive = model(document)
cache = KeyValueCache(T)
for start, stop in ((0, 10), (10, 11), (11, T)):
    pieces = model(document[:, start:stop], cache=cache)
    print(
        f"tokens {start:2} to {stop - 1:2}: the same logits as without a cache:",
        np.allclose(pieces, naive[:, start:stop], atol=1e-4),
    )

# %% [markdown]
# Is it *exactly* the same? In mathematics yes. In floating point a product of a matrix with one row may be added up in
# another order than the same row among others, so the last digits can differ: *exact up to rounding*. The same tokens
# come out:

# %%
start = np.array([tokenizer.encode("It was a sunny Monday morning.").ids])


def greedy_naive(model, token_ids, count):
    """Greedy tokens, reading everything again for each."""
    for _ in range(count):
        following = np.argmax(model(token_ids, last_only=True)[:, -1:], axis=-1)
        token_ids = np.concatenate([token_ids, following], axis=1)
    return token_ids[:, -count:]


print(
    "the same 30 tokens:",
    np.array_equal(greedy_naive(model, start, 30), tinyslm.generate(model, start, 30)),
)

# %% [markdown]
# ## How much faster
#
# There are two speeds. The **prompt** is known, so all of its tokens go through the model together. **New tokens** come
# one by one, because each depends on the one before. Both are measured here at contexts that are longer than the
# built-in model's, so with a model of the same width and random weights: time does not depend on what weights say.

# %% tags=["measured"]
from tinyslm.models.builder import random_model
from tinyslm.models.tiny_shapes import tiny_config

long_model = random_model(tiny_config("teacher", 1536, max_position_embeddings=1024))


def milliseconds(function, repeats=5):
    """The median time of a call; the first one warms up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - began))
    return np.median(times[1:])


def read_by_token(text):
    """Read a text with a cache, a token at a time."""
    cache = KeyValueCache(text.shape[1])
    for place in range(text.shape[1]):
        long_model(text[:, place : place + 1], cache=cache, last_only=True)


contexts = (64, 128, 256, 512, 1000)
text = rng.integers(0, 1536, (1, 1024))
at_once, by_token, token_naive, token_cached = {}, {}, {}, {}
for context in contexts:
    part = text[:, :context]
    at_once[context] = milliseconds(
        lambda: long_model(part, cache=KeyValueCache(context), last_only=True)
    )
    if context <= 512:
        by_token[context] = milliseconds(lambda: read_by_token(part), repeats=3)
    cache = KeyValueCache(1024)
    long_model(part, cache=cache, last_only=True)

    def one_more():
        """One token more, and forget it again."""
        long_model(text[:, context : context + 1], cache=cache, last_only=True)
        cache.length = context

    token_cached[context] = milliseconds(one_more, repeats=20)
    token_naive[context] = milliseconds(lambda: long_model(text[:, : context + 1], last_only=True))
print("reading a prompt        at once     token by token")
for context, slow in by_token.items():
    fast = at_once[context]
    print(f"{context:5} tokens         {fast:6.1f} ms   {slow:8.1f} ms   {slow / fast:5.1f} times")
print("one token more          cached      everything again")
for context, slow in token_naive.items():
    fast = token_cached[context]
    print(f"after {context:5} tokens   {fast:6.2f} ms   {slow:8.1f} ms   {slow / fast:5.1f} times")

# %% tags=["measured"]
figure, axes = plt.subplots()
lines = {
    "everything again": [token_naive[context] for context in contexts],
    "cached": [token_cached[context] for context in contexts],
}
show_lines(axes, lines, "tokens before", "ms for one token more", contexts, markers=True)
use_powers(axes)
axes.set_xticks(contexts)
plt.show()

# %% [markdown]
# Without the cache the price of a token grows with the text; with it much less: what grows is only the attention to
# more keys.
#
# **Why is the prompt so much faster per token than new tokens?** Both do the same multiplications. But a single token
# fetches every weight to use it once, and pays for every call of Python and NumPy alone. A prompt of 256 tokens uses
# each weight 256 times when it has been fetched, and pays for the calls once. One matrix of this model, and one as
# large as those of models with seven billion weights:

# %% tags=["measured"]
from tinyslm.ops import linear

for width_out, width_in in ((512, 256), (4096, 4096)):
    weight = rng.standard_normal((width_out, width_in), np.float32)
    calls = 200_000 // width_in**2 + 1
    for rows in (1, 16, 256):
        x = rng.standard_normal((rows, width_in), np.float32)
        per_call = milliseconds(lambda: [linear(x, weight) for _ in range(calls)]) / calls
        print(
            f"{width_out:4} x {width_in:4}, {rows:3} tokens together: "
            f"{1000 * per_call / rows:7.1f} microseconds per token"
        )

# %% [markdown]
# The large matrix has to come from memory each time, and whoever computes one token at a time waits for it. The small
# one stays in the processor's cache and gains less. In a model as small as this one a single token's price is mostly
# that of the calls: there are as many for one token as for a whole prompt.
#
# For the same reason several texts at once (a batch) are written faster than one after the other.
#
# ## What the cache costs
#
# Memory: for each token two vectors, key and value, of $G \cdot D$ numbers in each layer.

# %%
config = model.config
cache = KeyValueCache(256)
model(document, cache=cache)
per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
print(f"by formula {per_token:,} bytes per token, for 256 tokens {256 * per_token:,}")
print(f"counted                                {cache.num_bytes():,}")
print(f"the weights                           {tinyslm.footprint(model).bytes:,}")

# %% [markdown]
# Little here. But the cache grows with the context and with the number of texts, and the weights do not. For published
# models, with two bytes per number as they are usually run:

# %%
from tinyslm.models.builder import shape_model
from tinyslm.models.catalogue import CATALOGUE

contexts = 2 ** np.arange(8, 18)
lines = {}
print("gigabytes                weights   cache of 4,096   of 131,072 tokens")
for name in ("phi-3-mini-128k", "llama-3.2-3b", "llama-3.2-1b", "smollm2-135m"):
    shape = CATALOGUE[name]
    each = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim * 2
    lines[name] = each * contexts / 1e9
    arrays = tinyslm.named_arrays(shape_model(shape)).values()
    size = 2 * sum(array.size for array in arrays) / 1e9
    print(f"{name:22} {size:9.2f} {each * 4096 / 1e9:16.2f} {each * 131072 / 1e9:19.2f}")
figure, axes = plt.subplots()
show_lines(axes, lines, "context, tokens", "cache of one text, GB", contexts)
use_powers(axes)
axes.set_xticks(contexts[::3])
plt.show()

# %% [markdown]
# Phi-3-mini and Llama 3.2 3B are of about the same size, and their caches are not: the first keeps 32 key/value heads
# per layer, the second 8, each of which serves three query heads. This is what *grouped-query attention* is for (lesson
# 12).
#
# ## Eight bits
#
# The numbers in the cache need not be precise. `QuantizedKeyValueCache` stores each as one of 255 steps between the
# largest value and its negative, with one scale per token and head (how that works is lesson 09).

# %%
exact, rounded = KeyValueCache(256), QuantizedKeyValueCache(256)
model(document, cache=exact)
model(document, cache=rounded)
share = rounded.num_bytes() / exact.num_bytes()
print(f"bytes: {exact.num_bytes():,} exact, {rounded.num_bytes():,} in eight bits: {share:.1%}")
stored = exact.keys[0][0, :T, 0]  # layer 0, head 0
codes = rounded.parts["codes"].keys[0][0, :T, 0]
scale = rounded.parts["scale"].keys[0][0, :T, 0]
step = np.abs(stored[20]).max() / 127
figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 4.2), sharex=True)
show_lines(above, {"key": stored[20]}, "", "value of the key")
errors = {"error of rounding": (codes[20] * scale[20] - stored[20]) / step}
show_lines(below, errors, "number in the key of one token (layer 0, head 0)", "error, in steps")
below.set_ylim(-1, 1)
plt.show()
worst = np.abs(codes * scale - stored).max() / np.abs(stored).max()
print(f"largest difference of a number: {worst:.1%} of the largest one")

# %% [markdown]
# No number is off by more than half a step. (In the layers above, the keys themselves differ a little, because the
# layers below have read rounded ones.) What does it do to the model? Every validation document is read through either
# cache:

# %%


def loss_through(make_cache):
    """Mean loss of the validation documents, read through a cache."""
    total = count = 0
    for each in corpus.validation:
        row = np.array(each)[None]
        nats = tinyslm.next_token_loss(model, row, cache=make_cache(row.shape[1]))
        total, count = total + float(nats) * (len(each) - 1), count + len(each) - 1
    return total / count


print(f"loss through the exact cache:      {loss_through(KeyValueCache):.3f} nats per token")
print(f"loss through the eight-bit cache:  {loss_through(QuantizedKeyValueCache):.3f}")
print(f"floor                              {corpus.floor.nats:.3f}")

# %% [markdown]
# The loss is the same to the last digit shown, for little more than a quarter of the bytes: one for each number, and
# four for the scale of every 32. What about the time?

# %% tags=["measured"]
text = rng.integers(0, 1536, (1, 512))
for name, make_cache in (("exact", KeyValueCache), ("eight bits", QuantizedKeyValueCache)):
    cache = make_cache(513)
    long_model(text, cache=cache, last_only=True)

    def one_more():
        """One token more, and forget it again."""
        long_model(text[:, :1], cache=cache, last_only=True)
        cache.length = 512

    print(f"{name:11} one token after 512: {milliseconds(one_more, repeats=20):5.2f} ms")

# %% [markdown]
# It is slower: NumPy multiplies floating point only, so all codes are widened again at every token. What is saved is
# memory.
#
# ## What people ask
#
# **Is the greedy text the most probable one?** No. Greedy takes the best next token, and a good beginning can lead to a
# poor end. Compare the log-probability of whole documents, as the model itself sees them:

# %%
from tinyslm.evaluation.loss import document_nats


def model_log_probability(texts):
    """Log-probability of whole documents, the end mark included."""
    rows = [np.array([*tokenizer.encode(text).ids, 0]) for text in texts]
    return -document_nats(model, rows)[0]


print(f"greedy: {model_log_probability(texts[0.0][:1])[0]:.1f} nats")
for temperature in (0.4, 0.6, 0.8, 1.0):
    values = model_log_probability(texts[temperature])
    best = texts[temperature][np.argmax(values)]
    print(f"the best of 48 samples at temperature {temperature}: {values.max():.1f} nats")
print(f"\nthe last of them:\n{best}")
print(
    f"tokens: {len(tokenizer.encode(best).ids)}, greedy {len(tokenizer.encode(texts[0.0][0]).ids)}"
)

# %% [markdown]
# Every set of samples has a document that is far more probable than the greedy one. They are shorter, of other kinds,
# and begin with a token that is not the most likely one. Greedy cannot know that a likely beginning leads to a long
# story, in which every further name costs.
#
# **Can an encoder use the cache?** No. There every token looks at those after it too, so a new token changes what all
# others are. The first three rows of the picture above would not stay.
#
# **Does `temperature=1` write what the training text looks like?** A perfect model would, and its samples would be
# valid, all of them. How far this model is from that is its distance from the floor (lesson 04), added up over a
# hundred tokens per document.
#
# ## Exercises
#
# 1. `tinyslm exercise new sampling`: top-k and top-p.
# 2. Add `top_p=0.9` and `top_k=5` to the picture of valid and different documents. Which knob buys most validity for
#    the variety that it costs?
# 3. Read a prompt in pieces of 8, 32 and 128 tokens with a cache. Which is fastest on your machine, and why not the
#    whole at once if memory is short?
# 4. Drop the oldest half of the cache at 200 tokens (`cache.keys[layer]` and `cache.values[layer]`). What happens to
#    positions, and to the loss of the tokens after it?
#
# ## Sources
#
# - Fan, Lewis & Dauphin 2018, *Hierarchical neural story generation*, section 5: top-k.
# - Holtzman, Buys, Du, Forbes & Choi 2020, *The curious case of neural text degeneration*: top-p, and why greedy
#   repeats.
# - Shazeer 2019, *Fast transformer decoding: one write-head is all you need*, section 2.4: the cache and its price.
# - Ainslie et al. 2023, *GQA: training generalized multi-query transformer models from multi-head checkpoints*.
# - Sheng et al. 2023, *FlexGen*, section 4: a quantized cache.
