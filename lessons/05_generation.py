# %% [markdown]
# # Generation
#
# A language model computes a probability for every possible next token. Text generation is a loop: **select a token,
# append it, run the model again**. This lesson explains both parts: how to select, and how to avoid recomputing
# everything in each iteration.

# %%
from setup_lesson import median_milliseconds, np, plt, show, tinyslm, use_powers
from tinyslm.generation import next_token_probabilities

model, tokenizer = tinyslm.load("teacher")
token_ids = tokenizer.encode("Mara took the").ids
figure, axes = plt.subplots(figsize=(7.6, 2.6))
for iteration in range(8):
    probabilities = next_token_probabilities(model(np.array([token_ids]))[0, -1])
    for rank, token in enumerate(np.argsort(-probabilities)[:5]):
        axes.barh(rank, 0.9 * probabilities[token], left=iteration - 0.45, color="#a6cbe3")
        axes.text(iteration - 0.4, rank, tokenizer.decode([token]).strip(), va="center", fontsize=8)
    token_ids.append(np.argmax(probabilities))
axes.set(xlabel="iteration", ylabel="rank of the token", ylim=(4.5, -0.5), xticks=range(8))
axes.grid(False)
show(
    "Table of the five most probable tokens in each of eight iterations, with bars for their "
    "probabilities. In some iterations one token has nearly all probability, in others several "
    "are similar."
)

# %% [markdown]
# A text that begins with *Mara took the*. Each column is one iteration: the five most probable next tokens, with bars
# as long as their probabilities. The first token of each column is appended, and the model runs again.
#
# After this lesson you can
#
# - sample with temperature, top-k and top-p, and explain the effect of each;
# - implement the key/value cache, and explain why a causal model permits it and an encoder does not;
# - compute the memory of the cache, and measure the speed of prompt processing and generation.
#
# You need: lesson 02 (attention), lesson 04 (the loss and its floor).
#
# ## The distribution of the next token

# %%
prompt = np.array([tokenizer.encode("Mara took the").ids])
logits = model(prompt)[0, -1]  # (V,): one per token of the vocabulary, for the next position
probabilities = next_token_probabilities(logits)
order = np.argsort(-probabilities)
print(f"{len(logits)} logits, probabilities that add up to {probabilities.sum():.3f}")
print("Mara took the ...", ", ".join(tokenizer.decode([token]).strip() for token in order[:6]))

# %% [markdown]
# ## Selecting a token
#
# *Greedy* decoding selects the token with the largest logit. *Sampling* draws a token from the distribution. Three
# parameters modify the distribution before sampling.
#
# The **temperature** $\tau$ divides the logits: $p_i \propto e^{z_i / \tau}$. Below 1 it increases the probability of
# likely tokens, above 1 that of unlikely ones. In the limit 0 it is greedy decoding.

# %%
from setup_lesson import show_bars

shown = order[:16]
pieces = [tokenizer.decode([token]).strip() for token in shown]
bars = {
    f"temperature {temperature}": 100 * next_token_probabilities(logits, temperature)[shown]
    for temperature in (0.5, 1.0, 2.0)
}
figure, axes = plt.subplots(figsize=(7, 3.2))
show_bars(axes, bars, pieces, "probability, %")
show(
    "Bars for the sixteen most probable tokens at three temperatures. At a low temperature the "
    "first tokens have most of the probability; at a high temperature the bars are low and "
    "nearly equal."
)
for temperature in (0.5, 1.0, 2.0):
    rest = 1 - next_token_probabilities(logits, temperature)[shown].sum()
    print(f"temperature {temperature}: total probability of all other tokens {rest:.1%}")

# %% [markdown]
# The printed lines show a problem of sampling: many unlikely tokens together can have a large probability. One of them
# in a text of a hundred tokens can make the rest incoherent. The other two parameters remove the tail of the
# distribution.
#
# **Top-k** keeps the $k$ most probable tokens. **Top-p** keeps the smallest set of tokens with total probability at
# least $p$ (*nucleus sampling*). The remaining probabilities are normalized.

