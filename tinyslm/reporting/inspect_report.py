"""What a model looks like, for a terminal: its tree, where its parameters are, what they cost, what its layers see."""

from itertools import groupby

from tinyslm.reporting import units
from tinyslm.reporting.aligned import aligned
from tinyslm.reporting.module_tree import index_ranges, outline

SPARE_LETTERS = "XYZACDEGHIJKLMOPQRSTUV"
AS_DTYPE = {
    "float32": "in float32",
    "bfloat16": "in bfloat16",
    "int8": "in INT8: a byte per weight, and a float32 scale for each row of a matrix",
}


def format_inspection(title, model, found, stored=None) -> str:
    """A model (of which nothing but shapes is looked at) and what `inspect_model` found, as text.

    stored: what `evaluation.inspection.inspect_stored` found in its files, or None.
    """
    sections = [
        [title],
        format_outline(model),
        format_parts(found),
        format_costs(found, stored),
        format_attention(found),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections)


def format_outline(model) -> list[str]:
    """The tree."""
    rows = [("module", "shape (+ bias)", "parameters", "")]
    for line in outline(model):
        rows.append((line.name, line.shape, f"{line.parameters:,}", line.note))
    return aligned(rows, right=(2,))


def format_parts(found) -> list[str]:
    """Where the parameters are."""
    total = found["parameters"]
    counts = [*found["parts"].items(), ("all", total)]
    notes = {"head": "tied: the embedding's table serves" if found["tied_head"] else ""}
    rows = [("part", "parameters", "share", "")]
    rows += [(part, f"{count:,}", units.percent(count / total, 1), notes.get(part, "")) for part, count in counts]
    share = found["parts"]["feed-forward"] / total
    lines = aligned(rows, right=(1, 2))
    lines.append(
        f"Feed-forward layers hold {units.percent(share, 1)} of all parameters, "
        f"and {units.percent(found['feed_forward_share_of_layers'], 1)} of those inside the layers."
    )
    if found["active_parameters"] < total:
        lines.append(
            f"One token uses {found['active_parameters']:,} of them "
            f"({units.percent(found['active_parameters'] / total, 1)}): it is sent to few of the experts."
        )
    return lines


def format_costs(found, stored=None) -> list[str]:
    """What storing and computing takes."""
    rows = []
    if stored is not None:
        dtypes = ", ".join(f"{units.size(size)} in {dtype}" for dtype, size in stored["dtypes"].items())
        files = "1 file" if stored["files"] == 1 else f"{stored['files']} files"
        rows.append(("on disk", f"{dtypes} ({stored['tensors']} tensors in {files})"))
        if stored["replaced"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in stored["replaced"].items())
            rows.append(("compressed", f"{kinds}; the others are plain"))
    memory = [f"{units.size(size)} {AS_DTYPE.get(dtype, dtype)}" for dtype, size in found["memory"].items()]
    rows += zip(["in memory", *[""] * len(memory)], memory, strict=False)
    context, products = f"{found['context']:,} tokens", units.scaled(found["attention_multiply_adds"])
    rows.append(("multiply-adds", f"{units.scaled(found['multiply_adds'])} for each token, by weights"))
    if found["kind"] == "EncoderDecoder":
        rows[-1] = ("multiply-adds", f"{rows[-1][1]} (one token read and one written)")
    rows.append(("", f"{products} more in attention, with {context} in the context"))
    if found["cache_bytes"]:
        per_token, whole = units.size(found["cache_bytes_per_token"]), units.size(found["cache_bytes"])
        rows.append(("key/value cache", f"{per_token} per token in bfloat16, {whole} for {context}"))
    return aligned(rows)


def format_attention(found) -> list[str]:
    """What the layers of each stack see, one letter per layer, and what the letters mean."""
    letters = _letters(found["attention"])
    lines = ["What a token sees (itself included), one letter per layer:"]
    for stack, layers in groupby(found["attention"], lambda layer: _stack(layer["path"])):
        row = "".join(letters[kind_of(layer)] for layer in layers)
        lines.append(f"  {stack + ' ' if stack else ''}{row}")
    rows = []
    for kind, letter in letters.items():
        indices = [index for index, layer in _numbered(found["attention"]) if kind_of(layer) == kind]
        rows.append((f"  {letter}", _layers(indices), _sees(kind, found), _positions(kind, found)))
    lines += aligned(rows)
    if found["kind"] == "EncoderDecoder":
        lines.append("  Between the two, cross attention: every token of the decoder sees the whole source.")
    return lines


def _layers(indices):
    return f"layer {indices[0]}" if len(indices) == 1 else f"{len(indices)} layers, {index_ranges(indices)}"


def _stack(path):
    """ "decoder.layers.3.attention" -> "decoder"; "" in a model with one stack."""
    return path.rpartition("layers.")[0].rstrip(".")


def _numbered(attention):
    """(number within its stack, layer)."""
    return [(int(layer["path"].rpartition("layers.")[2].split(".")[0]), layer) for layer in attention]


def kind_of(layer) -> tuple:
    """What tells one kind of layer from another."""
    rope = layer["rope"]
    return layer["causal"], layer["window"], rope and tuple(rope.items())


def _letters(attention):
    """{kind: letter} in order of appearance: Both sides, Window, No positions (where other layers have them), Full."""
    spare, letters = iter(SPARE_LETTERS), {}
    some_turn = any(layer["rope"] for layer in attention)
    for kind in map(kind_of, attention):
        causal, window, rope = kind
        letter = "B" if not causal else "W" if window else "N" if some_turn and rope is None else "F"
        if kind not in letters:
            letters[kind] = letter if letter not in letters.values() else next(spare, "?")
    return letters


def _sees(kind, found):
    causal, window, _ = kind
    longest = found["longest_context"]
    if window is None:
        return "all tokens up to itself" if causal else "all tokens, on both sides"
    is_longer = longest is not None and window >= longest
    return f"the last {window:,} tokens" + (" (all)" if is_longer else "")


def _positions(kind, found):
    rope = dict(kind[2] or {})
    if not rope:
        return found["positions"] or "does not know positions"
    scaling = "" if rope["scaling"] == "default" else f", {rope['scaling']}"
    return f"rotary positions, theta {rope['theta']:,.0f}{scaling}"
