# %% [markdown]
# # Encoders: from BERT to DistilBERT
#
# The models in the previous lessons are decoders: they process text from left to right and generate text. An
# **encoder** processes a whole text at once. Every token attends to the tokens before *and after* it. Encoders do not
# generate text; they are used for search, similarity and classification. BERT (2018) is the best known encoder.
# DistilBERT (2019) has half of its layers and nearly the same quality. This lesson trains a small encoder from random
# weights, removes half of its layers, and distills it with DistilBERT's loss.

# %%
from scipy.special import softmax
from setup_lesson import np, plt, show, show_matrix

scores = np.random.default_rng(0).normal(size=(4, 4))
causal = softmax(np.where(np.tri(4, dtype=bool), scores, -np.inf), axis=-1)
figure, (left, right) = plt.subplots(1, 2, figsize=(6, 2.4))
words = ["Otto", "went", "to", "Paris"]
show_matrix(left, causal, "decoder", "{:.2f}", words, words, limit=1)
show_matrix(right, softmax(scores, axis=-1), "encoder", "{:.2f}", words, words, limit=1)
show(
    "Two matrices of attention probabilities of four words. In the decoder all numbers above "
    "the diagonal are 0; in the encoder every word has positive probabilities for all words."
)

# %% [markdown]
# Attention probabilities from the same invented scores, in a decoder and in an encoder. A row shows to which words the
# word of the row attends.
#
# After this lesson you can
#
# - explain the masked language modelling objective, and why an encoder needs it;
# - train an encoder, and shrink it by keeping layers and distillation with three losses;
# - test which part of the training matters by leaving one part out (ablation).
#
# You need: lesson 02 (attention, encoder and decoder), lesson 06 (soft targets, layer maps).
#
# ## The documents

# %%
from setup_lesson import median_milliseconds, tinyslm
from tinyslm.text import town
from tinyslm.text.batches import encode_documents
from tinyslm.text.town import ambiguity
from tinyslm.text.town.grammar import SamplingPage

_, tokenizer = tinyslm.load("teacher")
TOKENS = 24  # of each document


def generate_documents(split, count):
    """Documents about names that can be a person or a city, as token ids."""
    texts = []
    for index in range(count):
        page = SamplingPage(town.generator(split, index))
        ambiguity.write(page, town.TOWN)
        texts.append(page.text)
    return [document[:TOKENS] for document in encode_documents(tokenizer, texts, end_id=0)]


training, validation = generate_documents("train", 8000), generate_documents("validation", 300)
print(tokenizer.decode(training[1]))

# %% [markdown]
# The training should take less than a minute. So it uses only one family of documents, the first tokens of each, and a
# vocabulary of the tokens that occur there. One special token is added: `[MASK]`, which replaces hidden tokens.

# %%
used = np.unique(np.concatenate(training + validation))  # the tokens that occur
training = [np.searchsorted(used, document) for document in training]
validation = [np.searchsorted(used, document) for document in validation]
MASK = len(used)


def token_text(token):
    """A token as text."""
    if token == MASK:
        return "[MASK]"
    return tokenizer.decode([used[token]]).strip() or "<begin>"


def encode(text):
    """A text as token ids (T,), with the mark of the beginning of a document."""
    ids = [0]
    for i, part in enumerate(text.split(" [MASK]")):
        part_ids = tokenizer.encode(part, add_special_tokens=False).ids
        ids += ([MASK] if i else []) + np.searchsorted(used, part_ids).tolist()
    return np.array(ids)


print(f"{MASK} tokens, and [MASK]")

# %% [markdown]
# ## Causal and bidirectional attention
#
# In a decoder a token attends only to itself and earlier tokens, because it has to predict the later ones: the causal
# mask makes all probabilities above the diagonal 0 (the first figure). In an encoder it attends to all tokens.
#
# Without a causal mask, predicting the next token is trivial, because the next token is part of the input. Instead, an
# encoder is trained to predict **masked** tokens (*masked language modelling*): 15 % of the tokens are replaced by
# `[MASK]`, and the loss is computed at these positions only.

# %%
from diagrams import masked_language_model

masked_language_model()

# %%
from tinyslm.models import EncoderConfig, random_model
from tinyslm.ops import IGNORED
from tinyslm.recipes import Calibration
from tinyslm.text.batches import pad_documents

