"""tinyslm trace: what happens to a text on its way through a model."""

import scipy

from tinyslm.commands.loading import MASKS, encode_text, load_with_tokenizer
from tinyslm.errors import ConfigError, DataError
from tinyslm.generation import end_tokens, generate
from tinyslm.models import Encoder, EncoderDecoder, trace
from tinyslm.reporting.trace_report import (
    format_head,
    format_legend,
    format_likely,
    format_steps,
    format_tokens,
    piece,
)
from tinyslm.tree import Module

WRITTEN_TOKENS = 8  # by an encoder-decoder that is not told what to write


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument(
        "model",
        nargs="?",
        default="teacher",
        metavar="MODEL",
        help="a built-in model or a directory (default: teacher)",
    )
    parser.add_argument("text", metavar="TEXT", help="what goes in; for an encoder with [MASK] where it is to fill in")
    parser.add_argument("--layer", type=int, default=0, metavar="L", help="the layer to look into (default: 0)")
    parser.add_argument("--head", type=int, default=0, metavar="H", help="the attention head to draw (default: 0)")
    parser.add_argument("--all", action="store_true", help="the steps of every layer")
    parser.add_argument(
        "--target", metavar="TEXT", help="what an encoder-decoder writes (default: its own first tokens)"
    )


def run(arguments) -> int:
    """Print tokens, steps, a head and the likely tokens; returns the exit status."""
    model, tokenizer = load_with_tokenizer(arguments.model, Module, "tracing a text")
    _check(arguments, model.config)
    if not arguments.text:
        raise DataError("the text '' has no tokens to look at")
    token_ids, inputs = encode_text(arguments.text, tokenizer), {}
    if isinstance(model, EncoderDecoder):
        inputs = {"decoder_token_ids": [_target(arguments.target, model, tokenizer, token_ids)]}
    steps = trace(model, [token_ids], **inputs)

    source = [piece(tokenizer, token) for token in token_ids]
    written = [piece(tokenizer, token) for token in inputs["decoder_token_ids"][0]] if inputs else source
    _print_section("The text as tokens (␣ is a space):", format_tokens(source, token_ids))
    if inputs:
        _print_section("What the decoder reads:", format_tokens(written, inputs["decoder_token_ids"][0]))
    inside = "" if arguments.all else f", those inside layer {arguments.layer} only (--layer, --all)"
    _print_section(
        f"The steps{inside}; spread is the standard deviation:",
        format_steps(steps, None if arguments.all else arguments.layer),
    )
    for name, attention in steps.items():
        kind, _, layer = name.rpartition(".")
        if kind.endswith("attentions") and int(layer) == arguments.layer:
            rows = source if kind == "encoder_attentions" else written
            columns = source if kind == "cross_attentions" else rows
            title = f"{name}, head {arguments.head}: what each token (row) looks at (column)"
            _print_section(f"{title}\n{format_legend()}", format_head(attention[0, arguments.head], rows, columns))
    _print_predictions(model, tokenizer, token_ids, steps)
    return 0


def _print_section(title, lines):
    print(title)
    print("\n".join(f"  {line}".rstrip() for line in lines), end="\n\n")


def _check(arguments, config):
    layers = min(config.num_hidden_layers, config.num_decoder_layers or config.num_hidden_layers)
    for name, count in (("layer", layers), ("head", config.num_attention_heads)):
        if not 0 <= getattr(arguments, name) < count:
            raise ConfigError(f"--{name} is {getattr(arguments, name)}, expected 0 to {count - 1}")
    if arguments.target is not None and not config.num_decoder_layers:
        raise ConfigError(f"--target is for encoder-decoders, but {arguments.model} is a {config.family} model")


def _target(text, model, tokenizer, token_ids):
    """What the decoder reads: the start token, and the tokens of a text, or those that it writes itself."""
    start, ends = model.config.decoder_start_token_id, end_tokens(model.config)
    if text is not None:
        written = encode_text(text, tokenizer)
    else:
        written = generate(model, [token_ids], WRITTEN_TOKENS, stop_tokens=ends)[0].tolist()
    while written and written[-1] in ends:
        written.pop()
    return [start, *written]


def _print_predictions(model, tokenizer, token_ids, steps):
    """What the model expects: at the end of the text, or of an encoder where there is a mask."""
    if not isinstance(model, Encoder):
        likely = format_likely(scipy.special.softmax(steps["logits"][0, -1]), tokenizer)
        print("\n".join(["The most likely next tokens:", *likely]))
        return
    masks = {tokenizer.token_to_id(name) for name in MASKS}
    places = [place for place, token in enumerate(token_ids) if token in masks]
    if "logits" not in steps:
        print("This encoder predicts no tokens: it ends with its states.")
    elif not places:
        print(f"With {MASKS[0]} in the text you see what the model would fill in there.")
    for place in places if "logits" in steps else ():
        likely = format_likely(scipy.special.softmax(steps["logits"][0, place]), tokenizer)
        print("\n".join([f"The most likely tokens at place {place}:", *likely]))
