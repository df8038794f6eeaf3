# %% [markdown]
# # Overview: what is a small language model, and how is it compressed?
#
# A language model predicts the next token of a text. The largest models have hundreds of billions of parameters.
# **Small language models do the same task with a few billion parameters or fewer. How few are enough?** This lesson
# counts what a model costs, and applies the four compression techniques once. The other lessons explain each part.

# %%
from setup_lesson import plt, show, use_powers
from tinyslm.evaluation.parameters import bytes_as
from tinyslm.models import shape_model
from tinyslm.models.catalogue import CATALOGUE

names = ("bert-base", "smollm2-135m", "qwen3-0.6b", "gemma-3-1b", "llama-3.2-1b", "smollm3-3b")
names += ("llama-3.2-3b", "phi-3-mini-4k", "mistral-7b-v0.3", "mixtral-8x7b")
shapes = {name: shape_model(CATALOGUE[name]) for name in names}
figure, axes = plt.subplots(figsize=(6.4, 3.4))
for dtype, marker in (("bfloat16", "o"), ("int8", "s")):
    gigabytes = [bytes_as(shape, dtype) / 1e9 for shape in shapes.values()]
    axes.plot(gigabytes, names, marker, label=f"weights in {dtype}")
axes.set_xlabel("memory of the weights, GB (logarithmic)")
use_powers(axes, "x")
axes.legend(fontsize=8)
show(
    "Dot plot of the memory of ten published models, on a logarithmic axis. From BERT to "
    "Mixtral it grows several hundred times. In int8 every model needs half of its memory in "
    "bfloat16."
)

# %% [markdown]
# The memory of the weights of ten published models. Rounding every weight from 16 to 8 bits halves it; this is one of
# the four techniques.
#
# After this lesson you can
#
# - tell apart parameters, bytes and multiply-adds per token, and compute each from the shape of a model;
# - name the four compression techniques and what each of them saves;
# - apply a recipe to a model and compare the results in one table.
#
# You need: Python, and matrix multiplication.
#
# ## What "small" means
#
# The authors of a model publish its shape: the number of layers, their width, and the size of the vocabulary. The shape
# is enough to compute the cost of the model; no weights are needed. Three numbers are computed here:
#
# - **parameters**: the numbers that training determines;
# - **bytes**: the memory of the parameters, with 2 bytes each in the published format (`bfloat16`) and 1 byte each in
#   INT8;
# - **multiply-adds per token**: pairs of a multiplication by a weight and an addition, for each token read or
#   generated.

# %%
from tinyslm.evaluation.footprint import multiply_adds
from tinyslm.evaluation.parameters import active_parameters, count_parameters
from tinyslm.reporting.number_format import scaled, size

print(f"{'':16} parameters  used by a token  in bfloat16   in INT8  multiply-adds per token")
for name, shape in shapes.items():
    cells = (
        f"{scaled(count_parameters(shape)):>10}",
        f"{scaled(active_parameters(shape)):>15}",
        f"{size(bytes_as(shape, 'bfloat16')):>11}",
        f"{size(bytes_as(shape, 'int8')):>8}",
        f"{scaled(multiply_adds(shape)):>23}",
    )
    print(f"{name:16} " + "  ".join(cells))

# %% [markdown]
# If every weight is used once per token, the number of multiply-adds is nearly the number of parameters. There are two
# exceptions. Mixtral selects two of its eight *experts* for each token: it needs the memory of all experts and the
# multiply-adds of two. Phi-3 and Mistral have separate tables for the embedding, which needs no multiplication, and for
# the *head*, the output projection. Most of the smaller models use one table for both. The parameters by part:

# %%
from setup_lesson import np, show_matrix
from tinyslm.evaluation.parameters import parameters_by_part

parts = {name: parameters_by_part(shape) for name, shape in shapes.items()}
kinds = ("embedding", "attention", "feed-forward", "head")
share = np.array(
    [[100 * part[kind] / sum(part.values()) for kind in kinds] for part in parts.values()]
)
figure, axes = plt.subplots(figsize=(5.6, 3.8))
show_matrix(axes, share, "% of the parameters", "{:.1f}", list(names), list(kinds))
show(
    "Matrix: the percentage of the parameters of each model (row) in each part (column). The "
    "feed-forward layers have the largest share everywhere, and the embedding has a large share "
    "in the small models."
)

# %% [markdown]
# In a large model most parameters belong to *feed-forward layers* (lesson 02). In a small model the *embedding*, one
# vector per token of the vocabulary, has a large share, because the vocabulary is as large as that of a large model. A
# 0 in the column *head* means that the head uses the embedding table (*tied embeddings*).
#
# "Small" has no fixed limit. A useful criterion is the hardware: a small model fits into the memory of a laptop or
# phone and generates fast enough there.
#
# ## The built-in model
#
# The lessons use a built-in model that is small enough to inspect. Its architecture is that of Qwen2: a Llama with
# biases of queries, keys and values. This library trained it on a synthetic corpus about a small town. A program
# generates the corpus, so its exact entropy is known. The entropy is a lower bound on the expected loss of every model;
# the lessons call it the *floor* (lesson 01). The loss is measured in nats per token; lower is better.

# %%
from setup_lesson import summary, tinyslm, town_corpus
from tinyslm.recipes import Calibration

model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=300, validation=60)
calibration = Calibration(corpus.training, model)
print(summary({"built-in model": model}, corpus))