config = EncoderConfig(
    "distilbert", vocab_size=MASK + 1, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
    num_attention_heads=4, head_dim=32, max_position_embeddings=32,
)  # fmt: skip
model = random_model(config)
calibration = Calibration(training, model, mask_token_id=MASK)
inputs, targets = calibration.task(*pad_documents(training[:3]))
for row, labels in zip(inputs["token_ids"], targets):
    print(" ".join(token_text(token) for token in row))
    print("   masked:", ", ".join(token_text(token) for token in labels[labels != IGNORED]))

# %% [markdown]
# The library's function that masks tokens. The random choice depends only on the document, so the same document always
# has the same masked tokens, for the teacher and the student, in every run. All selected tokens are replaced by
# `[MASK]`. BERT instead keeps the true token or inserts a random one in a fifth of the cases, because there is no
# `[MASK]` in later use.

# %%
from setup_lesson import numbered_source
from tinyslm.recipes.tasks import hide_tokens

print(numbered_source(hide_tokens))

# %% [markdown]
# The loss is the cross entropy at the masked positions (`tinyslm/models/losses.py`, `tinyslm/models/encoder.py`):

# %%
print(numbered_source(tinyslm.masked_token_loss))
print()
print(numbered_source(type(model).hidden_states))

# %% [markdown]
# **In a debugger**: set a breakpoint in `Encoder.hidden_states` in `tinyslm/models/encoder.py`, at the line with
# `embedding_norm`. Inspect `token_ids`, `context` and the shape of `x`. Then step into the blocks
# (`tinyslm/modules/post_norm_block.py`): each normalizes *after* an addition (*post-norm*), while the decoder of lesson
# 02 normalizes before each sublayer.
#
# ## Training
#
# Without position information the output of an encoder does not depend on the order of the tokens. Therefore a vector
# per position is added to each token's embedding. Here these vectors are initialized with sine and cosine waves
# (Vaswani et al. 2017); the relation between the vectors of adjacent positions is then the same everywhere, so
# attention to adjacent tokens is learned quickly. The training starts with two layers, which takes a third of the time
# of six, and continues with three copies of each layer (*progressive stacking*; Gong et al. 2019).

# %%
from tinyslm.training import Settings, State, train

positions, waves = np.arange(config.max_position_embeddings)[:, None], np.arange(64)
angles = positions / 1000 ** (waves / 64)
table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1) * (2 / config.hidden_size) ** 0.5
embedding = model.position_embedding.replace(table=table.astype(np.float32))
model = model.replace(position_embedding=embedding)


def batch_loss(model, token_ids, labels):
    """The masked loss of a batch of documents."""
    inputs, targets = calibration.task(token_ids, labels)
    return tinyslm.masked_token_loss(model, labels=targets, **inputs)


def train_encoder(model, steps, learning_rate, seed):
    """The trained model, and the loss of each step."""
    settings = Settings(
        steps=steps, batch_size=64, micro_batch_size=16, learning_rate=learning_rate,
        warmup_steps=steps // 10, weight_decay=0.0, seed=seed,
    )  # fmt: skip
    state = train(State.start(model, settings), *calibration.rows(), settings,
                  loss_function=batch_loss, count_predicted=calibration.count_targets)  # fmt: skip
    return state.model, state.losses


# %%
from dataclasses import replace

from tinyslm.tree import map_arrays

model, first = train_encoder(model, 160, 3e-3, seed=0)
stacked = [
    map_arrays(lambda path, array: array.copy(), layer) for layer in model.layers for _ in range(3)
]
model = model.replace(layers=stacked, config=replace(config, num_hidden_layers=len(stacked)))
teacher, second = train_encoder(model, 100, 2e-3, seed=1)

# %%
from setup_lesson import show_lines

tokens = np.concatenate(training)
frequencies = np.bincount(tokens) / tokens.size
frequencies = frequencies[frequencies > 0]
unigram_entropy = -np.sum(frequencies * np.log(frequencies))
smooth = [
    np.mean(part[max(0, i - 4) : i + 1]) for part in (first, second) for i in range(len(part))
]
figure, axes = plt.subplots()
show_lines(axes, {"masked loss": smooth}, "step", "nats per masked token")
axes.axvline(len(first), color="#555555", linestyle=":", linewidth=1)
axes.axhline(unigram_entropy, color="#555555", linestyle=(0, (8, 3)), linewidth=1)
text = {"textcoords": "offset points", "ha": "right", "fontsize": 8}
axes.annotate("2 layers become 6", (len(first), max(smooth)), (-4, -8), **text)
axes.annotate("entropy of the token frequencies", (len(smooth), unigram_entropy), (0, 4), **text)
show(
    "Line chart of the masked loss over the training steps. It falls below the dashed entropy "
    "of the token frequencies, jumps up where 2 layers become 6, and falls further."
)

