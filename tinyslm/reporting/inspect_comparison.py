"""The table of `tinyslm inspect --compare`: one column per model."""

from tinyslm.reporting import number_format
from tinyslm.reporting.plain_text import one_line
from tinyslm.reporting.terminal_table import ruled_table


def format_comparison(inspections) -> str:
    """inspections: {name: result of `inspect_model`}, all for the same context."""
    found = list(inspections.values())
    rows = [("", *map(one_line, inspections))]
    for label, cell in ROWS.items():
        cells = [cell(each) for each in found]
        if any(text != number_format.DASH for text in cells):
            rows.append((label.format(context=f"{found[0]['context']:,}"), *cells))
    return ruled_table(rows, 1, NOTES)


def _layers(found):
    """Layers of the encoder and of the decoder, where there are both."""
    return f"{found['layers']} + {found['decoder_layers']}" if found["decoder_layers"] else f"{found['layers']}"


def _heads(found):
    H, G = found["heads"], found["key_value_heads"]
    return f"{H}" if H == G else f"{H} / {G}"


def _windows(found):
    """Window sizes, both sides together, and the number of layers that have one."""
    local = [layer for layer in found["attention"] if layer["window"] is not None]
    windows = [layer["window"] if layer["causal"] else 2 * layer["window"] - 1 for layer in local]
    longest = found["longest_context"]
    if not windows or (longest and min(windows) >= longest):
        return "none"
    sizes = "/".join(f"{window:,}" for window in sorted(set(windows)))
    return f"{sizes} in {len(windows)} of {len(found['attention'])}"


def _active(found):
    active = found["active_parameters"]
    return f"{active:,}" if active < found["parameters"] else number_format.DASH


def _count(key):
    return lambda found: f"{found[key]:,}" if found[key] else number_format.DASH


def _feed_forward_sizes(found):
    """Sizes of all feed-forward layers and experts."""
    return "/".join(f"{size:,}" for size in found["feed_forward_sizes"])


def _share(part):
    return lambda found: number_format.percent(found["parts"][part] / found["parameters"], 1)


def _bytes(*keys):
    def cell(found):
        for key in keys:
            found = found.get(key)
        return number_format.size(found or None)

    return cell


def _scaled(key):
    return lambda found: number_format.scaled(found[key])


KINDS = {"Decoder": "decoder", "Encoder": "encoder", "EncoderDecoder": "encoder-decoder"}
ROWS = {
    "kind": lambda found: KINDS[found["kind"]],
    "family": lambda found: found["family"],
    "layers": _layers,
    "hidden size": _count("hidden_size"),
    "heads / key-value heads": _heads,
    "head size": _count("head_dim"),
    "feed-forward size": _feed_forward_sizes,
    "vocabulary": _count("vocab_size"),
    "output head": lambda found: (
        "tied" if found["tied_head"] else "separate" if found["parts"]["head"] else number_format.DASH
    ),
    "longest context": _count("longest_context"),
    "attention window": _windows,
    "parameters": _count("parameters"),
    "  active per token": _active,
    "  embedding": _share("embedding"),
    "  attention": _share("attention"),
    "  feed-forward": _share("feed-forward"),
    "  head": _share("head"),
    "memory in float32": _bytes("memory", "float32"),
    "memory in bfloat16": _bytes("memory", "bfloat16"),
    "memory in INT8": _bytes("memory", "int8"),
    "memory as stored": _bytes("memory", "as stored"),
    "multiply-adds per token": _scaled("multiply_adds"),
    "  in attention, {context} tokens": _scaled("attention_multiply_adds"),
    "cache per token, bfloat16": _bytes("cache_bytes_per_token"),
    "  {context} tokens": _bytes("cache_bytes"),
}
NOTES = (
    "memory: of the parameters; 1 MB is 1,000,000 bytes, 1 G is 1,000,000,000",
    "multiply-adds: multiplications with weights, each with an addition",
    "in attention: products of queries with keys, and of probabilities with values, for the last token of the context",
    "cache: keys and values of earlier tokens, within the attention window",
)
