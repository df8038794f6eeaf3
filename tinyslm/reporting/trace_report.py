"""One pass through a model for a terminal: its tokens, its steps in numbers, and what one head looks at."""

import re

import numpy as np

from tinyslm.reporting import units
from tinyslm.reporting.aligned import GAP, aligned

MOST_TOKENS = 36  # shown of a text, so that the picture of a head fits in 100 columns
WIDEST = 96
WIDEST_PIECE, HIGHEST_PIECE = 14, 8
SHADES = ((0.7, "█"), (0.4, "▓"), (0.2, "▒"), (0.05, "░"), (0.0, "·"))  # from this probability on
MEANINGS = {  # how the name of a step ends: (letters of its shape, what it is)
    "queries": ("B T H D", "what each token looks for, per head"),
    "keys": ("B T G D", "what each token can be found by"),
    "values": ("B T G D", "what each token passes on"),
    "attentions": ("B H T S", "who looks at whom; every row sums to 1"),
    "attention.output": ("B T C", "what attention adds"),
    "cross_attention.output": ("B T C", "what looking at the source adds"),
    "router_logits": ("N E", "a score for each expert; the best are used"),
    "neurons": ("B T F", "the neurons of the feed-forward layer"),
    "feed_forward.output": ("B T C", "what the feed-forward layer adds"),
    "logits": ("B T V", "a score for each token of the vocabulary"),
}
LETTERS = (
    "B batch, T tokens, S tokens that can be looked at, C width, H query heads, G key/value heads, D size of a head,",
    "F neurons, E experts, N rows (B times T), V vocabulary",
)
OF_A_LAYER = re.compile(r"layers\.(\d+)\.|attentions\.(\d+)$")
STREAM = re.compile(r"hidden_states\.(\d+)$")


def piece(tokenizer, token_id) -> str:
    """A token as it is read: in one line, with ␣ for a space and ⏎ for a line break."""
    stored = tokenizer.id_to_token(token_id)
    if stored is None:
        return f"token {token_id}"
    marked = stored.startswith("▁")  # SentencePiece: decoded alone, it would lose its space
    text = stored.replace("▁", " ") if marked else tokenizer.decode([token_id], skip_special_tokens=False)
    return units.clean(text or stored).replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def format_tokens(pieces, token_ids) -> list[str]:
    """Tokens in blocks as wide as the terminal: place in the text, piece, id."""
    rows = [("place", "piece", "id")]
    lines, used = [], 0
    for place, (text, token_id) in enumerate(zip(pieces[:MOST_TOKENS], token_ids, strict=False)):
        column = (str(place), units.shorten(text, WIDEST_PIECE), str(token_id))
        width = max(map(units.width, column)) + len(GAP)
        if used + width > WIDEST - len("place"):
            lines += [*aligned(list(zip(*rows, strict=True))), ""]
            rows, used = rows[:1], 0
        rows.append(column)
        used += width
    lines += aligned(list(zip(*rows, strict=True)))
    if len(pieces) > MOST_TOKENS:
        lines.append(f"(the first {MOST_TOKENS} of {len(pieces)} tokens)")
    return lines


def format_steps(steps, layer=None) -> list[str]:
    """Shape, mean and standard deviation of every step; with a layer those inside the other layers are left out."""
    last = {STREAM.sub("", name): name for name in steps if STREAM.search(name)}.values()
    rows = [("step", "shape", "letters", "mean", "spread", "")]
    for name, values in steps.items():
        inside = OF_A_LAYER.search(name)
        if layer is not None and inside and layer != int(inside[1] or inside[2]):
            continue
        letters, meaning = _meaning(name, name in last)
        rows.append((name, str(values.shape), letters, _number(values.mean()), _number(values.std()), meaning))
    return [*aligned(rows, right=(3, 4)), *LETTERS]


def _number(value):
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4g}"


def _meaning(name, is_last):
    stream = STREAM.search(name)
    if stream is None:
        return MEANINGS.get(_ending(name), ("", ""))
    layer = int(stream[1])
    if layer == 0:
        return "B T C", "the embedding: what enters layer 0"
    return "B T C", "what leaves the last layer, normalized" if is_last else f"what leaves layer {layer - 1}"


def _ending(name):
    if "attentions." in name:
        return "attentions"
    return next((ending for ending in sorted(MEANINGS, key=len, reverse=True) if name.endswith(ending)), "")


def format_head(probabilities, row_pieces, column_pieces) -> list[str]:
    """What one head looks at: a row for each token that looks, a column for each that is looked at.

    probabilities: (T, S), each row with the sum 1. The columns are labelled from top to bottom.
    """
    shown = np.asarray(probabilities)[:MOST_TOKENS, :MOST_TOKENS]
    rows = [units.shorten(text, WIDEST_PIECE) for text in row_pieces[: shown.shape[0]]]
    columns = [units.shorten(text, HIGHEST_PIECE) for text in column_pieces[: shown.shape[1]]]
    margin = max(map(units.width, rows))
    height = max(map(len, columns))
    lines = []
    for level in range(height):  # labels end at the picture
        letters = (text.rjust(height)[level] for text in columns)
        lines.append(" " * (margin + 2) + "".join(letter + " " * (2 - units.width(letter)) for letter in letters))
    for label, row in zip(rows, shown, strict=True):
        space = " " * (margin - units.width(label))
        lines.append(f"{space}{label}  {''.join(2 * shade(probability) for probability in row)}")
    if shown.shape != np.shape(probabilities):
        lines.append(f"(the first {shown.shape[0]} and {shown.shape[1]} of {len(row_pieces)} and {len(column_pieces)})")
    return [line.rstrip() for line in lines]


def shade(probability) -> str:
    """A character as dark as the probability is high; a blank for what is not seen at all."""
    return next((letter for least, letter in SHADES if probability > 0 and probability >= least), " ")


def format_legend() -> str:
    """What the shades mean."""
    bounds = [f"{letter} {units.percent(least)} and more" for least, letter in SHADES[:-1]]
    return f"{', '.join(bounds)}, {SHADES[-1][1]} less, blank: not seen"


def format_likely(probabilities, tokenizer, count=5) -> list[str]:
    """The most probable tokens of a distribution (V,), one per line."""
    best = np.argsort(-probabilities, kind="stable")[:count]
    return [f"{units.percent(float(probabilities[i]), 1):>8}  {piece(tokenizer, int(i))}" for i in best]
