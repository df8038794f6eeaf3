"""The report of `tinyslm inspect` on one model: module tree, parameters, costs, attention."""

from itertools import groupby

from tinyslm.reporting import number_format
from tinyslm.reporting.module_tree import outline
from tinyslm.reporting.number_format import index_ranges, percent
from tinyslm.reporting.terminal_table import table_lines, wrapped

SPARE_LETTERS = "XYZACDEGHIJKLMOPQRSTUV"
AS_DTYPE = {
    "float32": "in float32",
    "bfloat16": "in bfloat16",
    "int8": "in INT8: one byte per weight, one float32 scale per row of a matrix",
}


def format_inspection(title, model, found, stored=None) -> str:
    """The whole report as text.

    model: only its shapes are used;  found: result of `inspect_model`;  stored: result of `inspect_stored`, or None.
    """
    outline_rows = [(line.name, line.shape, f"{line.parameters:,}", line.note) for line in outline(model)]
    tree = table_lines([("module", "shape (+ bias)", "parameters", "notes"), *outline_rows], right=(2,))
    sections = wrapped(title), tree, format_parts(found), format_costs(found, stored)
    stored_forms = [] if stored is None else [format_stored(stored["forms"])]
    return "\n\n".join("\n".join(lines) for lines in (*sections, *stored_forms, format_attention(found)))


def format_parts(found) -> list[str]:
    """Parameters by part of the model."""
    total, active = found["parameters"], found["active_parameters"]
    notes = {"head": "tied with the embedding" if found["tied_head"] else ""}
    rows = [("part", "parameters", "share", "")]
    for part, count in (*found["parts"].items(), ("all", total)):
        rows.append((part, f"{count:,}", percent(count / total, 1), notes.get(part, "")))
    share, inside = found["parts"]["feed-forward"] / total, found["feed_forward_share_of_layers"]
    text = (
        f"Feed-forward layers hold {percent(share, 1)} of all parameters, and {percent(inside, 1)} of those in layers."
    )
    lines = [*table_lines(rows, right=(1, 2)), *wrapped(text)]
    if active < total:
        lines += wrapped(
            f"Active parameters per token: {active:,} ({percent(active / total, 1)}); a router selects experts."
        )
    return lines


def format_costs(found, stored=None) -> list[str]:
    """File size, memory, multiply-adds and key/value cache."""
    rows = []
    if stored is not None:
        dtypes = ", ".join(f"{number_format.size(size)} in {dtype}" for dtype, size in stored["dtypes"].items())
        files = "1 file" if stored["files"] == 1 else f"{stored['files']} files"
        rows.append(("on disk", f"{dtypes} ({stored['tensors']} tensors in {files})"))
        if stored["replaced"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in stored["replaced"].items())
            rows.append(("compressed", f"{kinds}; all other layers are dense"))
    memory = [f"{number_format.size(size)} {AS_DTYPE.get(dtype, dtype)}" for dtype, size in found["memory"].items()]
    rows += zip(["in memory", *[""] * len(memory)], memory, strict=False)
    context, products = f"{found['context']:,} tokens", number_format.scaled(found["attention_multiply_adds"])
    both = " (one token read and one written)" if found["kind"] == "EncoderDecoder" else ""
    rows.append(("multiply-adds", f"{number_format.scaled(found['multiply_adds'])} per token with weights{both}"))
    rows.append(("", f"{products} more in attention, with {context} in the context"))
    if found["cache_bytes"]:
        per_token, whole = (number_format.size(found[key]) for key in ("cache_bytes_per_token", "cache_bytes"))
        rows.append(("key/value cache", f"{per_token} per token in bfloat16, {whole} for {context}"))
    return table_lines(rows)


def format_stored(forms) -> list[str]:
    """Table of the number formats in the files. forms: entry "forms" of the result of `inspect_stored`."""
    columns = {
        "stored as": [form["format"] for form in forms],
        "bits": [str(form["bits"]) for form in forms],
        "one scale per": [form["scales"] for form in forms],
        "zero points": [{None: "", True: "no", False: "yes"}[form["symmetric"]] for form in forms],
        "tensors": [f"{form['tensors']:,}" for form in forms],
        "bytes": [number_format.size(form["bytes"]) for form in forms],
        "names": [", ".join(form["names"]) for form in forms],
    }
    shown = {heading: cells for heading, cells in columns.items() if any(cells)}
    right = [index for index, heading in enumerate(shown) if heading in ("bits", "tensors", "bytes")]
    return table_lines([tuple(shown), *zip(*shown.values(), strict=True)], right)


def format_attention(found) -> list[str]:
    """The attention pattern of each layer as one letter, and the meaning of the letters."""
    layers = found["attention"]
    letters = _letters(layers)
    lines = wrapped("Attention, one letter per layer (a token always attends to itself too):")
    for stack, group in groupby(layers, lambda layer: layer["path"].rpartition("layers.")[0].rstrip(".")):
        indent = f"  {stack + ' ' if stack else ''}"
        pattern = "".join(letters[attention_kind(layer)] for layer in group)
        lines += wrapped(pattern, indent=indent)
    rows = []
    for kind, letter in letters.items():
        paths = [layer["path"] for layer in layers if attention_kind(layer) == kind]
        indices = [int(path.rpartition("layers.")[2].split(".")[0]) for path in paths]
        number = f"layer {indices[0]}" if len(indices) == 1 else f"{len(indices)} layers, {index_ranges(indices)}"
        rows.append((f"  {letter}", number, _span(kind, found), _positions(kind, found)))
    lines += table_lines(rows)
    if found["kind"] == "EncoderDecoder":
        lines += wrapped("Cross attention: every token of the decoder attends to the whole source.", indent="  ")
    return lines


def attention_kind(layer) -> tuple:
    """Causality, window and rotary embedding: equal for layers of the same kind."""
    rope = layer["rope"]
    return layer["causal"], layer["window"], rope and tuple(rope.items())


def _letters(attention):
    """{kind: letter} in order: Bidirectional, Window, No positions (where other layers have them), Full."""
    spare, letters = iter(SPARE_LETTERS), {}
    some_rotary = any(layer["rope"] for layer in attention)
    for kind in map(attention_kind, attention):
        causal, window, rope = kind
        letter = "W" if window else "B" if not causal else "N" if some_rotary and rope is None else "F"
        if kind not in letters:
            letters[kind] = letter if letter not in letters.values() else next(spare, "?")
    return letters


def _span(kind, found):
    causal, window, _ = kind
    if window is None:
        return "all earlier tokens" if causal else "all tokens, on both sides"
    longest = found["longest_context"]
    span = f"the last {window:,} tokens" if causal else f"{window - 1:,} tokens on each side"
    return span + (" (all)" if longest is not None and window >= longest else "")


def _positions(kind, found):
    rope = dict(kind[2] or {})
    if not rope:
        return found["positions"] or "no position encoding"
    scaling = "" if rope["scaling"] == "default" else f", {rope['scaling']} scaling"
    rotated = rope["dimension"] / found["head_dim"]
    part = "" if rotated == 1 else f", {percent(rotated)} of a head"
    return f"RoPE, theta {rope['theta']:,.0f}{scaling}{part}"
