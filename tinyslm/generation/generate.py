"""Autoregressive generation: predict the next token, append it, repeat."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tinyslm.errors import ConfigError
from tinyslm.generation.decoding_state import start_decoding
from tinyslm.generation.decoding_steps import Sampling, Step, decoding_steps, token_array
from tinyslm.generation.sampling import check_draw
from tinyslm.runtime import release_after_long_pass
from tinyslm.tree import Array, Module


def generate(
    model: Module,
    token_ids: Array,
    max_new_tokens: int,
    *,
    temperature: float | None = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    seed: int | None = None,
    attention_mask: Array | None = None,
    stop_tokens: Iterable[int] | int | None = (),
    cache: str = "exact",
) -> Array:
    """Generate new tokens with a key/value cache.

    A decoder continues `token_ids`. An encoder-decoder reads them as its source and generates the target text, which
    is returned without the start token.

    Parameters
    ----------
    model
        A decoder or an encoder-decoder, or the engine of a decoder (`prepare`), which several calls can share. Without
        one, an engine is prepared from a decoder at each call.
    token_ids : ndarray of integers, shape (B, T)
        Prompts of different length are padded on the left, sources on either side.
    max_new_tokens
        Number of tokens to generate.
    temperature
        Divides the logits. 0 or None is greedy decoding.
    top_k
        Sample only from the k most probable tokens.
    top_p
        Sample only from the smallest set of most probable tokens with a total probability of at least p.
    min_p
        Sample only from tokens with at least min_p times the probability of the most probable token.
    repetition_penalty
        Divides positive logits, and multiplies negative ones, of the tokens in the text so far: the prompt without its
        padding and the new tokens of a decoder, the start token and the new tokens of an encoder-decoder. 1 changes
        nothing.
    seed
        Seed of the sampling, for reproducible tokens.
    attention_mask : ndarray, shape (B, T), optional
        0 for padding.
    stop_tokens
        A row that generated one of these repeats it. Generation ends when all rows have one. By default nothing stops;
        `generation.end_tokens(model.config)` are the end tokens of the model. One token, or several in any collection.
    cache
        Storage of keys and values: "exact", or "int8" with one byte per number.

    Returns
    -------
    ndarray of integers, shape (B, max_new_tokens)
        The new tokens only.

    Raises
    ------
    ConfigError
        For invalid options, or an encoder.
    DataError
        For invalid tokens, or if they do not fit in the context of the model. If the logits are not finite; the
        message names the first tensor, or output of a layer, with nan or infinity.

    References
    ----------
    Fan et al. 2018 (arXiv 1805.04833), section 5.1, for top-k; Holtzman et al. 2020 (arXiv 1904.09751), section 3.1,
    for top-p; Nguyen et al. 2024 (arXiv 2407.01082) for min-p; Keskar et al. 2019 (arXiv 1909.05858), section 4.1, for
    the repetition penalty. Their order is that of Hugging Face transformers: repetition penalty, temperature, top-k,
    top-p, min-p.

    Examples
    --------
    >>> from tinyslm.models import DecoderConfig, random_model
    >>> config = DecoderConfig("llama", 11, 8, 16, 1, 2, 1, 4, 32)  # a vocabulary of 11 tokens, one layer
    >>> generate(random_model(config), np.array([[1, 2, 3]]), 4).shape
    (1, 4)
    """
    steps = generation_steps(
        model,
        token_ids,
        max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        attention_mask=attention_mask,
        stop_tokens=stop_tokens,
        cache=cache,
    )
    tokens = [step.tokens for step in steps]  # of each step, (B,)
    tokens += tokens[-1:] * (max_new_tokens - len(tokens))  # all rows stopped early: repeat their stop tokens
    release_after_long_pass(np.shape(token_ids)[1])  # the cache
    return np.stack(tokens, axis=1)


def stream(model: Module, token_ids: Array, max_new_tokens: int, **options: Any) -> Iterator[Array]:
    """Yield the tokens of one step at a time, (B,) integers, at most max_new_tokens times.

    Options and errors as of `generate`. The errors are raised when the first step is requested.
    """
    for step in generation_steps(model, token_ids, max_new_tokens, **options):
        yield step.tokens


def generation_steps(
    model: Module,
    token_ids: Array,
    max_new_tokens: int,
    *,
    seed: int | None = None,
    attention_mask: Array | None = None,
    stop_tokens: Iterable[int] | int | None = (),
    cache: str = "exact",
    **sampling: Any,
) -> Iterator[Step]:
    """Yield one `Step` at a time, at most max_new_tokens. Arguments and errors as of `generate`."""
    if not (isinstance(max_new_tokens, int | np.integer) and max_new_tokens >= 1):
        raise ConfigError(f"max_new_tokens is {max_new_tokens}, expected an integer of at least 1")
    if sampling.get("temperature") is None:
        sampling["temperature"] = 0.0
    settings, stop_tokens = Sampling(**sampling), token_array(stop_tokens)
    check_draw(seed, None, None)
    state = start_decoding(model, token_ids, max_new_tokens, attention_mask, cache)
    yield from decoding_steps(state, max_new_tokens, settings, np.random.default_rng(seed), stop_tokens)


def end_tokens(config: Any) -> tuple[int, ...]:
    """Token ids that end a text of this model: none, one, or several."""
    ends = config.eos_token_id
    return () if ends is None else tuple(np.atleast_1d(ends).tolist())
