"""The report of `tinyslm trace`: tokens, statistics of every intermediate array, and a picture of one head."""

import re

import numpy as np

from tinyslm.reporting.number_format import percent
from tinyslm.reporting.plain_text import clean, shorten, width
from tinyslm.reporting.terminal_table import table_lines, terminal_width, wrapped
from tinyslm.text.tokenizer import decode

MOST_TOKENS = 36  # shown of a text; fewer in a picture of a head if the terminal is narrow
INDENT = 2  # of the report, by the command
LONGEST_PIECE, HIGHEST_LABEL = 14, 8
SHADES = ((0.7, "█"), (0.4, "▓"), (0.2, "▒"), (0.05, "░"), (0.0, "·"))  # from this probability on
MEANINGS = {  # end of the array's name: (letters of its shape, what it is)
    "queries": ("B T H D", "query vectors per head"),
    "keys": ("B T G D", "key vectors per key/value head"),
    "values": ("B T G D", "value vectors per key/value head"),
    "attentions": ("B H T S", "attention probabilities; every row sums to 1"),
    "attention.input": ("B T C", "input of queries, keys and values"),
    "attention.mixed": ("B T HD", "sums of values weighted by the probabilities, heads side by side"),
    "attention.output": ("B T C", "attention output, added to the residual stream"),
    "cross_attention.output": ("B T C", "cross-attention output, added to the residual stream"),
    "cross_attention.source": ("B S C", "the source, input of keys and values"),
    "feed_forward.input": ("B T C", "input of the feed-forward layer"),
    "router_logits": ("N E", "router scores of the experts"),
    "neurons": ("B T F", "activations of the feed-forward neurons"),
    "expert.input": ("N C", "hidden states of the tokens routed to this expert"),
    "expert.neurons": ("N F", "activations of the neurons of this expert"),
    "feed_forward.output": ("B T C", "feed-forward output, added to the residual stream"),
    "logits": ("B T V", "scores of the vocabulary's tokens"),
}
LETTERS = (
    "B batch, T tokens, S attended tokens, C width, H query heads, G key/value heads, D head size, F neurons, E "
    "experts, N tokens of the batch or of an expert, V vocabulary"
)
LAYER = re.compile(r"layers\.(\d+)\.|attentions\.(\d+)$")
HIDDEN_STATE = re.compile(r"hidden_states\.(\d+)$")


def piece(tokenizer, token_id: int) -> str:
    """A token as text in one line, with ␣ for a space, ⏎ for a line break and ⇥ for a tab."""
    stored = tokenizer.id_to_token(token_id)
    if stored is None:
        return f"token {token_id}"
    has_space_mark = stored.startswith("▁")  # SentencePiece; decoding the token alone would remove its space
    text = stored.replace("▁", " ") if has_space_mark else decode(tokenizer, [token_id], skip_special_tokens=False)
    return clean(text or stored).replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def format_tokens(pieces, token_ids, columns=None) -> list[str]:
    """Positions, pieces and ids of the tokens, in blocks as wide as the terminal."""
    shown = [shorten(text, LONGEST_PIECE) for text in pieces[:MOST_TOKENS]]
    rows = [("position", *map(str, range(len(shown)))), ("piece", *shown), ("id", *map(str, token_ids[: len(shown)]))]
    lines = table_lines(rows, (), columns or min(terminal_width() - INDENT, 98))
    if len(pieces) > MOST_TOKENS:
        lines.append(f"(the first {MOST_TOKENS} of {len(pieces)} tokens)")
    return lines


def format_steps(steps, layer=None, columns=None) -> list[str]:
    """Shape, mean and standard deviation of every array; with a layer, arrays inside other layers are left out."""
    last = {HIDDEN_STATE.sub("", name): name for name in steps if HIDDEN_STATE.search(name)}.values()
    rows = [("array", "shape", "axes", "mean", "std", "meaning")]
    for name, values in steps.items():
        inside = LAYER.search(name)
        if layer is None or not inside or layer == int(inside[1] or inside[2]):
            statistics = (_number(values.mean()), _number(values.std())) if values.size else ("-", "-")
            letters, meaning = _meaning(name, name in last)
            rows.append((name, str(values.shape), letters, *statistics, meaning))
    columns = columns or terminal_width() - INDENT
    return [*table_lines(rows, (3, 4), columns), *wrapped(LETTERS, columns)]


def _number(value):
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4g}"


def _meaning(name, is_last):
    hidden_state = HIDDEN_STATE.search(name)
    if hidden_state:
        number = int(hidden_state[1])
        final = "output of the last layer, after the final norm" if is_last else f"output of layer {number - 1}"
        return "B T C", final if number else "embeddings, the input of layer 0"
    if "attentions." in name:
        return MEANINGS["attentions"]
    name = re.sub(r"experts\.\d+\.", "expert.", name)
    endings = sorted(MEANINGS, key=len, reverse=True)
    return next((MEANINGS[ending] for ending in endings if name.endswith(ending)), ("", ""))


def format_head(probabilities, row_pieces, column_pieces) -> list[str]:
    """The attention probabilities of one head: one row per query token, one column per key token.

    probabilities: (T, S), each row with the sum 1. Column labels run from top to bottom.
    """
    most = max(1, min(MOST_TOKENS, (terminal_width() - INDENT - LONGEST_PIECE - 2) // 2))
    shown = np.asarray(probabilities)[:most, :most]
    rows = [shorten(text, LONGEST_PIECE) for text in row_pieces[: shown.shape[0]]]
    columns = [shorten(text, HIGHEST_LABEL) for text in column_pieces[: shown.shape[1]]]
    margin, height = max(map(width, rows)), max(map(len, columns))
    lines = []
    for level in range(height):  # labels end at the picture
        letters = (text.rjust(height)[level] for text in columns)
        lines.append(" " * (margin + 2) + "".join(letter + " " * (2 - width(letter)) for letter in letters))
    for label, row in zip(rows, shown, strict=True):
        space = " " * (margin - width(label))
        lines.append(f"{space}{label}  {''.join(2 * shade(probability) for probability in row)}")
    if shown.shape != np.shape(probabilities):
        lines.append(f"(the first {shown.shape[0]} and {shown.shape[1]} of {len(row_pieces)} and {len(column_pieces)})")
    return [line.rstrip() for line in lines]


def shade(probability) -> str:
    """A character that is darker for higher probabilities; a blank for 0."""
    return next((letter for least, letter in SHADES if probability > 0 and probability >= least), " ")


def format_legend() -> str:
    """The meaning of the shades."""
    bounds = [f"{letter} from {percent(least)}" for least, letter in SHADES[:-1]]
    return f"{', '.join(bounds)}, {SHADES[-1][1]} less, blank: 0"


def format_likely(probabilities, tokenizer, count=5) -> list[str]:
    """The most probable tokens of a distribution (V,), one per line."""
    best = np.argsort(-probabilities, kind="stable")[:count]
    return [f"{percent(float(probabilities[i]), 1):>8}  {piece(tokenizer, int(i))}" for i in best]
