"""tinyslm generate: continue a text token by token, answer a message, or generate the output of an encoder-decoder."""

import sys

import numpy as np

from tinyslm.checkpoints.json_files import shown
from tinyslm.commands.chat_options import add_chat_options, chat_template
from tinyslm.commands.generation_options import (
    add_sampling_options,
    checked_stop_texts,
    generation_settings,
    upcast_model,
)
from tinyslm.commands.loading import load_with_tokenizer
from tinyslm.commands.text_stream import TextStream, continuation
from tinyslm.errors import ConfigError
from tinyslm.generation import stream
from tinyslm.generation.log_probabilities import scored_stream
from tinyslm.generation.stop_texts import before_stop
from tinyslm.models import Decoder, EncoderDecoder
from tinyslm.reporting.token_table import format_token_table
from tinyslm.text import chat_prompt, encode
from tinyslm.text.chat_template import end_of_turn
from tinyslm.text.files import read_prompt


def add_arguments(parser):
    """The options of the command."""
    prompt = "prompt, or - for standard input; several prompts form one batch"
    parser.argument("prompts", prompt, nargs="*", metavar="TEXT")
    parser.option("--file", None, "text file with the prompt; the newline at its end is left out", "PATH")
    parser.model("--model")
    most = "maximum number of new tokens; fewer at the end of the context or of the document"
    parser.option("--tokens", 80, most, "N")
    parser.flag("--chat", "a prompt is a message of a user, and only the answer is printed")
    add_chat_options(parser, "with --chat: ")
    add_sampling_options(parser)
    parser.flag("--no-special-tokens", "do not add the tokenizer's special tokens (such as BOS) to a prompt")
    parser.flag("--ignore-eos", "continue after the end of a document; an empty line separates documents")
    parser.flag("--logprobs", "print the log-probability of each new token, in nats, in a table below the text")
    parser.weights()


def run(arguments) -> int:
    """Print each prompt with its continuation, or only the answer or output. A single one is streamed."""
    checked_stop_texts(arguments)
    texts = _read_prompts(arguments)
    kinds, purpose = (Decoder, "a chat") if arguments.chat else (Decoder | EncoderDecoder, "generating from text")
    model, tokenizer = load_with_tokenizer(arguments.model, kinds, purpose, arguments.weights)
    settings = generation_settings(arguments, model.config)
    ends, stop_texts = settings.end_tokens, settings.stop_texts
    if arguments.chat:
        template = chat_template(arguments)
        prompts = _conversations(texts, arguments.system, tokenizer, template)
        ends = (*ends, *end_of_turn(tokenizer, template))
    else:
        prompts = _encode_prompts(texts, tokenizer, model.config.vocab_size, not arguments.no_special_tokens)
    token_ids, mask = _pad_left(prompts)
    most = arguments.tokens
    if not isinstance(model, EncoderDecoder):
        remaining = model.config.max_position_embeddings - token_ids.shape[1] + 1  # the last new token is not an input
        most = min(most, max(remaining, 1))
    if arguments.chat or isinstance(model, EncoderDecoder):  # the new tokens are a text of their own
        texts, prompts = [""] * len(texts), [[]] * len(texts)
    options = {
        **settings.sampling,
        "seed": arguments.seed,
        "attention_mask": None if len(prompts) == 1 else mask,
        "stop_tokens": () if arguments.ignore_eos else ends,
        "cache": arguments.cache,
    }
    prepared, scored = upcast_model(model, arguments), []  # scored: with --logprobs, of each step
    if arguments.logprobs:
        steps = _collected(scored_stream(prepared, token_ids, most, **options), scored)
    else:
        steps = stream(prepared, token_ids, most, **options)
    if len(prompts) == 1:
        new_tokens = (int(token) for (token,) in steps)
        count = _print_stream(texts[0], prompts[0], new_tokens, tokenizer, ends, stop_texts)
        _print_table(scored, 0, count, tokenizer, options["stop_tokens"])
        return 0
    continuations = _continue_batch(prompts, steps, tokenizer, ends, stop_texts)
    for row, (text, (written, count)) in enumerate(zip(texts, continuations, strict=True)):
        print(text + written, end="\n\n")
        _print_table(scored, row, count, tokenizer, options["stop_tokens"])
    return 0