# %%
logits_of = {
    text: model(np.array([tokenizer.encode(text).ids]))[0, -1]
    for text in ("Mara took the", "It was a sunny Monday")
}
figure, panels = plt.subplots(2, 1, figsize=(7, 5.6))
for axes, (text, row) in zip(panels, logits_of.items()):
    first = np.argsort(-row)[:16]
    bars = {
        "all": 100 * next_token_probabilities(row)[first],
        "top-k, k = 8": 100 * next_token_probabilities(row, top_k=8)[first],
        "top-p, p = 0.9": 100 * next_token_probabilities(row, top_p=0.9)[first],
    }
    show_bars(axes, bars, [tokenizer.decode([token]).strip() for token in first], "probability, %")
    axes.set_title(f"{text} ...", fontsize=9)
show(
    "Bars for the most probable tokens after two texts: all, with top-k and with top-p. After "
    "the first text top-p keeps more tokens than top-k; after the second only four tokens have "
    "visible bars, and both keep them."
)
for text, row in logits_of.items():
    kept = [
        np.count_nonzero(next_token_probabilities(row, **setting))
        for setting in ({"top_k": 8}, {"top_p": 0.9})
    ]
    print(f"{text:22} top-k keeps {kept[0]} tokens, top-p keeps {kept[1]}")

# %% [markdown]
# Top-k keeps the same number of tokens for every distribution. Top-p keeps few tokens if the distribution is
# concentrated, and many if it is flat.
#
# ## The library's function

# %%
from setup_lesson import numbered_source

print(numbered_source(next_token_probabilities))

# %% [markdown]
# - The logits are sorted once, and all three parameters apply to the sorted row `ranked`.
# - `ranked -= ranked[..., :1]` makes the largest logit 0, so that no exponential overflows, for any temperature.
# - `mass_above` is the total probability of the more probable tokens. A token is removed if this is at least $p$. The
#   first token has no more probable token and is always kept.
# - The order is fixed: top-p applies to the distribution after temperature and top-k.
#
# **In a debugger**: set a breakpoint at the line with `mass_above` in `tinyslm/generation/sampling.py`. Inspect
# `ranked[:8]` and `mass_above[:8]`.
#
# ## Greedy decoding and sampling
#
# The next cell generates whole documents:


# %%
def generate_documents(temperature, count, seed=0, **settings):
    """Documents of the model as texts, without the end mark."""
    start = np.zeros((count, 1), int)  # the end mark, with which every document begins
    settings = {"temperature": temperature, "seed": seed, "stop_tokens": (0,)} | settings
    generated = tinyslm.generate(model, start, 200, **settings)
    return [tokenizer.decode([token for token in row if token]) for row in generated.tolist()]


for name, settings in {"greedy": (0.0, 1), "sampled, temperature 1": (1.0, 2)}.items():
    for text in generate_documents(*settings):
        print(f"[{name}]\n{text}\n")

# %% [markdown]
# The greedy text repeats itself: a phrase that occurred recently has a high probability, and greedy decoding selects it
# again. Greedy decoding also generates the same document every time.
#
# **Which temperature is best?** For the built-in corpus this can be measured: its grammar can check whether a text is a
# valid document without contradictions. Forty-eight documents per temperature:

# %%
from setup_lesson import show_lines
from tinyslm.text import town

temperatures = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
texts = {temperature: generate_documents(temperature, 48, seed=2) for temperature in temperatures}
valid = [
    np.mean([np.isfinite(town.log_probability(text)) for text in texts[each]])
    for each in temperatures
]
distinct = [len(set(texts[each])) / 48 for each in temperatures]
stories = [np.mean([text.startswith("It was a") for text in texts[each]]) for each in temperatures]
lines = {
    "valid documents": 100 * np.array(valid),
    "different documents": 100 * np.array(distinct),
    "stories": 100 * np.array(stories),
}
figure, axes = plt.subplots()
show_lines(axes, lines, "temperature", "% of 48 documents", temperatures, markers=True)
axes.set_ylim(-5, 145)  # space for the legend
show(
    "Line chart of three percentages against the temperature. Valid documents have a maximum "
    "slightly below temperature 1, different documents rise at once to all, and stories fall "
    "from all to a minority."
)

