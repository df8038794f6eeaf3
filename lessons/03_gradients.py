# %% [markdown]
# # Gradients
#
# Training changes the weights of a model in small steps, each in the direction in which the loss decreases fastest.
# That direction is the negative gradient. The gradient has one number per weight: the derivative of the loss with
# respect to that weight. **This lesson computes gradients, first of one operation by hand, then of a whole model**, and
# shows how to test a gradient.

# %%
from setup_lesson import np, plt, show, show_lines, tinyslm

model, tokenizer = tinyslm.load("teacher")
text = "It was a snowy Monday morning. Greta had a golden ring. Later Greta gave the ring to Peter."
token_ids = np.array([[*tokenizer.encode(text).ids, 0]])  # 0 marks the beginning and the end
loss, gradients = tinyslm.value_and_grad(tinyslm.next_token_loss)(model, token_ids)
slopes = gradients.norm.weight  # (C,): the derivatives for the gains of the final norm
index, changes, losses = np.argmax(np.abs(slopes)), np.linspace(-10, 10, 21), []
for change in changes:
    gain = model.norm.weight + change * (np.arange(len(slopes)) == index)  # one weight changes
    changed = model.replace(norm=model.norm.replace(weight=gain.astype(np.float32)))
    losses.append(float(tinyslm.next_token_loss(changed, token_ids)))
figure, axes = plt.subplots(figsize=(6.4, 2.8))
lines = {"loss": losses, "tangent": loss + slopes[index] * changes}
show_lines(axes, lines, "change of one weight", "loss, nats per token", changes)
show(
    "Line chart of the loss against the change of one weight. A straight line with the slope of "
    "the derivative touches the curve at change zero."
)

# %% [markdown]
# The loss of the built-in model for one text, as a function of one of its weights. The dashed line is the tangent: its
# slope is the derivative at the weight's present value. It predicts the loss for small changes only.
#
# After this lesson you can
#
# - derive and implement the vector-Jacobian product of an operation;
# - explain reverse-mode automatic differentiation with a tape, and why its order matters;
# - test a gradient against central differences, with a suitable step, dtype and direction.
#
# You need: lesson 02 (the operations of a transformer), the derivative and the chain rule.
#
# ## The gradient of a model
#
# The call of `value_and_grad` above computed the derivatives for all weights:

# %%
parameters = tinyslm.footprint(model).parameters
print(f"loss {loss:.3f} nats per token, and its {parameters:,} derivatives")
for path in (
    "embedding.table",
    "layers.0.attention_norm.weight",
    "layers.0.attention.query.weight",
):
    weight, gradient = (tinyslm.named_arrays(tree)[path] for tree in (model, gradients))
    print(f"{path:32} weight {weight.shape!s:12} gradient {gradient.shape}")

# %% [markdown]
# `value_and_grad` returns the loss and a tree of the same structure as the model, with a derivative instead of each
# weight. This lesson explains how it works.
#
# ## The definition: central differences
#
# A derivative can be estimated from its definition. Increase one weight by a small step $h$, decrease it by $h$, and
# compare the losses:
#
# $$\frac{\partial L}{\partial w} \approx \frac{L(w + h) - L(w - h)}{2h}$$
#
# The truncation error of this *central difference* is proportional to $h^2$. For very small $h$ the two losses agree in
# nearly all digits, and rounding dominates their difference. The next figure shows both effects, for one weight of a
# small linear layer. The error is relative to the derivative that automatic differentiation computes.

# %%
from tinyslm import value_and_grad
from tinyslm.ops import cross_entropy, linear

rng = np.random.default_rng(0)
x, weight = rng.standard_normal((5, 8)), rng.standard_normal((6, 8))
labels = np.array([0, 3, 5, 1, 1])


def small_loss(weight):
    """Five tokens of width 8, a vocabulary of 6."""
    return cross_entropy(linear(x.astype(weight.dtype), weight), labels)


exact = value_and_grad(lambda tree: small_loss(tree[0]))([weight])[1][0][2, 3]

# %%
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


# %%
from setup_lesson import median_milliseconds, use_powers