def _collected(steps, scored):
    """The tokens of the steps, which are appended to the list `scored`."""
    for step in steps:
        scored.append(step)
        yield step.tokens


def _read_prompts(arguments):
    """The prompts of the command line, of standard input for "-", or of --file."""
    if not arguments.chat and (arguments.system, arguments.template) != (None, None):
        raise ConfigError("--system and --template are for a conversation; give --chat too")
    if bool(arguments.prompts) == (arguments.file is not None):
        raise ConfigError("expected one of TEXT and --file PATH; see tinyslm generate --help")
    if arguments.file is not None:
        return [read_prompt(arguments.file)]
    return [read_prompt(text) if text == "-" else text for text in arguments.prompts]


def _conversations(texts, system, tokenizer, template):
    """The token ids of a conversation for each message of a user. system: the message before it, or None."""
    before = [] if system is None else [{"role": "system", "content": system}]
    conversations = [[*before, {"role": "user", "content": text}] for text in texts]
    return [chat_prompt(tokenizer, messages, template=template)[0].tolist() for messages in conversations]


def _encode_prompts(texts, tokenizer, vocab_size, add_special_tokens):
    """The token ids of each prompt. Prints a line if the tokenizer repeats the first token of a text."""
    prompts = [encode(tokenizer, text, add_special_tokens=add_special_tokens, vocab_size=vocab_size) for text in texts]
    for text, prompt in zip(texts, prompts, strict=True):
        plain = encode(tokenizer, text, add_special_tokens=False, allow_empty=True)
        if plain and prompt[: len(plain) + 1] == plain[:1] + plain:
            token = shown(tokenizer.id_to_token(prompt[0]))
            print(
                f"tinyslm: the prompt begins with {token}, and the tokenizer adds another one; --no-special-tokens "
                "leaves that out",
                file=sys.stderr,
            )
            break
    return prompts


def _pad_left(prompts):
    """Prompts padded on the left: token ids (B, T), and a mask (B, T) that is 0 for padding."""
    longest = max(map(len, prompts))
    token_ids, mask = np.zeros((2, len(prompts), longest), int)
    for row, visible, prompt in zip(token_ids, mask, prompts, strict=True):
        row[longest - len(prompt) :] = prompt
        visible[longest - len(prompt) :] = 1
    return token_ids, mask


def _continue_batch(prompts, steps, tokenizer, ends, stop_texts):
    """The text after each prompt up to a stop text, and its number of tokens.

    No step is computed after every row has a stop text.
    """
    rows, stopped = [[] for _ in prompts], {}  # tokens of each row; {row: its text before a stop text, its tokens}
    for tokens in steps:
        for i, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            row.append(token)
            if stop_texts and i not in stopped:
                ended = before_stop(continuation(prompts[i], row, tokenizer, ends), stop_texts)
                if ended is not None:
                    stopped[i] = ended, len(row)
        if len(stopped) == len(rows):
            break
    return [
        stopped[i] if i in stopped else (continuation(prompt, row, tokenizer, ends), len(row))
        for i, (prompt, row) in enumerate(zip(prompts, rows, strict=True))
    ]


def _print_stream(text, prompt, new_tokens, tokenizer, ends, stop_texts=()):
    """Print a text, then its continuation token by token, up to a stop text. Returns the number of new tokens."""
    written, before = TextStream(tokenizer, prompt, ends, stop_texts), text
    for token in new_tokens:
        part = written.add(token)
        if written.is_stopped:
            break
        if part:
            print(before + part, end="", flush=True)
            before = ""
    print(before + written.rest())
    return len(written.tokens)


def _print_table(scored, row, count, tokenizer, stop_tokens):
    """With --logprobs, print the first `count` tokens of a row up to its first stop token, and a line below."""
    if not scored:
        return
    tokens, *log_probabilities = (
        np.array([part[row] for part in parts])[:count] for parts in zip(*scored, strict=True)
    )
    ended = np.flatnonzero(np.isin(tokens, stop_tokens))
    count = ended[0] + 1 if ended.size else count
    print("\n".join(["", *format_token_table(tokens[:count], *(it[:count] for it in log_probabilities), tokenizer)]))
