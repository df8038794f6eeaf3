# %% [markdown]
# # Quantization
#
# A float32 weight has 32 bits; most of them have little effect on the output of the model. Quantization stores numbers
# with fewer bits. **How many bits per number are enough, and how are quantized numbers multiplied?** For weights few
# bits are enough. For activations the answer depends on a few features with large values.

# %%
from setup_lesson import np, plt, show, show_histogram, show_lines, tinyslm

model, tokenizer = tinyslm.load("teacher")
weight = model.layers[2].feed_forward.up.weight  # (F, C): y = x W^T
largest = np.sort(np.max(np.abs(weight), axis=1))  # (F,): of each row
figure, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.9))
show_histogram(left, {"weights": weight}, "weight (ticks: the levels of 4 bits)", limit=0.3)
levels = np.arange(-7, 8) * largest[-1] / 7
left.plot(levels, np.full(15, -0.2), "|", color="black", markersize=9)
show_lines(right, {"rows": largest}, "row, sorted by its largest magnitude", "largest magnitude")
right.set_ylim(bottom=0)
show(
    "Left, a histogram of the weights of one layer with the fifteen levels of 4 bits: most "
    "weights are near the middle levels. Right, a line chart of the largest magnitude of each "
    "row: it rises steeply for the last rows."
)
print(f"largest of all {largest[-1]:.3f}, of the median row {np.median(largest):.3f}, "
      f"standard deviation {weight.std():.3f}")  # fmt: skip

# %% [markdown]
# The weights of one layer, and the largest magnitude in each of its rows. A row computes one output feature. With 4
# bits every weight is rounded to one of fifteen levels (the ticks). The largest weight determines the distance of the
# levels, and the levels near it are hardly used.
#
# After this lesson you can
#
# - quantize an array with scale and zero point, per tensor, row or group;
# - multiply integers exactly in NumPy, with correction for zero points;
# - explain GPTQ, SmoothQuant, LLM.int8(), NormalFloat-4 and quantization-aware training, and choose between them.
#
# You need: lesson 02 (linear layers and norms), lesson 04 (the loss and its floor), lesson 06 (distillation), lesson 07
# (the Hessian `X^T X`).
#
# ## The dense model

# %%
from setup_lesson import median_milliseconds, summary, town_corpus, validation_loss
from tinyslm.recipes import Calibration

corpus = town_corpus(tokenizer, end_id=0, training=200, validation=50)
calibration = Calibration(corpus.training, model, statistics_documents=24)
print(summary({"dense": model}, corpus))

# %% [markdown]
# The dense model is the baseline. It takes four bytes per parameter.
#
# ## The idea, on a 4 by 4 matrix
#
# A *code* is a small integer; the *scale* is the distance between two adjacent levels. With 3 bits, symmetric, the
# codes are -3 to 3. The scale is chosen so that the largest magnitude has the largest code, and every weight is rounded
# to the nearest level.

# %%
from setup_lesson import show_matrix
from tinyslm.compression.quantization import affine_parameters, code_range, encode, quantize

small = np.array(
    [[0.9, -0.1, 0.3, 0.2], [-0.4, 0.1, 0.7, -0.6], [0.1, 0.5, -0.2, 0.8], [-0.3, 0.2, 0.1, 0.4]]
)
quantized = quantize(small, bits=3)
dequantized = quantized.dequantize()
figure, axes = plt.subplots(1, 4, figsize=(7.4, 2.2))
show_matrix(axes[0], small, "weights")
show_matrix(axes[1], quantized.codes, f"codes (scale {float(quantized.scale):.1f})", "{:.0f}")
show_matrix(axes[2], dequantized, "scale times code")
show_matrix(axes[3], dequantized - small, "error", limit=0.9)
show(
    "Four matrices: the weights, their codes, scale times code, and the error. The codes are "
    "integers from -3 to 3; the errors are small compared with the weights."
)

# %% [markdown]
# No error exceeds half the scale. Weights are distributed around zero. Activations need not be, and then a symmetric
# range does not use all of its codes. A *zero point* shifts the range: it is the code that represents 0. As functions
# of the input, both are step functions:

# %%
x = np.linspace(-0.6, 2.2, 701)
lowest, highest = np.float64(-0.3), np.float64(2.0)
rounded = {}
for name, symmetric in (("symmetric", True), ("with a zero point", False)):
    scale, zero_point = affine_parameters(lowest, highest, bits=3, symmetric=symmetric)
    codes = encode(x, scale, zero_point, bits=3, symmetric=symmetric)
    rounded[name] = scale * (codes - zero_point)
    inside = (x >= lowest) & (x <= highest)
    error = np.sqrt(np.mean(np.square(rounded[name] - x)[inside]))
    print(f"{name:17}  scale {scale:.3f}  zero point {zero_point:2}  "
          f"codes {code_range(3, symmetric)}  root mean square error {error:.3f}")  # fmt: skip
figure, axes = plt.subplots()
show_lines(axes, {"exact": x} | rounded, "number", "dequantized number", x)
show(
    "Line chart of the dequantized number against the number: two step functions around the "
    "diagonal. With a zero point the steps are smaller; both functions are 0 at 0."
)

# %% [markdown]
# With the zero point the scale is smaller, because all eight codes are used for the range of the numbers. Both
# functions map 0 to exactly 0: a pruned weight must remain 0. Numbers outside the range are clipped.
#
# ## The library's functions
#
# `tinyslm/compression/quantization/affine.py`:

# %%
from setup_lesson import numbered_source

print(numbered_source(quantize))
print()
print(numbered_source(affine_parameters))
print()
print(numbered_source(encode))

# %% [markdown]
# Three details are important. `initial=0` includes 0 in every range. The zero point is *rounded*; otherwise 0 would not
# be representable. The zero point has type `int32`, not `int8`: the difference of two int8 codes needs nine bits, and
# NumPy wraps around without a warning.

# %%
for dtype in (np.int8, np.int32):
    difference = np.array([127], dtype) - np.array([-128], dtype)
    print(f"code 127 minus zero point -128, in {dtype.__name__:5}: {difference}")

# %% [markdown]
# **In a debugger**: set a breakpoint in `affine_parameters` (`tinyslm/compression/quantization/affine.py`), at the line
# of `zero_point`. Inspect `low_code`, `lowest`, `scale`, and `low_code - lowest / scale` before rounding.
#
# ## Granularity: one scale per tensor, row or group
#
# One scale for the whole matrix must cover its largest weight. A scale per row, or per group of adjacent weights in a
# row, covers a smaller range and has a smaller rounding error. The scales need memory too, so the cost is the number of
# bits per weight including the scales.

# %%
granularities = {
    "tensor": {},
    "row": {"axis": 0},
    "group of 64": {"group_size": 64},
    "group of 16": {"group_size": 16},
}
print("one scale per   bits per weight   relative error at 4 bits")
for name, settings in granularities.items():
    each = quantize(weight, bits=4, **settings)
    cost = 4 + 32 * each.scale.size / weight.size
    error = np.linalg.norm(each.dequantize() - weight) / np.linalg.norm(weight)
    print(f"{name:15} {cost:15.2f} {error:18.3f}")

# %% [markdown]
# ## Choosing the range
#
# An *outlier* is a number with a much larger magnitude than the others. If the range includes it, the scale is large
# and all other numbers have large rounding errors. If it is clipped, only the outlier has a large error. The optimal
# range depends on the number of bits. The figure shows the error of this layer's weights, together with one additional
# weight of 1.5, as a function of the range (`tinyslm/compression/quantization/ranges.py`):

# %%
from tinyslm.compression.quantization import choose_range

numbers = np.append(weight.reshape(-1), np.float32(1.5))


def range_error(limit, bits):
    """Root mean square error, in thousandths, if the codes cover -limit to limit."""
    scale, zero_point = affine_parameters(np.float32(-limit), np.float32(limit), bits=bits)
    decoded = scale * encode(numbers, scale, zero_point, bits=bits)
    return 1000 * np.sqrt(np.mean(np.square(decoded - numbers)))


