# %% [markdown]
# # Quantization
#
# A weight is stored in 32 bits, and the model would hardly notice if most of them were missing. Quantization asks:
# **how few bits per number are enough, and how does one multiply with them?** The answer for weights is "surprisingly
# few". For what flows between the layers it depends on a handful of features.
#
# You need: lesson 02 (linear layers and norms), lesson 04 (the loss and its floor), lesson 06 (a teacher), lesson 07
# (the Hessian `X^T X`).

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinyslm
from tinyslm.evaluation import measure_loss
from tinyslm.recipes import (
    Calibration,
    Quantize,
    QuantizeFormat,
    QuantizeGPTQ,
    QuantizeOutlierAware,
    Smooth,
    TrainQuantized,
    compress,
)
from tinyslm.reporting.pictures import (
    show_frontier,
    show_histogram,
    show_lines,
    show_matrix,
    use_lesson_style,
)
from tinyslm.reporting.source import numbered_source
from tinyslm.reporting.summary import summary
from tinyslm.text.corpus import town_corpus

use_lesson_style()
model, tokenizer = tinyslm.load("teacher")
corpus = town_corpus(tokenizer, end_id=0, training=200, validation=50)
calibration = Calibration(corpus.training, model, statistics_documents=24)
print(summary({"dense": model}, corpus))

# %% [markdown]
# That is the baseline. Four bytes per parameter are its memory.
#
# ## Look at the numbers
#
# The weights of one layer, and the largest magnitude in each of its rows. A row makes one output.

# %%
weight = model.layers[2].feed_forward.up.weight  # (F, C): y = x W^T
figure, (left, right) = plt.subplots(1, 2)
show_histogram(left, {"weights": weight}, "weight (without unit)", limit=0.3)
largest = np.sort(np.max(np.abs(weight), axis=1))
show_lines(right, {"rows": largest}, "row, in order of its largest magnitude", "largest magnitude")
right.set_ylim(bottom=0)
plt.show()
print(f"largest of all {largest[-1]:.3f}, of the middle row {np.median(largest):.3f}, "
      f"standard deviation {weight.std():.3f}")  # fmt: skip

# %% [markdown]
# ## The idea, on a matrix of 4 by 4
#
# A *code* is a small integer; the *scale* says how much one step of it is worth. With 3 bits, symmetric, the codes are
# -3 to 3. The largest magnitude gets the outermost code, which fixes the scale, and every weight goes to the nearest
# code.

# %%
from tinyslm.compression.quantization import affine_parameters, code_range, encode, quantize

small = np.array(
    [[0.9, -0.1, 0.3, 0.2], [-0.4, 0.1, 0.7, -0.6], [0.1, 0.5, -0.2, 0.8], [-0.3, 0.2, 0.1, 0.4]]
)
stored = quantize(small, bits=3)
back = stored.dequantize()
figure, axes = plt.subplots(1, 4, figsize=(7.4, 2.2))
show_matrix(axes[0], small, "weights")
show_matrix(axes[1], stored.codes, f"codes (scale {float(stored.scale):.1f})", "{:.0f}")
show_matrix(axes[2], back, "scale times code")
show_matrix(axes[3], back - small, "error", limit=0.9)
plt.show()

# %% [markdown]
# No error is larger than half a step. Seen as a function, rounding is a staircase. Weights lie around zero; what a
# layer puts out may not, and then symmetric codes waste a side. A *zero point* shifts the staircase: it is the code
# that stands for 0.

# %%
x = np.linspace(-0.6, 2.2, 701)
lowest, highest = np.float64(-0.3), np.float64(2.0)
stairs = {}
for name, symmetric in (("symmetric", True), ("with a zero point", False)):
    scale, zero_point = affine_parameters(lowest, highest, bits=3, symmetric=symmetric)
    codes = encode(x, scale, zero_point, bits=3, symmetric=symmetric)
    stairs[name] = scale * (codes - zero_point)
    inside = (x >= lowest) & (x <= highest)
    error = np.sqrt(np.mean(np.square(stairs[name] - x)[inside]))
    codes_of = code_range(3, symmetric)
    print(f"{name:17}  scale {scale:.3f}  zero point {zero_point:2}  codes {codes_of}"
          f"  root mean square error from -0.3 to 2: {error:.3f}")  # fmt: skip
