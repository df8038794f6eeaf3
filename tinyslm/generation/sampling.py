"""Sampling of the next token: temperature, then top-k, then top-p (the order of Hugging Face transformers)."""

import math

import numpy as np
import scipy

from tinyslm.errors import ConfigError, DataError
from tinyslm.tree import Array


def check_sampling(temperature: float, top_k: int | None, top_p: float | None, seed: int | None = None) -> None:
    """Raise ConfigError for invalid sampling settings."""
    if seed is not None and not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ConfigError(f"seed is {seed}, expected an integer of at least 0, or None")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ConfigError(f"temperature is {temperature}, expected 0 (greedy) or a positive number")
    if top_k is not None and not (isinstance(top_k, int | np.integer) and top_k >= 1):
        raise ConfigError(f"top_k is {top_k}, expected an integer of at least 1, or None")
    if top_p is not None and not 0 < top_p <= 1:
        raise ConfigError(f"top_p is {top_p}, expected a number in (0, 1], or None")


def _require_largest(logits):
    """Raise DataError unless the largest logit of each row is finite. A logit of -infinity has probability 0."""
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise DataError(f"logits must have shape (..., V) with V at least 1, found {logits.shape}")
    if not np.all(np.isfinite(np.max(logits, axis=-1))):
        raise DataError("logits must not hold nan or +infinity, nor only -infinity for a position")


def next_token_probabilities(
    logits: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """Probabilities softmax(logits / temperature), restricted by top-k and by top-p (the smallest set of mass >= p).

    logits: (..., V);  returns (..., V) float64, rows sum to 1, exactly 0 for excluded tokens. top_p applies to the
    probabilities after top_k. It keeps a token if the more probable ones have less than p in total, so at least one
    token. Of equal logits, the lower token id counts as more probable, so never more than k are kept.
    A logit of -infinity has probability 0. Integers are computed in float64.
    temperature must be positive. For 0 use `sample`, which is then greedy. A tiny
    temperature does not overflow: the largest logit is subtracted first.
    Raises DataError if a logit is nan or +infinity, or all logits of a position are -infinity.
    Sources: Fan et al. 2018 (top-k); Holtzman et al. 2020, section 3.1 (top-p, "nucleus").
    """
    check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        raise ConfigError("temperature is 0, expected a positive number; use sample, which is then greedy")
    logits = logits.astype(np.float64)
    _require_largest(logits)
    order = np.argsort(-logits, axis=-1, kind="stable")  # (..., V) token ids, most probable first
    ranked = np.take_along_axis(logits, order, axis=-1)
    ranked -= ranked[..., :1]  # the largest becomes 0, so that no temperature overflows
    ranked = ranked / temperature
    if top_k is not None:
        ranked[..., top_k:] = -np.inf
    ranked = scipy.special.softmax(ranked, axis=-1)
    if top_p is not None:
        mass_above = np.cumsum(ranked, axis=-1)[..., :-1]  # (..., V - 1): of all but the first, which is always kept
        ranked[..., 1:][mass_above >= top_p] = 0
        ranked /= np.sum(ranked, axis=-1, keepdims=True)
    probabilities = np.empty_like(ranked)
    np.put_along_axis(probabilities, order, ranked, axis=-1)
    return probabilities


def sample(
    logits: Array,
    generator: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Array:
    """One token per row, drawn from `next_token_probabilities` with a NumPy random generator.

    logits: (B, V);  returns (B,) integers. Temperature 0 is greedy: the largest logit, of equal ones the lowest id.
    Raises DataError as `next_token_probabilities`.
    """
    if temperature == 0:
        if not 0 < np.vdot(logits, logits) < np.inf:  # one fast pass; it fails for nan, infinity and no logits
            _require_largest(logits)
        return np.argmax(logits, axis=-1)
    probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
    return np.array([generator.choice(row.size, p=row) for row in probabilities])
