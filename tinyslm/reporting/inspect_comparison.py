"""Several models side by side: a column for each."""

from tinyslm.reporting import units
from tinyslm.reporting.aligned import aligned


def format_comparison(inspections) -> str:
    """{name: what `inspect_model` found, all for the same context} as a table."""
    found = list(inspections.values())
    rows = [("", *map(units.one_line, inspections))]
    for label, cell in ROWS.items():
        cells = [cell(each) for each in found]
        if any(text != units.DASH for text in cells):
            rows.append((label.format(context=f"{found[0]['context']:,}"), *cells))
    lines = aligned(rows, right=range(1, len(rows[0])))
    rule = "─" * max(map(units.width, lines))
    return "\n".join([lines[0], rule, *lines[1:], rule, *NOTES])


def _layers(found):
    """Of the encoder and of the decoder, where there are both."""
    return f"{found['layers']} + {found['decoder_layers']}" if found["decoder_layers"] else f"{found['layers']}"


def _heads(found):
    H, G = found["heads"], found["key_value_heads"]
    return f"{H}" if H == G else f"{H} / {G}"


def _share(part):
    return lambda found: units.percent(found["parts"][part] / found["parameters"], 1)


def _memory(dtype):
    return lambda found: units.size(found["memory"].get(dtype))


def _windows(found):
    """The windows of the layers that have one, and how many of all they are."""
    windows = [layer["window"] for layer in found["attention"] if layer["window"] is not None]
    longest = found["longest_context"]
    if not windows or (longest and min(windows) >= longest):
        return "all"
    sizes = "/".join(f"{window:,}" for window in sorted(set(windows)))
    return f"{sizes} in {len(windows)} of {len(found['attention'])}"


def _cache(key):
    return lambda found: units.size(found[key] or None)


def _active(found):
    return f"{found['active_parameters']:,}" if found["active_parameters"] < found["parameters"] else units.DASH


ROWS = {
    "kind": lambda found: KINDS[found["kind"]],
    "family": lambda found: found["family"],
    "layers": _layers,
    "width": lambda found: f"{found['hidden_size']:,}",
    "heads / key-value heads": _heads,
    "size of a head": lambda found: str(found["head_dim"]),
    "feed-forward width": lambda found: f"{found['intermediate_size']:,}",
    "vocabulary": lambda found: f"{found['vocab_size']:,}",
    "output head": lambda found: "tied" if found["tied_head"] else "own" if found["parts"]["head"] else units.DASH,
    "longest context": lambda found: f"{found['longest_context']:,}" if found["longest_context"] else units.DASH,
    "a token sees": _windows,
    "parameters": lambda found: f"{found['parameters']:,}",
    "  used by one token": _active,
    "  embedding": _share("embedding"),
    "  attention": _share("attention"),
    "  feed-forward": _share("feed-forward"),
    "  head": _share("head"),
    "memory in float32": _memory("float32"),
    "memory in bfloat16": _memory("bfloat16"),
    "memory in INT8": _memory("int8"),
    "memory as it is": _memory("as it is"),
    "multiply-adds per token": lambda found: units.scaled(found["multiply_adds"]),
    "  and in attention, at {context}": lambda found: units.scaled(found["attention_multiply_adds"]),
    "cache per token, bfloat16": _cache("cache_bytes_per_token"),
    "  at {context} tokens": _cache("cache_bytes"),
}
NOTES = (
    "memory: of the parameters alone; 1 MB is 1,000,000 bytes;  G: 1,000,000,000",
    "multiply-adds: multiplications by weights, each with an addition; in attention: of queries with keys, and of",
    "probabilities with values;  cache: the keys and values of earlier tokens that can still be seen",
)
KINDS = {"Decoder": "decoder", "Encoder": "encoder", "EncoderDecoder": "encoder-decoder"}