# %% [markdown]
# There is no floor in this figure. The corpus has a known entropy for prediction from left to right (lesson 01), but
# not for a masked token given all others. The dashed line is a baseline: the loss of a model that predicts the token
# frequencies and ignores the context.
#
# ## Predictions
#
# The accuracy at the masked positions, and two examples. The two texts are identical up to the masked token. The words
# that determine it come *after* it, so a decoder could not use them.

# %%
masked_inputs, targets = calibration.task(*pad_documents(validation))
is_masked = targets != IGNORED


def evaluate(model):
    """(accuracy, loss in nats per token) at the masked tokens of the validation documents."""
    logits = model(**masked_inputs)
    loss = tinyslm.ops.cross_entropy(logits, targets)
    predicted = np.argmax(logits, axis=-1)
    return np.mean(predicted[is_masked] == targets[is_masked]), float(loss)


most_frequent = np.argmax(np.bincount(tokens))
baseline = np.mean(targets[is_masked] == most_frequent)
print(f"always '{token_text(most_frequent)}': accuracy {baseline:.3f}")
print("encoder: accuracy {:.3f}, loss {:.3f}".format(*evaluate(teacher)))

# %%
from setup_lesson import show_bars

before = "Otto spoke of Paris and Dallas all evening. Anna [MASK]"
texts = {
    "... the Monday night train to Paris": encode(f"{before} the Monday night train to Paris."),
    "... a white room near the tower": encode(f"{before} a white room near the tower"),
}
position = int(np.flatnonzero(texts["... a white room near the tower"] == MASK)[0])
predictions = {name: softmax(teacher(text[None])[0, position]) for name, text in texts.items()}
best = np.argsort(-sum(predictions.values()))[:7]
figure, axes = plt.subplots()
bars = {name: each[best] for name, each in predictions.items()}
show_bars(axes, bars, [token_text(token) for token in best], "probability")
show(
    "Bars of the predicted probability of seven words at the masked token, for two texts. For "
    "one text took is the most probable by far, for the other rented."
)

# %% [markdown]
# The attention map of one head: the head with the largest attention from the masked token to later tokens.

# %%
from setup_lesson import show_attention

text = texts["... the Monday night train to Paris"]
trace = tinyslm.trace(teacher, text[None])
attention = np.array([trace[f"attentions.{i}"][0] for i in range(6)])  # (layers, H, T, T)
to_later = attention[:, :, position, position + 1 :].sum(axis=-1)  # (layers, H)
layer, head = np.unravel_index(np.argmax(to_later), to_later.shape)
figure, axes = plt.subplots(figsize=(6.4, 6))
words = [token_text(token) for token in text]
show_attention(axes, attention[layer, head], words, f"layer {layer}, head {head}")
show(
    "Attention map of one head. In the row of the masked token nearly all attention is on one "
    "word several positions later, train."
)

# %% [markdown]
# In the row of `[MASK]` the darkest cell is the word that determines the masked token, several positions later.
#
# ## Sensitivity of the layers
#
# The encoder without one of its layers, and with three of six layers, selected by each of the library's layer maps:

# %%
from tinyslm.compression.distillation import layer_map
from tinyslm.recipes import KeepLayers

kept_layers = {f"without layer {i}": tuple(j for j in range(6) if j != i) for i in range(6)}
kept_layers |= {f"{strategy} {layer_map(strategy, 3, 6)}": layer_map(strategy, 3, 6)
                for strategy in ("uniform", "spread", "top", "bottom")}  # fmt: skip
for name, kept in kept_layers.items():
    scores = evaluate(KeepLayers(kept)(teacher))
    print("{:20} accuracy {:.3f}, loss {:.3f}".format(name, *scores))

