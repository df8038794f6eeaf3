"""Log-probabilities of continuations of a text, with the tokens that lm-evaluation-harness gives to the model.

A context and its continuation are encoded together, so that the tokens at the border are those of the whole text. If
they are too long for the model, the beginning of the context is left out.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from tinyslm.checkpoints.not_finite import describe_not_finite, overflow_names_tensor
from tinyslm.errors import DataError
from tinyslm.generation.cache import KeyValueCache
from tinyslm.generation.decoding_state import PROMPT_CHUNK
from tinyslm.ops import log_softmax
from tinyslm.parallel import map_in_threads
from tinyslm.text.tokenizer import encode
from tinyslm.tree import Array

ROWS_AT_ONCE = 1024  # of logits: continuations times positions in one pass
CACHED_AT_ONCE = 8192  # tokens: continuations times the length of the text in one pass


def encode_text(tokenizer: Any, begin: Sequence[int], text: str, vocab_size: int | None = None) -> list[int]:
    """Token ids of a text, after the tokens `begin` unless the text begins with these itself."""
    token_ids = encode(tokenizer, text, add_special_tokens=False, vocab_size=vocab_size, allow_empty=True)
    return token_ids if token_ids[: len(begin)] == list(begin) else [*begin, *token_ids]


def encode_pair(
    tokenizer: Any, begin: Sequence[int], context: str, continuation: str, vocab_size: int | None = None
) -> tuple[list[int], list[int]]:
    """Token ids of a context, and those that follow them in the whole text. Each list can be empty.

    Spaces at the end of the context count to the continuation, as most tokenizers join a space and the word after it.
    begin: tokens before every text.
    """
    context_ids = encode_text(tokenizer, begin, context.rstrip(), vocab_size)
    return context_ids, encode_text(tokenizer, begin, context + continuation, vocab_size)[len(context_ids) :]


def continuation_log_probabilities(
    model: Any, context: Sequence[int], continuations: Sequence[Sequence[int]], begun: KeyValueCache | None = None
) -> tuple[Array, Array]:
    """Log-probability of each continuation of a context, in nats, and whether greedy decoding generates it.

    context: (T,) token ids;  continuations: n lists of token ids;  returns float64 (n,) and booleans (n,). The context
    is computed once. The continuations form batches; each has a copy of the key/value cache. If the longest does not
    fit behind the context, the beginning of the context is left out.
    begun: a cache with the first tokens of the context, for a context that fits. It is not changed.
    """
    lengths = np.array([len(continuation) for continuation in continuations])
    most = int(lengths.max()) - 1  # the last token is not an input
    context = context[-max(model.config.max_position_embeddings - most, 1) :]
    total = len(context) + most
    cache = KeyValueCache(total) if begun is None else begun.repeat(1, total)
    logits = _read(model, context, cache, total)  # (V,)
    rows = np.zeros((len(continuations), most + 1), int)  # padded with 0
    for row, continuation in zip(rows, continuations, strict=True):
        row[: len(continuation)] = continuation
    sums = log_softmax(logits)[rows[:, 0]].astype(np.float64)
    is_greedy = rows[:, 0] == np.argmax(logits)
    per_pass = max(CACHED_AT_ONCE // total, 1)
    for start in range(0, len(rows) if most else 0, per_pass):
        part = slice(start, start + per_pass)
        repeated = cache.repeat(len(rows[part]))
        for column, chosen, best in _following(model, rows[part], repeated, total):  # (rows, columns) each
            real = np.arange(column, column + chosen.shape[1]) < lengths[part, None]
            sums[part] += np.sum(np.where(real, chosen, 0), axis=1)
            is_greedy[part] &= np.all(best | ~real, axis=1)
    return sums, is_greedy


def _logits(model, token_ids, cache, length, last_only=False):
    """Logits (B, T, V), or (B, 1, V) of the last position. length: tokens of the whole text, for longrope."""
    states = model.hidden_states(token_ids, cache=cache, length=length)
    return model.predict(states[:, -1:] if last_only else states)


def _read(model, token_ids, cache, length):
    """Read the tokens that the cache does not have, in parts. Returns the logits (V,) of the next token."""
    unread = np.array(token_ids)[None, cache.length :]  # (1, T)
    for start in range(0, unread.shape[1], PROMPT_CHUNK):
        logits = _logits(model, unread[:, start : start + PROMPT_CHUNK], cache, length, last_only=True)
    return logits[0, 0]


def _following(model, rows, cache, length):
    """Log-probability of each token of the rows (n, T) but the first, and whether it is the most probable one.

    Yields the index of a column, and two arrays (n, columns) for this column and those after it.
    """
    columns = max(ROWS_AT_ONCE // len(rows), 1)
    for start in range(1, rows.shape[1], columns):
        following = rows[:, start : start + columns]
        inputs = rows[:, start - 1 : start - 1 + following.shape[1]]
        logits = _logits(model, inputs, cache, length)  # (n, columns, V)
        chosen = np.take_along_axis(log_softmax(logits), following[..., None], axis=-1)[..., 0]
        yield start, chosen, np.argmax(logits, axis=-1) == following


def score_pairs(
    model: Any, pairs: Iterable[tuple[Sequence[int], Sequence[int]]], progress: Callable[[], Any] = lambda: None
) -> list[tuple[float, bool]]:
    """Log-probability of each continuation given its context, in nats, and whether greedy decoding generates it.

    pairs: contexts and continuations, token ids; none is empty. If a pair does not fit in the model, the beginning of
    its context is left out. Successive pairs with the same context are computed together. The tokens with which all
    contexts begin, such as those of solved examples, are computed once. progress: called after each context.
    Raises DataError for a continuation longer than the model's context, or if a logit is not finite.
    """
    longest, ropes = model.config.max_position_embeddings, model.config.ropes
    groups, sizes = [], []  # (context, continuations, whether they share passes); numbers of inputs of those that do
    for context, group in groupby(pairs, key=lambda pair: list(pair[0])):
        continuations = [continuation for _, continuation in group]
        most = max(map(len, continuations))
        if most > longest:
            raise DataError(f"a continuation of {most} tokens does not fit in the model's context of {longest}")
        inputs = [len(context) + len(continuation) - 1 for continuation in continuations]  # without the last token
        if max(inputs) <= longest and _rotate_alike(ropes, inputs):
            groups.append((context, continuations, True))
            sizes += inputs
        else:
            groups += [(context, [continuation], False) for continuation in continuations]
    with overflow_names_tensor(model):
        contexts = [context for context, _, is_shared in groups if is_shared]
        begun = _read_beginning(model, contexts, max(sizes)) if sizes and _rotate_alike(ropes, sizes) else None

        def scores_of(group):
            context, continuations, is_shared = group
            sums, is_greedy = continuation_log_probabilities(
                model, context, continuations, begun if is_shared else None
            )
            if not np.isfinite(sums).all():
                text = [*context, *continuations[np.argmin(np.isfinite(sums))]]
                raise DataError(describe_not_finite(model, [text[-longest:]]))
            progress()
            return zip(sums.tolist(), is_greedy.tolist(), strict=True)

        return [score for scores in map_in_threads(scores_of, groups) for score in scores]


def _rotate_alike(ropes, lengths):
    """Whether texts of these lengths rotate keys by the same angles, so that one cache serves all."""
    shortest, longest = min(lengths), max(lengths)
    return shortest == longest or all(
        longest <= rope.original_length or (rope.scaling == "longrope" and shortest > rope.original_length)
        for rope in ropes
        if rope and rope.scaling in ("longrope", "dynamic")
    )


def _read_beginning(model, contexts, length):
    """A cache with the tokens with which all contexts begin, without the last token of any. None if there are none.

    length: as of `_logits`.
    """
    shared = 0
    for tokens in zip(*(context[:-1] for context in contexts), strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    if len(contexts) < 2 or not shared:
        return None
    cache = KeyValueCache(shared)
    _read(model, contexts[0][:shared], cache, length)
    return cache
