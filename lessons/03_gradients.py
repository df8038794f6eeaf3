# %% [markdown]
# # Gradients
#
# A model learns by being changed a little, again and again, in the direction that makes its loss smaller. That
# direction is the gradient: one number per weight, which says how much the loss rises when that weight is raised.
# **This lesson computes gradients, first for one operation by hand, then for a whole model**, and shows how to find out
# whether a gradient is right.
#
# You need: lesson 02 (what a transformer computes), and from school the derivative and the chain rule.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm import check_gradient, differentiable, value_and_grad
from tinyslm.autodiff import Traced, add, backward, multiply
from tinyslm.reporting.pictures import (
    show_bars,
    show_histogram,
    show_lines,
    show_matrix,
    use_lesson_style,
    use_powers,
)
from tinyslm.reporting.source import numbered_source

use_lesson_style()
model, tokenizer = tinyslm.load("teacher")
text = "It was a snowy Monday morning. Greta had a golden ring. Later Greta gave the ring to Peter."
token_ids = np.array([[*tokenizer.encode(text).ids, 0]])  # 0 marks the beginning and the end
loss, gradients = value_and_grad(tinyslm.next_token_loss)(model, token_ids)
print(
    f"loss {loss:.3f} nats per token, and {tinyslm.footprint(model).parameters:,} derivatives of it"
)
for path in (
    "embedding.table",
    "layers.0.attention_norm.weight",
    "layers.0.attention.query.weight",
):
    weight, gradient = (tinyslm.named_arrays(tree)[path] for tree in (model, gradients))
    print(f"{path:32} weight {weight.shape!s:12} gradient {gradient.shape}")

# %% [markdown]
# `value_and_grad` gives the loss, and a tree like the model in which every weight is replaced by its derivatives. The
# rest of this page is about how.
#
# ## The slow way: move one weight
#
# What a derivative is can be measured. Raise one weight by a small step $h$, lower it by $h$, and see how the loss
# changes:
#
# $$\frac{\partial L}{\partial w} \approx \frac{L(w + h) - L(w - h)}{2h}$$
#
# This *central difference* has an error that falls with $h^2$, until $L(w+h)$ and $L(w-h)$ agree in nearly all of their
# digits and their difference is mostly rounding. Here is both at once, for one weight of a small linear layer. (Errors
# are counted from the derivative that the rest of this page computes.)

# %%
from tinyslm.ops import cross_entropy, linear

rng = np.random.default_rng(0)
x, weight = rng.standard_normal((5, 8)), rng.standard_normal((6, 8))
labels = np.array([0, 3, 5, 1, 1])


def small_loss(weight):
    """Five tokens of width 8, a vocabulary of 6."""
    return cross_entropy(linear(x.astype(weight.dtype), weight), labels)


exact = value_and_grad(lambda tree: small_loss(tree[0]))([weight])[1][0][2, 3]
steps = 10.0 ** np.arange(-14, 0.5, 0.5)


def difference_error(dtype):
    """Relative error of the central difference for one weight, for every step."""
    errors = []
    for step in steps:
        ends = []
        for sign in (1, -1):
            moved = weight.astype(dtype)
            moved[2, 3] += dtype(sign * step)
            ends.append(float(small_loss(moved)))
        errors.append(abs((ends[0] - ends[1]) / (2 * step) - exact) / abs(exact))
    return np.maximum(errors, 1e-16)


figure, axes = plt.subplots()
errors = {"float64": difference_error(np.float64), "float32": difference_error(np.float32)}
show_lines(axes, errors, "step h, in units of the weight", "relative error", steps, markers=True)
use_powers(axes)
axes.set_ylim(1e-12, 1e3)
plt.show()

# %% [markdown]
# From the right the error falls, two digits for each digit of $h$; then rounding takes over. Of the 16 digits of
# float64 eight or nine can be right, with a step between $10^{-6}$ and $10^{-4}$. Of the 7 digits of float32 hardly
# three can. Hence **gradients are checked in float64**, whatever the model is trained in.
#
# It is a good check and no way to train: two passes through the model for every weight.

# %% tags=["measured"]
import time