# %% [markdown]
# Both extremes are bad. At a high temperature unlikely tokens make the text invalid. At a low temperature, often
# recommended as safe, most documents are stories, because a story has the most probable first token; and this model's
# stories are almost never free of contradictions. A low temperature above 0 is enough to make all documents different.
# The fraction of valid documents is largest slightly below temperature 1. (48 documents are few: the standard error of
# each point is several percentage points.)
#
# ## Recomputation
#
# To generate a token the model processes the whole preceding text. For the next token it would process the same text
# again plus one token. Nearly all of this computation is repeated: with a causal mask the hidden states of earlier
# tokens do not depend on later tokens.
#
# Attention probabilities for three tokens, for four tokens, and for the fourth token alone:

# %%
from setup_lesson import show_matrix
from tinyslm.ops import attention, attention_probabilities

rng = np.random.default_rng(0)
queries, keys, values = rng.standard_normal((3, 1, 4, 1, 4))
four = attention_probabilities(queries, keys, scale=0.5)[0, 0]  # (4, 4)
three = attention_probabilities(queries[:, :3], keys[:, :3], scale=0.5)[0, 0]
last = attention_probabilities(queries[:, 3:], keys, scale=0.5)[0, 0]  # one query, four keys
figure, panels = plt.subplots(1, 3, figsize=(6.8, 2.4))
titles = ("three tokens", "four tokens", "the new row")
for axes, matrix, title in zip(panels, (three, four, last), titles):
    show_matrix(axes, matrix, title, "{:.2f}")
show(
    "Three matrices of attention probabilities: for three tokens, for four tokens, and the new "
    "row. The first three rows for four tokens are those for three tokens with a zero added; "
    "the last row is the new row."
)
print("the first three rows are the same:", np.allclose(four[:3, :3], three))
whole = attention(queries, keys, values, scale=0.5)
new = attention(queries[:, 3:], keys, values, scale=0.5)
print("the fourth token's output from its query alone:", np.allclose(whole[:, 3:], new))

# %% [markdown]
# The new row needs the query of the new token, and the keys and values of *all* tokens. So keys and values are stored
# in the **key/value cache**. The queries of earlier tokens are not needed again.
#
# ## The library's cache

# %%
from tinyslm.generation import KeyValueCache

print(numbered_source(KeyValueCache.extend))

# %% [markdown]
# The attention layer (lesson 02) calls `extend` with the keys and values of the new tokens, and continues with those of
# all tokens. The arrays are allocated for the whole text at the beginning; enlarging them for every token would copy
# them every time.
#
# The rest of the model does not change. The positions of new tokens continue at the length of the cache. So a text can
# be processed in pieces of any length:

# %%
from setup_lesson import town_corpus

corpus = town_corpus(tokenizer, end_id=0, validation=60)
document = np.array(corpus.validation[0])[None]  # (1, T)
T = document.shape[1]
without_cache = model(document)
cache = KeyValueCache(T)
for start, stop in ((0, 10), (10, 11), (11, T)):
    piece = model(document[:, start:stop], cache=cache)
    equal = np.allclose(piece, without_cache[:, start:stop], atol=1e-4)
    print(f"tokens {start:2} to {stop - 1:2}: the same logits as without a cache:", equal)

# %% [markdown]
# Are the results *exactly* the same? In exact arithmetic, yes. In floating point, the sum of a matrix product can have
# another order for one row than for many, so the last digits can differ: they are equal up to rounding. The generated
# tokens are the same:

# %%
start = np.array([tokenizer.encode("It was a sunny Monday morning.").ids])