figure, axes = plt.subplots()
show_lines(axes, {"exact": x} | stairs, "number", "what becomes of it", x)
plt.show()

# %% [markdown]
# The steps of the second staircase are finer, because all eight codes lie where the numbers are. It passes through 0
# exactly, as every staircase here does: a weight that was pruned must stay 0. And it ends: what lies outside is
# clipped.
#
# ## The library's function, taken apart

# %%
print(numbered_source(quantize))
print()
print(numbered_source(affine_parameters))
print()
print(numbered_source(encode))

# %% [markdown]
# Three lines hold what one gets wrong. `initial=0` makes 0 part of every range. The zero point is *rounded*: with a
# fractional one, 0 would not be representable. And it is `int32`, not `int8`: a difference of two int8 codes needs nine
# bits, and NumPy wraps around without a word.

# %%
print(
    "code 127 minus zero point -128, in int8: ",
    np.array([127], np.int8) - np.array([-128], np.int8),
)
print(
    "the same in int32:                       ",
    np.array([127], np.int32) - np.array([-128], np.int32),
)

# %% [markdown]
# **In a debugger**: set a breakpoint in `affine_parameters` (`tinyslm/compression/quantization/affine.py`), at the line
# of `zero_point`, and look at `low_code`, `lowest`, `scale`, and at `low_code - lowest / scale` before it is rounded.
#
# ## One scale for how many?
#
# One scale for the whole matrix must cover its largest weight. One per row, or per group of neighbours in a row, covers
# less, and its steps are finer. Scales take room too, so the honest price is bits per weight with everything included.

# %%
ways = {
    "tensor": {},
    "row": {"axis": 0},
    "group of 64": {"group_size": 64},
    "group of 16": {"group_size": 16},
}
print("one scale per   bits per weight   error at 4 bits (share of the norm)")
for name, settings in ways.items():
    each = quantize(weight, bits=4, **settings)
    cost = 4 + 32 * each.scale.size / weight.size
    error = np.linalg.norm(each.dequantize() - weight) / np.linalg.norm(weight)
    print(f"{name:15} {cost:15.2f} {error:18.3f}")

# %% [markdown]
# ## Which range?
#
# An *outlier* is a number far from all others. If the range covers it, the steps become coarse for everybody. If it is
# clipped, it alone is wrong. The best place to cut depends on how many bits there are: below, the error of the weights
# of this layer together with one weight of 1.5, against where the range ends.

# %%
from tinyslm.compression.quantization import choose_range

numbers = np.append(weight.reshape(-1), np.float32(1.5))


def clipped_error(limit, bits):
    """Root mean square error when the codes cover -limit to limit."""
    scale, zero_point = affine_parameters(np.float32(-limit), np.float32(limit), bits=bits)
    return np.sqrt(
        np.mean(np.square(scale * encode(numbers, scale, zero_point, bits=bits) - numbers))
    )


limits = np.geomspace(0.05, 1.5, 40)
figure, axes = plt.subplots()
curves = {
    f"{bits} bits": [1000 * clipped_error(limit, bits) for limit in limits] for bits in (3, 4, 6, 8)
}
show_lines(axes, curves, "where the range ends", "error, thousandths", limits)
axes.set(xscale="log", yscale="log")
axes.set_xticks(
    [0.05, 0.1, 0.2, 0.5, 1, 1.5], ["0.05", "0.1", "0.2", "0.5", "1", "1.5"], minor=False
)
axes.set_yticks([1, 3, 10, 30], ["1", "3", "10", "30"], minor=False)
axes.minorticks_off()
plt.show()
print("method               range at 4 bits   error, thousandths")
for method in ("min_max", "percentile", "mean_square_error", "entropy"):
    _, limit = choose_range(numbers, method, bits=4)
    print(f"{method:20} {limit:15.3f} {1000 * clipped_error(limit, 4):19.2f}")

# %% [markdown]
# Each curve falls while clipping gets rarer, and rises when the steps become too coarse. The fewer the bits, the
# earlier to cut. `mean_square_error` looks for the lowest point; the others have their own idea of what matters, and a
# percentile does not even ask how many bits there are.
#
# ## Multiplying integers, exactly
#
# If weights *and* inputs are codes, the sum in a matrix product is one of integers, and the scales come in afterwards:
# $y = s_x s_w \sum_k c^x_k c^w_k$. NumPy multiplies small integers, but not as one would think:

# %%
from tinyslm.compression.quantization import affine_matmul, integer_matmul
from tinyslm.compression.quantization.integer_matmul import block_length

rng = np.random.default_rng(0)
codes_x = rng.integers(-128, 128, (3, 3000)).astype(np.int8)
codes_w = rng.integers(-128, 128, (2, 3000)).astype(np.int8)
exact = codes_x.astype(np.int64) @ codes_w.astype(np.int64).T
print("exact          ", exact[0])
print("int8 @ int8    ", (codes_x @ codes_w.T)[0], " wrapped around")
print(
    "integer_matmul ",
    integer_matmul(codes_x, codes_w)[0],
    " equal:",
    np.array_equal(integer_matmul(codes_x, codes_w), exact),
)
print(
    "float32(2^24), and the next integer in float32:",
    int(np.float32(2**24)),
    int(np.float32(2**24 + 1)),
)
print(
    "products of two int8 codes that surely add up to at most 2^24:", block_length(np.int8, np.int8)
)

# %% [markdown]
# A float32 holds every integer up to $2^{24}$. So a fast float32 product of codes is exact as long as it is cut into
# blocks that cannot grow larger, and the blocks are added as integers:

# %%
print(numbered_source(integer_matmul))

# %% [markdown]
# Each thread has rows of `w` of its own. They become floating-point numbers a few at a time, so that the wide copies stay
# in its cache: memory sees one byte per weight.
#
# Zero points do not spoil this. $(c^x - z_x)(c^w - z_w)$ multiplied out has four terms, and three of them are sums of
# rows:

# %%
zero_x, zero_w = np.array(7, np.int32), np.array([[-3], [100]], np.int32)  # one, and one per output
corrected = affine_matmul(codes_x, codes_w, zero_x, zero_w)
direct = (codes_x.astype(np.int64) - zero_x) @ (codes_w.astype(np.int64) - zero_w).T
print(
    "the product of the codes plus corrections is the product of the distances:",
    np.array_equal(corrected, direct),
)

# %% [markdown]
# ## How few is too few: a sensitivity scan
#
# Each kind of layer is quantized alone, one scale per row, and the loss is measured.

# %%
from tinyslm.recipes.sensitivity import single_layer_losses

levels = (4, 3, 2)
sample = calibration.sample()[:4]
quantized = {bits: Quantize(bits=bits)(model) for bits in levels}
alone = single_layer_losses(model, quantized, sample)  # {path: {bits: loss}}
kinds = list(dict.fromkeys(path.split(".")[-1] for path in alone))
table = np.array(
    [
        [np.mean([alone[p][bits] for p in alone if p.endswith(kind)]) for bits in levels]
        for kind in kinds
    ]
)
dense = np.mean([tinyslm.next_token_loss(model, task.inputs["token_ids"]) for task in sample])
figure, axes = plt.subplots(figsize=(4.6, 3.2))
show_matrix(axes, 1000 * (table - dense), "loss above dense, thousandths of a nat", "{:.0f}", kinds,
            [f"{bits} bits" for bits in levels])  # fmt: skip
plt.show()

# %% [markdown]
# ## Letting the others make up for it: GPTQ
#
# Rounding to the nearest makes the *weights* as right as possible. **GPTQ** makes the *outputs* right: it rounds column
# by column, and after each one moves the columns that are not rounded yet, by what `X^T X` says about which inputs can
# stand in for which. It is the loop of SparseGPT (lesson 07), with rounding in place of removing.

# %%
from tinyslm.compression.quantization import gptq

rng = np.random.default_rng(4)
inputs = rng.standard_normal((1000, 2)) @ rng.standard_normal((2, 4))
inputs += 0.2 * rng.standard_normal((1000, 4))
nearest = quantize(small, bits=3, axis=0).dequantize()
moved = gptq(small, inputs.T @ inputs, bits=3).dequantize()
figure, (left, right) = plt.subplots(1, 2, figsize=(4.6, 2.3))
show_matrix(left, nearest - small, "error, nearest", "{:.2f}", limit=0.4)
show_matrix(right, moved - small, "error, GPTQ", "{:.2f}", limit=0.4)
plt.show()
for name, each in {"nearest": nearest, "GPTQ": moved}.items():
    outputs = np.linalg.norm(inputs @ (each - small).T) / np.linalg.norm(inputs @ small.T)
    weights = np.linalg.norm(each - small) / np.linalg.norm(small)
    print(f"{name:8} error of the weights {weights:.3f}, of the outputs {outputs:.3f}")