figure, axes = plt.subplots()
errors = {"float64": difference_error(np.float64), "float32": difference_error(np.float32)}
show_lines(axes, errors, "step h, in units of the weight", "relative error", steps, markers=True)
use_powers(axes)
axes.set_ylim(1e-12, 1e3)
show(
    "Line chart of the relative error of the central difference against the step, both "
    "logarithmic. Both curves first fall from right to left and then rise; float64 reaches a "
    "far smaller error than float32."
)

# %% [markdown]
# From right to left the error decreases by two digits for each digit of $h$, until rounding dominates. In float64,
# eight or nine of 16 digits are correct for a step between $10^{-6}$ and $10^{-4}$. In float32, at most three of 7
# digits are correct. Therefore **gradients are tested in float64**, even if training uses float32.
#
# Central differences are a good test, but too expensive for training: they need two forward passes per weight.

# %% tags=["measured"]
row = token_ids.repeat(6, axis=1)
forward = median_milliseconds(lambda: tinyslm.next_token_loss(model, row), calls=9)
both = median_milliseconds(lambda: value_and_grad(tinyslm.next_token_loss)(model, row), calls=9)
print(f"the loss of {row.shape[1]} tokens: {forward:.0f} ms")
print(f"the loss and all gradients: {both:.0f} ms, {both / forward:.1f} times that")
print(f"all gradients by central differences: {2 * parameters * forward / 3.6e6:.0f} hours")

# %% [markdown]
# Reverse-mode differentiation computes all derivatives in the time of a few forward passes, independent of the number
# of weights. This makes training feasible. In multiplications the factor is three: each linear layer needs one matrix
# product in the forward pass, and two in the backward pass, for the gradients of its input and of its weight.
#
# ## One operation by hand
#
# The RMS norm of lesson 02 scales the vector of each token to a common size. For one token,
#
# $$y_i = w_i\,n_i, \qquad n_i = \frac{x_i}{r}, \qquad r = \sqrt{\tfrac{1}{C}\sum_k x_k^2 + \epsilon}$$
#
# Assume that $\mathrm{d}y_i$ is known: the derivative of the loss with respect to output $i$. (In this project
# $\mathrm{d}y$ always means $\partial L/\partial y$.) The task is to compute $\mathrm{d}w$ and $\mathrm{d}x$.
#
# **The gain.** $w_i$ is multiplied by $n_i$, so $\mathrm{d}w_i = \mathrm{d}y_i\,n_i$ for each token.
#
# **The input.** $x_i$ affects $y_i$ directly, and *all* outputs through $r$. With $\partial r/\partial x_i = x_i / (C
# r) = n_i / C$:
#
# $$\mathrm{d}x_i = \frac{\mathrm{d}y_i w_i}{r} - \sum_k \frac{\mathrm{d}y_k w_k x_k}{r^2}\cdot\frac{n_i}{C} = \frac{1}{r}\Big(\mathrm{d}n_i - n_i \cdot \tfrac{1}{C}\sum_k \mathrm{d}n_k n_k\Big), \qquad \mathrm{d}n_i = \mathrm{d}y_i w_i$$
#
# In NumPy these are two lines. The next cell compares them with central differences, for four tokens of width 4:

# %%
x = rng.standard_normal((4, 4)) * [[1], [2], [0.5], [1]]
gain = np.array([1.0, 2.0, 0.5, 1.5])
dy = np.round(rng.standard_normal((4, 4)), 1)  # assumed to be given

r = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)
normalized, dn = x / r, dy * gain
dx = (dn - normalized * np.mean(dn * normalized, axis=-1, keepdims=True)) / r  # by hand


def norm(x):
    """RMS norm with the gain above."""
    return gain * x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def central_differences(function, x, direction):
    """Derivatives of sum(direction * function(x)) with respect to each element of x."""
    derivatives = np.empty_like(x)
    for index in np.ndindex(x.shape):
        h = np.zeros_like(x)
        h[index] = 1e-6
        derivatives[index] = np.sum(direction * (function(x + h) - function(x - h))) / 2e-6
    return derivatives


# %%
from setup_lesson import show_matrix

measured = central_differences(norm, x, dy)
figure, panels = plt.subplots(1, 4, figsize=(8.2, 2.3))
titles = ("x: 4 tokens", "dy, given", "dx by hand", "dx by differences")
for axes, matrix, title in zip(panels, (x, dy, dx, measured), titles):
    show_matrix(axes, matrix, title, "{:.2f}")
