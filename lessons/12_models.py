# %% [markdown]
# # The models
#
# Phi-3, Gemma, Llama 3.2, Mistral, Mixtral, SmolLM2: six names for nearly the same machine. **Which parts differ, what
# does each difference cost, and what is it for?** This lesson reads it off their published shapes, draws it, and then
# trains tiny versions of all six under the same small budget.
#
# You need: lesson 02 (the transformer), lesson 04 (training), lesson 05 (the cache).

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.evaluation.model_summary import inspect_model
from tinyslm.models import shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.reporting.pictures import show_lines, show_matrix, use_lesson_style
from tinyslm.reporting.source import numbered_source

use_lesson_style()
NAMES = (
    "phi-3-mini-4k",
    "gemma-2b",
    "llama-3.2-1b",
    "mistral-7b-v0.1",
    "mixtral-8x7b",
    "smollm2-135m",
)
configs = {name: CATALOGUE[name] for name in NAMES}
shapes = {
    name: inspect_model(shape_model(config), context=4096) for name, config in configs.items()
}
print("                   width  layers  heads  key/value  head size  feed-forward  vocabulary")
for name, c in configs.items():
    print(f"{name:16} {c.hidden_size:7,} {c.num_hidden_layers:7} {c.num_attention_heads:6} "
          f"{c.num_key_value_heads:10} {c.head_dim:10} {c.intermediate_size:13,} "
          f"{c.vocab_size:11,}")  # fmt: skip

# %% [markdown]
# Every one of them is a `DecoderConfig`, and one class builds them all. `shape_model` makes a model whose arrays have
# their shapes and take no memory, so that everything that can be counted can be counted here, without a single weight.
#
# ## Where the parameters are

# %%
parts = ("embedding", "attention", "feed-forward", "head")
patterns = {"embedding": "", "attention": "////", "feed-forward": "....", "head": "xxxx"}
greys = {
    "embedding": "#444444",
    "attention": "#ffffff",
    "feed-forward": "#dddddd",
    "head": "#999999",
}
figure, axes = plt.subplots(figsize=(7.0, 2.9))
for place, shape in enumerate(shapes.values()):
    start = 0
    for part in parts:
        share = 100 * shape["parts"][part] / shape["parameters"]
        axes.barh(place, share, left=start, color=greys[part], hatch=patterns[part],
                  edgecolor="black", linewidth=0.6, label=part if place == 0 else None)  # fmt: skip
        start += share
axes.set_yticks(range(len(NAMES)), NAMES)
axes.set(xlabel="% of the parameters", xlim=(0, 100))
axes.invert_yaxis()
axes.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
plt.show()
print("                   parameters   used by one token   head")
for name, shape in shapes.items():
    head = "tied" if shape["tied_head"] else "its own"
    print(
        f"{name:16} {shape['parameters'] / 1e9:9.2f} G "
        f"{shape['active_parameters'] / 1e9:16.2f} G   {head}"
    )

# %% [markdown]
# **Tied heads** (Gemma, Llama 3.2, SmolLM2): the table that turns tokens into vectors also turns vectors into tokens.
# The smaller the model and the larger the vocabulary, the more that saves: look at how much of Gemma and of SmolLM2 is
# that one table. Mistral and Phi-3 have small vocabularies, and can afford two.
#
# ## Experts: Mixtral
#
# Mixtral is Mistral with eight feed-forward layers in place of one, of which a *router* picks two for each token. All
# of them must be in memory; few of them compute. The code of the layer:

# %%
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
show_matrix(left, router_logits, "what the router says", "{:.1f}", *names)
show_matrix(right, weights, "weights of the two largest", "{:.2f}", *names)
for axes in (left, right):
    axes.set_xlabel("expert")
plt.show()

# %% [markdown]
# **In a debugger**: set a breakpoint in `MixtureOfExperts.__call__` (`tinyslm/modules/mixture_of_experts.py`), at the line with
# `zip`, and look at `chosen`, `weights` and `rows`: which tokens each expert gets. An expert with no token computes
# nothing.
#
# ## Grouped heads
#
# While generating, keys and values of all earlier tokens are kept. Several query heads can share one key/value head,
# and then there is less to keep. Dark cells: which key/value head (column) a query head (row) reads.