# %%
limits = np.geomspace(0.05, 1.5, 40)
figure, axes = plt.subplots()
curves = {f"{bits} bits": [range_error(each, bits) for each in limits] for bits in (3, 4, 6, 8)}
show_lines(axes, curves, "upper end of the range", "error, thousandths", limits)
axes.set(xscale="log", yscale="log")
for axis, ticks in ((axes.xaxis, [0.05, 0.1, 0.2, 0.5, 1, 1.5]), (axes.yaxis, [1, 3, 10, 30])):
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
axes.minorticks_off()
show(
    "Line chart of the error against the upper end of the range for 3, 4, 6 and 8 bits, both "
    "axes logarithmic. Each curve falls and then rises; with fewer bits its minimum is higher "
    "and at a smaller range."
)
print("method               range at 4 bits   error, thousandths")
for method in ("min_max", "percentile", "mean_square_error", "entropy"):
    _, limit = choose_range(numbers, method, bits=4)
    print(f"{method:20} {limit:15.3f} {range_error(limit, 4):19.2f}")

# %% [markdown]
# Each curve decreases while clipping becomes rarer, and increases when the rounding error dominates. With fewer bits
# the optimal range is smaller. `mean_square_error` searches for the minimum of the curve. The other methods optimize
# other criteria; the percentile does not depend on the number of bits.
#
# ## Exact integer products
#
# If weights *and* inputs are quantized, the matrix product is a sum of integer products, and the scales are applied
# afterwards: $y = s_x s_w \sum_k c^x_k c^w_k$. NumPy can multiply int8 matrices, but the sum overflows:

# %%
from tinyslm.compression.quantization import affine_matmul, integer_matmul
from tinyslm.compression.quantization.integer_matmul import block_length

rng = np.random.default_rng(0)
codes_x = rng.integers(-128, 128, (3, 3000)).astype(np.int8)
codes_w = rng.integers(-128, 128, (2, 3000)).astype(np.int8)
exact = codes_x.astype(np.int64) @ codes_w.astype(np.int64).T
product = integer_matmul(codes_x, codes_w)
print("exact          ", exact[0])
print("int8 @ int8    ", (codes_x @ codes_w.T)[0], " overflow")
print("integer_matmul ", product[0], " equal:", np.array_equal(product, exact))
limit = 2**24
print("2^24 and 2^24 + 1 in float32:", int(np.float32(limit)), int(np.float32(limit + 1)))
longest = block_length(np.int8, np.int8)
print("number of int8 products whose sum is at most 2^24:", longest)

# %% [markdown]
# float32 represents every integer up to $2^{24}$ exactly. So a fast float32 product of codes is exact if the sum is
# split into blocks that cannot exceed this limit; the blocks are added as integers
# (`tinyslm/compression/quantization/integer_matmul.py`):

# %%
print(numbered_source(integer_matmul))

# %% [markdown]
# Each thread computes with its own rows of `w`. It converts a few rows at a time to floating point, so that the
# converted copies fit into its cache; memory holds only one byte per weight.
#
# Zero points can be corrected. The product $(c^x - z_x)(c^w - z_w)$ has four terms; three of them need only sums over
# rows:

# %%
zero_x, zero_w = np.array(7, np.int32), np.array([[-3], [100]], np.int32)  # one, and one per output
corrected = affine_matmul(codes_x, codes_w, zero_x, zero_w)
direct = (codes_x.astype(np.int64) - zero_x) @ (codes_w.astype(np.int64) - zero_w).T
print("the corrected product equals the direct one:", np.array_equal(corrected, direct))

# %% [markdown]
# ## Sensitivity of single layers
#
# The next cell quantizes one layer at a time, with one scale per row, and measures the loss. The matrix shows the mean
# over the layers of each kind.

# %%
from tinyslm.recipes import Quantize
from tinyslm.recipes.sensitivity import single_layer_losses

levels = (4, 3, 2)
sample = calibration.sample()[:4]
models_of = {bits: Quantize(bits=bits)(model) for bits in levels}
alone = single_layer_losses(model, models_of, sample)  # {path: {bits: loss}}
kinds = list(dict.fromkeys(path.split(".")[-1] for path in alone))
table = np.array(
    [
        [np.mean([alone[path][bits] for path in alone if path.endswith(kind)]) for bits in levels]
        for kind in kinds
    ]
)
dense = np.mean([tinyslm.next_token_loss(model, task.inputs["token_ids"]) for task in sample])
figure, axes = plt.subplots(figsize=(4.6, 3.2))
title = "increase of the loss, thousandths of a nat"
columns = [f"{bits} bits" for bits in levels]
show_matrix(axes, 1000 * (table - dense), title, "{:.0f}", kinds, columns)
show(
    "Matrix of the increase of the loss: a row per kind of layer, a column per number of bits. "
    "With 4 and 3 bits the numbers are near zero; with 2 bits they are larger, most of all for "
    "value and output."
)

