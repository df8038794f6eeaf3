"""Log-probabilities of generated tokens, as Hugging Face transformers defines them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tinyslm.generation.generate import generation_steps
from tinyslm.tree import Array, Module


class ScoredTokens(NamedTuple):
    """Generated tokens and their log-probabilities in nats: arrays of one shape, (B, n), or (B,) of one step.

    log_probabilities: of the model. sampled_log_probabilities: of the distribution that the tokens were drawn from.
    """

    tokens: Array
    log_probabilities: Array
    sampled_log_probabilities: Array


def generate_with_log_probabilities(
    model: Module, token_ids: Array, max_new_tokens: int, **options: Any
) -> ScoredTokens:
    """Generate new tokens, with their log-probabilities.

    Parameters
    ----------
    model
        A decoder or an encoder-decoder.
    token_ids : ndarray of integers, shape (B, T)
        Prompts.
    max_new_tokens
        Number of tokens to generate.
    **options
        As of `generate`.

    Returns
    -------
    ScoredTokens
        Three arrays (B, max_new_tokens). `tokens`, as of `generate`. `log_probabilities`, float64: the log-softmax of
        the model's logits, in nats. `sampled_log_probabilities`: the same after the repetition penalty and, unless
        decoding is greedy, after temperature, top-k, top-p and min-p. Both are 0 where a row repeats its stop token.
        In Hugging Face transformers, `compute_transition_scores(..., normalize_logits=True)` gives the first for
        `logits` and the second for `scores`.

    Raises
    ------
    ConfigError, DataError
        As `generate`.

    Examples
    --------
    >>> from tinyslm.models import DecoderConfig, random_model
    >>> config = DecoderConfig("llama", 11, 8, 16, 1, 2, 1, 4, 32)
    >>> found = generate_with_log_probabilities(random_model(config), np.array([[1, 2, 3]]), 4)
    >>> found.log_probabilities.shape, bool((found.log_probabilities < 0).all())
    ((1, 4), True)
    """
    steps = list(scored_stream(model, token_ids, max_new_tokens, **options))
    zeros = np.zeros(len(steps[-1].tokens))
    steps += [ScoredTokens(steps[-1].tokens, zeros, zeros)] * (max_new_tokens - len(steps))  # all rows stopped early
    return ScoredTokens(*(np.stack(parts, axis=1) for parts in zip(*steps, strict=True)))


def scored_stream(model: Module, token_ids: Array, max_new_tokens: int, **options: Any) -> Iterator[ScoredTokens]:
    """Yield the tokens and log-probabilities of one step at a time, (B,) each. Arguments as of `generate`."""
    for step in generation_steps(model, token_ids, max_new_tokens, **options):
        yield ScoredTokens(step.tokens, step.log_probabilities(), step.sampled_log_probabilities())
