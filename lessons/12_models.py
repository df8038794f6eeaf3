# %% [markdown]
# # Model families
#
# Phi-3, Gemma, Llama 3.2, Mistral, Mixtral, SmolLM2: six families with nearly the same architecture. **Where do they
# differ, what does each difference cost, and what is its purpose?** This lesson reads the differences from the
# published shapes, and trains tiny versions of all six with the same budget.

# %%
from setup_lesson import np, plt, show, show_stacked_bars
from tinyslm.evaluation.model_summary import inspect_model
from tinyslm.models import shape_model
from tinyslm.models.catalogue import CATALOGUE

NAMES = ("phi-3-mini-4k", "gemma-2b", "llama-3.2-1b")
NAMES += ("mistral-7b-v0.1", "mixtral-8x7b", "smollm2-135m")
shapes = {name: inspect_model(shape_model(CATALOGUE[name]), context=4096) for name in NAMES}
percent = {
    part: [100 * shape["parts"][part] / shape["parameters"] for shape in shapes.values()]
    for part in ("embedding", "attention", "feed-forward", "head")
}
figure, axes = plt.subplots(figsize=(7.0, 2.9))
show_stacked_bars(axes, percent, NAMES, "% of the parameters")
axes.set_xlim(0, 100)
show(
    "Stacked bars of the parameters of six models by part, in percent. The feed-forward layers "
    "are the largest part of each. The embedding is large in Gemma, Llama and SmolLM2; only "
    "Phi-3, Mistral and Mixtral have a head."
)

# %% [markdown]
# The parameters of one model of each family, by part.
#
# After this lesson you can
#
# - read a `config.json` and compute parameters, active parameters and cache size from it;
# - explain tied embeddings, mixture of experts, grouped-query attention, sliding windows, norm placement and rotary
#   scaling;
# - build a tiny model of each family and compare trainings fairly.
#
# You need: lesson 02 (the transformer), lesson 04 (training), lesson 05 (the cache).
#
# ## Six shapes

# %%
configs = {name: CATALOGUE[name] for name in NAMES}
print("                   width  layers  heads  key/value  head size  feed-forward  vocabulary")
for name, c in configs.items():
    print(f"{name:16} {c.hidden_size:7,} {c.num_hidden_layers:7} {c.num_attention_heads:6} "
          f"{c.num_key_value_heads:10} {c.head_dim:10} {c.intermediate_size:13,} "
          f"{c.vocab_size:11,}")  # fmt: skip

# %% [markdown]
# Each of them is a `DecoderConfig` (`tinyslm/models/config.py`), and one class implements all. `shape_model` builds a
# model whose arrays have shapes but no memory, so all sizes can be computed without weights.
#
# ## Parameters by part
#
# The first figure shows the parameters by part. Their number, and whether the head has a table of its own:

# %%
print("                   parameters   used by one token   head")
for name, shape in shapes.items():
    head = "tied" if shape["tied_head"] else "its own"
    counts = f"{shape['parameters'] / 1e9:9.2f} G {shape['active_parameters'] / 1e9:16.2f} G"
    print(f"{name:16} {counts}   {head}")

# %% [markdown]
# **Tied embeddings** (Gemma, Llama 3.2, SmolLM2): input embedding and output projection share one table. This saves
# most for small models with large vocabularies: the table is a large part of Gemma and SmolLM2. Mistral and Phi-3 have
# small vocabularies and use two tables.
#
# ## Mixture of experts: Mixtral
#
# Mixtral is Mistral with eight feed-forward layers (*experts*) in place of one. A *router* selects two of them for each
# token. All experts must be in memory, but only two compute for each token. The library's layer:

# %%
from setup_lesson import numbered_source, show_matrix
from tinyslm.modules import MixtureOfExperts
from tinyslm.ops import choose_experts