# %% [markdown]
# The same on the whole model. Symmetric, so that 2 bits are three codes: -1, 0 and 1.

# %%
bits = (2, 3, 4)


def loss_of(each):
    """Nats per token on the validation documents."""
    return measure_loss(each, corpus.validation).nats


made = {
    "nearest, per tensor": [Quantize(bits=b, per_channel=False)(model) for b in bits],
    "nearest, per row": [Quantize(bits=b)(model) for b in bits],
    "nearest, groups of 32": [Quantize(bits=b, group_size=32)(model) for b in bits],
    "GPTQ, per row": [QuantizeGPTQ(bits=b)(model, calibration) for b in bits],
}
losses = {name: [loss_of(each) for each in models] for name, models in made.items()}
figure, axes = plt.subplots()
show_lines(axes, losses, "bits per weight", "loss, nats per token", bits, corpus.floor.nats, True)
axes.set_xticks(bits)
axes.set(yscale="log", ylim=(0.55, 14))
axes.set_yticks([0.6, 1, 2, 4, 8], ["0.6", "1", "2", "4", "8"])
axes.minorticks_off()
plt.show()
print(f"{'bits':22}" + "".join(f"{each:8}" for each in bits))
for name, (two, three, four) in losses.items():
    print(f"{name:22}{two:8.1f}{three:8.3f}{four:8.3f}")

# %% [markdown]
# At 4 bits everything works. At 3 bits the finer scales matter, and so does GPTQ. At 2 bits without training nothing
# works, and which of the broken models is less broken says little.
#
# ## Levels that do not lie evenly: NormalFloat-4
#
# Weights are crowded around zero, and codes at equal distances spend most of theirs where few weights are.
# **NormalFloat-4** puts its sixteen levels at quantiles of the normal distribution, and 0 among them.

# %%
from tinyslm.compression.quantization import (
    float4_levels,
    integer4_levels,
    normal_float4_levels,
    quantize_to_levels,
)

formats = {"INT4": integer4_levels(), "FP4": float4_levels(), "NF4": normal_float4_levels()}
blocks = weight.reshape(-1, 64)
scaled = blocks / np.max(np.abs(blocks), axis=1, keepdims=True)
figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 3.8), sharex=True, height_ratios=[2, 1])
show_histogram(above, {"weights": scaled}, "", bins=50)
for place, levels_of in enumerate(formats.values()):
    below.plot(
        levels_of,
        np.full(len(levels_of), -place),
        "|",
        color="black",
        markersize=14,
        markeredgewidth=1.5,
    )
below.set(
    yticks=[0, -1, -2],
    yticklabels=formats,
    ylim=(-2.6, 0.6),
    xlabel="weight, as a share of the largest of its 64",
)
plt.show()
print("error at 4 bits, blocks of 64 (share of the norm)")
for name, levels_of in formats.items():
    back = quantize_to_levels(weight, levels_of, 64).dequantize(levels_of)
    print(f"{name:6} {np.linalg.norm(back - weight) / np.linalg.norm(weight):.3f}")

# %% [markdown]
# The spikes at both ends are the largest weight of each block, which is exactly 1 or -1.
#
# ## Activations: the outliers
#
# Weights are well-behaved. In large models some *features* between the layers are many times larger than all others,
# and always the same ones (Dettmers et al. 2022). This small model has none. But it can be given some, without changing
# what it computes: multiply eight gains of every norm by 400, and divide the columns that read them by 400.

# %%
from tinyslm.modules import Linear, RMSNorm
from tinyslm.recipes.quantization.smoothquant import divided_norm, multiplied_columns, norm_readers
from tinyslm.tree import map_modules, named_modules


def with_outliers(model, factor=400.0, count=8):
    """The same function of the tokens, with some features `factor` times larger after each norm."""
    rng = np.random.default_rng(0)
    modules = named_modules(model, Linear | RMSNorm)
    for norm, readers in norm_readers(model):
        scales = np.ones(modules[norm].weight.shape, np.float32)
        scales[rng.permutation(len(scales))[:count]] = 1 / factor
        modules[norm] = divided_norm(modules[norm], scales)
        modules |= {path: multiplied_columns(modules[path], scales) for path in readers}
    return map_modules(lambda path, module: modules[path], model, Linear | RMSNorm)