show(
    "Four matrices with a row per token: x, dy, dx by hand and dx by differences. The last two "
    "show the same numbers."
)
print("they agree to nine digits:", np.allclose(dx, measured, rtol=1e-8, atol=1e-9))
print("x . dx of each token:", " ".join(f"{abs(value):.3f}" for value in np.sum(x * dx, axis=-1)))

# %% [markdown]
# The last line shows a property of the norm: the gradient is orthogonal to $x$. Multiplying a token's vector by a
# factor does not change the output, because the norm divides by the same factor (except for the small effect of
# $\epsilon$).
#
# ## Vector-Jacobian products
#
# The *Jacobian* contains the derivatives of all outputs with respect to all inputs. For one of the four tokens it is a
# 4 by 4 matrix. The result above is the row vector $\mathrm{d}y$ times this matrix:

# %%
token = 1
jacobian = (np.diag(gain) - np.outer(gain * normalized[token], normalized[token]) / 4) / r[token]
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(6.4, 2.3))
show_matrix(left, dy[token][None], "dy of one token", "{:.2f}")
show_matrix(middle, jacobian, "Jacobian: output (row) by input", "{:.2f}")
show_matrix(right, (dy[token] @ jacobian)[None], "dy times Jacobian: dx", "{:.2f}")
show(
    "Three matrices: the row vector dy of one token, the square Jacobian, and their product, "
    "the row vector dx. It equals the row of this token in the previous figure."
)
C, F = model.config.hidden_size, model.config.intermediate_size
entries = (100 * F) * (F * C)
print(f"one feed-forward product, 100 tokens: a Jacobian of {entries:,} numbers for its weight")
print(f"the gradient of that weight: {F * C:,} numbers")

# %% [markdown]
# Only the product is needed, never the matrix. A function that computes the product directly is a **vector-Jacobian
# product** (vjp).
#
# ## The library's function

# %%
from setup_lesson import numbered_source
from tinyslm.ops import rms_norm

print(numbered_source(rms_norm))

# %% [markdown]
# One function contains the output and its vjp, so that the vjp can use intermediate results (`inverse_rms`,
# `normalized`). The lines for `dx` implement the formula above. Two details are new:
#
# - `dweight` is summed over all tokens, because all tokens use the same gain. The section on broadcasting below derives
#   the sum.
# - `offset` is for Gemma, which stores $w - 1$. A constant has no gradient.
#
# `rms_norm(x, gain)` returns the output alone. `rms_norm.with_vjp` returns the output and the vjp:

# %%
output, vjp = rms_norm.with_vjp(x, gain)
library_dx, library_dgain = vjp(dy)
print("the same dx as by hand:", np.allclose(library_dx, dx))
print("dgain:", np.round(library_dgain, 3))

# %% [markdown]
# **In a debugger**: set a breakpoint at the line `dnormalized = dy * gain` in `tinyslm/ops/normalization.py`. Inspect
# the shapes of `dy`, `normalized` and `inverse_rms`, and `along`, the component of the gradient along the token's
# vector.
#
# ## The tape
#
# A model is a composition of such operations. By the chain rule, the gradient is computed in reverse order: each vjp
# takes the gradient of its output and returns the gradients of its inputs. To record the order, every operation appends
# an entry to a *tape* during the forward pass. The decorator `@differentiable` implements this (`tinyslm/autodiff.py`):

# %%
from tinyslm import differentiable

print(numbered_source(differentiable))

# %% [markdown]
# The next cell prints a complete tape of a model with one layer. It creates the tape in the same way as
# `value_and_grad`. The inputs of each entry are indices of earlier entries, or weights.

# %%
from tinyslm.autodiff import Traced
from tinyslm.models.builder import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.tree import map_parameters, named_parameters


def record_tape(model):
    """The tape of the model's loss on the text, the traced weights by path, and the traced loss."""
    tape = []
    leaves = {id(array): Traced(array, tape) for array in named_parameters(model).values()}
    traced_model = map_parameters(lambda path, array: leaves[id(array)], model)
    loss = tinyslm.next_token_loss(traced_model, token_ids)
    return tape, {path: leaves[id(array)] for path, array in named_parameters(model).items()}, loss