def greedy_without_cache(model, token_ids, count):
    """Greedy decoding that processes the whole text for each token."""
    for _ in range(count):
        following = np.argmax(model(token_ids, last_only=True)[:, -1:], axis=-1)
        token_ids = np.concatenate([token_ids, following], axis=1)
    return token_ids[:, -count:]


expected = greedy_without_cache(model, start, 30)
print("the same 30 tokens:", np.array_equal(expected, tinyslm.generate(model, start, 30)))

# %% [markdown]
# ## Speed
#
# There are two different speeds. The tokens of the **prompt** are known, so the model processes them together
# (*prefill*). **New tokens** are generated one after the other, because each depends on the previous one (*decode*).
# The next cells measure both for contexts longer than the built-in model's, with a model of the same width and random
# weights: the time does not depend on the values of the weights.

# %% tags=["measured"]
from tinyslm.models.builder import random_model
from tinyslm.models.tiny_shapes import tiny_config

long_model = random_model(tiny_config("teacher", 1536, max_position_embeddings=1024))
contexts = (64, 128, 256, 512, 1000)
text = rng.integers(0, 1536, (1, 1024))


def prefill(tokens):
    """Process a prompt at once."""
    long_model(tokens, cache=KeyValueCache(tokens.shape[1]), last_only=True)


def prefill_by_token(tokens):
    """Process a prompt with a cache, token by token."""
    cache = KeyValueCache(tokens.shape[1])
    for i in range(tokens.shape[1]):
        long_model(tokens[:, i : i + 1], cache=cache, last_only=True)


print("prompt                 at once     token by token")
for context in contexts[:4]:
    fast = median_milliseconds(lambda: prefill(text[:, :context]), calls=6)
    slow = median_milliseconds(lambda: prefill_by_token(text[:, :context]), calls=3)
    print(f"{context:5} tokens         {fast:6.1f} ms   {slow:8.1f} ms   {slow / fast:5.1f} times")


# %% tags=["measured"]
def decode_milliseconds(cache, context):
    """Time of one token with a cache that holds `context` tokens; the cache is reset after each call."""

    def decode_one():
        long_model(text[:, context : context + 1], cache=cache, last_only=True)
        cache.length = context

    return median_milliseconds(decode_one, calls=20)


with_cache, without = {}, {}
print("one more token          with cache  without cache")
for context in contexts:
    cache = KeyValueCache(1024)
    long_model(text[:, :context], cache=cache, last_only=True)
    fast = with_cache[context] = decode_milliseconds(cache, context)
    longer = text[:, : context + 1]
    slow = without[context] = median_milliseconds(
        lambda: long_model(longer, last_only=True), calls=6
    )
    print(f"after {context:5} tokens   {fast:6.2f} ms   {slow:8.1f} ms   {slow / fast:5.1f} times")

# %% tags=["measured"]
figure, axes = plt.subplots()
lines = {
    "without cache": [without[context] for context in contexts],
    "with cache": [with_cache[context] for context in contexts],
}
show_lines(axes, lines, "tokens in the context", "ms for one more token", contexts, markers=True)
use_powers(axes)
axes.set_xticks(contexts)
show(
    "Line chart of the time for one more token against the tokens in the context, both axes "
    "logarithmic. Without the cache the time rises with the context; with the cache it rises "
    "only slightly and is far lower."
)

# %% [markdown]
# Without the cache the time per token increases with the length of the text. With the cache it increases much less:
# only attention has more keys to process.
#
# **Why is the prompt so much faster per token?** Both need the same multiplications per token. But for a single token
# every weight is read from memory and used once, and the overhead of the Python and NumPy calls is paid for one token.
# For a prompt of 256 tokens, every weight is read once and used 256 times, and the overhead is paid once. The next cell
# measures a matrix of this model, and one as large as in models with seven billion weights:

# %% tags=["measured"]
from tinyslm.ops import linear