# %% [markdown]
# Removing any single layer costs little. With three layers, the selection matters: layers 0 to 2 started as copies of
# one layer, 3 to 5 as copies of the other, and "top" and "bottom" keep copies of only one. DistilBERT takes about every
# second layer, from the first to the last; this is "spread".
#
# ## Half the layers, three losses
#
# The student is initialized with three layers and the embeddings of the teacher. Its loss is a weighted sum of three
# terms:
#
# 1. **soft targets**: the teacher's distribution at the masked tokens, at temperature 2 (lesson 06),
# 2. **labels**: the masked tokens themselves,
# 3. **cosine**: the cosine distance between the final hidden states of student and teacher, at all tokens.
#
# In the published training of DistilBERT their weights are 5, 2 and 1. The third loss is new here
# (`tinyslm/compression/distillation/cosine.py`):

# %%
from tinyslm.compression.distillation import cosine_loss

print(numbered_source(cosine_loss))

# %% [markdown]
# The loss depends only on directions, not on lengths. So its gradient is orthogonal to the student's state:

# %%
state, target = np.array([[2.0, 1.0]]), np.array([[1.0, 2.0]])
_, vjp = cosine_loss.with_vjp(state, target)
gradient = vjp(1.0)[0]
arrows = {  # name: (start, vector, line style)
    "student": ((0, 0), state[0], "-"),
    "teacher": ((0, 0), target[0], "--"),
    "a step": (state[0], -4 * gradient[0], "-"),
}
figure, axes = plt.subplots(figsize=(3.6, 3.2))
for name, (start, vector, line) in arrows.items():
    end = np.add(start, vector)
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "linestyle": line})
    axes.annotate(name, end, (-14, 5), textcoords="offset points", fontsize=8)
axes.set(xlim=(0, 3), ylim=(0, 2.6), xlabel="first number of the state", ylabel="second number")
axes.set_aspect("equal")
show(
    "Plot of three arrows: the student's state and the teacher's from the origin, and a step "
    "from the end of the student's state. The step is at a right angle to the student's state "
    "and leads towards the teacher's direction."
)
print(f"gradient times state: {abs(np.vdot(gradient, state)):.3f}")

# %% [markdown]
# The next cell trains the student with all three losses, without each of them, and from random weights. The teacher is
# trained for the same number of additional steps, so that the comparison is fair:

# %%
from tinyslm.recipes import Distill, FreshStudent, compress

triple = Distill(50, 1e-3, batch_size=20, temperature=2.0, soft_weight=5 / 7, cosine_weight=1 / 7)
half = KeepLayers(layer_map("spread", 3, 6))
data = Calibration(training, teacher, seed=2, mask_token_id=MASK)
recipes = {
    "half, not trained": [half],
    "half, all three losses": [half, triple],
    "without soft targets": [half, replace(triple, soft_weight=0.0, cosine_weight=0.5)],
    "without labels": [half, replace(triple, soft_weight=1.0, cosine_weight=0.2)],
    "without cosine": [half, replace(triple, cosine_weight=0.0)],
    "half, random weights": [FreshStudent(3), triple],
    "teacher, trained further": [replace(triple, soft_weight=0.0, cosine_weight=0.0)],
}
models = {"teacher": teacher} | {
    name: compress(teacher, recipe, data)[0] for name, recipe in recipes.items()
}

# %% [markdown]
# ## Comparison

# %%
scores = {name: evaluate(each) for name, each in models.items()}
reference = scores["teacher"][0]
print(f"{'':28}parameters  multiply-adds     nats  accuracy  of the teacher's")
for name, (accuracy, nats) in scores.items():
    size = tinyslm.footprint(models[name])
    print(f"{name:28}{size.parameters:10,} {size.multiply_adds:14,} {nats:8.3f} {accuracy:9.3f} "
          f"{accuracy / reference:11.1%}")  # fmt: skip
print(f"{'the most frequent token':28}{'':34}{baseline:9.3f} {baseline / reference:11.1%}")
count = np.count_nonzero(is_masked)
error = np.sqrt(reference * (1 - reference) / count)
print(f"of {count:,} masked tokens; the standard error of an accuracy is {error:.3f}")
figure, axes = plt.subplots(figsize=(6.4, 3.6))
accuracies = {"accuracy": [accuracy for accuracy, _ in scores.values()]}
show_bars(axes, accuracies, list(scores), "accuracy at masked tokens")
show(
    "Bars of the accuracy of eight models at masked tokens. All students that are initialized "
    "with layers of the teacher are close to it; the one from random weights is far lower."
)