tiny = random_model(llama_shape(1536, 16, 32, 1, 2, 1), dtype=np.float64)
tape, weights, traced = record_tape(tiny)
names = {leaf: path for path, leaf in weights.items()}
# The qualified name of a vjp begins with the name of its operation.
operations = [vjp.__qualname__.split(".")[0] for _, _, vjp in tape]
number = {result: index for index, (result, _, _) in enumerate(tape)}
for index, (result, inputs, _) in enumerate(tape):
    traced_inputs = [each for each in inputs if isinstance(each, Traced)]
    sources = [str(number.get(each, names.get(each))) for each in traced_inputs]
    print(f"{index:3}  {operations[index]:18} {result.shape!s:14} of {', '.join(sources)}")

# %% [markdown]
# The same tape as a graph, without the weights. Each arc leads from the entry that computes a value to an entry that
# uses it. The two long arcs are the residual stream. If several arcs start at a value, its gradient is a sum of several
# terms.

# %%
figure, axes = plt.subplots(figsize=(7.6, 3.2))
angle = np.linspace(0, np.pi, 40)
for index, (_, inputs, _) in enumerate(tape):
    for source in (number[each] for each in inputs if isinstance(each, Traced) and each in number):
        middle, radius = (index + source) / 2, (index - source) / 2
        arc = middle - radius * np.cos(angle), radius * np.sin(angle)
        axes.plot(*arc, color="#0072b2", linestyle="-", linewidth=1)
axes.plot(range(len(tape)), np.zeros(len(tape)), "o", color="black", markersize=4)
axes.set(ylim=(-0.5, 8), yticks=[], xticks=range(len(tape)))
axes.set_xticklabels(operations, rotation=90)
axes.set_title("forward: left to right, backward: right to left", fontsize=9)
axes.grid(False)
axes.spines[:].set_visible(False)
show(
    "Graph of the tape: the operations from left to right, with an arc from each to the "
    "operations that use its value. All arcs lead to the right. Two long arcs lead to the "
    "additions: the residual stream."
)

# %% [markdown]
# All arcs lead to the right, because an operation can only use values that exist already. Such an order is
# *topological*, and the tape has it without sorting. `backward` processes the tape from the right, so it reaches every
# value after all operations that use it:

# %%
from tinyslm.autodiff import backward

print(numbered_source(backward))

# %% [markdown]
# `gradients` contains the sums of the gradients computed so far. `tape.pop()` returns the last entry. At this time all
# uses of its result have been processed, so its gradient is complete.
#
# **In a debugger**: set a breakpoint at the line `upstream = gradients.pop(result, None)` in `tinyslm/autodiff.py` and
# watch `len(gradients)`. It stays small, because the gradient of an intermediate value is removed after use. At the end
# only the gradients of the weights remain.
#
# ## Why the order matters
#
# The smallest example is a residual connection: $a = 2w$, $y = a + a^2$. The value $a$ is used twice. Its gradient is a
# sum of two terms, 1 from the addition and $2a$ from the square. Only the complete sum may be propagated to $w$.

# %%
from tinyslm.autodiff import add, multiply


def small_tape():
    """The tape of y = a + a^2 with a = 2w, at w = 3; also w and y."""
    tape = []
    w = Traced(np.array(3.0), tape)
    a = multiply(w, 2.0)
    y = add(a, multiply(a, a))
    return tape, w, y


tape, w, y = small_tape()
print("as recorded:            dw =", backward(tape, y)[w])
tape, w, y = small_tape()
tape[0], tape[1] = tape[1], tape[0]  # backward now processes a before the square
print("two entries exchanged:  dw =", backward(tape, y)[w])
ends = [2 * w + (2 * w) ** 2 for w in (3.001, 2.999)]
print("by central differences: dw =", round((ends[0] - ends[1]) / 0.002, 3))

# %% [markdown]
# With the exchanged entries no error is raised. The gradient of $a$ is propagated when it contains only the term of the
# addition; the term of the square is lost. The next cell makes the same mistake in the built-in model: in *one* block
# the entry of the first addition is moved, so that the gradient through the feed-forward layer is lost.

