"""Block diagrams for the lessons, drawn with matplotlib. Each function shows one diagram and prints its description."""

import textwrap

from matplotlib.patches import FancyBboxPatch
from setup_lesson import plt, show

FACES = {  # kind of box: (face, edge, line style); the kinds differ without colour too
    "array": ("#f2f2f2", "#777777", "-"),
    "operation": ("#dbe9f6", "#0072b2", "-"),
    "frozen": ("#ffffff", "#555555", "--"),
    "loss": ("#fdeadb", "#d55e00", "-"),
    "removed": ("#ffffff", "#999999", ":"),
}


def canvas(width, height):
    """Axes without frame, in inches: a box of width 1 is one inch wide."""
    figure = plt.figure(figsize=(width, height), layout="none")  # these axes fill the figure
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def box(axes, x, y, text, kind="operation", width=1.5, height=0.36):
    """A box with a text, centred at (x, y)."""
    face, edge, line = FACES[kind]
    corner = (x - width / 2 + 0.04, y - height / 2 + 0.04)
    style = "round,pad=0.04" if kind == "array" else "square,pad=0.04"
    axes.add_patch(
        FancyBboxPatch(
            corner,
            width - 0.08,
            height - 0.08,
            style,
            facecolor=face,
            edgecolor=edge,
            linestyle=line,
        )
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=8)


