# %% [markdown]
# # The tour
#
# A language model predicts the next token of a text. The models that answer questions in data centres hold hundreds of
# billions of numbers for it. **A small language model does the same with a few billion numbers or fewer, and the
# question of these lessons is how few can be enough.** This lesson says what small means, in numbers that can be
# counted, and then goes once through everything that the other lessons take apart: a model writes, and is made smaller
# in four ways.
#
# You need: Python, and an idea of what a matrix is.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.evaluation.footprint import multiply_adds
from tinyslm.evaluation.parameters import (
    active_parameters,
    bytes_as,
    count_parameters,
    parameters_by_part,
)
from tinyslm.models.builder import shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.reporting import units
from tinyslm.reporting.pictures import show_frontier, show_matrix, use_lesson_style
from tinyslm.reporting.source import numbered_source
from tinyslm.reporting.summary import summary

use_lesson_style()

# %% [markdown]
# ## What small means
#
# The shapes of models are published with them: how many layers, how wide, how many words. The shape is enough to count
# what a model costs; no weight is needed. Three numbers are counted here:
#
# - **parameters**: the numbers that training has found, and that the model computes with;
# - **bytes**: the memory that these take, 2 bytes each as they are published (`bfloat16`), 1 byte in 8-bit integers;
# - **multiply-adds per token**: multiplications, each with an addition, by weights for every token read or written.

# %%
names = ("bert-base", "smollm2-135m", "qwen3-0.6b", "gemma-3-1b", "llama-3.2-1b", "smollm3-3b")
names += ("llama-3.2-3b", "phi-3-mini-4k", "mistral-7b-v0.3", "mixtral-8x7b")
shapes = {name: shape_model(CATALOGUE[name]) for name in names}
print(f"{'':16} parameters  used by a token  in bfloat16   in INT8  multiply-adds per token")
for name, shape in shapes.items():
    cells = (
        f"{units.scaled(count_parameters(shape)):>10}",
        f"{units.scaled(active_parameters(shape)):>15}",
        f"{units.size(bytes_as(shape, 'bfloat16')):>11}",
        f"{units.size(bytes_as(shape, 'int8')):>8}",
        f"{units.scaled(multiply_adds(shape)):>23}",
    )
    print(f"{name:16} " + "  ".join(cells))

# %% [markdown]
# Parameters and multiply-adds are nearly the same number where every weight multiplies once per token. They differ
# where that is not so. Mixtral chooses two of its eight *experts* for each token: it takes the memory of all and the
# work of two. Phi-3 and Mistral look words up in one table, which is no work, and have another one, the *head*, that
# multiplies at the end; most of the small ones use a single table for both. Where the numbers are:

# %%
parts = {name: parameters_by_part(shape) for name, shape in shapes.items()}
kinds = ("embedding", "attention", "feed-forward", "head")
share = np.array(
    [[100 * part[kind] / sum(part.values()) for kind in kinds] for part in parts.values()]
)
figure, axes = plt.subplots(figsize=(5.6, 3.8))
show_matrix(axes, share, "% of the parameters", "{:.1f}", list(names), list(kinds))
plt.show()

# %% [markdown]
# Most of a large model are *feed-forward layers* (lesson 02). In a small one the *embedding*, one vector per token of
# the vocabulary, takes a large share, because a vocabulary does not shrink with the model. A 0 under *head* means that
# the embedding serves there too.
#
# There is no line above which a model is no longer small. A useful one is the machine: what fits into its memory and
# answers fast enough without a server.
#
# ## The built-in model
#
# These lessons run on a model that is small enough to be watched. It has the parts of Llama, and was trained by this
# library on a corpus about a small town, which a program writes. Because the program is known, so is the *floor*: the
# loss that no model can expect to pass (lesson 01). Fewer nats are better.

# %%
from tinyslm.recipes import Calibration
from tinyslm.text.corpus import town_corpus

model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=300, validation=60)
calibration = Calibration(corpus.training, model)
print(summary({"built-in model": model}, corpus))

# %% [markdown]
# It writes by predicting one token, reading it, and predicting the next. Here it chooses the most probable one each
# time (lesson 05 has other ways):

# %%
prompts = (
    "Victoria and Milan were in the newspaper on Monday. Victoria bought a plain bell at the mill."
    " It is often cold in Milan.\nQuestion: What are Victoria and Milan? Answer:",
    "What Simon loved most was Paris, and after that Vienna. Otto softly danced with Paris at the"
    " mill. Vienna bought a small bell at the harbour."
    "\nQuestion: What are Paris and Vienna? Answer:",
)
for prompt in prompts:
    token_ids = np.array([tokenizer.encode(prompt).ids])  # (1, T)
    new = tinyslm.generate(model, token_ids, max_new_tokens=12)[0].tolist()
    print(prompt.split("\n")[0])
    print("   ", prompt.split("\n")[1], "->", tokenizer.decode(new).split(".")[0].strip() + ".\n")