# %% [markdown]
# ## GPTQ: minimizing the error of the outputs
#
# Rounding to the nearest level minimizes the error of the *weights*. **GPTQ** minimizes the error of the *outputs*. It
# rounds the weights column by column. After each column it updates the columns that are not rounded yet, using the
# correlations of the input features in `X^T X`. This is the loop of SparseGPT (lesson 07), with rounding instead of
# removal (`tinyslm/compression/quantization/gptq.py`, `tinyslm/recipes/quantization/gptq.py`).

# %%
import diagrams

diagrams.gptq()

# %%
from tinyslm.compression.quantization import gptq

rng = np.random.default_rng(4)
inputs = rng.standard_normal((1000, 2)) @ rng.standard_normal((2, 4))
inputs += 0.2 * rng.standard_normal((1000, 4))
nearest = quantize(small, bits=3, axis=0).dequantize()
by_gptq = gptq(small, inputs.T @ inputs, bits=3).dequantize()
figure, (left, right) = plt.subplots(1, 2, figsize=(4.6, 2.3))
show_matrix(left, nearest - small, "error, nearest", "{:.2f}", limit=0.4)
show_matrix(right, by_gptq - small, "error, GPTQ", "{:.2f}", limit=0.4)
show(
    "Two matrices of rounding errors. To the nearest level all errors are small; with GPTQ some "
    "errors in the last column are larger."
)
for name, each in {"nearest": nearest, "GPTQ": by_gptq}.items():
    outputs = np.linalg.norm(inputs @ (each - small).T) / np.linalg.norm(inputs @ small.T)
    weights = np.linalg.norm(each - small) / np.linalg.norm(small)
    print(f"{name:8} relative error of the weights {weights:.3f}, of the outputs {outputs:.3f}")

# %% [markdown]
# The same on the whole model. The codes are symmetric, so 2 bits are three levels: -1, 0 and 1.

# %%
from tinyslm.recipes import QuantizeGPTQ

bits = (2, 3, 4)
by_method = {
    "nearest, per tensor": [Quantize(bits=b, per_channel=False)(model) for b in bits],
    "nearest, per row": [Quantize(bits=b)(model) for b in bits],
    "nearest, groups of 32": [Quantize(bits=b, group_size=32)(model) for b in bits],
    "GPTQ, per row": [QuantizeGPTQ(bits=b)(model, calibration) for b in bits],
}
losses = {
    name: [validation_loss(each, corpus) for each in models] for name, models in by_method.items()
}
print(f"{'bits':22}" + "".join(f"{each:8}" for each in bits))
for name, (two, three, four) in losses.items():
    print(f"{name:22}{two:8.1f}{three:8.3f}{four:8.3f}")

# %%
figure, axes = plt.subplots()
show_lines(axes, losses, "bits per weight", "loss, nats per token", bits, corpus.floor.nats, True)
axes.set_xticks(bits)
axes.set(yscale="log", ylim=(0.55, 14))
axes.set_yticks([0.6, 1, 2, 4, 8], ["0.6", "1", "2", "4", "8"])
axes.minorticks_off()
show(
    "Line chart of the loss against the bits per weight for four methods, on a logarithmic "
    "axis. With 4 bits all are close to the floor, with 3 bits most are slightly higher, with 2 bits "
    "many times higher."
)

# %% [markdown]
# With 4 bits all methods have nearly the loss of the dense model. With 3 bits, finer scales and GPTQ reduce the loss.
# With 2 bits and without training, all losses are so high that their order has little meaning.
#
# ## NormalFloat-4: non-uniform levels
#
# Most weights are close to zero, so equally spaced levels are not optimal. **NormalFloat-4** (NF4) has sixteen levels
# at quantiles of the normal distribution, one of them 0 (`tinyslm/compression/quantization/nf4.py`,
# `tinyslm/recipes/quantization/nf4.py`).