def arrow(axes, *points, text="", side=1, line="-", head=True):
    """A line through points, with an arrow head at its end; the text stands beside its middle, right (1) or left (-1)."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, color="#333333", linewidth=1, linestyle=line, solid_capstyle="butt")
    if head:
        style = {
            "arrowstyle": "-|>",
            "color": "#333333",
            "shrinkA": 0,
            "shrinkB": 0,
            "linewidth": 1,
        }
        start = tuple(0.7 * e + 0.3 * s for s, e in zip(points[-2], points[-1], strict=True))
        axes.annotate("", points[-1], start, arrowprops=style)
    if text:
        middle = len(points) // 2
        x = (xs[middle - 1] + xs[middle]) / 2 + 0.07 * side
        y = (ys[middle - 1] + ys[middle]) / 2
        axes.text(x, y, text, ha="left" if side > 0 else "right", va="center", fontsize=7.5)


def label(axes, x, y, text, **settings):
    """A text without a box."""
    axes.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": 8} | settings)


def present(description):
    """Show the diagram, with its description as alternative text and in print."""
    description = " ".join(description.split())
    show(description)
    print(textwrap.fill("Description of the diagram: " + description, 100))


def transformer_block():
    """A pre-norm transformer block: two sublayers, each added to the residual stream."""
    axes = canvas(6.6, 4.3)
    stream, middle = 1.2, 4.0
    box(axes, stream, 0.3, "input (B, T, C)", "array")
    box(axes, stream, 4.0, "output (B, T, C)", "array")
    arrow(axes, (stream, 0.5), (stream, 1.5), text="residual stream", side=-1, head=False)
    arrow(axes, (stream, 0.5), (stream, 1.52))
    arrow(axes, (stream, 1.78), (stream, 3.22))
    arrow(axes, (stream, 3.48), (stream, 3.81))
    sublayers = (
        (0.8, 1.65, "RMS norm", "causal self-attention\n(the only operation between positions)"),
        (2.5, 3.35, "RMS norm", "gated feed-forward\n(each position by itself)"),
    )
    for low, high, norm, operation in sublayers:
        box(axes, stream, high, "+", "array", width=0.26, height=0.26)
        box(axes, 2.6, low, norm, width=0.95)
        box(axes, 4.95, low, operation, width=2.5, height=0.5)
        arrow(axes, (stream, low), (2.12, low))
        arrow(axes, (3.08, low), (3.7, low))
        arrow(axes, (4.95, low + 0.25), (4.95, high), (stream + 0.13, high))
        label(axes, middle - 1.1, high + 0.12, "sublayer output")
    present(
        """One pre-norm transformer block. The input, of shape (B, T, C), enters the residual stream. The
        stream is normalized (RMS norm) and passes through causal self-attention; the sublayer output is
        added to the stream. The sum is normalized again and passes through the gated feed-forward layer,
        whose output is added as well. The result has the shape of the input."""
    )


def distillation():
    """Knowledge distillation: a frozen teacher gives the targets of a smaller student."""
    axes = canvas(6.8, 3.5)
    box(axes, 0.85, 1.75, "token ids (B, T)", "array", width=1.3)
    box(axes, 2.75, 2.75, "teacher\n(frozen weights)", "frozen", height=0.5)
    box(axes, 2.75, 0.75, "student\n(trained weights)", height=0.5)
    arrow(axes, (0.85, 1.94), (0.85, 2.75), (1.99, 2.75))
    arrow(axes, (0.85, 1.56), (0.85, 0.75), (1.99, 0.75))
    box(axes, 5.4, 2.75, "softmax(logits / τ)", "array", width=1.8)
    box(axes, 5.4, 0.75, "softmax(logits / τ)", "array", width=1.8)
    arrow(axes, (3.51, 2.75), (4.49, 2.75))
    arrow(axes, (3.51, 0.75), (4.49, 0.75))
    box(axes, 5.4, 1.75, "soft target loss: τ² KL(teacher ‖ student)", "loss", width=2.6)
    arrow(axes, (5.4, 2.56), (5.4, 1.94))
    arrow(axes, (5.4, 0.94), (5.4, 1.56))
    box(axes, 2.75, 1.75, "hidden state loss", "loss")
    arrow(axes, (2.75, 2.49), (2.75, 1.94))
    arrow(axes, (2.75, 1.01), (2.75, 1.56))
    arrow(axes, (5.9, 1.56), (6.6, 1.56), (6.6, 0.25), (2.75, 0.25), (2.75, 0.49), line=":")
    label(axes, 4.6, 0.14, "gradient: to the student only", fontsize=7.5)
    present(
        """Set-up of knowledge distillation. The same token ids go into a teacher with frozen weights and into
        a student with trained weights. The logits of both are divided by the temperature tau and normalized
        by softmax. The soft target loss is tau squared times the Kullback-Leibler divergence of the student's
        distribution from the teacher's. A second loss can compare hidden states. Gradients go to the student
        only."""
    )


def gptq():
    """GPTQ: quantize one column, then correct the columns that are still in floating point."""
    axes = canvas(6.8, 3.3)
    names = ["codes", "codes", "column j", "float", "float", "float"]
    kinds = ["array", "array", "loss", "frozen", "frozen", "frozen"]
    for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        box(axes, 0.85 + 0.75 * index, 2.4, name, kind, width=0.68, height=1.0)
    label(axes, 2.7, 3.1, "weight W (out, in), column by column from left to right")
    box(axes, 1.6, 1.1, "1. round column j\nto the grid", width=1.5, height=0.5)
    box(axes, 3.55, 1.1, "2. error of the column\ne = (w − ŵ) / U[j, j]", width=1.75, height=0.5)
    box(axes, 5.6, 1.1, "3. W[:, k] −= e · U[j, k]\nfor all k > j", width=1.8, height=0.5)
    arrow(axes, (2.2, 1.9), (1.8, 1.36))
    arrow(axes, (2.36, 1.1), (2.66, 1.1))
    arrow(axes, (4.44, 1.1), (4.69, 1.1))
    arrow(axes, (5.0, 1.36), (4.2, 1.89))
    arrow(axes, (5.6, 0.85), (5.6, 0.45), (1.6, 0.45), (1.6, 0.84))
    label(axes, 3.6, 0.3, "4. next column: j + 1", fontsize=7.5)
    label(axes, 5.95, 2.4, "U: upper Cholesky\nfactor of (XᵀX)⁻¹", fontsize=7.5)
    present(
        """The loop of GPTQ over the columns of a weight matrix. Columns left of j hold codes already. Step 1
        rounds column j to the quantization grid. Step 2 computes the column's error e: the difference between
        the weight and its rounded value, divided by U[j, j]. Step 3 subtracts e times U[j, k] from every
        column k to the right, which is still in floating point. Then column j + 1 follows. U is the upper
        Cholesky factor of the inverse of X transposed times X."""
    )


def low_rank():
    """A linear layer and its two factors of rank R."""
    axes = canvas(6.6, 2.7)
    box(axes, 1.1, 1.35, "W\n(out, in)", "frozen", width=1.4, height=1.6)
    label(axes, 1.1, 0.3, "out · in weights")
    label(axes, 2.2, 1.35, "≈", fontsize=14)
    box(axes, 2.95, 1.35, "left\n(out, R)", width=0.7, height=1.6)
    label(axes, 3.5, 1.35, "·", fontsize=14)
    box(axes, 4.4, 1.8, "right (R, in)", width=1.4, height=0.5)
    label(axes, 3.8, 0.3, "R · (out + in) weights")
    label(axes, 5.85, 2.1, "x (B, T, in)")
    arrow(axes, (5.85, 1.95), (5.85, 1.6), text="right")
    label(axes, 5.85, 1.45, "(B, T, R)")
    arrow(axes, (5.85, 1.3), (5.85, 0.95), text="left")
    label(axes, 5.85, 0.8, "y (B, T, out)")
    present(
        """A weight matrix W with shape (out, in) is approximated by the product of two factors: left, with
        shape (out, R), and right, with shape (R, in). The layer computes x times right transposed, which has R
        features per position, and then that times left transposed. The factors hold R times (out + in)
        weights instead of out times in."""
    )


def structured_slicing():
    """Removing one neuron of a gated feed-forward layer removes rows of two matrices and a column of a third."""
    axes = canvas(6.8, 2.9)
    for x, name in ((1.0, "gate (F, C)"), (2.9, "up (F, C)")):
        for row in range(5):
            kind, text = ("removed", "removed row") if row == 2 else ("operation", "")
            box(axes, x, 2.2 - 0.34 * row, text, kind, width=1.4, height=0.28)
        label(axes, x, 2.55, name)
    for column in range(5):
        kind, text = ("removed", "removed\ncolumn") if column == 2 else ("operation", "")
        width = 0.62 if column == 2 else 0.3
        box(axes, (4.4, 4.74, 5.24, 5.74, 6.08)[column], 1.52, text, kind, width=width, height=1.5)
    label(axes, 5.24, 2.55, "down (C, F)")
    label(
        axes,
        3.3,
        0.3,
        "neuron j: row j of gate, row j of up, column j of down; the width F becomes F − 1",
    )
    present(
        """The three matrices of a gated feed-forward layer. A neuron is one row of gate, the same row of up
        and the same column of down. Removing the neuron removes all three, and the intermediate width F
        becomes F minus 1. The outside shape, C, does not change."""
    )


def masked_language_model():
    """Masked language modelling: a bidirectional encoder predicts the masked tokens."""
    axes = canvas(6.8, 3.3)
    tokens = ("Mara", "[MASK]", "the", "lantern", "home")
    positions = [0.9 + 1.1 * index for index in range(len(tokens))]
    for x, token in zip(positions, tokens, strict=True):
        box(axes, x, 0.35, token, "loss" if token == "[MASK]" else "array", width=0.9)
        arrow(axes, (x, 0.54), (x, 1.06))
    box(
        axes,
        3.1,
        1.35,
        "encoder: every position attends to all positions, left and right",
        width=5.4,
        height=0.56,
    )
    arrow(axes, (positions[1], 1.64), (positions[1], 2.06))
    box(
        axes,
        2.6,
        2.25,
        "masked-LM head: dense, GELU, layer norm,\ntied embedding table",
        width=3.4,
        height=0.44,
    )
    arrow(axes, (4.31, 2.25), (4.75, 2.25))
    box(axes, 5.6, 2.25, "logits (V,)", "array", width=1.5)
    arrow(axes, (5.6, 2.44), (5.6, 2.74))
    box(axes, 4.9, 2.95, "cross entropy with the token that was masked: “took”", "loss", width=3.6)
    present(
        """Masked language modelling. Five positions hold the tokens Mara, [MASK], the, lantern, home. The
        encoder computes a hidden state per position; every position attends to all positions, left and right.
        The masked-LM head transforms the hidden state of the masked position and multiplies it by the tied
        embedding table, which gives logits over the vocabulary. The loss is the cross entropy with the token
        that was masked."""
    )