# %%
tape, weights, traced = record_tape(model)
additions = [i for i, entry in enumerate(tape) if entry[2].__qualname__.startswith("add.")]
right_gradients = backward(tape, traced)
paths = [f"layers.{i}.attention.value.weight" for i in range(model.config.num_hidden_layers)]
errors = {}
for block in (1, 3, 5):
    tape, leaves, traced = record_tape(model)
    first, second = additions[2 * block], additions[2 * block + 1]
    # Move the first addition behind all entries that use it, except the second addition.
    tape.insert(second - 1, tape.pop(first))
    gradients = backward(tape, traced)
    errors[f"wrong order in block {block}"] = [
        np.linalg.norm(gradients[leaves[path]] - right_gradients[weights[path]])
        / np.linalg.norm(right_gradients[weights[path]])
        for path in paths
    ]
figure, axes = plt.subplots()
x_label, y_label = "layer", "relative error of the value projection's gradient"
show_lines(axes, errors, x_label, y_label, markers=True)
axes.set_ylim(0, None)
show(
    "Line chart of the relative error of a gradient in each layer, for a wrong order in block "
    "1, 3 or 5. The error is large from the first layer up to the block with the mistake, and "
    "zero in the layers after it."
)

# %% [markdown]
# In the layers after the block with the mistake all gradients are correct. From that block down to the first they have
# large relative errors. The loss and all shapes are correct, and nothing reports the mistake.
#
# **Is a tape necessary?** An alternative follows every path from the loss to the weights and adds up their
# contributions. This gives the same gradient, but each residual connection doubles the number of paths:


# %%
def count_vjp_calls(blocks):
    """Calls of a vjp if every path is followed separately, and the number of tape entries."""
    tape = []
    x = Traced(np.ones(2), tape)
    for _ in range(blocks):
        x = add(x, multiply(x, 0.5))
    calls = {}  # of each result: the vjp calls from it down to the input
    for result, inputs, _ in tape:
        calls[result] = 1 + sum(calls.get(each, 0) for each in inputs if isinstance(each, Traced))
    return calls[x], len(tape)


# %%
blocks = np.arange(1, 25)
per_path, entries = np.array([count_vjp_calls(n) for n in blocks]).T
figure, axes = plt.subplots()
lines = {"path by path": per_path, "along the tape": entries}
show_lines(axes, lines, "residual connections", "calls of a vjp", blocks)
use_powers(axes, "y")
show(
    "Line chart of the calls of a vjp against the number of residual connections, on a "
    "logarithmic axis. Path by path they grow exponentially; along the tape they grow in "
    "proportion."
)
depth = len(additions)
print(f"{depth} residual connections, as in the teacher:")
print(f"{per_path[depth - 1]:,} calls path by path, {entries[depth - 1]} along the tape")

# %% [markdown]
# ## Broadcasting in the forward pass is a sum in the backward pass
#
# `y = x + b` adds the same bias to every token: NumPy *broadcasts* the four numbers to four rows. A change of $b_j$
# changes $y_j$ in every row, so the derivative is the sum over the rows.

# %%
bias = np.array([0.1, -0.2, 0.3, 0.0])
_, vjp = add.with_vjp(x, bias)
_, dbias = vjp(dy)
figure, (left, right) = plt.subplots(1, 2, figsize=(4.6, 2.3))
show_matrix(left, dy, "dy: four tokens")
show_matrix(right, dbias[None], "dbias: sum over the tokens")
show(
    "Two matrices: dy with one row for each of four tokens, and dbias with one row, in which "
    "every number is the sum of a column of dy."
)

# %% [markdown]
# The general rule is one function: sum over every axis that broadcasting added or stretched.

# %%
from tinyslm.autodiff import sum_to_shape

print(numbered_source(sum_to_shape))

# %% [markdown]
# Without the sum NumPy raises no error. It broadcasts once more, and the updated bias has another shape, one bias per
# token:

# %%
forgotten = bias - 0.1 * dy  # dy instead of its sum
print("the bias was", bias.shape, "and after one step is", forgotten.shape)