print(numbered_source(MixtureOfExperts.__call__))
rng = np.random.default_rng(0)
router_logits = rng.standard_normal((6, 8))
chosen = choose_experts(router_logits, 2)
weights = np.zeros((6, 8))
np.put_along_axis(weights, chosen, np.exp(np.take_along_axis(router_logits, chosen, 1)), 1)
weights /= weights.sum(axis=1, keepdims=True)
figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.6))
names = [f"token {i}" for i in range(6)], range(8)
show_matrix(left, router_logits, "router logits", "{:.1f}", *names)
show_matrix(right, weights, "weights of the two largest", "{:.2f}", *names)
for axes in (left, right):
    axes.set_xlabel("expert")
show(
    "Two matrices with a row per token and a column per expert: the router logits, and the "
    "weights. Each row of weights has two positive numbers, at the two largest logits; all "
    "others are 0."
)

# %% [markdown]
# **In a debugger**: set a breakpoint in `MixtureOfExperts.__call__` (`tinyslm/modules/mixture_of_experts.py`), at the
# line `outputs = [`. Inspect `chosen`, `weights` and `rows`, the tokens of each expert. An expert without tokens
# computes nothing.
#
# ## Grouped-query attention
#
# During generation the keys and values of all earlier tokens are cached. If several query heads share one key/value
# head, the cache is smaller. Dark cells show which key/value head (column) a query head (row) uses.

# %%
figure, axes = plt.subplots(1, 4, figsize=(8.6, 2.8))
examples = ("phi-3-mini-4k", "llama-3.2-1b", "smollm2-135m", "gemma-2b")
for panel, name in zip(axes, examples, strict=True):
    H, G = configs[name].num_attention_heads, configs[name].num_key_value_heads
    uses = np.arange(H)[:, None] // (H // G) == np.arange(G)  # (H, G)
    panel.imshow(uses, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    panel.set_title(f"{name}: {H} share {G}", fontsize=9)
    panel.set(xticks=[], yticks=[], xlabel="key/value head")
    panel.grid(False)
axes[0].set_ylabel("query head")
show(
    "Four matrices of query heads (rows) and key/value heads (columns), dark where they belong "
    "together. In Phi-3 only the diagonal is dark, in Llama and SmolLM2 blocks of several rows, "
    "in Gemma the single column."
)
print("                 query heads per   cache, bytes     cache of 4,096")
print("                 key/value head    per token        tokens, MB (bfloat16)")
for name, shape in shapes.items():
    shared = shape["heads"] // shape["key_value_heads"]
    print(f"{name:16} {shared:15} {shape['cache_bytes_per_token']:14,.0f} "
          f"{shape['cache_bytes'] / 1e6:19,.0f}")  # fmt: skip

# %% [markdown]
# In Phi-3 mini every query head has its own keys and values. Its cache per token is the largest, larger than that of
# models with many times more parameters. Gemma 2B has a single key/value head for all query heads (*multi-query
# attention*), and few but large heads.
#
# ## Sliding windows: Mistral
#
# In the first version of Mistral a token attends to the last 4,096 tokens only (*sliding-window attention*). Several
# layers together reach further, because the tokens in the window have attended to earlier tokens. The figures show a
# window of 4 for 16 tokens: the positions that one layer can use, and that two and four layers can use together.

# %%
from tinyslm.ops.attention import allowed_keys

positions = np.arange(16)
one = allowed_keys(positions, positions, window=4)
masks = {
    "no window": allowed_keys(positions, positions),
    "window of 4": one,
    "two such layers": one @ one,
    "four such layers": np.linalg.matrix_power(one.astype(int), 4) > 0,
}
figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.5))
for panel, (name, each) in zip(axes, masks.items(), strict=True):
    panel.imshow(each, cmap="Blues", vmin=0, vmax=1.5)
    panel.set_title(name, fontsize=9)
    panel.set(xticks=[], yticks=[], xlabel="key")
    panel.grid(False)
axes[0].set_ylabel("query")
show(
    "Four matrices of queries and keys, dark where a key can be used. Without a window the "
    "whole lower triangle is dark; with a window a band, which becomes wider with two and four "
    "layers."
)

