"""Generation: predict the next token, append it, repeat."""

import numpy as np

from tinyslm.errors import ConfigError, DataError
from tinyslm.generation.cache import KeyValueCache
from tinyslm.generation.sampling import check_sampling, sample


def generate(
    model,
    token_ids,
    max_new_tokens,
    *,
    temperature=0.0,
    top_k=None,
    top_p=None,
    seed=None,
    attention_mask=None,
    stop_tokens=(),
):
    """The whole continuation at once: (B, T) integers -> (B, max_new_tokens) new tokens only.

    The options are those of `stream`. A row that met one of its stop_tokens repeats that token to the end.
    """
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    steps = list(
        stream(model, token_ids, max_new_tokens, attention_mask=attention_mask, stop_tokens=stop_tokens, **options)
    )
    steps += steps[-1:] * (max_new_tokens - len(steps))  # every row had ended: repeat its stop token
    return np.stack(steps, axis=1)


def stream(
    model,
    token_ids,
    max_new_tokens,
    *,
    temperature=0.0,
    top_k=None,
    top_p=None,
    seed=None,
    attention_mask=None,
    stop_tokens=(),
):
    """Yield the tokens of one step at a time, (B,) integers, at most max_new_tokens times.

    token_ids: (B, T) integers. Prompts of different length are padded on the left, with attention_mask (B, T) 0 there.
    temperature 0 is greedy; top_k and top_p as in `next_token_probabilities`; the same seed gives the same tokens.
    stop_tokens: a row that produced one of them repeats it, and generation ends when every row has; by default nothing
    stops (`end_tokens(model.config)` is what a model was trained to end with).
    Raises ConfigError for bad options, and DataError, before anything is computed, for tokens that the model cannot
    read or if it could not read all of the prompt and all but the last of the new tokens.
    """
    if not (isinstance(max_new_tokens, int | np.integer) and max_new_tokens >= 1):
        raise ConfigError(f"max_new_tokens is {max_new_tokens}, expected an integer of at least 1")
    check_sampling(temperature, top_k, top_p, seed)
    token_ids = model.check_inputs(token_ids, attention_mask)
    B, T = token_ids.shape
    capacity = T + max_new_tokens - 1  # the last new token is never read
    if capacity > model.config.max_position_embeddings:
        raise DataError(
            f"a prompt of {T} tokens and {max_new_tokens} new ones do not fit in the model's context of "
            f"{model.config.max_position_embeddings}; shorten the prompt or ask for fewer"
        )
    mask = np.ones((B, capacity), np.int64)
    if attention_mask is not None:
        mask[:, :T] = np.asarray(attention_mask) != 0
        if not mask[:, T - 1].all():
            raise DataError("attention_mask ends with padding: prompts must be padded on the left")

    generator = np.random.default_rng(seed)
    sequence = np.empty((B, capacity + 1), np.int64)
    sequence[:, :T] = token_ids
    finished = np.zeros(B, bool)
    cache = KeyValueCache(capacity)
    for length in range(T, T + max_new_tokens):
        seen_mask = None if attention_mask is None else mask[:, :length]
        if _rotation_changes(model.config, int(mask[:, :length].sum(axis=1).max())):
            cache = KeyValueCache(capacity)  # its keys were turned by other angles
        unread = sequence[:, cache.length : length]  # (B, length - cache.length): the prompt, later one token
        logits = model(unread, seen_mask, cache=cache, last_only=True)  # (B, 1, V)
        tokens = sample(logits[:, 0], generator, temperature, top_k, top_p)  # (B,)
        sequence[:, length] = np.where(finished, sequence[:, length - 1], tokens)
        yield sequence[:, length].copy()
        finished |= np.isin(sequence[:, length], stop_tokens)
        if finished.all():
            return


def end_tokens(config) -> tuple[int, ...]:
    """The tokens with which a model says that it has finished: none, one, or several."""
    ends = config.eos_token_id
    return () if ends is None else tuple(np.atleast_1d(ends).tolist())


def _rotation_changes(config, length):
    """True if a sequence of `length` tokens turns its keys by other angles than one of length - 1: longrope changes its
    factors once, for all positions (Ding et al. 2024; the moment is that of Hugging Face transformers)."""
    return any(rope and rope.scaling == "longrope" and length == rope.original_length + 1 for rope in config.ropes)
