# %% [markdown]
# # Generation
#
# A language model computes a probability for every possible next token. Text generation is a loop: **select a token,
# append it, run the model again**. This lesson explains how to select, how to avoid recomputing everything in each
# iteration, and how to make an iteration fast.

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
# - compute the memory of the cache, and measure the speed of prompt processing and generation;
# - build an inference engine from the definition of a model, and name the limit of its speed.
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
    for text in ("Mara had a dream about", "It was a sunny Monday")
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
    "between temperature 0 and 1, different documents rise at once to all, and stories fall "
    "from all to a minority."
)

# %% [markdown]
# Both extremes are bad. At a high temperature unlikely tokens make the text invalid. At temperature 0 all documents are
# the same: a story, because a story has the most probable first token; and this one contradicts itself. A low
# temperature above 0 is enough to make all documents different. The fraction of valid documents is largest between 0
# and 1. (48 documents are few: the standard error of each point is several percentage points.)
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
# them every time. In memory the keys have the order (B, G, D, capacity) and the values (B, G, capacity, D). `extend`
# reads and writes them through transposed views. A later section shows why.
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
# The next cells measure both with the model's own pass, `model(...)`. `generate` uses it for the prompt only, as the
# section on engines explains. The contexts are longer than the built-in model's, so the model has the same width but
# random weights: the time does not depend on the values of the weights.

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
stored = exact.keys[0][0, 0, :, :T].T  # layer 0, head 0: (T, D)
codes = rounded.parts["codes"].keys[0][0, 0, :, :T].T  # (T, D)
scales = rounded.parts["scale"].keys[0][0, 0, :, :T].T  # (T, 1)
step = np.abs(stored[20]).max() / 127
figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 4.2), sharex=True)
show_lines(above, {"key": stored[20]}, "", "value of the key")
errors = {"rounding error": (codes[20] * scales[20] - stored[20]) / step}
show_lines(below, errors, "index in the key of one token (layer 0, head 0)", "error, in steps")
below.set_ylim(-1, 1)
show(
    "Two line charts over the numbers of one key. Above the values; below the rounding errors, "
    "all of which are between minus half and plus half a step."
)
worst = np.abs(codes * scales - stored).max() / np.abs(stored).max()
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
# dequantized for every token. The benefit is memory. Both times are of the model's own pass.

# %% [markdown]
# ## From the definition to an engine
#
# `model(...)` is the definition of the model. It accepts any number of tokens, checks its inputs, and can report
# intermediates. For one token of a small model, all this takes longer than the arithmetic. An *inference engine*
# computes the same logits with fewer calls. This section builds one, preparation by preparation, and measures each
# form. The model has one million random weights. The gains of its norms are random too, so that a gain in the wrong
# place changes the logits.
#
# **1. The model's own pass** with the cache:

# %%
from tinyslm.modules import RMSNorm
from tinyslm.tree import named_modules

CAPACITY = 4096
small_model = random_model(tiny_config("small", 1536, max_position_embeddings=CAPACITY))
for norm in named_modules(small_model, RMSNorm).values():
    norm.weight[:] = rng.uniform(0.5, 1.5, norm.weight.shape)
own_cache = KeyValueCache(CAPACITY)


def own_pass(token, past):
    """Logits (V,) after one more token. past: number of tokens in the cache."""
    own_cache.length = past
    return small_model([[token]], cache=own_cache)[0, 0]


# %% [markdown]
# Python can report each instruction before it executes it. Calls, operators and indices are the ones that take time:

# %% tags=["measured"]
import dis
import sys


def count_operations(step):
    """Calls, operators and indices that Python executes in one token step."""
    names = []

    def trace(frame, event, argument):
        frame.f_trace_opcodes = True
        if event == "opcode":
            names.append(dis.opname[frame.f_code.co_code[frame.f_lasti]])
        return trace

    sys.settrace(trace)
    step(1, 64)
    sys.settrace(None)
    return sum(name.startswith(("CALL", "BINARY", "STORE_SUBSCR")) for name in names)


own_pass(0, 0)  # the first pass allocates the cache
print(f"products with a matrix of weights: {7 * len(small_model.layers) + 1}")
print(f"calls, operators and indices: {count_operations(own_pass):,}")

# %% [markdown]
# **2. Plain NumPy.** The same formulas for one token, without modules, checks and reports. First the parts that have no
# weights:

# %%
from tinyslm.ops import rotary_tables

C, H, G, D = 128, 4, 2, 32  # width, query heads, key/value heads, size of a head
scale = np.float32(small_model.layers[0].attention.scale)


