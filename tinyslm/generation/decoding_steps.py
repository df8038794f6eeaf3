"""The loop of generation: compute logits, draw a token, append it, repeat."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.not_finite import describe_not_finite, overflow_names_tensor
from tinyslm.errors import ConfigError, DataError
from tinyslm.generation.sampling import (
    check_draw,
    check_sampling,
    exclude_improbable,
    has_largest,
    next_token_probabilities,
    penalize_repetition,
    sample,
)
from tinyslm.ops import log_softmax
from tinyslm.tree import Array


@dataclass(frozen=True)
class Sampling:
    """Settings of the distribution that tokens are drawn from; see `generate`. Raises ConfigError for invalid ones."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def __post_init__(self):
        check_sampling(self.temperature, self.top_k, self.top_p)
        check_draw(None, self.min_p, self.repetition_penalty)


@dataclass(frozen=True)
class Step:
    """One step of a generation.

    tokens: (B,) the new tokens;  repeated: (B,) whether a row had ended before and only repeats its stop token;
    logits: (B, V) of the model;  penalized: (B, V) the logits after the repetition penalty.
    """

    tokens: Array
    repeated: Array
    logits: Array
    penalized: Array
    sampling: Sampling

    def log_probabilities(self) -> Array:
        """The model's log-probabilities of the tokens in nats: log-softmax of its logits. (B,) float64, 0 if repeated.

        As `compute_transition_scores(sequences, logits, normalize_logits=True)` of Hugging Face transformers.
        """
        return self._of_tokens(log_softmax(self.logits.astype(np.float64)))

    def sampled_log_probabilities(self) -> Array:
        """Log-probabilities of the tokens after all settings of sampling. (B,) float64, 0 if repeated.

        For greedy decoding the repetition penalty is the only setting. As `compute_transition_scores(sequences, scores,
        normalize_logits=True)` of Hugging Face transformers.
        """
        setting = self.sampling
        if setting.temperature == 0:
            return self._of_tokens(log_softmax(self.penalized.astype(np.float64)))
        probabilities = next_token_probabilities(self.penalized, setting.temperature, setting.top_k, setting.top_p)
        if setting.min_p is not None:
            probabilities = exclude_improbable(probabilities, setting.min_p)
        with np.errstate(divide="ignore"):
            return self._of_tokens(np.log(probabilities))

    def _of_tokens(self, values):
        """The values (B, V) of the new tokens: (B,)."""
        return np.where(self.repeated, 0.0, np.take_along_axis(values, self.tokens[:, None], axis=-1)[:, 0])


def decoding_steps(
    state: Any,
    max_new_tokens: int,
    sampling: Sampling,
    generator: np.random.Generator,
    stop_tokens: Iterable[int] | int | None = (),
) -> Iterator[Step]:
    """Yield the steps of a generation from a decoding state, at most max_new_tokens; see `generate`.

    A step is yielded before its tokens are read by the state. Raises ConfigError for stop tokens of another type, and
    DataError if the logits are not finite.
    """
    stop_tokens = token_array(stop_tokens)
    tokens, finished, some_finished = np.empty(0, int), None, False
    for step in range(max_new_tokens):
        if step:
            state.read(tokens)
        with overflow_names_tensor(state.model):
            logits = state.next_logits()  # (B, V)
        if not has_largest(logits):
            raise DataError(describe_not_finite(state.model, **state.inputs()))
        penalized = logits
        if sampling.repetition_penalty is not None:
            text, mask = state.written()
            penalized = penalize_repetition(logits, text, mask, sampling.repetition_penalty)
        drawn = sample(
            penalized, generator, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p
        )  # (B,)
        if finished is None:
            finished = np.zeros(len(drawn), bool)  # (B,) whether a row has generated a stop token
        tokens = np.where(finished, tokens, drawn) if some_finished else drawn
        yield Step(tokens.copy(), finished, logits, penalized, sampling)
        if stop_tokens.size:
            finished = finished | np.any(tokens[:, None] == stop_tokens, axis=1)
            some_finished = bool(finished.any())
            if some_finished and finished.all():
                return


def token_array(stop_tokens: Iterable[int] | int | None) -> Array:
    """Stop tokens as an array (n,): of none, one, or a collection. Raises ConfigError for anything else."""
    tokens = () if stop_tokens is None else stop_tokens
    if isinstance(tokens, Iterable) and not isinstance(tokens, np.ndarray):
        tokens = list(tokens)
    try:
        found = np.atleast_1d(np.asarray(tokens))
    except ValueError:  # rows of different lengths
        found = np.array([None])
    if found.size and (found.dtype.kind not in "iu" or found.ndim != 1):
        raise ConfigError(f"stop_tokens is {shown(stop_tokens)}, expected a token id, several, or None")
    return found.astype(np.int64)