# %% [markdown]
# The model generates text by predicting one token, appending it to the input, and predicting the next. Here it selects
# the most probable token each time (*greedy decoding*; lesson 05 explains others):

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
# Each name can be a person or a city; only the context determines which. Lesson 02 shows how the model uses the
# context.
#
# ## Four compression techniques
#
# A *recipe* is a list of steps. A step takes a model and returns a new model. The original model does not change, and
# serves as the teacher in short trainings (`Distill`) that reduce the loss of the compressed model. One recipe per
# technique:
#
# - **distillation**: a model with half of the layers is trained to predict the same probabilities as the original model
#   (lesson 06);
# - **pruning**: a third of the neurons, those with the lowest importance, is removed (lessons 07 and 08);
# - **quantization**: every weight is rounded to one of 255 levels and stored in one byte instead of four (lesson 09);
# - **factorization**: every weight matrix is replaced by the product of two smaller matrices (lesson 10).

# %%
from tinyslm.recipes import Distill, Factorize, KeepLayers, Quantize, SliceNeurons, compress

distill = Distill(steps=10, learning_rate=5e-4, batch_size=10)
recipes = {
    "distilled": [KeepLayers((0, 2, 5)), Distill(steps=20, learning_rate=1e-3, batch_size=10)],
    "pruned": [SliceNeurons(ratio=2 / 3), distill],
    "quantized": [Quantize()],
    "factorized": [Factorize(ratio=0.7), distill],
    "pruned, quantized": [SliceNeurons(ratio=2 / 3), distill, Quantize()],
}
models = {"dense": model}
for name, steps in recipes.items():
    models[name], _ = compress(model, steps, calibration)
table = summary(models, corpus)
print(table)

# %% [markdown]
# *Dense* is the original model. The techniques save different quantities. Quantization saves memory and leaves the
# number of parameters and multiply-adds unchanged. The other techniques reduce the number of parameters, and with it
# the multiply-adds. The last row combines two techniques.
#
# The next figure shows two columns of the table. Points nearer to the lower left corner are better. The thin line is
# the *Pareto frontier*: it connects the models that no other model beats in both quantities.

# %%
from setup_lesson import show_frontier, validation_loss

points = {
    name: (tinyslm.footprint(each).bytes / 1e6, validation_loss(each, corpus))
    for name, each in models.items()
}
figure, axes = plt.subplots(figsize=(6.4, 3.6))
show_frontier(axes, points, "memory, MB", floor=corpus.floor.nats)
show(
    "Scatter plot of loss against memory for the six models. The quantized model needs a "
    "quarter of the memory of the dense model at nearly the same loss; it and the pruned, "
    "quantized model are on the frontier."
)

# %% [markdown]
# The trainings in these recipes took only seconds. Lesson 11 shows longer trainings and combinations.
#
# ## A step is short
#
# The function that applied the recipes, in full (`tinyslm/recipes/recipe.py`):

# %%
from setup_lesson import numbered_source

print(numbered_source(compress))

# %% [markdown]
# **In a debugger**: set a breakpoint at the line `model = in_rows(...)` of this function. Inspect `step`, and
# `model.layers[0]` before and after the line. A model is a tree of arrays; a step replaces some of its leaves.
#
# ## Questions
#
# **Is a model with fewer parameters faster?** It needs fewer multiplications and reads less memory. The saved time
# depends on the hardware, so it must be measured:

# %% tags=["measured"]
from tinyslm.evaluation.latency import measure_speeds

speeds = measure_speeds(list(models.values()), prompt_length=96, new_tokens=16, rounds=5)
print(f"{'':20} prompt, tokens/s  generation, tokens/s")
for name, (prompt, generated) in zip(models, speeds, strict=True):
    print(f"{name:20}{prompt.median:17,.0f}{generated.median:22,.0f}")

# %% [markdown]
# **Why not train a small model from random weights?** The distilled model above started with layers of its teacher. The
# next model has the same shape, starts with random weights, and has the same training with the same teacher:

# %%
from tinyslm.recipes import FreshStudent

fresh, _ = compress(model, [FreshStudent(layers=3), recipes["distilled"][1]], calibration)
for name, each in (("layers of the teacher", models["distilled"]), ("random weights", fresh)):
    print(f"initialized with {name:22} {validation_loss(each, corpus):.2f} nats per token")

# %% [markdown]
# If the training is short, a trained model is the better initialization of a smaller model. Lesson 06 compares both for
# longer trainings.
#
# ## Summary
#
# - Parameters, bytes and multiply-adds per token are three different costs. A mixture of experts separates the first
#   from the last; tied embeddings separate the embedding from the head.
# - The four techniques save different quantities: quantization to 8 bits reduced the memory from 15.8 MB to 4.01 MB
#   with the same number of parameters; the other three reduced the number of parameters.
# - On these documents the dense model has a loss of 0.691 nats per token, the quantized model the same, and the pruned
#   model 0.709. The floor is 0.661.
# - Techniques can be combined: the pruned and quantized model takes 3.22 MB.
#
# The code: a recipe is applied by `tinyslm/recipes/recipe.py`; each technique has its mathematics in
# `tinyslm/compression/` and its step in `tinyslm/recipes/`, in files of the same name.
#
# ## Exercises
#
# 1. Which model of the catalogue (`tinyslm inspect` lists it) has the largest share of its parameters in the embedding?
#    How many parameters would it have with a vocabulary of 32,000 tokens?
# 2. Add a recipe that factorizes and then quantizes. Is it on the Pareto frontier?
# 3. Quantize with `Quantize(bits=4)` and with `Quantize(bits=2)`. At which number of bits does the loss increase?
# 4. Change one word of the prompts above so that the correct answer changes. Does the model's answer change too?
#
# ## Sources
#
# - The shapes are from the `config.json` that the authors published with each model (`tinyslm/models/catalogue.py`).
# - Hinton, Vinyals & Dean 2015, *Distilling the knowledge in a neural network*.
# - Han, Mao & Dally 2016, *Deep compression*: pruning and quantization combined.
# - Each lesson lists the sources of its technique.