def normalized(x):
    """RMS norm without its gain: (C,) -> (C,)."""
    return x / np.sqrt(x @ x / C + small_model.config.norm_eps)


def rotated(x, cos, sin):
    """Rotary positions. x: (heads, D);  cos, sin: (1, D/2) or (D/2,)."""
    first, second = x[:, : D // 2], x[:, D // 2 :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)


def mixed_values(query, keys, values):
    """Attention of one query per head. query: (H, D);  keys: (G, D, S);  values: (G, S, D)."""
    scores = query.reshape(G, H // G, D) @ keys  # (G, H/G, S)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (weights @ values) / weights.sum(axis=-1, keepdims=True)  # (G, H/G, D)
    return mixed.reshape(H * D)


# %%
from types import SimpleNamespace

from tinyslm.modules import Linear


def arrays_of(block):
    """The weights of a layer by name, and the gains of its two norms."""
    layers = named_modules(block, Linear).items()  # "attention.query", "feed_forward.gate", ...
    weights = {path.split(".")[-1]: layer.weight for path, layer in layers}
    gains = block.attention_norm.weight, block.feed_forward_norm.weight
    return SimpleNamespace(gains=gains, **weights)


for name, array in vars(arrays_of(small_model.layers[0])).items():
    print(name, "two of (128,)" if name == "gains" else array.shape)

# %% [markdown]
# The step is a class, so that each preparation can replace one part. First the loop over the layers:


# %%
class TokenStep:
    """step(token, past) returns the logits (V,) after one more token. past: tokens before it."""

    def __init__(self, model):
        self.layers = [self.prepare(arrays_of(block)) for block in model.layers]
        self.stored = [self.storage() for _ in model.layers]
        self.table, self.gain = model.embedding.table, model.norm.weight
        self.rope = model.config.ropes[0]

    def __call__(self, token, past):
        x = self.table[token]  # (C,)
        rotation = self.rotation(past)
        for layer, stored in zip(self.layers, self.stored):
            query, key, value = self.heads(layer, normalized(x), *rotation)
            x = x + layer.output @ self.attend(query, key, value, stored, past)
            x = x + layer.down @ self.neurons(layer, normalized(x))
        return self.logits(normalized(x))

    def rotation(self, past):
        return rotary_tables(self.rope, np.array([past]))  # cos, sin: (1, D/2)


# %% [markdown]
# Then its parts, with each product by itself. The parameter `n` is a normalized hidden state of shape (C,).


# %%
class PlainStep(TokenStep):
    def prepare(self, layer):
        return layer

    def storage(self):
        return np.zeros((2, CAPACITY, G, D), np.float32)  # keys and values

    def heads(self, layer, n, cos, sin):
        n = n * layer.gains[0]
        query, key = (layer.query @ n).reshape(H, D), (layer.key @ n).reshape(G, D)
        value = (layer.value @ n).reshape(G, D)
        return rotated(query, cos, sin) * scale, rotated(key, cos, sin), value

    def attend(self, query, key, value, stored, past):
        stored[0, past], stored[1, past] = key, value
        keys, values = stored[:, : past + 1]  # (S, G, D)
        return mixed_values(query, keys.transpose(1, 2, 0), values.transpose(1, 0, 2))

    def neurons(self, layer, n):
        n = n * layer.gains[1]
        gate = layer.gate @ n  # (F,)
        return gate / (1 + np.exp(-gate)) * (layer.up @ n)

    def logits(self, n):
        return self.table @ (n * self.gain)


# %% [markdown]
# Every version below must give the model's logits for each token of a text:

# %%
sample = rng.integers(0, 1536, 40)
expected = small_model(sample[None])[0]  # (40, V)


def check(name, step):
    """Print whether a step gives the same logits as the model for every token of the sample."""
    found = np.array([step(token, past) for past, token in enumerate(sample)])
    print(f"{name}: as the model:", np.allclose(found, expected, rtol=1e-4, atol=1e-5))


plain = PlainStep(small_model)
check("plain NumPy", plain)

# %% [markdown]
# **3. Fused matrices.** Query, key and value read the same input, and so do gate and up. Their weights are stacked
# once, so that seven products per layer become four. Queries and keys are neighbours in the result and are rotated
# together.


# %%
class FusedStep(PlainStep):
    def prepare(self, layer):
        layer.project = np.concatenate([layer.query, layer.key, layer.value])  # ((H + 2 G) D, C)
        layer.gate_up = np.concatenate([layer.gate, layer.up])  # (2 F, C)
        return layer

    def heads(self, layer, n, cos, sin):
        heads = (layer.project @ (n * layer.gains[0])).reshape(H + 2 * G, D)
        heads[: H + G] = rotated(heads[: H + G], cos, sin)
        return heads[:H] * scale, heads[H : H + G], heads[H + G :]

    def neurons(self, layer, n):
        gate, up = (layer.gate_up @ (n * layer.gains[1])).reshape(2, -1)  # (F,) each
        return gate / (1 + np.exp(-gate)) * up


fused = FusedStep(small_model)
check("fused matrices", fused)

# %% [markdown]
# **4. Folded factors.** A constant factor before or after a product can be part of its matrix. For the gain $g$ of a
# norm, $W (g \odot n) = (W \operatorname{diag} g)\, n$: column $i$ of $W$ is multiplied by $g_i$. A rotation is linear,
# so the scale of the scores can be applied to the rows of the queries before it.


# %%
class FoldedStep(FusedStep):
    def __init__(self, model):
        super().__init__(model)
        self.head = self.table * self.gain  # a copy; the table is also the embedding

    def prepare(self, layer):
        layer = super().prepare(layer)
        layer.project *= layer.gains[0]
        layer.project[: H * D] *= scale
        layer.gate_up *= layer.gains[1]
        return layer

    def heads(self, layer, n, cos, sin):
        heads = (layer.project @ n).reshape(H + 2 * G, D)
        heads[: H + G] = rotated(heads[: H + G], cos, sin)
        return heads[:H], heads[H : H + G], heads[H + G :]

    def neurons(self, layer, n):
        gate, up = (layer.gate_up @ n).reshape(2, -1)
        return gate / (1 + np.exp(-gate)) * up

    def logits(self, n):
        return self.head @ n


# %%
folded = FoldedStep(small_model)
check("folded factors", folded)
weight, gain, n = fused.layers[0].gate_up, fused.layers[0].gains[1], rng.standard_normal(C)
left, right = weight @ (gain * n), (weight * gain) @ n
print("W (g * n) = (W * g) n:", np.allclose(left, right, atol=1e-6))

# %% [markdown]
# **5. Tables of the rotations.** Cosines and sines depend on the position only. They are computed once for all
# positions.
#
# **6. Keys in the order of the product.** The product of a query with all keys reads, for each head, one number of
# every key, then the next number of every key. They are $G D$ numbers apart in the order (S, G, D), and
# neighbours in the order (G, D, S). Values are read token by token. They are stored as (G, S, D).


# %%
class TableStep(FoldedStep):
    def __init__(self, model):
        super().__init__(model)
        self.cos, self.sin = rotary_tables(self.rope, np.arange(CAPACITY))  # (CAPACITY, D/2)

    def rotation(self, past):
        return self.cos[past], self.sin[past]


class OrderedStep(TableStep):
    def storage(self):
        shapes = (G, D, CAPACITY), (G, CAPACITY, D)
        return [np.zeros(shape, np.float32) for shape in shapes]

    def attend(self, query, key, value, stored, past):
        keys, values = stored
        keys[:, :, past], values[:, past] = key, value
        return mixed_values(query, keys[:, :, : past + 1], values[:, : past + 1])


table, ordered = TableStep(small_model), OrderedStep(small_model)
check("tables of the rotations", table)
check("order of the keys", ordered)

# %% [markdown]
# **7. The library's engine.** `prepare(model)` makes these preparations for every decoder of the library. `engine.step`
# reads a token. The matrix products alone are the limit: no preparation removes them. Each time below is the shortest
# of many rounds, because other programs can only lengthen a round.

# %%
from tinyslm.generation import prepare

engine = prepare(small_model, capacity=CAPACITY)


def engine_step(token, past):
    engine.cache.length = past
    return engine.step(token)


def products(token, past):
    """The products with the weights of a step, and nothing else."""
    for layer in ordered.layers:
        for weight in (layer.project, layer.output, layer.gate_up, layer.down):
            weight @ inputs[weight.shape[1]]
    return ordered.head @ inputs[C]


inputs = {size: np.ones(size, np.float32) for size in (C, H * D, 352)}
check("the library's engine", engine_step)

# %% tags=["measured"]
import time

steps = {
    "1. own pass": own_pass, "2. plain NumPy": plain, "3. fused matrices": fused,
    "4. folded factors": folded, "5. tables": table, "6. order of the keys": ordered,
    "7. engine.step": engine_step, "products alone": products,
}  # fmt: skip


def microseconds(steps, past, rounds=60, calls=5):
    """Time of a token in microseconds: the shortest of many rounds, in which every step has its turn."""
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            for _ in range(calls):
                step(1, past)
            times[name].append(1e6 * (time.perf_counter() - began) / calls)
    return {name: min(found) for name, found in times.items()}


after_64 = microseconds(steps, 64)

# %% tags=["measured"]
print("one token after 64     microseconds   own pass / this   operations")
for name, each in after_64.items():
    ratio = after_64["1. own pass"] / each
    print(f"{name:22} {each:12.0f} {ratio:17.1f} {count_operations(steps[name]):12,}")
figure, axes = plt.subplots(figsize=(6.4, 3.2))
axes.barh(list(after_64), list(after_64.values()), color="#a6cbe3")
axes.invert_yaxis()
axes.set_xlabel("microseconds per token, after 64 tokens")
axes.grid(False, axis="y")
show(
    "Bar chart of the time of a token for seven forms of the step and for the products alone. The "
    "own pass is by far the longest bar. The preparations shorten the others little by little, and "
    "the products are the shortest bar."
)
# %% [markdown]
# - The largest gain is the first one: plain NumPy is at least one and a half times as fast as the own pass. The own
#   pass checks its arrays in every operation and can be differentiated and observed.
# - Each of the other preparations saves a small part of the step; together they save more than a tenth of plain NumPy.
#   The engine executes more operations than the sixth form: it checks its tokens, accepts several texts at once, and
#   has the options of all decoders of the library.
# - The products alone take about half of the time of the fastest form, or less. The rest is attention, elementwise
#   functions, and the cost of their calls. In a wider model the products take a larger part, and an engine gains less.
#
# **Where the order of the keys matters.** After 64 tokens the sixth preparation changes little. With more tokens the
# product with the keys becomes a larger part of the step:

# %% tags=["measured"]
compared = {"own pass": own_pass, "keys (S, G, D)": table, "keys (G, D, S)": ordered}
pasts = (64, 256, 1024, 4000)
found = {past: microseconds(compared, past) for past in pasts}
print("tokens before   keys (S, G, D)   keys (G, D, S)   ratio")
for past, times in found.items():
    first, second = times["keys (S, G, D)"], times["keys (G, D, S)"]
    print(f"{past:13,} {first:13.0f} us {second:13.0f} us {first / second:7.1f}")
figure, axes = plt.subplots()
lines = {name: [found[past][name] for past in pasts] for name in compared}
show_lines(axes, lines, "tokens before", "microseconds per token", pasts, markers=True)
use_powers(axes, "x")
axes.set_xticks(pasts)
show(
    "Line chart of the time of a token against the number of earlier tokens, for the own pass and "
    "for keys in two orders. The two orders begin together; with many tokens the order (G, D, S) "
    "takes less time."
)

# %% [markdown]
# ## What an engine costs
#
# `generate(model, ...)` lets the model read the prompt and prepares an engine, which reads the new tokens. For several
# calls, `generate(engine, ...)` saves the preparation. Fused and folded matrices are copies; matrices without a factor
# are shared with the model:

# %% tags=["measured"]
from tinyslm.models.tiny_shapes import llama_shape


def describe(name, model):
    """Print the bytes of a model and of its engine, and the time of the preparation."""
    weights, copies = tinyslm.footprint(model).bytes, prepare(model).num_bytes()
    milliseconds = median_milliseconds(lambda: prepare(model), calls=5)
    print(f"{name:24} {weights:12,} {copies:12,} {milliseconds:11.1f} ms")


large_model = random_model(llama_shape(64, 1024, 2816, 4, 16, 8))
print("bytes of                      weights       copies   preparation")
describe("one million parameters", small_model)
describe("built-in model", model)
describe("45 million parameters", large_model)
del large_model

# %% [markdown]
# The engine of the last model has no copies: with more than 128 MB of weights every layer is called as it is. A step of
# a large model takes the time of its products, so fewer calls would change little, and the copies would need much
# memory. `num_bytes` counts neither the arrays that the engine shares with the model nor the cache.
#
# **When there is no engine.** `reason_against` gives the reason, or None. An engine has no eight-bit cache; with
# `cache="int8"` the model reads every token itself.

# %%
from tinyslm.generation import reason_against
from tinyslm.models import EncoderConfig

encoder = random_model(EncoderConfig("distilbert", 50, 32, 64, 2, 4, 8, 32))
print("encoder:", reason_against(encoder))
print("built-in model:", reason_against(model))
for name, attempt in {
    "prepare(encoder)": lambda: prepare(encoder),
    "an engine with an eight-bit cache": lambda: tinyslm.generate(engine, start, 2, cache="int8"),
}.items():
    try:
        attempt()
    except tinyslm.Error as error:
        print(f"{name}: {error}")

# %% [markdown]
# **A changed model needs a new engine.** A recipe (lesson 11) returns a new model, so its result needs an engine of its
# own. A change in place reaches only the arrays that an engine shares with the model, and not its copies:

# %%
original = small_model.layers[0].feed_forward.gate.weight.copy()
small_model.layers[0].feed_forward.gate.weight *= 3
changed = small_model(sample[None])[0, -1]


def last_logits(engine):
    """Logits after the sample, read by an engine."""
    engine.cache.length = 0
    return [engine.step(token) for token in sample][-1]


for name, each in {"the old engine": engine, "a new engine": prepare(small_model)}.items():
    is_new = np.allclose(last_logits(each), changed, atol=1e-5)
    print(f"{name} gives the logits of the changed model: {is_new}")
small_model.layers[0].feed_forward.gate.weight[:] = original

# %% [markdown]
# **Fewer bits.** The layers of a quantized model are called as they are: they convert their codes in every product
# (lesson 09). In a small model that takes longer than the product. `upcast=True` converts all weights once, during the
# preparation. The step is then more than twice as fast, about as fast as that of the dense model, but the copies need
# the memory of the dense weights:

# %% tags=["measured"]
from tinyslm.recipes import Quantize

quantized = Quantize()(small_model)
engines = {
    "float32": (small_model, prepare(small_model)),
    "INT8": (quantized, prepare(quantized)),
    "INT8, upcast": (quantized, prepare(quantized, upcast=True)),
}


def reading(engine, tokens=1):
    """A step function of an engine."""

    def step(token, past):
        engine.cache.length = past
        return engine.step(token if tokens == 1 else np.full(tokens, token))

    return step


times = microseconds({name: reading(each) for name, (_, each) in engines.items()}, 64)
print("engine            weights, bytes    copies   microseconds per token")
for name, (each, its_engine) in engines.items():
    weights, copies = tinyslm.footprint(each).bytes, its_engine.num_bytes()
    print(f"{name:15} {weights:16,} {copies:9,} {times[name]:24.0f}")

# %% [markdown]
# **Several texts at once.** One step reads a token of every text. The number of calls stays about the same, and every
# weight is read once for all texts. A token of 16 texts takes less than half of the time of a single text's token:

# %% tags=["measured"]
batches = {rows: reading(prepare(small_model), rows) for rows in (1, 4, 16)}
for step in batches.values():
    step(1, 0)  # allocates the cache
times = microseconds(batches, 64)
for rows, each in times.items():
    print(f"batch of {rows:2}: {each:6.0f} microseconds per step, {each / rows:6.0f} per token")

# %% [markdown]
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
#   distribution: here 20 tokens for one prompt and 4 for another.
# - With a causal mask, keys and values of earlier tokens never change. The cache stores them, and a new token needs
#   only its own query, key and value.
# - The cache of the built-in model takes 6,144 bytes per token; with eight bits 28.1% of that, with the same loss of
#   0.691 nats per token.
# - Prompt tokens are processed together and are much faster per token than generated ones.
# - An engine computes the same logits with fewer calls: fused matrices, folded factors, prepared tables, keys in the
#   order of the product. Its limit is the time of the matrix products.
# - Greedy decoding does not find the most probable document.
#
# The code: `tinyslm/generation/sampling.py`, `tinyslm/generation/cache.py`, `tinyslm/generation/quantized_cache.py`,
# `tinyslm/generation/generate.py`, `tinyslm/generation/engine.py`, `tinyslm/generation/engine_layers.py`,
# `tinyslm/generation/engine_preparation.py`.
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
# 3. Remove the oldest half of the cache at 200 tokens: `cache.keys[layer][..., :200]` and
#    `cache.values[layer][:, :, :200]`. How do the positions and the loss of the following tokens change?
# 4. Write the step for a model with a window of 128 tokens, in which the cache holds no more keys than the window.
# 5. Replace `gate / (1 + np.exp(-gate))` by a form with `np.tanh` that needs fewer calls. (`activate` in
#    `tinyslm/generation/engine.py` shows one.) How much of a step is it?
#
# ## Sources
#
# - Fan, Lewis & Dauphin 2018, *Hierarchical neural story generation*, section 5: top-k.
# - Holtzman, Buys, Du, Forbes & Choi 2020, *The curious case of neural text degeneration*: top-p, and why greedy
#   decoding repeats itself.
# - Shazeer 2019, *Fast transformer decoding: one write-head is all you need*, section 2.4: the cache and its cost.
# - Ainslie et al. 2023, *GQA: training generalized multi-query transformer models from multi-head checkpoints*.
# - Sheng et al. 2023, *FlexGen*, section 4: a quantized cache.