def seconds(function):
    """The median of 9 calls."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return np.median(times)


row = token_ids.repeat(6, axis=1)
forward = seconds(lambda: tinyslm.next_token_loss(model, row))
both = seconds(lambda: value_and_grad(tinyslm.next_token_loss)(model, row))
count = tinyslm.footprint(model).parameters
print(f"the loss of {row.shape[1]} tokens: {1000 * forward:.0f} ms")
print(f"the loss and all gradients: {1000 * both:.0f} ms, {both / forward:.1f} times that")
print(f"all gradients by differences: {2 * count * forward / 3600:.0f} hours")

# %% [markdown]
# All gradients at once for the price of a few passes, however many weights there are: this is what makes training
# possible. Counted in multiplications the price is three: a layer multiplies once on the way up, and twice on the way
# down, for the gradient of its input and for that of its weight.
#
# ## One operation by hand
#
# Take the RMS norm of lesson 02, which brings each token's vector to a common size. For one token,
#
# $$y_i = w_i\,n_i, \qquad n_i = \frac{x_i}{r}, \qquad r = \sqrt{\tfrac{1}{C}\sum_k x_k^2 + \epsilon}$$
#
# Say somebody who knows what happens further up tells us $\mathrm{d}y_i$: by how much the loss rises when output $i$
# does. (In this project $\mathrm{d}y$ always means $\partial L/\partial y$.) What are $\mathrm{d}w$ and $\mathrm{d}x$?
#
# **The gain.** $w_i$ is multiplied by $n_i$, so $\mathrm{d}w_i = \mathrm{d}y_i\,n_i$, in each token.
#
# **The input.** $x_i$ acts in two ways: directly on $y_i$, and through $r$ on *all* outputs. With $\partial r/\partial
# x_i = x_i / (C r) = n_i / C$:
#
# $$\mathrm{d}x_i = \frac{\mathrm{d}y_i w_i}{r} - \sum_k \frac{\mathrm{d}y_k w_k x_k}{r^2}\cdot\frac{n_i}{C}
# = \frac{1}{r}\Big(\mathrm{d}n_i - n_i \cdot \tfrac{1}{C}\sum_k \mathrm{d}n_k n_k\Big), \qquad
# \mathrm{d}n_i = \mathrm{d}y_i w_i$$
#
# Two lines of NumPy. Beside them what differences say, for four tokens of width 4:

# %%
x = rng.standard_normal((4, 4)) * [[1], [2], [0.5], [1]]
gain = np.array([1.0, 2.0, 0.5, 1.5])
dy = np.round(rng.standard_normal((4, 4)), 1)  # as if it came from further up


def norm(x):
    """The root-mean-square norm with the gain above."""
    return gain * x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)


r = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)
normalized, dn = x / r, dy * gain
dx = (dn - normalized * np.mean(dn * normalized, axis=-1, keepdims=True)) / r  # by hand

measured = np.empty_like(x)
for index in np.ndindex(x.shape):
    h = np.zeros_like(x)
    h[index] = 1e-6
    measured[index] = np.sum(dy * (norm(x + h) - norm(x - h))) / 2e-6

figure, panels = plt.subplots(1, 4, figsize=(8.2, 2.3))
for axes, matrix, title in zip(
    panels, (x, dy, dx, measured), ("x: 4 tokens", "dy, given", "dx by hand", "dx by differences")
):
    show_matrix(axes, matrix, title, "{:.2f}")
plt.show()
print("they agree to nine digits:", np.allclose(dx, measured, rtol=1e-8, atol=1e-9))
print("x . dx of each token:", " ".join(f"{abs(value):.3f}" for value in np.sum(x * dx, axis=-1)))

# %% [markdown]
# The last line says something about the norm that is easily overlooked. The gradient is at right angles to $x$: making
# a token's vector longer changes nothing, because the norm takes its length away again. (Nearly nothing: $\epsilon$
# stands in the root.)
#
# ## Why no Jacobian
#
# All derivatives of all outputs with respect to all inputs form the *Jacobian*. For one token of the four it is a
# matrix of 4 by 4, and what was computed above is the row $\mathrm{d}y$ times that matrix:

# %%
token = 1
jacobian = (np.diag(gain) - np.outer(gain * normalized[token], normalized[token]) / 4) / r[token]
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(6.4, 2.3))
show_matrix(left, dy[token][None], "dy of one token", "{:.2f}")
show_matrix(middle, jacobian, "Jacobian: output (row) by input", "{:.2f}")
show_matrix(right, (dy[token] @ jacobian)[None], "dy times Jacobian: dx", "{:.2f}")
plt.show()
C, F = model.config.hidden_size, model.config.intermediate_size
entries = (100 * F) * (F * C)
print(f"one feed-forward product, 100 tokens: a Jacobian of {entries:,} numbers for its weight")
print(f"the gradient of that weight: {F * C:,} numbers")

# %% [markdown]
# The product is needed, the matrix never. A function that computes it directly is a **vector-Jacobian product**, *vjp*.
#
# ## The library's function, taken apart

# %%
from tinyslm.ops import rms_norm

print(numbered_source(rms_norm))

# %% [markdown]
# Output and vjp stand in one function, so that the vjp can use what was computed on the way (`inverse_rms`,
# `normalized`). The two lines for `dx` are those of the formula. Two things are new:
#
# - `dweight` is summed over all tokens. The same gain is used for each of them; why that means a sum comes below.
# - `offset` is for Gemma, which stores $w - 1$. A constant has no gradient.
#
# `rms_norm(x, gain)` gives the output alone. `rms_norm.with_vjp` gives the pair:

# %%
output, vjp = rms_norm.with_vjp(x, gain)
library_dx, library_dgain = vjp(dy)
print("the same dx as by hand:", np.allclose(library_dx, dx))
print("dgain:", np.round(library_dgain, 3))

# %% [markdown]
# **In a debugger**: set a breakpoint at the line `dnormalized = dy * gain` in `tinyslm/ops/normalization.py` and look
# at the shapes of `dy`, `normalized` and `inverse_rms`, and at `along`: how much of the gradient points along the
# token's vector.
#
# ## The tape
#
# A model is a chain of such operations. The chain rule says: go through them backwards, and hand each vjp the gradient
# of its output. To know the order, every operation writes a line on a *tape* while it computes. This is all that
# `@differentiable` does:

# %%
print(numbered_source(differentiable))

# %% [markdown]
# And this is a whole tape: a model with one layer, written down by hand in the way `value_and_grad` does it. The inputs
# of each line are the numbers of earlier lines, or weights.

# %%
from tinyslm.models.builder import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.tree import map_parameters, named_parameters

tiny = random_model(llama_shape(1536, 16, 32, 1, 2, 1), dtype=np.float64)
tape = []
leaves = {id(array): Traced(array, tape) for array in named_parameters(tiny).values()}
names = {leaves[id(array)]: path for path, array in named_parameters(tiny).items()}
traced = tinyslm.next_token_loss(
    map_parameters(lambda path, array: leaves[id(array)], tiny), token_ids
)

operations = [
    vjp.__qualname__.split(".")[0] for _, _, vjp in tape
]  # the function that a vjp stands in
number = {result: place for place, (result, _, _) in enumerate(tape)}
for place, (result, inputs, _) in enumerate(tape):
    sources = [
        str(number.get(each, names.get(each))) for each in inputs if isinstance(each, Traced)
    ]
    print(f"{place:3}  {operations[place]:14} {result.shape!s:14} of {', '.join(sources)}")

# %% [markdown]
# A picture of the same, without the weights. Every arc leads from where a value was computed to where it is used; the
# two long ones are the residual stream. A value that several arcs leave has a gradient of as many parts.

# %%
figure, axes = plt.subplots(figsize=(7.6, 3.2))
for place, (_, inputs, _) in enumerate(tape):
    for source in (number[each] for each in inputs if isinstance(each, Traced) and each in number):
        turn = np.linspace(0, np.pi, 40)
        middle, radius = (place + source) / 2, (place - source) / 2
        axes.plot(
            middle - radius * np.cos(turn),
            radius * np.sin(turn),
            color="#0072b2",
            linestyle="-",
            linewidth=1,
        )
axes.plot(range(len(tape)), np.zeros(len(tape)), "o", color="black", markersize=4)
axes.set(ylim=(-0.5, 8), yticks=[], xticks=range(len(tape)))
axes.set_xticklabels(operations, rotation=90)
axes.set_title("forward: left to right, backward: right to left", fontsize=9)
axes.grid(False)
axes.spines[:].set_visible(False)
plt.show()

# %% [markdown]
# All arcs lead to the right, because a line can only mention what exists already. Such an order is called
# *topological*, and the tape has it without any sorting. Going through it from the right, `backward` meets every value
# after everything that uses it:

# %%
print(numbered_source(backward))

# %% [markdown]
# `gradients` holds what has arrived so far. `tape.pop()` takes the last line; by then, its result has received all it
# will ever receive, from one use or from several, and the sum is handed on.
#
# **In a debugger**: set a breakpoint at the line `upstream = gradients.pop(result, None)` in `tinyslm/autodiff.py` and
# watch `len(gradients)`: it stays small, because a gradient is given up as soon as it was handed on. At the end only
# the weights' are left.
#
# ## Why the order matters
#
# The smallest case is a residual connection: $a = 2w$, $y = a + a^2$. The value $a$ is used twice. Its gradient has two
# parts, 1 from the straight way and $2a$ from the square, and only their sum may be handed on to $w$.

# %%


def small_tape():
    """The tape of y = a + a^2 with a = 2w, at w = 3, and w itself."""
    tape = []
    w = Traced(np.array(3.0), tape)
    a = multiply(w, 2.0)
    y = add(a, multiply(a, a))
    return tape, w, y


tape, w, y = small_tape()
print("as written:         dw =", backward(tape, y)[w])
tape, w, y = small_tape()
tape[0], tape[1] = tape[1], tape[0]  # a's own line now comes before the square's on the way back
print("two lines swapped:  dw =", backward(tape, y)[w])
print(
    "by differences:     dw =",
    round(((2 * 3.001 + (2 * 3.001) ** 2) - (2 * 2.999 + (2 * 2.999) ** 2)) / 0.002, 3),
)

# %% [markdown]
# With the lines swapped nothing fails. The gradient of $a$ is handed on when only the straight way has arrived, and
# what the square adds later is never looked at again. Here is the same mistake in the built-in model: the line of the
# first addition of *one* block is taken too early, so that what its feed-forward layer says is lost on the way down.

# %%


def model_tape():
    """The tape of the teacher's loss, the traced weights by path, and the loss."""
    tape = []
    leaves = {id(array): Traced(array, tape) for array in named_parameters(model).values()}
    loss = tinyslm.next_token_loss(
        map_parameters(lambda path, array: leaves[id(array)], model), token_ids
    )
    return tape, {path: leaves[id(array)] for path, array in named_parameters(model).items()}, loss