# %%
figure, axes = plt.subplots(1, 4, figsize=(8.6, 2.8))
for place, name in zip(
    axes, ("phi-3-mini-4k", "llama-3.2-1b", "smollm2-135m", "gemma-2b"), strict=True
):
    H, G = configs[name].num_attention_heads, configs[name].num_key_value_heads
    reads = np.arange(H)[:, None] // (H // G) == np.arange(G)  # (H, G)
    place.imshow(reads, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    place.set_title(f"{name}: {H} read {G}", fontsize=9)
    place.set(xticks=[], yticks=[], xlabel="key/value head")
    place.grid(False)
axes[0].set_ylabel("query head")
plt.show()
print("                 query heads per   cache, bytes     cache of 4,096")
print("                 key/value head    per token        tokens, MB (bfloat16)")
for name, shape in shapes.items():
    shared = shape["heads"] // shape["key_value_heads"]
    print(f"{name:16} {shared:15} {shape['cache_bytes_per_token']:14,.0f} "
          f"{shape['cache_bytes'] / 1e6:19,.0f}")  # fmt: skip

# %% [markdown]
# Phi-3 mini gives every query head its own keys and values, and pays for it with the largest cache per token, larger
# than that of models with many times its parameters. Gemma 2B has a single key/value head for all ("multi-query"), and
# few but large heads.
#
# ## Windows: Mistral
#
# In the first Mistral a token sees the last 4,096 tokens only. Layers stacked on each other still see further: through
# what the tokens in the window have seen. Below, a window of 4 in 16 tokens, what one layer sees, and what two and four
# see together.

# %%
from tinyslm.ops.attention import allowed_keys

places = np.arange(16)
one = allowed_keys(places, places, window=4)
two, four = one @ one, np.linalg.matrix_power(one.astype(int), 4) > 0
figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.5))
seen = {
    "no window": allowed_keys(places, places),
    "window of 4": one,
    "two such layers": two,
    "four such layers": four,
}
for place, (name, each) in zip(axes, seen.items(), strict=True):
    place.imshow(each, cmap="Blues", vmin=0, vmax=1.5)
    place.set_title(name, fontsize=9)
    place.set(xticks=[], yticks=[], xlabel="looked at")
    place.grid(False)
axes[0].set_ylabel("token")
plt.show()
family = (
    "mistral-7b-v0.1",
    "mistral-7b-v0.3",
    "gemma-2-2b",
    "gemma-3-1b",
    "phi-3-mini-4k",
    "llama-3.2-1b",
)
print("what each of the first twelve layers sees: W the last tokens only, F everything before")
for name in family:
    windows = CATALOGUE[name].windows
    letters = "".join("F" if window is None else "W" for window in windows[:12])
    size = next((f"{window:,}" for window in windows if window), "none")
    print(f"{name:16} {letters}   window {size}")

# %% [markdown]
# A window bounds the cache: it need not hold what nobody can see. Mistral gave it up in version 0.3; Gemma 2 and 3 mix
# both kinds of layers. The window of Phi-3 mini is hardly one: 2,047 of 4,096 tokens.
#
# ## Norms, and where they stand
#
# All six normalize what a layer *reads*, by root mean square and a gain. Later Gemmas also normalize what it *adds*,
# and Gemma 3 and Qwen3 the queries and keys. From the shape models, block 0:

# %%
from tinyslm.modules import RMSNorm
from tinyslm.tree import named_modules

places = {
    "what attention reads": "attention_norm",
    "queries, keys": "attention.query_norm",
    "what attention adds": "attention_output_norm",
    "what feed-forward reads": "feed_forward_norm",
    "what feed-forward adds": "feed_forward_output_norm",
}
columns = ("phi-3-mini-4k", "llama-3.2-1b", "gemma-2b", "gemma-2-2b", "gemma-3-1b", "qwen3-0.6b")
norms = [named_modules(shape_model(CATALOGUE[name]).layers[0], RMSNorm) for name in columns]
table = np.array([[path in found for found in norms] for path in places.values()])
figure, axes = plt.subplots(figsize=(7.0, 2.6))
show_matrix(
    axes,
    table,
    "1: there is a norm",
    "{:.0f}",
    list(places),
    [name.replace("-", "-\n", 1) for name in columns],
)
plt.show()

# %% [markdown]
# Gemma has two more habits. Its gains are stored as their distance from 1, and embeddings are multiplied by the root of
# the width. Whoever reads the files without knowing the first gets a model that is nearly right and talks nonsense:

# %%
for name in ("llama-3.2-1b", "gemma-2b"):
    c = CATALOGUE[name]
    print(
        f"{name:13} gain = {c.norm_offset:.0f} + stored number; "
        f"embeddings times {c.embedding_scale:.1f}; activation {c.activation}"
    )

# %% [markdown]
# ## Positions: how far a head can look
#
# Every pair of numbers in a query turns with the position; the *wavelength* is after how many tokens it is back where
# it was. Short waves tell neighbours apart, long ones tell far from near. To read 131,072 tokens, Llama 3.2 starts from
# a large base and stretches the long waves, and those only.

# %%
from dataclasses import replace

from tinyslm.ops.rotary import inverse_frequencies

llama = CATALOGUE["llama-3.2-1b"].ropes[0]
ropes = {
    "base 10,000 (Gemma, Phi-3)": replace(llama, theta=1e4, scaling="default"),
    "base 500,000": replace(llama, scaling="default"),
    "base 500,000, stretched (Llama 3.2)": llama,
}
figure, axes = plt.subplots()
waves = {name: 2 * np.pi / inverse_frequencies(rope, 131072) for name, rope in ropes.items()}
show_lines(axes, waves, "pair of a head (64 numbers)", "wavelength, tokens")  # fmt: skip
axes.axhline(131072, color="#555555", linewidth=1)
axes.annotate("the longest context, 131,072", (0.2, 170000), fontsize=8, color="#555555")
axes.set_yscale("log")
axes.set_yticks([10.0**power for power in range(1, 9)], [f"{10**power:,}" for power in range(1, 9)])
axes.minorticks_off()
plt.show()

# %% [markdown]
# ## Deep and thin: SmolLM2
#
# SmolLM2 135M has no invention of its own: it is a Llama. What sets it apart is its form, many thin layers (which Liu
# et al. 2024 found to be better below a billion parameters), a small vocabulary, and above all its training data, which
# no shape shows.

# %%
print("                 layers   width   width per layer   parameters outside the embedding, M")
for name, shape in shapes.items():
    outside = shape["parameters"] - shape["parts"]["embedding"] - shape["parts"]["head"]
    print(
        f"{name:16} {shape['layers']:6} {shape['hidden_size']:7,} "
        f"{shape['hidden_size'] / shape['layers']:17.1f} {outside / 1e6:18,.0f}"
    )

# %% [markdown]
# ## Six tiny models, the same budget
#
# The functions of the catalogue take sizes, so each family can be built as small as one likes. All six read the same
# documents in the same order, for as many steps, with the same learning rate. Their habits are kept; their sizes are as
# similar as the habits allow.

# %%
from tinyslm.models import random_model
from tinyslm.models.catalogue import LLAMA_3_2, gemma, llama, mistral, mixtral, phi3
from tinyslm.reporting.summary import summary
from tinyslm.text import document_rows
from tinyslm.text.corpus import town_corpus
from tinyslm.training import Settings, State, train

_, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=300, validation=30)
token_ids, labels = document_rows(corpus.training, 128)
V = tokenizer.get_vocab_size()
tiny = {  # V, C, F, layers, H, G, D, context
    "Phi-3": phi3(
        V, 64, 192, 3, 4, 4, 16, 256, window=None
    ),  # a head of its own, as many keys as queries
    "Gemma": gemma(V, 64, 256, 3, 2, 1, 32, 256),  # few large heads, one of keys; tied
    "Llama 3.2": llama(V, 64, 192, 3, 4, 2, 16, 256, **LLAMA_3_2),  # grouped heads; tied
    "Mistral": mistral(V, 64, 192, 3, 4, 1, 16, 256, theta=1e4, windows=(32,)),  # a window
    "Mixtral": mixtral(
        V, 64, 96, 3, 4, 1, 16, 256
    ),  # eight experts of half the width, two per token
    "SmolLM2": llama(V, 48, 128, 6, 3, 1, 16, 256, theta=1e5),  # deep and thin; tied
}
settings = Settings(steps=50, batch_size=10, micro_batch_size=5, learning_rate=5e-3, warmup_steps=6)
trained, curves = {}, {}
for name, config in tiny.items():
    state = train(State.start(random_model(config, seed=0), settings), token_ids, labels, settings)
    trained[name], curves[name] = state.model, state.losses