# %% [markdown]
# Therefore `check_gradient`, below, compares shapes first.
#
# ## Shared weights: the gradients are added
#
# The same rule applies to a shared weight. The built-in model uses one table twice (*tied embeddings*): the embedding
# looks up its rows, and the output projection multiplies the final hidden states by the same rows. A change of the
# table affects both, so its derivative is the sum of both gradients. To compute the two terms separately, copy the
# table for the output projection:

# %%
from tinyslm.modules import Linear

untied = model.replace(head=Linear(model.embedding.table.copy()))
tied_gradients = value_and_grad(tinyslm.next_token_loss)(model, token_ids)[1]
parts = value_and_grad(tinyslm.next_token_loss)(untied, token_ids)[1]
lookup, head = parts.embedding.table, parts.head.weight  # (V, C) each
equal = np.allclose(lookup + head, tied_gradients.embedding.table, atol=1e-5)
print("the sum of both is the gradient of the shared table:", equal)
for name, part in (("embedding", lookup), ("head", head)):
    rows = np.count_nonzero(np.any(part != 0, axis=1))
    print(f"{name:10} rows with a gradient: {rows:5} of {len(part)}")

# %%
from setup_lesson import show_bars

ids, counts = np.unique(token_ids, return_counts=True)
norms = np.linalg.norm([lookup[ids], head[ids]], axis=-1)  # (2, tokens): of each row's gradient
order = np.argsort(-norms.sum(axis=0))
pieces = [tokenizer.decode([token]).strip() if token else "(end mark)" for token in ids]
pieces = [
    piece if count == 1 else f"{piece} ({count} times)" for piece, count in zip(pieces, counts)
]
figure, axes = plt.subplots(figsize=(6.4, 3.6))
bars = {"embedding": norms[0, order], "head": norms[1, order]}
show_bars(axes, bars, [pieces[i] for i in order], "norm of the row's gradient")
show(
    "Bars for each token of the text: the norm of its row's gradient through the embedding and "
    "through the head. The bars of the head are near zero for the tokens that the model "
    "predicted with near certainty."
)

# %% [markdown]
# The embedding's gradient is non-zero only in rows of tokens that occur in the text; for a token that occurs several
# times it is the sum over the occurrences. The head's gradient is non-zero in every row, because every token of the
# vocabulary has a probability. The figure shows the tokens of the text. The bar of the head is near zero where the
# model predicted the token with near certainty: `y` after `s`, and `now`.
#
# ## Testing gradients
#
# A wrong gradient raises no exception, and training may still reduce the loss. Therefore the tests of this project
# compare every operation with central differences:

# %%
from tinyslm import check_gradient

print(numbered_source(check_gradient))

# %% [markdown]
# The loop computes central differences. The important line is the one with `direction`. An operation has many outputs,
# and a difference compares one number. The simplest choice is the sum of the outputs. The next cell defines an
# operation whose mistake the sum does not detect: a layer norm, which subtracts the mean and divides by the standard
# deviation. Its vjp treats the standard deviation as a constant.


# %%
@differentiable
def careless_norm(x):
    """(x - mean) / deviation. The vjp wrongly treats the deviation as a constant."""
    deviation = np.std(x, axis=-1, keepdims=True)
    output = (x - np.mean(x, axis=-1, keepdims=True)) / deviation

    def vjp(dy):
        return ((dy - np.mean(dy, axis=-1, keepdims=True)) / deviation,)

    return output, vjp


# %%
figure, panels = plt.subplots(2, 2, figsize=(4.8, 4.6))
directions = {
    "sum": np.ones((4, 4)),
    "random direction": np.random.default_rng(1).standard_normal((4, 4)),
}
for (left, right), (name, direction) in zip(panels, directions.items()):
    by_vjp = careless_norm.with_vjp(x)[1](direction)[0]
    show_matrix(left, np.round(by_vjp, 6), f"{name}: its vjp", "{:.2f}")
    measured = central_differences(careless_norm, x, direction)
    show_matrix(right, np.round(measured, 6), f"{name}: differences", "{:.2f}")
show(
    "Four matrices. In the upper row, for the sum of the outputs, the vjp and the differences "
    "are both zero. In the lower row, for a random direction, they contain different numbers."
)

# %%
from tinyslm.ops import layer_norm