tape, weights, traced = model_tape()
additions = [place for place, line in enumerate(tape) if line[2].__qualname__.startswith("add.")]
right_gradients = backward(tape, traced)
watched = [f"layers.{i}.attention.value.weight" for i in range(model.config.num_hidden_layers)]
wrong = {}
for block in (1, 3, 5):
    tape, leaves, traced = model_tape()
    first, second = additions[2 * block], additions[2 * block + 1]
    tape.insert(second - 1, tape.pop(first))  # behind all that uses it, but for the second addition
    gradients = backward(tape, traced)
    wrong[f"order wrong in block {block}"] = [
        np.linalg.norm(gradients[leaves[path]] - right_gradients[weights[path]])
        / np.linalg.norm(right_gradients[weights[path]])
        for path in watched
    ]
figure, axes = plt.subplots()
show_lines(
    axes,
    wrong,
    "layer whose value projection is looked at",
    "relative error of its gradient",
    markers=True,
)
axes.set_ylim(0, None)
plt.show()

# %% [markdown]
# Above the mistake everything is right; from the block in question down to the first everything is wrong, by a large
# part of its size. The loss is computed as before, the shapes are right, and nothing reports the mistake.
#
# **Is there no other way?** One could follow every path from the loss to the weights and add up what each brings. That
# is right too, and this is its price: a residual connection doubles the number of paths.