for width_out, width_in in ((512, 256), (4096, 4096)):
    weight = rng.standard_normal((width_out, width_in), np.float32)
    repeats = 200_000 // width_in**2 + 1
    for rows in (1, 16, 256):
        x = rng.standard_normal((rows, width_in), np.float32)
        per_product = median_milliseconds(
            lambda: [linear(x, weight) for _ in range(repeats)], calls=6
        )
        microseconds = 1000 * per_product / repeats / rows
        shape = f"{width_out:4} x {width_in:4}, {rows:3} tokens together"
        print(f"{shape}: {microseconds:7.1f} microseconds per token")

# %% [markdown]
# The large matrix does not fit into the processor's cache, so for a single token the time is that of reading it from
# memory. The small matrix stays in the cache, so the difference is smaller. In a model as small as the built-in one,
# Python overhead dominates the time of a single token: the number of calls is the same for one token as for a whole
# prompt.
#
# For the same reason it is faster to generate several texts together (a batch) than one after the other.
#
# ## Memory of the cache
#
# For each token, each layer stores two vectors, key and value, of $G \cdot D$ numbers.

# %%
config = model.config
cache = KeyValueCache(256)
model(document, cache=cache)
per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
print(f"by formula {per_token:,} bytes per token, for 256 tokens {256 * per_token:,}")
print(f"counted                                {cache.num_bytes():,}")
print(f"the weights                           {tinyslm.footprint(model).bytes:,}")

# %% [markdown]
# For this model the cache is small. But it grows with the context and with the number of texts, and the weights do not.
# For published models, with the usual two bytes per number:

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
show(
    "Line chart of the memory of the cache against the context for four published models, both "
    "axes logarithmic. The lines are straight and parallel; that of Phi-3-mini is the highest."
)

# %% [markdown]
# Phi-3-mini and Llama 3.2 3B have similar numbers of weights, but very different caches: Phi-3-mini has 32 key/value
# heads per layer, Llama 8, each shared by three query heads. This is the purpose of *grouped-query attention* (lesson
# 12).
#
# ## A cache with eight bits
#
# The cache does not need float32 precision. `QuantizedKeyValueCache` rounds each number to one of 255 levels, symmetric
# around zero, with one scale per token and head (lesson 09 explains this).

# %%
from tinyslm.generation import QuantizedKeyValueCache

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
errors = {"rounding error": (codes[20] * scale[20] - stored[20]) / step}
show_lines(below, errors, "index in the key of one token (layer 0, head 0)", "error, in steps")
below.set_ylim(-1, 1)
show(
    "Two line charts over the numbers of one key. Above the values; below the rounding errors, "
    "all of which are between minus half and plus half a step."
)
worst = np.abs(codes * scale - stored).max() / np.abs(stored).max()
print(f"largest error: {worst:.1%} of the largest value")

# %% [markdown]
# No error exceeds half a step. (In later layers the keys themselves differ slightly, because the earlier layers
# computed with rounded keys and values.) The effect on the loss, with every validation document processed through
# either cache:


# %%
def loss_with_cache(make_cache):
    """Mean loss on the validation documents, computed with a cache."""
    total = count = 0
    for each in corpus.validation:
        row = np.array(each)[None]
        nats = tinyslm.next_token_loss(model, row, cache=make_cache(row.shape[1]))
        total, count = total + float(nats) * (len(each) - 1), count + len(each) - 1
    return total / count


print(f"loss with the exact cache:      {loss_with_cache(KeyValueCache):.3f} nats per token")
print(f"loss with the eight-bit cache:  {loss_with_cache(QuantizedKeyValueCache):.3f}")
print(f"floor                           {corpus.floor.nats:.3f}")

# %% [markdown]
# The loss is equal in all printed digits. The cache takes slightly more than a quarter of the memory: one byte per
# number, and four bytes for the scale of every 32 numbers. The time:

# %% tags=["measured"]
text = rng.integers(0, 1536, (1, 513))
for name, make_cache in (("exact", KeyValueCache), ("eight bits", QuantizedKeyValueCache)):
    cache = make_cache(513)
    long_model(text[:, :512], cache=cache, last_only=True)
    print(f"{name:11} one token after 512: {decode_milliseconds(cache, 512):5.2f} ms")

# %% [markdown]
# The eight-bit cache is slower: NumPy's fast matrix product exists for floating point only, so all codes are
# dequantized for every token. The benefit is memory.
#
# ## Questions
#
# **Is the greedy text the most probable text?** No. Greedy decoding selects the best next token, but a probable
# beginning can have an improbable continuation. Compare the log-probabilities of whole documents under the model:

# %%
from tinyslm.evaluation.loss import document_nats


def model_log_probability(texts):
    """Log-probability of whole documents under the model, the end mark included."""
    rows = [np.array([*tokenizer.encode(text).ids, 0]) for text in texts]
    return -document_nats(model, rows)[0]


print(f"greedy: {model_log_probability(texts[0.0][:1])[0]:.1f} nats")
for temperature in (0.4, 0.6, 0.8, 1.0):
    values = model_log_probability(texts[temperature])
    best = texts[temperature][np.argmax(values)]
    print(f"the best of 48 samples at temperature {temperature}: {values.max():.1f} nats")
print(f"\nthe last of them:\n{best}")
best_length, greedy_length = (len(tokenizer.encode(each).ids) for each in (best, texts[0.0][0]))
print(f"tokens: {best_length}, greedy {greedy_length}")

# %% [markdown]
# Every set of samples contains a document that is far more probable than the greedy one. These documents are shorter,
# belong to other families, and start with a token that is not the most probable one. The most probable first token
# leads to a long story, and each further random name reduces its probability.
#
# **Can an encoder use the cache?** No. In an encoder every token attends to later tokens too, so a new token changes
# the hidden states of all others. The first three rows of the figure above would change.
#
# **Does `temperature=1` reproduce the training distribution?** For a perfect model yes: all its samples would be valid
# documents. For this model the difference is its distance to the floor (lesson 04), summed over about a hundred tokens
# per document.
#
# ## Summary
#
# - Temperature scales the logits; top-k keeps a fixed number of tokens, top-p a number that depends on the
#   distribution: here 28 tokens for one prompt and 4 for another.
# - With a causal mask, keys and values of earlier tokens never change. The cache stores them, and a new token needs
#   only its own query, key and value.
# - The cache of the built-in model takes 6,144 bytes per token; with eight bits 28.1% of that, with the same loss of
#   0.723 nats per token.
# - Prompt tokens are processed together and are much faster per token than generated ones.
# - Greedy decoding does not find the most probable document.
#
# The code: `tinyslm/generation/sampling.py`, `tinyslm/generation/cache.py`, `tinyslm/generation/quantized_cache.py`,
# `tinyslm/generation/generate.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("sampling")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Add `top_p=0.9` and `top_k=5` to the figure of valid and different documents. Which setting gives the best validity
#    for the loss of diversity?
# 2. Process a prompt in pieces of 8, 32 and 128 tokens with a cache. Which is fastest on your machine? Which would you
#    use if memory is limited?
# 3. Remove the oldest half of the cache at 200 tokens (`cache.keys[layer]` and `cache.values[layer]`). How do the
#    positions and the loss of the following tokens change?
#
# ## Sources
#
# - Fan, Lewis & Dauphin 2018, *Hierarchical neural story generation*, section 5: top-k.
# - Holtzman, Buys, Du, Forbes & Choi 2020, *The curious case of neural text degeneration*: top-p, and why greedy
#   decoding repeats itself.
# - Shazeer 2019, *Fast transformer decoding: one write-head is all you need*, section 2.4: the cache and its cost.
# - Ainslie et al. 2023, *GQA: training generalized multi-query transformer models from multi-head checkpoints*.
# - Sheng et al. 2023, *FlexGen*, section 4: a quantized cache.
