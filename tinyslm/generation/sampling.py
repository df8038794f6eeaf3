"""Sampling of the next token: temperature, then top-k, then top-p (the order of Hugging Face transformers)."""

import math

import numpy as np
import scipy

from tinyslm.errors import ConfigError, DataError
from tinyslm.tree import Array

NUMBER = int | float | np.integer | np.floating


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ConfigError for invalid settings of the distribution."""
    if not (isinstance(temperature, NUMBER) and math.isfinite(temperature) and temperature >= 0):
        raise ConfigError(f"temperature is {temperature!r}, expected 0 (greedy) or a positive number")
    if top_k is not None and not (isinstance(top_k, int | np.integer) and top_k >= 1):
        raise ConfigError(f"top_k is {top_k!r}, expected an integer of at least 1, or None")
    if top_p is not None and not (isinstance(top_p, NUMBER) and 0 < top_p <= 1):
        raise ConfigError(f"top_p is {top_p!r}, expected a number in (0, 1], or None")


def has_largest(logits: Array) -> bool:
    """Whether the largest logit of each row (..., V) is finite. A logit of -infinity has probability 0."""
    if logits.dtype.kind == "f" and 0 < np.vdot(logits, logits) < np.inf:  # one fast pass over finite logits
        return True
    return bool(np.isfinite(np.max(logits, axis=-1)).all())


def _require_largest(logits):
    """Raise DataError unless the largest logit of each row is finite."""
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise DataError(f"logits must have shape (..., V) with V at least 1, found {logits.shape}")
    if not has_largest(logits):
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


def check_draw(seed: int | None, min_p: float | None, repetition_penalty: float | None) -> None:
    """Raise ConfigError for an invalid seed, min-p or repetition penalty."""
    if seed is not None and not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ConfigError(f"seed is {seed!r}, expected an integer of at least 0, or None")
    if min_p is not None and not (isinstance(min_p, NUMBER) and 0 <= min_p <= 1):
        raise ConfigError(f"min_p is {min_p!r}, expected a number in [0, 1], or None")
    penalty = repetition_penalty
    if penalty is not None and not (isinstance(penalty, NUMBER) and 0 < penalty < math.inf):
        raise ConfigError(f"repetition_penalty is {penalty!r}, expected a positive number, or None")


def most_probable(logits: Array, count: int) -> Array:
    """Ids of the `count` largest logits of each row, in ascending order; of equal logits the lowest ids.

    logits: (B, V) without nan;  returns (B, min(count, V)) integers. Nothing is sorted: partitioning finds the smallest
    logit to keep in a time linear in V.
    """
    V = logits.shape[-1]
    if count >= V:
        return np.broadcast_to(np.arange(V), logits.shape)
    smallest = np.partition(logits, V - count, axis=-1)[:, V - count]  # (B,)
    return np.stack([_first_largest(row, least, count) for row, least in zip(logits, smallest, strict=True)])


def _first_largest(logits, smallest, count):
    """Ids of the `count` largest logits (V,), in ascending order; of equal logits the lowest. smallest: of these."""
    is_kept = logits > smallest
    equal = np.flatnonzero(logits == smallest)
    is_kept[equal[: count - np.count_nonzero(is_kept)]] = True
    return np.flatnonzero(is_kept)


def sampling_weights(
    logits: Array, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None = None
) -> tuple[Array, Array]:
    """The tokens that `sample` can draw, and their unnormalized probabilities, found without sorting token ids.

    logits: (V,), the largest finite;  returns ids (n,) in ascending order and weights (n,) float64. Weights of tokens
    that are too improbable for a float64 are 0.
    """
    if top_k is not None:
        (most,) = most_probable(logits[None], top_k)
        tokens, weights = sampling_weights(logits[most], temperature, None, top_p, min_p)
        return most[tokens], weights
    tokens, weights = np.arange(logits.size), _weights(logits, temperature)
    if top_p is not None:
        tokens = _nucleus(logits, weights, temperature, top_p)
        weights = weights[tokens]
    if min_p is not None:
        weights = exclude_improbable(weights, min_p)
    return tokens, weights


def _weights(logits, temperature):
    """exp(logits / temperature) of (V,) logits, divided by the largest of them, in float64."""
    weights = logits.astype(np.float64)
    weights -= np.max(weights)  # the largest becomes 0, so that no temperature overflows
    weights /= temperature
    return np.exp(weights, out=weights)


def _nucleus(logits, weights, temperature, top_p):
    """Ids of the tokens that top-p keeps, in ascending order.  logits, weights: (V,), as of `_weights`.

    Tokens with a probability below (1 - p) / V have less than 1 - p together. So the kept tokens are among the others,
    and only those are sorted.
    """
    total = np.sum(weights)
    excluded = max(1 - top_p - 1e-9, 0)  # probability to spare; 1e-9 is more than rounding changes
    probable = np.flatnonzero(weights >= excluded / logits.size * total)
    ranked = np.sort(logits[probable])[::-1]
    ranked_weights = _weights(ranked, temperature)
    if ranked.size == logits.size:
        total = np.sum(ranked_weights)  # in the order of the definition: the last bit decides about p = 1
    mass_above = np.cumsum(ranked_weights / total)[:-1]  # the numbers of the definition
    last = np.searchsorted(mass_above, top_p)  # the first that is not below top_p
    return _first_largest(logits, ranked[last], last + 1)


def exclude_improbable(probabilities: Array, min_p: float) -> Array:
    """Min-p: exclude the tokens that have less than min_p times the probability of the most probable one.

    probabilities: (..., V);  returns the same shape, rows sum to 1.
    Source: Nguyen et al. 2024 (arXiv 2407.01082).
    """
    least = min_p * np.max(probabilities, axis=-1, keepdims=True)  # (..., 1)
    kept = np.where(probabilities < least, 0, probabilities)
    return kept / np.sum(kept, axis=-1, keepdims=True)


def penalize_repetition(logits: Array, token_ids: Array, attention_mask: Array | None, penalty: float) -> Array:
    """Logits in which those of the tokens of a text are smaller, for a penalty above 1.

    logits: (B, V);  token_ids: (B, T);  attention_mask: (B, T), 0 for padding, or None;  returns (B, V).
    A positive logit is divided by the penalty and a negative one is multiplied by it, once for a repeated token too.
    Source: Keskar et al. 2019 (arXiv 1909.05858), section 4.1; for negative logits, Hugging Face transformers.
    """
    is_text = np.ones(token_ids.shape, bool) if attention_mask is None else attention_mask != 0  # (B, T)
    penalized = logits.copy()
    for row, tokens, real in zip(penalized, token_ids, is_text, strict=True):
        present = np.unique(tokens[real])
        row[present] = np.where(row[present] < 0, row[present] * penalty, row[present] / penalty)
    return penalized


def sample(
    logits: Array,
    generator: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Array:
    """One token per row, drawn from `next_token_probabilities` with a NumPy random generator.

    logits: (B, V);  returns (B,) integers. Temperature 0 is greedy: the largest logit, of equal ones the lowest id.
    min_p excludes tokens after top-k and top-p, see `exclude_improbable`.
    Raises DataError as `next_token_probabilities`.
    """
    if temperature == 0:
        _require_largest(logits)
        return np.argmax(logits, axis=-1)
    check_sampling(temperature, top_k, top_p)
    check_draw(None, min_p, None)
    _require_largest(logits)
    drawn = np.empty(len(logits), int)  # (B,)
    for i, row in enumerate(logits):
        tokens, weights = sampling_weights(row, temperature, top_k, top_p, min_p)
        cumulative = np.cumsum(weights)  # draws as `generator.choice` does, without its checks
        drawn[i] = tokens[np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right")]
    return drawn