# %%


def count_path_calls(blocks):
    """The calls of a vjp if every path is followed by itself, and the lines of the tape."""
    tape = []
    x = Traced(np.ones(2), tape)
    for _ in range(blocks):
        x = add(x, multiply(x, 0.5))
    producer = {result: inputs for result, inputs, _ in tape}
    calls = {}  # for each value, the calls below it; counted, not made

    def below(value):
        if value not in producer:
            return 0
        if value not in calls:
            calls[value] = 1 + sum(
                below(each) for each in producer[value] if isinstance(each, Traced)
            )
        return calls[value]

    return below(x), len(tape)


blocks = np.arange(1, 25)
paths, lines = np.array([count_path_calls(n) for n in blocks]).T
figure, axes = plt.subplots()
show_lines(
    axes,
    {"path by path": paths, "along the tape": lines},
    "residual connections",
    "calls of a vjp",
    blocks,
)
use_powers(axes, "y")
plt.show()
depth = len(additions)
print(f"{depth} residual connections, as in the teacher:")
print(f"{paths[depth - 1]:,} calls path by path, {lines[depth - 1]} along the tape")

# %% [markdown]
# ## Why broadcasting needs a sum
#
# `y = x + b` adds the same bias to every token: NumPy *broadcasts* the four numbers to four rows. Raise $b_j$, and
# $y_j$ rises in every row. So the loss changes by the sum over the rows.

