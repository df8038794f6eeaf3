"""tinyslm generate: continue a text, token by token."""

import numpy as np

from tinyslm.errors import ConfigError, DataError
from tinyslm.generation import end_tokens, stream
from tinyslm.library import load


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("prompts", nargs="+", metavar="TEXT", help="what to continue; several texts are one batch")
    parser.add_argument("--model", default="teacher", help="a built-in model or a directory (default: teacher)")
    parser.add_argument(
        "--tokens",
        type=int,
        default=80,
        metavar="N",
        help="at most so many new tokens, fewer at the end of the context or of the document (default: 80)",
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the k most probable tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from the fewest tokens of this probability")
    parser.add_argument("--seed", type=int, help="the same seed gives the same text (default: another every time)")


def run(arguments) -> int:
    """Print the texts with their continuations; a single text is streamed. Returns the exit status."""
    model, tokenizer = load(arguments.model)
    if tokenizer is None:
        raise ConfigError(f"{arguments.model}: has no tokenizer.json, which generating from text needs")
    texts, ends = arguments.prompts, end_tokens(model.config)
    prompts = [_encode(text, tokenizer) for text in texts]
    token_ids, mask = _pad_left(prompts)
    room = model.config.max_position_embeddings - token_ids.shape[1] + 1  # the last new token is never read
    steps = stream(
        model,
        token_ids,
        min(arguments.tokens, max(room, 1)),
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
        attention_mask=None if len(prompts) == 1 else mask,
        stop_tokens=ends,
    )
    if len(prompts) == 1:
        _print_stream(texts[0], prompts[0], (int(token) for (token,) in steps), tokenizer, ends)
        return 0
    new_tokens = np.stack(list(steps), axis=1).tolist()  # (B, n)
    for text, prompt, tokens in zip(texts, prompts, new_tokens, strict=True):
        print(text + _continuation(prompt, tokens, tokenizer, ends), end="\n\n")
    return 0


def _encode(text, tokenizer):
    """The token ids of a prompt, with what the tokenizer puts before every text."""
    try:
        token_ids = tokenizer.encode(text).ids
    except TypeError:  # bytes of the command line that are not UTF-8
        raise DataError(f"the text {text!a} is not UTF-8") from None
    if not token_ids:
        raise DataError(f"the text {text!r} has no tokens to continue")
    return token_ids


def _pad_left(prompts):
    """Prompts as rows that end together: token_ids (B, T), and a mask (B, T) with 0 where there is padding."""
    longest = max(map(len, prompts))
    token_ids, mask = np.zeros((2, len(prompts), longest), int)
    for row, seen, prompt in zip(token_ids, mask, prompts, strict=True):
        row[longest - len(prompt) :] = prompt
        seen[longest - len(prompt) :] = 1
    return token_ids, mask


def _continuation(prompt, tokens, tokenizer, ends):
    """The text of new tokens. Some tokenizers write a token at the beginning of a text differently, without its space:
    hence the prompt is decoded with them, and taken away again."""
    tokens = [token for token in tokens if token not in ends]
    return tokenizer.decode(prompt + tokens)[len(tokenizer.decode(prompt)) :]


def _print_stream(text, prompt, new_tokens, tokenizer, ends):
    """Print a text and its continuation as it comes. A character may need several tokens: it is shown when complete."""
    tokens, shown = [], 0
    for token in new_tokens:
        tokens.append(token)
        whole = text + _continuation(prompt, tokens, tokenizer, ends)
        if not whole.endswith("\ufffd"):
            print(whole[shown:], end="", flush=True)
            shown = len(whole)
    print(whole[shown:])