spiky = with_outliers(model)
smoothed, _ = compress(spiky, [Smooth(alpha=0.5)], calibration)
name = "layers.2.feed_forward_norm"
maxima = {}
for label, each in {"with outliers": spiky, "smoothed": smoothed}.items():
    norm, readers = (
        named_modules(each)[name],
        [each.layers[2].feed_forward.gate, each.layers[2].feed_forward.up],
    )
    maxima[label] = (
        np.abs(norm.weight),
        np.max([np.max(np.abs(r.weight), axis=0) for r in readers], axis=0),
    )
figure, axes = plt.subplots(2, 2, figsize=(6.8, 3.8), sharex=True)
for row, (label, (gains, columns)) in zip(axes, maxima.items(), strict=True):
    for place, values, what in zip(
        row, (gains, columns), ("gain of the norm", "largest weight that reads it")
    ):
        place.vlines(np.arange(len(values)), 0, values, color="black", linewidth=0.6)
        place.set_title(f"{label}: {what}", fontsize=9)
for place in axes[1]:
    place.set_xlabel("feature")
plt.show()

# %% [markdown]
# Above, eight gains tower over all others; whatever these features hold is hundreds of times larger than the rest, and
# a scale per token must cover them. Below, **SmoothQuant** has divided every gain by a scale and multiplied the columns
# that read it by the same: $(X / s)(W s)^T = X W^T$. With $s_j = \sqrt{\max|X_j| / \max|W_j|}$ both sides carry half of
# the difficulty:

# %%
from tinyslm.compression.quantization import smoothing_scales

print(numbered_source(smoothing_scales))

# %% [markdown]
# Weights *and* activations in 8 bits ("W8A8"), activations with one scale per token:

# %%
products = Quantize(dynamic_activations=True)
w8a8 = {
    "dense": model,
    "W8A8": products(model),
    "outliers": spiky,
    "outliers, weights in 8 bits": Quantize()(spiky),
    "outliers, W8A8": products(spiky),
    "outliers, smoothed, W8A8": products(smoothed),
    "outliers apart (LLM.int8)": QuantizeOutlierAware()(spiky, calibration),
}
print(summary(w8a8, corpus))

# %% [markdown]
# The outliers change hardly anything as long as activations stay in floating point. With rounded activations the model
# breaks. Smoothing repairs it, and so does LLM.int8(), which keeps in floating point every feature that exceeds a
# threshold, and the weights that read it; the memory shows the price. Why not one scale per feature, then? Because the
# scale of a feature stands *inside* the sum over features, where integers are added; only what is the same for the
# whole sum can be taken out of it.
#
# ## Distill
#
# What broke at few bits can be trained, with the rounding switched on: in the forward pass every weight is rounded, in
# the backward pass the gradient goes through as if it were not ("straight-through"). The scales are trained too.

# %%
trained, _ = compress(model, [TrainQuantized(steps=20, bits=2, batch_size=10)], calibration)
for name in ("nearest, per row", "GPTQ, per row"):
    print(f"2 bits, {name:17} loss {losses[name][0]:.1f}")
print(f"2 bits, {'trained':17} loss {loss_of(trained):.3f}")
print(f"dense {'':19} loss {loss_of(model):.3f}")

# %% [markdown]
# A model whose weights are three numbers per row (minus the scale, 0, the scale), and a few steps of training bring
# most of it back.
#
# ## The table

# %%
models = {
    "dense": model,
    "8 bits": Quantize()(model),
    "8 bits, products too": w8a8["W8A8"],
    "4 bits, nearest": made["nearest, per row"][2],
    "4 bits, groups of 32": made["nearest, groups of 32"][2],
    "4 bits, GPTQ": made["GPTQ, per row"][2],
    "4 bits, NF4": QuantizeFormat("nf4")(model),
    "3 bits, GPTQ": made["GPTQ, per row"][1],
    "2 bits, trained": trained,
}
print(summary(models, corpus))

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.6))
shown = (
    "dense",
    "8 bits",
    "4 bits, groups of 32",
    "4 bits, GPTQ",
    "3 bits, GPTQ",
    "2 bits, trained",
)
places = {
    name: (tinyslm.footprint(models[name]).bytes / 1e6, loss_of(models[name])) for name in shown
}
show_frontier(axes, places, "memory, millions of bytes (logarithmic)", floor=corpus.floor.nats)
plt.show()