# %%
bias = np.array([0.1, -0.2, 0.3, 0.0])
_, vjp = add.with_vjp(x, bias)
_, dbias = vjp(dy)
figure, (left, right) = plt.subplots(1, 2, figsize=(4.6, 2.3))
show_matrix(left, dy, "dy: four tokens")
show_matrix(right, dbias[None], "dbias: summed over them")
plt.show()

# %% [markdown]
# The general rule is one function: sum over every axis that was added or stretched.

# %%
from tinyslm.autodiff import sum_to_shape

print(numbered_source(sum_to_shape))

# %% [markdown]
# Without the sum, NumPy would not complain. It would broadcast once more, and the bias would silently become another
# kind of thing, one bias per token:

# %%
forgotten = bias - 0.1 * dy  # dy instead of its sum
print("the bias was", bias.shape, "and after one step is", forgotten.shape)

# %% [markdown]
# Therefore `check_gradient`, below, compares shapes first.
#
# ## Why a shared weight adds its gradients
#
# It is the same rule. In the built-in model one table serves twice: its rows are the vectors of the tokens that go in,
# and the head compares what comes out with the same rows (*tied embeddings*). A change of the table acts in both
# places, so its derivative is the sum of both. To see the two parts, give the head a table of its own:

# %%
from tinyslm.modules import Linear

untied = model.replace(head=Linear(model.embedding.table.copy()))
tied_gradients = value_and_grad(tinyslm.next_token_loss)(model, token_ids)[1]
parts = value_and_grad(tinyslm.next_token_loss)(untied, token_ids)[1]
lookup, head = parts.embedding.table, parts.head.weight  # (V, C) each
both = lookup + head
print(
    "the sum of both is the gradient of the shared table:",
    np.allclose(both, tied_gradients.embedding.table, atol=1e-5),
)
for name, part in (("looked up", lookup), ("head", head)):
    rows = np.count_nonzero(np.any(part != 0, axis=1))
    print(f"{name:10} rows with a gradient: {rows:5} of {len(part)}")

# %%
ids, counts = np.unique(token_ids, return_counts=True)
size = np.linalg.norm(
    [lookup[ids], head[ids]], axis=-1
)  # (2, tokens): length of each row's gradient
order = np.argsort(-size.sum(axis=0))
pieces = [tokenizer.decode([token]).strip() if token else "(end mark)" for token in ids]
pieces = [
    piece if count == 1 else f"{piece} ({count} times)" for piece, count in zip(pieces, counts)
]
figure, axes = plt.subplots(figsize=(6.4, 3.6))
bars = {"looked up": size[0, order], "head": size[1, order]}
show_bars(axes, bars, [pieces[place] for place in order], "length of the row's gradient")
plt.show()

# %% [markdown]
# Looking up touches only the tokens that occur in the text, and one that occurs several times receives the sum over its
# places: the rule once more. The head touches every token of the vocabulary, because all of them have a probability.
# The picture shows those of the text. A bar of the head is missing where the model was certain of the token, and so had
# nothing to learn: `y` after `s` and `now`.
#
# ## Is it right?
#
# A wrong gradient raises no exception, and the model still learns something. So every operation of the project is
# compared with differences:

# %%
print(numbered_source(check_gradient))

# %% [markdown]
# The loop is the slow way from above. The line to look at is `direction`. An operation has many outputs, and a
# difference compares one number. The obvious number is the sum of the outputs. Here is an operation with a mistake that
# the sum cannot see: a layer norm, which subtracts the mean and divides by the standard deviation, whose vjp forgets
# that the standard deviation depends on $x$.

# %%
from tinyslm.ops import layer_norm


@differentiable
def careless_norm(x):
    """(x - mean) / deviation. Its vjp takes the deviation for a constant."""
    deviation = np.std(x, axis=-1, keepdims=True)
    output = (x - np.mean(x, axis=-1, keepdims=True)) / deviation

    def vjp(dy):
        return ((dy - np.mean(dy, axis=-1, keepdims=True)) / deviation,)

    return output, vjp


