"""tinyslm generate: continue a text token by token, or generate the output of an encoder-decoder."""

from dataclasses import replace

import numpy as np

from tinyslm.checkpoints.generation_config import read_generation_config
from tinyslm.commands.loading import load_with_tokenizer
from tinyslm.errors import ConfigError
from tinyslm.generation import end_tokens, stream
from tinyslm.generation.decoding_state import CACHES
from tinyslm.generation.stop_texts import before_stop, check_stop_texts, without_begun_stop
from tinyslm.load_save import find_directory
from tinyslm.models import Decoder, EncoderDecoder
from tinyslm.text import decode, encode
from tinyslm.text.files import read_prompt

SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
FROM_THE_MODEL = (
    "If generation_config.json beside the model sets do_sample to true, its temperature, top_k, top_p and min_p are "
    "used where the option is not given. As in transformers, top_k is 50 if it is not set. Its repetition_penalty is "
    "used in any case, and its end tokens end the generation. Without the file, config.json names them."
)


def add_arguments(parser):
    """The options of the command."""
    prompt = "prompt, or - for standard input; several prompts form one batch"
    parser.argument("prompts", prompt, nargs="*", metavar="TEXT")
    parser.option("--file", None, "text file with the prompt; the newline at its end is left out", "PATH")
    parser.model("--model")
    most = "maximum number of new tokens; fewer at the end of the context or of the document"
    parser.option("--tokens", 80, most, "N")
    parser.option("--temperature", None, "sampling temperature; 0 is greedy (default: 0, see below)", "T", type=float)
    parser.option("--top-k", None, "sample from the K most probable tokens", type=int, metavar="K")
    nucleus = "sample from the smallest set of tokens with total probability P (nucleus sampling)"
    parser.option("--top-p", None, nucleus, type=float, metavar="P")
    least = "sample from tokens with at least P times the probability of the most probable one"
    parser.option("--min-p", None, least, type=float, metavar="P")
    penalty = "divide positive logits of tokens already in the text by R, and multiply negative ones by R"
    parser.option("--repetition-penalty", None, penalty, type=float, metavar="R")
    parser.option("--seed", None, "random seed; the same seed gives the same text (default: random)", type=int)
    stop = "end before this text appears in the output; can be given several times"
    parser.option("--stop", None, stop, "TEXT", action="append")
    parser.flag("--ignore-eos", "continue after the end of a document; an empty line separates documents")
    parser.option("--cache", "exact", "storage of the key/value cache", choices=tuple(CACHES))
    parser.weights()
    parser.epilog = FROM_THE_MODEL


def run(arguments) -> int:
    """Print each prompt with its continuation, or an encoder-decoder's output alone. A single one is streamed."""
    stop_texts = arguments.stop or []
    check_stop_texts(stop_texts)
    texts = _read_prompts(arguments)
    kinds, purpose = Decoder | EncoderDecoder, "generating from text"
    model, tokenizer = load_with_tokenizer(arguments.model, kinds, purpose, arguments.weights)
    given = {name: value for name in SETTINGS if (value := getattr(arguments, name)) is not None}
    settings = replace(read_generation_config(find_directory(arguments.model)), **given)
    ends = settings.end_tokens or end_tokens(model.config)
    prompts = [encode(tokenizer, text, vocab_size=model.config.vocab_size) for text in texts]
    token_ids, mask = _pad_left(prompts)
    most = arguments.tokens
    if isinstance(model, EncoderDecoder):  # its output is a separate text of any length
        texts, prompts = [""] * len(texts), [[]] * len(texts)
    else:
        remaining = model.config.max_position_embeddings - token_ids.shape[1] + 1  # the last new token is not an input
        most = min(most, max(remaining, 1))
    steps = stream(
        model,
        token_ids,
        most,
        **{name: getattr(settings, name) for name in SETTINGS},
        seed=arguments.seed,
        attention_mask=None if len(prompts) == 1 else mask,
        stop_tokens=() if arguments.ignore_eos else ends,
        cache=arguments.cache,
    )
    if len(prompts) == 1:
        _print_stream(texts[0], prompts[0], (int(token) for (token,) in steps), tokenizer, ends, stop_texts)
        return 0
    continuations = _continue_batch(prompts, steps, tokenizer, ends, stop_texts)
    for text, written in zip(texts, continuations, strict=True):
        print(text + written, end="\n\n")
    return 0


def _read_prompts(arguments):
    """The prompts of the command line, of standard input for "-", or of --file."""
    if bool(arguments.prompts) == (arguments.file is not None):
        raise ConfigError("expected one of TEXT and --file PATH; see tinyslm generate --help")
    if arguments.file is not None:
        return [read_prompt(arguments.file)]
    return [read_prompt(text) if text == "-" else text for text in arguments.prompts]


def _pad_left(prompts):
    """Prompts padded on the left: token ids (B, T), and a mask (B, T) that is 0 for padding."""
    longest = max(map(len, prompts))
    token_ids, mask = np.zeros((2, len(prompts), longest), int)
    for row, visible, prompt in zip(token_ids, mask, prompts, strict=True):
        row[longest - len(prompt) :] = prompt
        visible[longest - len(prompt) :] = 1
    return token_ids, mask


def _continuation(prompt, tokens, tokenizer, ends):
    """The text of new tokens, with an empty line between documents.

    Some tokenizers decode the first token of a text without its space. So the first document is decoded after the
    prompt, whose text is removed.
    """
    documents = [[]]
    for token in tokens:
        if token in ends:
            documents.append([])
        else:
            documents[-1].append(token)
    while len(documents) > 1 and not documents[-1]:
        documents.pop()
    first = decode(tokenizer, prompt + documents[0])[len(decode(tokenizer, prompt)) :]
    return "\n\n".join([first, *(decode(tokenizer, document) for document in documents[1:])])


def _continue_batch(prompts, steps, tokenizer, ends, stop_texts):
    """The text after each prompt, up to a stop text. No step is computed after every row has one."""
    rows, stopped = [[] for _ in prompts], {}  # tokens of each row; {row: its text before a stop text}
    for tokens in steps:
        for i, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            row.append(token)
            if stop_texts and i not in stopped:
                ended = before_stop(_continuation(prompts[i], row, tokenizer, ends), stop_texts)
                if ended is not None:
                    stopped[i] = ended
        if len(stopped) == len(rows):
            break
    return [
        stopped[i] if i in stopped else _continuation(prompt, row, tokenizer, ends)
        for i, (prompt, row) in enumerate(zip(prompts, rows, strict=True))
    ]


def _print_stream(text, prompt, new_tokens, tokenizer, ends, stop_texts=()):
    """Print a text, then its continuation token by token, up to a stop text.

    A character of several tokens is printed when complete, and the beginning of a stop text when it does not continue.
    """
    tokens, written, shown = [], "", 0
    for token in new_tokens:
        tokens.append(token)
        written = _continuation(prompt, tokens, tokenizer, ends)
        ended = before_stop(written, stop_texts)
        if ended is not None:
            written = ended
            break
        if not written.endswith("\ufffd"):
            whole = text + without_begun_stop(written, stop_texts)
            print(whole[shown:], end="", flush=True)
            shown = len(whole)
    print((text + written)[shown:])
