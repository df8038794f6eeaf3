"""tinyslm generate: continue a text token by token, or generate the output of an encoder-decoder."""

import numpy as np

from tinyslm.commands.loading import load_with_tokenizer
from tinyslm.generation import end_tokens, stream
from tinyslm.generation.decoding_state import CACHES
from tinyslm.models import Decoder, EncoderDecoder
from tinyslm.text import decode, encode


def add_arguments(parser):
    """The options of the command."""
    parser.argument("prompts", "prompt; several prompts form one batch", nargs="+", metavar="TEXT")
    parser.model("--model")
    most = "maximum number of new tokens; fewer at the end of the context or of the document"
    parser.option("--tokens", 80, most, "N")
    parser.option("--temperature", 0.0, "sampling temperature; 0 is greedy")
    parser.option("--top-k", None, "sample from the K most probable tokens", type=int, metavar="K")
    nucleus = "sample from the smallest set of tokens with total probability P (nucleus sampling)"
    parser.option("--top-p", None, nucleus, type=float, metavar="P")
    parser.option("--seed", None, "random seed; the same seed gives the same text (default: random)", type=int)
    parser.flag("--ignore-eos", "continue after the end of a document; an empty line separates documents")
    parser.option("--cache", "exact", "storage of the key/value cache", choices=tuple(CACHES))
    parser.weights()


def run(arguments) -> int:
    """Print each prompt with its continuation, or an encoder-decoder's output alone. A single one is streamed."""
    kinds, purpose = Decoder | EncoderDecoder, "generating from text"
    model, tokenizer = load_with_tokenizer(arguments.model, kinds, purpose, arguments.weights)
    texts, ends = arguments.prompts, end_tokens(model.config)
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
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
        attention_mask=None if len(prompts) == 1 else mask,
        stop_tokens=() if arguments.ignore_eos else ends,
        cache=arguments.cache,
    )
    if len(prompts) == 1:
        _print_stream(texts[0], prompts[0], (int(token) for (token,) in steps), tokenizer, ends)
        return 0
    new_tokens = np.stack(list(steps), axis=1).tolist()  # (B, n)
    for text, prompt, tokens in zip(texts, prompts, new_tokens, strict=True):
        print(text + _continuation(prompt, tokens, tokenizer, ends), end="\n\n")
    return 0


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


def _print_stream(text, prompt, new_tokens, tokenizer, ends):
    """Print a text, then its continuation token by token. A character of several tokens is printed when complete."""
    tokens, shown = [], 0
    for token in new_tokens:
        tokens.append(token)
        whole = text + _continuation(prompt, tokens, tokenizer, ends)
        if not whole.endswith("\ufffd"):
            print(whole[shown:], end="", flush=True)
            shown = len(whole)
    print(whole[shown:])