def compare(operation, *inputs, direction):
    """dx by the vjp, and by differences, for a loss that weights the outputs by `direction`."""
    x = inputs[0]
    by_difference = np.empty_like(x)
    for index in np.ndindex(x.shape):
        h = np.zeros_like(x)
        h[index] = 1e-6
        ends = [operation(moved, *inputs[1:]) for moved in (x + h, x - h)]
        by_difference[index] = np.sum((ends[0] - ends[1]) * direction) / 2e-6
    return operation.with_vjp(*inputs)[1](direction)[0], by_difference


figure, panels = plt.subplots(2, 2, figsize=(4.8, 4.6))
directions = {
    "sum": np.ones((4, 4)),
    "random direction": np.random.default_rng(1).standard_normal((4, 4)),
}
for row, (name, direction) in zip(panels, directions.items()):
    for axes, matrix, how in zip(
        row, compare(careless_norm, x, direction=direction), ("its vjp", "differences")
    ):
        show_matrix(axes, np.round(matrix, 6), f"{name}: {how}", "{:.2f}")
plt.show()
print("check_gradient finds the careless norm right:", check_gradient(careless_norm, x) < 1e-6)
print(
    "check_gradient finds layer_norm right:       ",
    check_gradient(layer_norm, x, np.ones(4), np.zeros(4)) < 1e-6,
)

# %% [markdown]
# The outputs of a norm add up to zero whatever goes in, so the sum has gradient zero, and the careless vjp says zero.
# They agree, and it means nothing. Softmax, whose outputs add up to one, has the same blind spot. A **random
# direction** has none: a mistake would have to be at right angles to it by chance.
#
# Now all at once: operations of the library, and some mistakes that people make.

# %%
from tinyslm import ops

heads, keys = rng.standard_normal((1, 5, 2, 4)), rng.standard_normal((1, 5, 1, 4))
logits, rows = rng.standard_normal((5, 6)), rng.standard_normal((3, 4))


def mistaken(operation, change):
    """An operation with the right output and a changed vjp."""

    def function(*inputs, **settings):
        output, vjp = operation.with_vjp(*inputs, **settings)
        return output, lambda dy: change(vjp(dy))

    return differentiable(function)


checks = {
    "linear": (linear, (x, rows, np.zeros(3))),
    "rms_norm": (rms_norm, (x, gain)),
    "layer_norm": (layer_norm, (x, gain, bias)),
    "silu": (ops.silu, (x,)),
    "gated": (ops.gated, (x, dy)),
    "attention": (ops.attention, (heads, keys, keys[::-1] + 1)),
    "embedding": (ops.embedding, (np.array([2, 0, 2]), rows)),
    "cross_entropy": (cross_entropy, (logits, labels)),
    "careless norm": (careless_norm, (x,)),
    "linear, mean over tokens": (
        mistaken(linear, lambda d: (d[0], d[1] / len(x), d[2])), (x, rows, np.zeros(3))
    ),
    "attention, scale forgotten": (
        mistaken(ops.attention, lambda d: (2 * d[0], *d[1:])), (heads, keys, keys + 1)
    ),
    "embedding, last one wins": (
        mistaken(ops.embedding, lambda d: (None, d[1] * [[1], [1], [0.5]])),
        (np.array([2, 0, 2]), rows),
    ),
    "silu, off by 1 %": (mistaken(ops.silu, lambda d: (1.01 * d[0],)), (x,)),
}  # fmt: skip
errors = {}
for name, (operation, inputs) in checks.items():
    settings = {"scale": 0.5} if name.startswith("attention") else {}
    errors[name] = max(check_gradient(operation, *inputs, **settings), 1e-12)
figure, axes = plt.subplots(figsize=(6.4, 3.8))
right = [error < 1e-6 for error in errors.values()]
for place, (error, good) in enumerate(zip(errors.values(), right)):
    axes.plot(
        error, place, "o" if good else "X", color="#0072b2" if good else "#d55e00", markersize=8
    )
axes.axvline(1e-6, color="#555555", linestyle=(0, (8, 3)))
use_powers(axes, "x")
axes.set(xlim=(1e-12, 2), yticks=range(len(errors)), yticklabels=list(errors))
axes.set_xlabel("relative error of the gradient (check_gradient); the line is at a millionth")
axes.invert_yaxis()
plt.show()
print(f"{sum(right)} right, {len(right) - sum(right)} wrong")