# %%
from tinyslm.compression.quantization import float4_levels, integer4_levels
from tinyslm.compression.quantization import normal_float4_levels, quantize_to_levels

formats = {"INT4": integer4_levels(), "FP4": float4_levels(), "NF4": normal_float4_levels()}
blocks = weight.reshape(-1, 64)
scaled = blocks / np.max(np.abs(blocks), axis=1, keepdims=True)
figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 3.8), sharex=True, height_ratios=[2, 1])
show_histogram(above, {"weights": scaled}, "", bins=50)
for row, levels_of in enumerate(formats.values()):
    heights = np.full(len(levels_of), -row)
    below.plot(levels_of, heights, "|", color="black", markersize=14, markeredgewidth=1.5)
below.set(yticks=[0, -1, -2], yticklabels=formats, ylim=(-2.6, 0.6))
below.set_xlabel("weight divided by the largest magnitude of its block of 64")
show(
    "Above, a histogram of the scaled weights with its peak at zero. Below, the sixteen levels "
    "of INT4, FP4 and NF4: those of INT4 are equally spaced, those of NF4 are closer to each "
    "other near zero."
)
print("relative error at 4 bits, blocks of 64")
for name, levels_of in formats.items():
    decoded = quantize_to_levels(weight, levels_of, 64).dequantize(levels_of)
    print(f"{name:6} {np.linalg.norm(decoded - weight) / np.linalg.norm(weight):.3f}")

# %% [markdown]
# The peaks at both ends are the largest weights of the blocks, which are exactly 1 or -1 after division.
#
# ## Outliers in the activations
#
# Weights have few outliers. In large models some *features* of the activations are many times larger than all others,
# for all tokens (Dettmers et al. 2022). This small model has no such features. They can be added without changing the
# function of the model: multiply eight gains of every norm by 400, and divide the columns that read these features by
# 400.

# %%
from tinyslm.modules import Linear, RMSNorm
from tinyslm.recipes import Smooth, compress
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


outliers = with_outliers(model)
smoothed, _ = compress(outliers, [Smooth(alpha=0.5)], calibration)

# %%
figure, axes = plt.subplots(2, 2, figsize=(6.8, 3.8), sharex=True)
for row, (name, each) in zip(axes, {"with outliers": outliers, "smoothed": smoothed}.items()):
    layer = each.layers[2]
    readers = [layer.feed_forward.gate.weight, layer.feed_forward.up.weight]
    values_of = {
        "gain of the norm": np.abs(layer.feed_forward_norm.weight),
        "largest weight that reads it": np.max(np.abs(np.concatenate(readers)), axis=0),
    }
    for panel, (title, values) in zip(row, values_of.items()):
        panel.vlines(np.arange(len(values)), 0, values, color="black", linewidth=0.6)
        panel.set_title(f"{name}: {title}", fontsize=9)
for panel in axes[1]:
    panel.set_xlabel("feature")
show(
    "Four charts over the features: gains of a norm and the largest weights that read them. "
    "With outliers a few gains are far larger than all others; after smoothing gains and "
    "weights have similar sizes everywhere."
)

# %% [markdown]
# In the upper row eight gains are much larger than all others, so the activations of these features are hundreds of
# times larger, and a scale per token must cover them. In the lower row **SmoothQuant** has divided every gain by a
# scale, and multiplied the columns that read the feature by the same scale: $(X / s)(W s)^T = X W^T$. With $s_j =
# \sqrt{\max|X_j| / \max|W_j|}$ the maxima of activations and weights become equal
# (`tinyslm/compression/quantization/smoothquant.py`, `tinyslm/recipes/quantization/smoothquant.py`):

# %%
from tinyslm.compression.quantization import smoothing_scales

print(numbered_source(smoothing_scales))

# %% [markdown]
# The next table quantizes weights *and* activations to 8 bits (*W8A8*), activations with one scale per token, computed
# at run time (*dynamic quantization*):

# %%
from tinyslm.recipes import QuantizeOutlierAware