# %% [markdown]
# The names are a person's or a city's; only the text can tell. Lesson 02 shows how the model finds out.
#
# ## Smaller, in four ways
#
# A *recipe* is a list of steps, and a step takes a model and gives another one. The original stays as it is, and serves
# as the teacher of short trainings (`Distill`) that repair a part of the damage. One recipe for each technique:
#
# - **distil**: a model with half of the layers learns to predict what the whole model predicts (lesson 06);
# - **prune**: a third of the neurons, those that matter least, is cut out (lessons 07 and 08);
# - **quantize**: every weight is rounded to one of 255 steps, and takes one byte instead of four (lesson 09);
# - **factorize**: every matrix becomes the product of two thin ones (lesson 10).

# %%
from tinyslm.recipes import Factorize, KeepLayers, Quantize, Distill, SliceNeurons, compress

recover = Distill(steps=10, learning_rate=5e-4, batch_size=10)
recipes = {
    "distilled": [KeepLayers((0, 2, 5)), Distill(steps=20, learning_rate=1e-3, batch_size=10)],
    "pruned": [SliceNeurons(ratio=2 / 3), recover],
    "quantized": [Quantize()],
    "factorized": [Factorize(ratio=0.7), recover],
    "pruned, quantized": [SliceNeurons(ratio=2 / 3), recover, Quantize()],
}
models = {"dense": model}
for name, steps in recipes.items():
    models[name], _ = compress(model, steps, calibration)
table = summary(models, corpus)
print(table)

# %% [markdown]
# *Dense* is the model as it was. Read the columns one at a time: the techniques save different things. Rounding leaves
# the number of parameters and of multiply-adds as it was and saves memory; the others have fewer parameters, and fewer
# multiply-adds with them. The last row does both.
#
# A picture of two of the columns. Nearer to the lower left corner is better, and the thin line joins those that no
# other model beats in both: the *frontier*.

# %%
from tinyslm.evaluation import measure_loss

places = {
    name: (tinyslm.footprint(each).bytes / 1e6, measure_loss(each, corpus.validation).nats)
    for name, each in models.items()
}
figure, axes = plt.subplots(figsize=(6.4, 3.6))
show_frontier(axes, places, "memory, MB", floor=corpus.floor.nats)
plt.show()

# %% [markdown]
# These recipes trained for seconds. What longer trainings, better choices and combinations give is lesson 11.
#
# ## A step is short
#
# Nothing of this is hidden. This is the whole of the function that applied the recipes:

# %%
print(numbered_source(compress))

# %% [markdown]
# **In a debugger**: set a breakpoint at the line `model = in_rows(...)` in it, and look at `step` and `model.layers[0]`
# before and after: a model is a tree of arrays, and a step replaces some of its leaves.
#
# ## What people ask
#
# **Is a model with fewer parameters faster?** It has less to multiply and less to fetch from memory. How much time that
# saves depends on the machine, and is measured, not computed:

# %% tags=["measured"]
from tinyslm.evaluation.latency import measure_speeds

speeds = measure_speeds(list(models.values()), prompt_length=96, new_tokens=16, rounds=5)
print(f"{'':20}reading, tokens/s  writing, tokens/s")
for name, (prompt, written) in zip(models, speeds, strict=True):
    print(f"{name:20}{prompt.median:17,.0f}{written.median:19,.0f}")

# %% [markdown]
# **Why not train a small model at once?** The student above began with layers of its teacher. This one has the same
# shape, begins with random numbers, and gets the same training from the same teacher:

# %%
from tinyslm.recipes import FreshStudent

fresh, _ = compress(model, [FreshStudent(layers=3), recipes["distilled"][1]], calibration)
for name, each in (("layers of the teacher", models["distilled"]), ("random numbers", fresh)):
    print(f"begun with {name:22} {measure_loss(each, corpus.validation).nats:.2f} nats per token")

# %% [markdown]
# A model that was trained for long is the best beginning for a smaller one, as long as the training is short. Lesson 06
# is about what a teacher is good for.
#
# ## Exercises
#
# 1. Which model of the catalogue (`tinyslm inspect` lists it) has the largest part of its parameters in the embedding?
#    What would remain of it with a vocabulary of 32,000 tokens?
# 2. Add a recipe that factorizes and then quantizes. Is it on the frontier?
# 3. Quantize with `Quantize(bits=4)` and with `Quantize(bits=2)`. Where does the loss begin to suffer?
# 4. Change one word of the prompts above so that the answer must change, and see whether it does.
#
# ## Sources
#
# - The shapes are those of the `config.json` published with each model, by their makers
#   (`tinyslm/models/catalogue.py`).
# - Hinton, Vinyals & Dean 2015, *Distilling the knowledge in a neural network*.
# - Han, Mao & Dally 2016, *Deep compression*: pruning and quantization together.
# - Each technique's own sources stand in its lesson.