# %% [markdown]
# Right gradients are right to eight digits or more, wrong ones differ in the first three. There is nothing in between,
# so a threshold is easy to choose.
#
# **And the whole model?** Its weights can be moved all at once, along a random direction $u$. The difference must be
# $\langle \mathrm{d}w, u\rangle$, a single number, for two passes:

# %%
from tinyslm.tree import map_arrays

loss_function = value_and_grad(tinyslm.next_token_loss)
gradients = named_parameters(loss_function(tiny, token_ids)[1])
for seed in range(3):
    directions = {
        path: np.random.default_rng([seed, place]).standard_normal(array.shape)
        for place, (path, array) in enumerate(named_parameters(tiny).items())
    }
    ends = [
        tinyslm.next_token_loss(
            map_arrays(lambda path, array: array + h * directions[path], tiny), token_ids
        )
        for h in (1e-6, -1e-6)
    ]
    by_tape = sum(np.vdot(gradients[path], direction) for path, direction in directions.items())
    by_difference = (ends[0] - ends[1]) / 2e-6
    print(f"direction {seed}: by the tape {by_tape:7.3f}, by differences {by_difference:7.3f}")

# %% [markdown]
# ## What people ask
#
# **Why does training need so much more memory than generating?** Because every vjp keeps what it needs until its turn
# comes. Without a tape nothing is kept:

# %% tags=["measured"]
import tracemalloc


def peak_megabytes(function):
    """What a call allocates at most, above what was there before."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


batch = np.tile(token_ids, (8, 8))[:, :128]
weights = tinyslm.footprint(model).bytes / 1e6
print(f"{batch.shape[0]} rows of {batch.shape[1]} tokens; the weights take {weights:.0f} MB")
alone = peak_megabytes(lambda: tinyslm.next_token_loss(model, batch))
with_gradients = peak_megabytes(lambda: loss_function(model, batch))
print(f"the loss alone:         {alone:5.0f} MB more")
print(f"the loss and gradients: {with_gradients:5.0f} MB more")

# %% [markdown]
# **Why not one line on the tape per `+` and `exp`?** That works, and the rules are simpler, but there would be many
# times as many lines, each with its Python call and its array kept. With one line per layer-level operation the tape
# stays short enough to be read:

# %%
tape, _, _ = model_tape()
print(f"lines on the teacher's tape: {len(tape)}, for {model.config.num_hidden_layers} layers")

# %% [markdown]
# **Why are the gradients of weights so small?** They are derivatives of a *mean* over tokens, and each weight is one of
# many. How small differs by orders of magnitude from weight to weight, also within one matrix, which is what the next
# lesson has to deal with:

# %%
figure, axes = plt.subplots()
gradients = tinyslm.named_arrays(tied_gradients)
shown = {
    path: np.log10(np.abs(gradients[path]) + 1e-12)
    for path in (
        "layers.0.attention.query.weight",
        "layers.0.feed_forward.up.weight",
        "layers.5.attention.value.weight",
    )
}
show_histogram(axes, shown, "log10 of the gradient's magnitude", limit=8)
axes.set_xlim(-8, 0)
plt.show()

# %% [markdown]
# ## Exercises
#
# 1. `tinyslm exercise new rms-norm`: the norm, forward and vjp.
# 2. `tinyslm exercise new embedding-gradient`: rows of a table, where a token can occur several times.
# 3. `tinyslm exercise new cross-entropy`: the loss and the gradient of the logits. Derive that it is softmax minus
#    one-hot.
# 4. Write `softcap(x) = cap * tanh(x / cap)` with its vjp and check it. Which `x` make its gradient vanish?
# 5. Change one sign or one factor in `attention`'s vjp, in a copy of the file. Does training `tiny` for 50 steps show
#    it? Does `check_gradient`?
#
# ## Sources
#
# - Griewank & Walther 2008, *Evaluating derivatives*, second edition, section 3.2: the backward pass over a tape.
# - Baydin, Pearlmutter, Radul & Siskind 2018, *Automatic differentiation in machine learning: a survey*.
# - Zhang & Sennrich 2019, *Root mean square layer normalization*.
# - Press & Wolf 2017, *Using the output embedding to improve language models*: tied embeddings.