# %% [markdown]
# DistilBERT has 40 % fewer parameters than BERT and kept 97 % of its score in GLUE, a benchmark for language
# understanding (Sanh et al. 2019). Here the measure is the training objective itself, so the numbers are not directly
# comparable. Removing half of the layers costs several percent of the accuracy, and the short distillation restores
# most of them. Two results agree with the publication: half of the layers are enough for nearly the same accuracy, and
# the initialization is decisive. With random weights, including random position vectors, the accuracy is much lower
# (GLUE lower by 3.69; table 4 there).
#
# One result differs. In the publication (2019) GLUE was lower by 2.96 without soft targets, by 1.46 without cosine, by
# 0.31 without labels. Here the four variants are equal within the standard error: the student's initialization is close
# to the teacher, and each loss is sufficient for the rest.
#
# ## Speed

# %% tags=["measured"]
batch = masked_inputs["token_ids"][:100], masked_inputs["attention_mask"][:100]
for name in ("teacher", "half, all three losses"):
    time = median_milliseconds(lambda: models[name](*batch), calls=7)
    print(f"{name:24} {time:6.0f} ms for 100 documents")

# %% [markdown]
# ## Questions
#
# **Why a loss of the hidden states, if the logits agree already?** The logits matter for *this* task only. Other tasks
# use the encoder's hidden states. The cosine distance between the final states of teacher and student:

# %%
states = {name: each.hidden_states(**masked_inputs) for name, each in models.items()}
mask = masked_inputs["attention_mask"]
names = ("half, not trained", "without cosine", "half, all three losses", "half, random weights")
for name in names:
    print(f"{name:24} {cosine_loss(states[name], states['teacher'], mask=mask):.3f}")

# %% [markdown]
# **Has the student learned the teacher's other predictions too?** The KL divergence between teacher and student at the
# masked tokens measures this:

# %%
from tinyslm.compression.distillation import soft_target_loss

logits = {name: each.predict(states[name]) for name, each in models.items()}
for name in ("half, not trained", "without soft targets", "half, all three losses"):
    divergence = soft_target_loss(logits[name], logits["teacher"], 1.0, mask=is_masked)
    print(f"{name:24} {divergence:.3f} nats per masked token")

# %% [markdown]
# **Can an encoder generate text?** Not well: it was not trained to predict a token without the text after it. **Why
# does DistilBERT have no token-type table?** The table marks the first and the second of two texts, which most uses do
# not need. DistilBERT omits it, and also the pooler, the layer that computes one vector for a text.
#
# ## Summary
#
# - An encoder has no causal mask; it is trained to predict masked tokens from the context on both sides.
# - The teacher predicted 0.580 of the masked tokens correctly, half of its layers 0.527 without training and 0.562
#   after a short distillation with three losses.
# - The same student from random weights reached 0.253: the initialization from the teacher's layers was decisive.
# - The cosine loss brings the hidden states closer to the teacher's: a cosine distance of 0.132, without it 0.160.
#
# The code: `tinyslm/models/encoder.py`, `tinyslm/models/losses.py`, `tinyslm/recipes/tasks.py`,
# `tinyslm/compression/distillation/cosine.py`, `tinyslm/recipes/distillation/distill.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("mask-tokens")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Mask 30 % of the tokens instead of 15 % (Wettig et al. 2023 recommend 40 %): change the fraction in a copy of
#    `hide_tokens`. Does the loss decrease faster per step?
# 2. Keep two layers of six. Which fraction of the teacher's accuracy remains?
# 3. Replace the sine waves by the random vectors of `random_model`. How many more steps does the encoder need?
# 4. Use `KeepLayers` with "uniform" instead of "spread", with the same distillation. Does the difference between them
#    remain?
#
# ## Sources
#
# - Devlin, Chang, Lee & Toutanova 2019, *BERT*: the masked language model.
# - Sanh, Debut, Chaumond & Wolf 2019, *DistilBERT, a distilled version of BERT*: half the layers, three losses.
# - Vaswani et al. 2017, *Attention is all you need*: sine waves for positions.
# - Gong et al. 2019, *Efficient training of BERT by progressively stacking*.
# - Wettig, Gao, Zhong & Chen 2023, *Should you mask 15 % in masked language modeling?*
