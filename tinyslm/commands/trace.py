"""tinyslm trace: the intermediate arrays of one forward pass."""

import numpy as np
import scipy

from tinyslm.checkpoints.not_finite import describe_not_finite, overflow_names_tensor
from tinyslm.commands.loading import MASKS, load_with_tokenizer, mask_token
from tinyslm.errors import ConfigError, DataError
from tinyslm.generation import end_tokens, generate
from tinyslm.models import Encoder, EncoderDecoder, trace
from tinyslm.reporting.terminal_table import fitted
from tinyslm.reporting.trace_report import format_head, format_legend, format_likely, format_steps, format_tokens, piece
from tinyslm.text import encode
from tinyslm.tree import Module

GENERATED_TOKENS = 8  # decoder input of an encoder-decoder without --target


def add_arguments(parser):
    """The options of the command."""
    parser.model()
    parser.argument("text", "input text; for an encoder, with its mask token at a position to be predicted")
    parser.option("--layer", 0, "layer to print", "L")
    parser.option("--head", 0, "attention head to draw", "H")
    parser.flag("--all", "print the arrays of every layer")
    target = "decoder input of an encoder-decoder (default: its own first tokens)"
    parser.option("--target", None, target, "TEXT")


def run(arguments) -> int:
    """Print tokens, arrays, one attention head and the most probable tokens; returns the exit status."""
    model, tokenizer = load_with_tokenizer(arguments.model, Module, "tracing a text")
    _check(arguments, model.config)
    if not arguments.text:
        raise DataError("the text '' has no tokens")
    token_ids, inputs = encode(tokenizer, arguments.text, vocab_size=model.config.vocab_size), {}
    if isinstance(model, EncoderDecoder):
        inputs = {"decoder_token_ids": [_target(arguments.target, model, tokenizer, token_ids)]}
    with overflow_names_tensor(model):
        steps = trace(model, [token_ids], **inputs)
    if not np.isfinite(list(steps.values())[-1]).all():  # the logits, or an encoder's final hidden states
        raise DataError(describe_not_finite(model, [token_ids], **inputs))

    source = [piece(tokenizer, token) for token in token_ids]
    decoder = [piece(tokenizer, token) for token in inputs["decoder_token_ids"][0]] if inputs else source
    _print_section("Tokens (␣ is a space):", format_tokens(source, token_ids))
    if inputs:
        _print_section("Decoder input:", format_tokens(decoder, inputs["decoder_token_ids"][0]))
    layers = "" if arguments.all else f" (of layer {arguments.layer}; for others use --layer or --all)"
    _print_section(f"Intermediate arrays{layers}:", format_steps(steps, None if arguments.all else arguments.layer))
    for name, attention in steps.items():
        kind, _, layer = name.rpartition(".")
        if kind.endswith("attentions") and int(layer) == arguments.layer:
            rows = source if kind == "encoder_attentions" else decoder
            columns = source if kind == "cross_attentions" else rows
            title = f"{name}, head {arguments.head}: attention probabilities, rows are queries, columns keys"
            _print_section(f"{title}\n{format_legend()}", format_head(attention[0, arguments.head], rows, columns))
    _print_predictions(model, tokenizer, token_ids, steps)
    return 0


def _print_section(title, lines):
    print(fitted(title))
    print("\n".join(f"  {line}".rstrip() for line in lines), end="\n\n")


def _check(arguments, config):
    layers = min(config.num_hidden_layers, config.num_decoder_layers or config.num_hidden_layers)
    for name, count in (("layer", layers), ("head", config.num_attention_heads)):
        if not 0 <= getattr(arguments, name) < count:
            raise ConfigError(f"--{name} is {getattr(arguments, name)}, expected 0 to {count - 1}")
    if arguments.target is not None and not config.num_decoder_layers:
        raise ConfigError(f"--target is for encoder-decoders, but {arguments.model} is a {config.family} model")


def _target(text, model, tokenizer, token_ids):
    """Decoder input: the start token, then the tokens of the target text; without a text, the model's greedy output."""
    start, ends = model.config.decoder_start_token_id, end_tokens(model.config)
    if text is not None:
        written = encode(tokenizer, text, vocab_size=model.config.vocab_size)
    else:
        written = generate(model, [token_ids], GENERATED_TOKENS, stop_tokens=ends)[0].tolist()
    while written and written[-1] in ends:
        written.pop()
    return [start, *written]


def _print_predictions(model, tokenizer, token_ids, steps):
    """Print the most probable next tokens, or of an encoder, the most probable tokens at each mask."""
    if not isinstance(model, Encoder):
        likely = format_likely(scipy.special.softmax(steps["logits"][0, -1]), tokenizer)
        print("\n".join(["Most probable next tokens:", *likely]))
        return
    mask = mask_token(tokenizer)
    mask_id = None if mask is None else tokenizer.token_to_id(mask)
    positions = [position for position, token in enumerate(token_ids) if token == mask_id]
    if "logits" not in steps:
        print(fitted("This encoder has no masked-LM head, so it predicts no tokens."))
    elif not positions:
        print(fitted(f"Write {mask or MASKS[0]} in the text to print the model's predictions there."))
    for position in positions if "logits" in steps else ():
        likely = format_likely(scipy.special.softmax(steps["logits"][0, position]), tokenizer)
        print("\n".join([f"Most probable tokens at position {position}:", *likely]))