dynamic = Quantize(dynamic_activations=True)
w8a8 = {
    "dense": model,
    "W8A8": dynamic(model),
    "outliers": outliers,
    "outliers, weights in 8 bits": Quantize()(outliers),
    "outliers, W8A8": dynamic(outliers),
    "outliers, smoothed, W8A8": dynamic(smoothed),
    "outliers, LLM.int8()": QuantizeOutlierAware()(outliers, calibration),
}
print(summary(w8a8, corpus))

# %% [markdown]
# The outliers have little effect as long as activations are in floating point. With quantized activations the loss is
# very high. SmoothQuant avoids this. LLM.int8() does too: it keeps every feature that exceeds a threshold, and the
# weights that read it, in floating point, which takes more memory (`tinyslm/compression/quantization/llm_int8.py`). A
# scale per feature is not possible, because it would be *inside* the sum over features, where the products are
# integers; only factors common to the whole sum can be applied afterwards.
#
# ## Quantization-aware training
#
# A model with few bits per weight can be trained with rounding in the forward pass. The backward pass treats the
# rounding as the identity (*straight-through estimator*). The scales are trained too
# (`tinyslm/compression/quantization/fake_quantize.py`, `tinyslm/recipes/quantization/fake_quantize.py`).

# %%
from tinyslm.recipes import TrainQuantized

trained, _ = compress(model, [TrainQuantized(steps=20, bits=2, batch_size=10)], calibration)
for name in ("nearest, per row", "GPTQ, per row"):
    print(f"2 bits, {name:17} loss {losses[name][0]:.1f}")
print(f"2 bits, {'trained':17} loss {validation_loss(trained, corpus):.3f}")
print(f"dense {'':19} loss {validation_loss(model, corpus):.3f}")

# %% [markdown]
# With three levels per row (minus the scale, 0, the scale) and 20 training steps, most of the increase of the loss is
# gone.
#
# ## Comparison

# %%
from tinyslm.recipes import QuantizeFormat

models = {
    "dense": model,
    "8 bits": Quantize()(model),
    "8 bits, activations too": w8a8["W8A8"],
    "4 bits, nearest": by_method["nearest, per row"][2],
    "4 bits, groups of 32": by_method["nearest, groups of 32"][2],
    "4 bits, GPTQ": by_method["GPTQ, per row"][2],
    "4 bits, NF4": QuantizeFormat("nf4")(model),
    "3 bits, GPTQ": by_method["GPTQ, per row"][1],
    "2 bits, trained": trained,
}
print(summary(models, corpus))

# %%
from setup_lesson import show_frontier

figure, axes = plt.subplots(figsize=(6.4, 3.6))
names = ("dense", "8 bits", "4 bits, groups of 32", "4 bits, GPTQ", "3 bits, GPTQ")
points = {
    name: (tinyslm.footprint(models[name]).bytes / 1e6, validation_loss(models[name], corpus))
    for name in (*names, "2 bits, trained")
}
show_frontier(axes, points, "memory, MB (logarithmic)", floor=corpus.floor.nats)
show(
    "Scatter plot of loss against memory, with the floor. From the dense model to 4 bits the "
    "memory falls and the loss stays nearly the same; with 3 bits it is slightly, with 2 bits "
    "clearly higher."
)

# %% [markdown]
# The embedding has 8 bits in all of these models. It is a tenth of the parameters, and also the output projection.
#
# ## Export
#
# Quantized models usually run in another program. llama.cpp reads GGUF files, which hold the tokenizer too. Its format
# Q4_0 stores a scale in 16 bits for 32 codes of 4 bits. The codes of GPTQ fit into it without a second rounding: a scale
# per row is stored once for each group of the row. `tinyslm export` says what it changes:

# %%
import contextlib
import tempfile

from tinyslm.cli import main

with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
    tinyslm.save("gptq", models["4 bits, GPTQ"], tokenizer)
    main(["export", "gptq", "gptq.gguf", "--to", "gguf"])
    exported, _ = tinyslm.load("gptq.gguf")
print(f"loss of the exported model {validation_loss(exported, corpus):.3f} nats per token")

# %% [markdown]
# The loss does not change. The file is larger than the saved model, because it stores more scales: 4.5 bits per weight.
# On the computer or the phone, `llama-completion -m gptq.gguf -p "It was a sunny Monday"` continues a text.
#
# ## Questions
#
# **Why is INT8 not faster?** NumPy has no fast product of int8 matrices. Products in floating point call BLAS, which
# uses the processor's vector instructions. Integer products use a simple loop. So the codes are converted to float32
# first, which takes time, and then multiplied at the speed of float32.