# %%
print("attention of the first twelve layers: W sliding window, F full")
names = ("mistral-7b-v0.1", "mistral-7b-v0.3", "gemma-2-2b", "gemma-3-1b", "phi-3-mini-4k")
for name in (*names, "llama-3.2-1b"):
    windows = CATALOGUE[name].windows
    letters = "".join("F" if window is None else "W" for window in windows[:12])
    size = next((f"{window:,}" for window in windows if window), "none")
    print(f"{name:16} {letters}   window {size}")

# %% [markdown]
# A window limits the cache: keys and values outside the window are not needed. Mistral removed the window in version
# 0.3. Gemma 2 and 3 alternate both kinds of layers. The window of Phi-3 mini, 2,047 tokens, is half of its context of
# 4,096.
#
# ## Norm placement
#
# All six normalize the *input* of each sublayer by RMS norm with a gain (*pre-norm*). Gemma 2 and 3 also normalize the
# sublayer *output* (*post-norm*), and Gemma 3 and Qwen3 the queries and keys (*QK norm*). The norms of block 0, read
# from the shape models:

# %%
from tinyslm.modules import RMSNorm
from tinyslm.tree import named_modules

norm_paths = {
    "attention input": "attention_norm",
    "queries, keys": "attention.query_norm",
    "attention output": "attention_output_norm",
    "feed-forward input": "feed_forward_norm",
    "feed-forward output": "feed_forward_output_norm",
}
columns = ("phi-3-mini-4k", "llama-3.2-1b", "gemma-2b", "gemma-2-2b", "gemma-3-1b", "qwen3-0.6b")
norms = [named_modules(shape_model(CATALOGUE[name]).layers[0], RMSNorm) for name in columns]
table = np.array([[path in found for found in norms] for path in norm_paths.values()])
figure, axes = plt.subplots(figsize=(7.0, 2.6))
labels = [name.replace("-", "-\n", 1) for name in columns]
show_matrix(axes, table, "1: there is a norm", "{:.0f}", list(norm_paths), labels)
show(
    "Matrix of norms (rows) in six models (columns). All have norms before attention and feed- "
    "forward; Gemma 2 and 3 also after both; Gemma 3 and Qwen3 also for queries and keys."
)

# %% [markdown]
# Gemma has two more conventions. Its gains are stored as the difference from 1, and embeddings are multiplied by the
# root of the width. A reader that ignores the first convention builds a model that runs without an error and generates
# nonsense:

# %%
for name in ("llama-3.2-1b", "gemma-2b"):
    c = CATALOGUE[name]
    print(f"{name:13} gain = {c.norm_offset:.0f} + stored number; "
          f"embeddings times {c.embedding_scale:.1f}; activation {c.activation}")  # fmt: skip

# %% [markdown]
# ## Rotary positions and long contexts
#
# Each pair of numbers of a query is rotated by an angle proportional to the position; its *wavelength* is the number of
# tokens of a full rotation. Short wavelengths distinguish adjacent tokens, long ones distant tokens. For contexts of
# 131,072 tokens, Llama 3.2 uses a large base and increases only the long wavelengths.

# %%
from dataclasses import replace

from setup_lesson import show_lines
from tinyslm.ops.rotary import inverse_frequencies

llama_rope = CATALOGUE["llama-3.2-1b"].ropes[0]
ropes = {
    "base 10,000 (Gemma, Phi-3)": replace(llama_rope, theta=1e4, scaling="default"),
    "base 500,000": replace(llama_rope, scaling="default"),
    "base 500,000, scaled (Llama 3.2)": llama_rope,
}
figure, axes = plt.subplots()
waves = {name: 2 * np.pi / inverse_frequencies(rope, 131072) for name, rope in ropes.items()}
show_lines(axes, waves, "pair of a head (64 numbers)", "wavelength, tokens")
axes.axhline(131072, color="#555555", linewidth=1)
axes.annotate("the longest context, 131,072", (0.2, 170000), fontsize=8, color="#555555")
axes.set_yscale("log")
axes.set_yticks([10.0**power for power in range(1, 9)], [f"{10**power:,}" for power in range(1, 9)])
axes.minorticks_off()
show(
    "Line chart of the wavelength of each pair of numbers, on a logarithmic axis. A larger base "
    "gives longer wavelengths; the scaling of Llama lengthens only the long ones, beyond "
    "the longest context."
)