passes = check_gradient(careless_norm, x) < 1e-6
print("check_gradient accepts the careless norm:", passes)
passes = check_gradient(layer_norm, x, np.ones(4), np.zeros(4)) < 1e-6
print("check_gradient accepts layer_norm:       ", passes)

# %% [markdown]
# The outputs of the norm sum to zero for every input. So the gradient of the sum is zero, and the careless vjp returns
# zero too. The comparison passes although the vjp is wrong. Softmax, whose outputs sum to one, has the same problem. A
# **random direction** does not: an error remains undetected only if it is orthogonal to the direction, which has
# probability zero.
#
# The next cells test several operations of the library, and some with typical mistakes.

# %%
from tinyslm import ops

heads, keys = rng.standard_normal((1, 5, 2, 4)), rng.standard_normal((1, 5, 1, 4))
logits, rows = rng.standard_normal((5, 6)), rng.standard_normal((3, 4))
row_ids = np.array([2, 0, 2])
right_operations = {
    "linear": (linear, (x, rows, np.zeros(3))),
    "rms_norm": (rms_norm, (x, gain)),
    "layer_norm": (layer_norm, (x, gain, bias)),
    "silu": (ops.silu, (x,)),
    "gated": (ops.gated, (x, dy)),
    "attention": (ops.attention, (heads, keys, keys[::-1] + 1)),
    "embedding": (ops.embedding, (row_ids, rows)),
    "cross_entropy": (cross_entropy, (logits, labels)),
}


# %%
def mistaken(operation, change):
    """An operation with the right output and a changed vjp."""

    def function(*inputs, **settings):
        output, vjp = operation.with_vjp(*inputs, **settings)
        return output, lambda dy: change(vjp(dy))

    return differentiable(function)


mean_over_tokens = mistaken(linear, lambda d: (d[0], d[1] / len(x), d[2]))
scale_forgotten = mistaken(ops.attention, lambda d: (2 * d[0], *d[1:]))
last_one_wins = mistaken(ops.embedding, lambda d: (None, d[1] * [[1], [1], [0.5]]))
wrong_factor = mistaken(ops.silu, lambda d: (1.01 * d[0],))
wrong_operations = {
    "careless norm": (careless_norm, (x,)),
    "linear, mean over tokens": (mean_over_tokens, (x, rows, np.zeros(3))),
    "attention, scale forgotten": (scale_forgotten, (heads, keys, keys + 1)),
    "embedding, last one wins": (last_one_wins, (row_ids, rows)),
    "silu, off by 1 %": (wrong_factor, (x,)),
}

# %%
errors = {}
for name, (operation, inputs) in (right_operations | wrong_operations).items():
    settings = {"scale": 0.5} if name.startswith("attention") else {}
    errors[name] = max(check_gradient(operation, *inputs, **settings), 1e-12)
figure, axes = plt.subplots(figsize=(6.4, 3.8))
right = [error < 1e-6 for error in errors.values()]
for index, (error, good) in enumerate(zip(errors.values(), right)):
    marker, color = ("o", "#0072b2") if good else ("X", "#d55e00")
    axes.plot(error, index, marker, color=color, markersize=8)
axes.axvline(1e-6, color="#555555", linestyle=(0, (8, 3)))
use_powers(axes, "x")
axes.set(xlim=(1e-12, 2), yticks=range(len(errors)), yticklabels=list(errors))
axes.set_xlabel("relative error of the gradient (check_gradient); dashed line: 1e-6")
axes.invert_yaxis()
show(
    "Dot plot of the error of the gradient of each operation, on a logarithmic axis. All "
    "correct operations are far to the left of the dashed limit, all operations with a mistake "
    "are far to the right of it."
)
print(f"{sum(right)} right, {len(right) - sum(right)} wrong")

# %% [markdown]
# Correct gradients agree in eight digits or more; wrong ones differ in the first three. There is nothing between, so
# the choice of the threshold is easy.
#
# **A whole model.** All weights can be changed at once, along a random direction $u$. The central difference must equal
# $\langle \mathrm{d}w, u\rangle$. This test needs only two forward passes:

# %%
from tinyslm.tree import map_arrays