print(summary(trained, corpus))

# %%
figure, axes = plt.subplots(figsize=(7.0, 4.0))
smooth = {name: np.convolve(losses, np.ones(5) / 5, "valid") for name, losses in curves.items()}
show_lines(
    axes,
    smooth,
    "step",
    "loss, nats per token (mean of 5 steps)",
    np.arange(4, settings.steps),
    corpus.floor.nats,
)
plt.show()

# %% [markdown]
# All curves are far above the floor: a few steps are no training. What they show is how alike these machines are. Most
# of them keep together, and the differences are small beside what more steps bring to any of them. The deep and thin
# one learns slowest here, which is not what is reported for SmolLM2's form: it has the fewest parameters of the six,
# and such a short training says nothing about the end of a long one. Mixtral holds by far the most parameters, and uses
# no more of them per token than others; its experts have not had the time to become different.
#
# What the router of the tiny Mixtral does in its last layer, on the first tokens of a document:

# %%
document = corpus.validation[0][None, :24]
routed = tinyslm.trace(trained["Mixtral"], document)["layers.2.feed_forward.router_logits"]
chosen = choose_experts(routed, 2)
picked = np.zeros(routed.shape)
np.put_along_axis(picked, chosen, 1, axis=1)
figure, axes = plt.subplots(figsize=(7.4, 2.6))
axes.imshow(picked.T, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
words = [tokenizer.decode([token]).strip() or "|" for token in document[0]]
axes.set_xticks(range(len(words)), words, rotation=90)
axes.set(yticks=range(8), ylabel="expert", title="the two experts of each token")
axes.grid(False)
plt.show()

# %% [markdown]
# ## What people ask
#
# **Is Mixtral as fast as a 13 B model?** In multiplications per token, about: it computes with two of eight experts. In
# memory it is as large as all of them. And a batch of tokens picks different experts, so nearly all of them are read
# for every batch:

# %%
rng = np.random.default_rng(0)
for tokens in (1, 4, 16, 64):
    counts = [
        len(np.unique(choose_experts(rng.standard_normal((tokens, 8)), 2))) for _ in range(200)
    ]
    print(f"{tokens:3} tokens at a time: {np.mean(counts):.1f} of 8 experts are read")

# %% [markdown]
# **What does sharing keys cost in quality?** Train the same tiny Llama with 4, 2 and 1 key/value heads and look:

# %%
for G in (4, 2, 1):
    state = State.start(
        random_model(llama(V, 64, 192, 3, 4, G, 16, 256, theta=1e4), seed=0), settings
    )
    state = train(state, token_ids, labels, replace(settings, steps=30))
    cache = inspect_model(state.model, 256)["cache_bytes_per_token"]
    print(
        f"{G} key/value heads: last 5 steps {np.mean(state.losses[-5:]):.2f} nats per token, "
        f"{cache} bytes per token"
    )

# %% [markdown]
# The cache shrinks to a quarter, and the loss rises by little: hence grouped heads.
#
# ## Exercises
#
# 1. `tinyslm exercise new routing`: choose the experts, and weigh them.
# 2. `tinyslm inspect --compare gemma-2-2b gemma-3-1b`: what did Gemma 3 change to afford a context four times as long?
# 3. Which published shape would have the smallest cache at 131,072 tokens? Compute it for all of `CATALOGUE` with
#    `inspect_model`.
# 4. Train each of the tiny models with three seeds. Which differences between families are larger than those between
#    seeds?
# 5. Give the tiny Mistral a window of 4 in place of 32. How much does the loss rise, and on which documents?
#
# ## Sources
#
# - Abdin et al. 2024, *Phi-3 technical report*. Gemma Team 2024, *Gemma: open models based on Gemini research and
#   technology*.
# - Jiang et al. 2023, *Mistral 7B*. Jiang et al. 2024, *Mixtral of experts*. Grattafiori et al. 2024, *The Llama 3 herd
#   of models*.
# - Ben Allal et al. 2025, *SmolLM2: when Smol goes big*. Liu et al. 2024, *MobileLLM*: deep and thin.
# - Ainslie et al. 2023, *GQA*: grouped heads. Shazeer 2019, *Fast transformer decoding*: one head of keys and values.
# - The shapes: the `config.json` published with each model.