# %% [markdown]
# ## Deep and narrow: SmolLM2
#
# The architecture of SmolLM2 135M is that of Llama. Its shape differs: many narrow layers, which Liu et al. (2024)
# found to be better below a billion parameters, and a small vocabulary. The main difference is its training data, which
# is not visible in the shape.

# %%
print("                 layers   width   width per layer   parameters outside the embedding, M")
for name, shape in shapes.items():
    outside = shape["parameters"] - shape["parts"]["embedding"] - shape["parts"]["head"]
    per_layer = shape["hidden_size"] / shape["layers"]
    sizes = f"{shape['layers']:6} {shape['hidden_size']:7,} {per_layer:17.1f}"
    print(f"{name:16} {sizes} {outside / 1e6:18,.0f}")

# %% [markdown]
# ## Six tiny models with the same training budget
#
# The functions of the catalogue take sizes as arguments, so each family can be built in any size. All six are trained
# on the same documents in the same order, with the same number of steps and the same learning rate. The characteristics
# of the families are kept; the sizes are as similar as they permit.

# %%
from setup_lesson import tinyslm
from tinyslm.models.catalogue import LLAMA_3_2, gemma, llama, mistral, mixtral, phi3

_, tokenizer = tinyslm.load("teacher")
V = tokenizer.get_vocab_size()
tiny = {  # V, C, F, layers, H, G, D, context
    # Untied head, as many key/value heads as query heads.
    "Phi-3": phi3(V, 64, 192, 3, 4, 4, 16, 256, window=None),
    # Few large heads, one key/value head, tied embeddings.
    "Gemma": gemma(V, 64, 256, 3, 2, 1, 32, 256),
    # Grouped heads, tied embeddings.
    "Llama 3.2": llama(V, 64, 192, 3, 4, 2, 16, 256, **LLAMA_3_2),
    # A sliding window.
    "Mistral": mistral(V, 64, 192, 3, 4, 1, 16, 256, theta=1e4, windows=(32,)),
    # Eight experts of half the width, two per token.
    "Mixtral": mixtral(V, 64, 96, 3, 4, 1, 16, 256),
    # Deep and narrow, tied embeddings.
    "SmolLM2": llama(V, 48, 128, 6, 3, 1, 16, 256, theta=1e5),
}

# %%
from setup_lesson import summary, town_corpus
from tinyslm.models import random_model
from tinyslm.text import document_rows
from tinyslm.training import Settings, State, train

corpus = town_corpus(tokenizer, end_id=0, training=300, validation=30)
token_ids, labels = document_rows(corpus.training, 128)
settings = Settings(steps=50, batch_size=10, micro_batch_size=5, learning_rate=5e-3, warmup_steps=6)
trained, curves = {}, {}
for name, config in tiny.items():
    state = train(State.start(random_model(config, seed=0), settings), token_ids, labels, settings)
    trained[name], curves[name] = state.model, state.losses
print(summary(trained, corpus))

# %%
figure, axes = plt.subplots(figsize=(7.0, 4.0))
smooth = {name: np.convolve(losses, np.ones(5) / 5, "valid") for name, losses in curves.items()}
axis_labels = "step", "loss, nats per token (mean of 5 steps)"
show_lines(axes, smooth, *axis_labels, np.arange(4, settings.steps), corpus.floor.nats)
show(
    "Line chart of the loss of six tiny models over the training steps. All curves fall "
    "together and end far above the floor; SmolLM2's is the highest."
)

# %% [markdown]
# All losses are far above the floor, because the training is very short. The curves show how similar the families are:
# most differences are small compared with the effect of more steps. The deep and narrow model learns most slowly here,
# which differs from the published results for SmolLM2's shape. It has the fewest parameters of the six, and a short
# training does not predict the result of a long one. Mixtral has by far the most parameters, but uses no more of them
# per token than the others; its experts are not yet specialized.
#
# The router of the tiny Mixtral in its last layer, for the first tokens of a document:

# %%
document = corpus.validation[0][None, :24]
router_logits = tinyslm.trace(trained["Mixtral"], document)["layers.2.feed_forward.router_logits"]
selected = np.zeros(router_logits.shape)
np.put_along_axis(selected, choose_experts(router_logits, 2), 1, axis=1)
figure, axes = plt.subplots(figsize=(7.4, 2.6))
axes.imshow(selected.T, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
words = [tokenizer.decode([token]).strip() or "|" for token in document[0]]
axes.set_xticks(range(len(words)), words, rotation=90)
axes.set(yticks=range(8), ylabel="expert", title="the two experts of each token")
axes.grid(False)
show(
    "Matrix of experts (rows) and tokens (columns), dark for the two experts of each token. A "
    "few experts are used for most of the tokens, others for none."
)

# %% [markdown]
# ## Questions
#
# **Is Mixtral as fast as a dense model with 13 B parameters?** In multiply-adds per token, approximately: it uses two
# of eight experts. It needs the memory of all experts. The tokens of a batch select different experts, so most experts
# are read from memory for every batch. The mean number of experts that a batch of random router logits selects:

# %%
rng = np.random.default_rng(0)
for tokens in (1, 4, 16, 64):
    counts = [
        len(np.unique(choose_experts(rng.standard_normal((tokens, 8)), 2))) for _ in range(200)
    ]
    print(f"{tokens:3} tokens at a time: {np.mean(counts):.1f} of 8 experts are read")

# %% [markdown]
# **How does sharing keys and values change the loss?** The same tiny Llama with 4, 2 and 1 key/value heads:

# %%
for G in (4, 2, 1):
    initial = random_model(llama(V, 64, 192, 3, 4, G, 16, 256, theta=1e4), seed=0)
    state = State.start(initial, settings)
    state = train(state, token_ids, labels, replace(settings, steps=30))
    cache = inspect_model(state.model, 256)["cache_bytes_per_token"]
    loss = np.mean(state.losses[-5:])
    print(f"{G} key/value heads: last 5 steps {loss:.2f} nats per token, {cache} bytes per token")

# %% [markdown]
# The cache is reduced to a quarter, and the loss increases only slightly. This is the reason for grouped-query
# attention.
#
# ## Summary
#
# - One decoder with different settings implements all six families.
# - Mixtral has 46.70 G parameters and uses 12.88 G per token; its memory is that of all experts.
# - The cache of Phi-3 mini takes 393,216 bytes per token, that of Gemma 2B 18,432: the number of key/value heads
#   determines it.
# - Windows, norm placement and rotary scaling are settings of a layer; wrong conventions, such as the offset of Gemma's
#   gains, cause no error message.
# - With the same short training, the differences between the families are small.
#
# The code: `tinyslm/models/catalogue.py`, `tinyslm/models/decoder.py`, `tinyslm/modules/mixture_of_experts.py`,
# `tinyslm/ops/rotary.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("routing")

# %% [markdown]
# Further exercises, without marks:
#
# 1. `tinyslm inspect --compare gemma-2-2b gemma-3-1b`: which settings of Gemma 3 make a context four times as long
#    affordable?
# 2. Which published shape has the smallest cache at 131,072 tokens? Compute it for all of `CATALOGUE` with
#    `inspect_model`.
# 3. Train each of the tiny models with three seeds. Which differences between families are larger than those between
#    seeds?
# 4. Give the tiny Mistral a window of 4 instead of 32. How much does the loss increase, and for which documents?
#
# ## Sources
#
# - Abdin et al. 2024, *Phi-3 technical report*. Gemma Team 2024, *Gemma: open models based on Gemini research and
#   technology*.
# - Jiang et al. 2023, *Mistral 7B*. Jiang et al. 2024, *Mixtral of experts*. Grattafiori et al. 2024, *The Llama 3 herd
#   of models*.
# - Ben Allal et al. 2025, *SmolLM2: when Smol goes big*. Liu et al. 2024, *MobileLLM*: deep and narrow models.
# - Ainslie et al. 2023, *GQA*: grouped heads. Shazeer 2019, *Fast transformer decoding*: one key/value head.
# - The shapes: the `config.json` published with each model.