# %% [markdown]
# The embedding keeps 8 bits in all of these models: that is a tenth of the parameters, and it is the output head as
# well.
#
# ## What people ask
#
# **Why is INT8 not faster?** Because NumPy has no product of int8 matrices worth the name. Floating-point products go
# to BLAS, which uses the wide instructions of the processor. Integer products run in a plain loop. So codes are widened
# to float32 first, which costs time, and then multiplied exactly as fast as before.

# %% tags=["measured"]
import time

from tinyslm.compression.quantization import QuantizedLinear, quantize_tokens

rng = np.random.default_rng(0)
large = rng.standard_normal((1024, 1024)).astype(np.float32)
codes = quantize(large, axis=0).codes


def milliseconds(function, calls):
    """The median of some calls."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - began))
    return np.median(times)


print("                                       1 token   64 tokens")
rows = {count: rng.standard_normal((count, 1024)).astype(np.float32) for count in (1, 64)}
rounded = {count: quantize_tokens(x).codes for count, x in rows.items()}
weights_only = QuantizedLinear.from_linear(Linear(large))
both = QuantizedLinear.from_linear(Linear(large), dynamic_activations=True)
for name, function in {
    "float32 @ float32": lambda n: rows[n] @ large.T,
    "int8 @ int8 (wraps around)": lambda n: rounded[n] @ codes.T,
    "int32 @ int32": lambda n: rounded[n].astype(np.int32) @ codes.T.astype(np.int32),
    "integer_matmul": lambda n: integer_matmul(rounded[n], codes),
    "a layer, weights in 8 bits": lambda n: weights_only(rows[n]),
    "a layer, integer products": lambda n: both(rows[n]),
}.items():
    cells = (f"{milliseconds(lambda n=n: function(n), 9):9.2f} ms" for n in rows)
    print(f"{name:34}" + "".join(cells))

# %% [markdown]
# What is saved is memory, and on hardware whose instructions multiply int8, time as well. A program for such hardware
# is exact in the same way, so the losses above are those that it would have.
#
# **Is quantizing the same as pruning small weights?** In part: every weight within half a step of 0 becomes 0.

# %%
for b in (8, 4, 3, 2):
    zeros = quantize(weight, bits=b, axis=0).codes == 0
    print(f"{b} bits per row: {np.mean(zeros):6.1%} of the weights are 0")

# %% [markdown]
# **Does one more bit halve the error?** Half the step, half the error, while nothing is clipped:

# %%
for b in (4, 5, 6, 7, 8):
    error = quantize(weight, bits=b, axis=0).dequantize() - weight
    print(f"{b} bits: error {1000 * np.sqrt(np.mean(np.square(error))):.3f} thousandths")

# %% [markdown]
# ## Exercises
#
# 1. `tinyslm exercise new quantize`: codes, scale and zero point with everything that can go wrong.
# 2. `tinyslm exercise new integer-matmul`: the exact product in blocks.
# 3. `tinyslm exercise new smoothing`: the scales of SmoothQuant.
# 4. Give GPTQ only 4 documents (`Calibration(..., statistics_documents=4)`). What happens at 3 bits, and why?
# 5. Train at 3 bits, with 20 steps and with 100. From when on is it better than GPTQ, which takes no training?
#
# ## Sources
#
# - Jacob et al. 2018, *Quantization and training of neural networks for efficient integer-arithmetic-only inference*.
# - Wu et al. 2020, *Integer quantization for deep learning inference*: choosing ranges.
# - Dettmers, Lewis, Belkada & Zettlemoyer 2022, *LLM.int8()*: outlier features.
# - Xiao et al. 2023, *SmoothQuant: accurate and efficient post-training quantization for large language models*.
# - Frantar, Ashkboos, Hoefler & Alistarh 2023, *GPTQ: accurate post-training quantization for generative transformers*.
# - Dettmers, Pagnoni, Holtzman & Zettlemoyer 2023, *QLoRA*: NormalFloat-4.
# - Esser et al. 2020, *Learned step size quantization*.