# %% tags=["measured"]
from tinyslm.compression.quantization import QuantizedLinear, quantize_tokens

rng = np.random.default_rng(0)
large = rng.standard_normal((1024, 1024)).astype(np.float32)
codes = quantize(large, axis=0).codes
rows = {count: rng.standard_normal((count, 1024)).astype(np.float32) for count in (1, 64)}
row_codes = {count: quantize_tokens(x).codes for count, x in rows.items()}
weights_only = QuantizedLinear.from_linear(Linear(large))
both = QuantizedLinear.from_linear(Linear(large), dynamic_activations=True)
print("                                       1 token   64 tokens")
for name, function in {
    "float32 @ float32": lambda n: rows[n] @ large.T,
    "int8 @ int8 (overflows)": lambda n: row_codes[n] @ codes.T,
    "int32 @ int32": lambda n: row_codes[n].astype(np.int32) @ codes.T.astype(np.int32),
    "integer_matmul": lambda n: integer_matmul(row_codes[n], codes),
    "a layer, weights in 8 bits": lambda n: weights_only(rows[n]),
    "a layer, W8A8": lambda n: both(rows[n]),
}.items():
    cells = (f"{median_milliseconds(lambda: function(n), calls=9):9.2f} ms" for n in rows)
    print(f"{name:34}" + "".join(cells))

# %% [markdown]
# The benefit in NumPy is memory. Hardware with int8 instructions saves time too. The integer arithmetic is exact there
# as well, so the losses above are the same. If the memory of float32 is available while a text is generated,
# `generation.prepare(model, upcast=True)` converts the codes once and not for every token (lesson 05).
#
# **How is quantization related to pruning?** Every weight within half a step of 0 becomes exactly 0:

# %%
for b in (8, 4, 3, 2):
    zeros = quantize(weight, bits=b, axis=0).codes == 0
    print(f"{b} bits per row: {np.mean(zeros):6.1%} of the weights are 0")

# %% [markdown]
# **Does one more bit halve the error?** Yes, as long as nothing is clipped, because the scale is halved:

# %%
for b in (4, 5, 6, 7, 8):
    error = quantize(weight, bits=b, axis=0).dequantize() - weight
    print(f"{b} bits: error {1000 * np.sqrt(np.mean(np.square(error))):.3f} thousandths")

# %% [markdown]
# ## Summary
#
# - Quantization stores integer codes with a scale, and a zero point if the range is not symmetric. Finer granularity
#   reduces the error and costs bits: 4.12 bits per weight with a scale per row, 4.50 with groups of 64.
# - Products of codes are exact in float32 in blocks below 2^24.
# - With 8 bits the loss did not change (0.728 nats per token), and the memory decreased from 15.8 MB to 4.01 MB. With 4
#   bits and GPTQ the loss was 0.729 with 2.24 MB, with 3 bits 0.753.
# - At 2 bits training is necessary: 20 steps gave a loss of 0.934.
# - Outlier features break the quantization of activations (loss 9.431); SmoothQuant restored 0.728 and LLM.int8() too,
#   with more memory.
#
# The code: `tinyslm/compression/quantization/affine.py`, `tinyslm/compression/quantization/ranges.py`,
# `tinyslm/compression/quantization/integer_matmul.py`, `tinyslm/compression/quantization/gptq.py` and their neighbours;
# the steps in `tinyslm/recipes/quantization/affine.py` and `tinyslm/recipes/quantization/gptq.py`.
#
# ## Exercises

# %% tags=["exercise"]
from setup_lesson import exercise

exercise("quantize")

# %% tags=["exercise"]
exercise("integer-matmul")

# %% tags=["exercise"]
exercise("smoothing")

# %% [markdown]
# Further exercises, without marks:
#
# 1. Give GPTQ only 4 documents (`Calibration(..., statistics_documents=4)`). How does the loss at 3 bits change, and
#    why?
# 2. Train at 3 bits, with 20 steps and with 100. How many steps are needed to have a lower loss than GPTQ, which needs
#    no training?
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