loss_function = value_and_grad(tinyslm.next_token_loss)
gradients = named_parameters(loss_function(tiny, token_ids)[1])
for seed in range(3):
    directions = {
        path: np.random.default_rng([seed, index]).standard_normal(array.shape)
        for index, (path, array) in enumerate(named_parameters(tiny).items())
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
# ## Questions
#
# **Why does training need much more memory than inference?** Every vjp keeps arrays of the forward pass until
# `backward` calls it. Without a tape no array is kept:

# %% tags=["measured"]
import tracemalloc


def peak_megabytes(function):
    """Peak memory that a call allocates, in MB."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


batch = np.tile(token_ids, (8, 8))[:, :128]
weight_megabytes = tinyslm.footprint(model).bytes / 1e6
print(f"{batch.shape[0]} rows of {batch.shape[1]} tokens; weights: {weight_megabytes:.0f} MB")
alone = peak_megabytes(lambda: tinyslm.next_token_loss(model, batch))
with_gradients = peak_megabytes(lambda: loss_function(model, batch))
print(f"the loss alone:         {alone:5.0f} MB more")
print(f"the loss and gradients: {with_gradients:5.0f} MB more")

# %% [markdown]
# **Why not one tape entry per `+` and `exp`?** This is possible, and each rule is simpler. But the tape would be many
# times longer, and each entry costs a Python call and keeps an array. With one entry per layer-level operation the tape
# is short enough to read:

# %%
tape, _, _ = record_tape(model)
print(f"entries on the teacher's tape: {len(tape)}, for {model.config.num_hidden_layers} layers")

# %% [markdown]
# **Why are the gradients of weights so small?** They are derivatives of a *mean* over tokens, and each weight is one of
# many. Their magnitudes differ by several powers of ten, also within one matrix. The next lesson shows how an optimizer
# handles this:

# %%
from setup_lesson import show_histogram

figure, axes = plt.subplots()
gradients = tinyslm.named_arrays(tied_gradients)
magnitudes = {
    path: np.log10(np.abs(gradients[path]) + 1e-12)
    for path in (
        "layers.0.attention.query.weight",
        "layers.0.feed_forward.up.weight",
        "layers.5.attention.value.weight",
    )
}
show_histogram(axes, magnitudes, "log10 of the gradient's magnitude", limit=8)
axes.set_xlim(-8, 0)
show(
    "Histograms of the logarithm of the gradient's magnitude, for three weight matrices. The "
    "three are similar, and each extends over several powers of ten."
)

# %% [markdown]
# ## Summary
#
# - A vector-Jacobian product computes the gradients of an operation's inputs from the gradient of its output, without
#   the Jacobian.
# - The tape records operations in topological order; `backward` processes it in reverse. Two exchanged entries changed
#   a derivative from 26.0 to 2.0 without an error message.
# - Broadcasting and sharing in the forward pass become sums in the backward pass.
# - Gradients are tested in float64 with central differences along a random direction: the test accepted 8 operations
#   and rejected the 5 with mistakes.
# - The teacher's loss needs 118 tape entries for 6 layers.
#
# The code: `tinyslm/autodiff.py`, `tinyslm/ops/normalization.py`, `tinyslm/ops/embedding.py`,
# `tinyslm/ops/cross_entropy.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("rms-norm")

# %% tags=["exercise"]
exercise("embedding-gradient")

# %% tags=["exercise"]
exercise("cross-entropy")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Derive that the gradient of the cross entropy with respect to the logits is the softmax minus the one-hot label.
# 2. Write `softcap(x) = cap * tanh(x / cap)` with its vjp and test it. For which `x` does its gradient vanish?
# 3. Change one sign or one factor in the vjp of `attention` in a copy of `tinyslm/ops/attention.py`. Does a training of
#    `tiny` with 50 steps reveal it? Does `check_gradient`?
#
# ## Sources
#
# - Griewank & Walther 2008, *Evaluating derivatives*, second edition, section 3.2: the backward pass over a tape.
# - Baydin, Pearlmutter, Radul & Siskind 2018, *Automatic differentiation in machine learning: a survey*.
# - Zhang & Sennrich 2019, *Root mean square layer normalization*.
# - Press & Wolf 2017, *Using the output embedding to improve language models*: tied embeddings.
