"""The key/value cache of a conversation: of each prompt, only the tokens after the known ones are read."""

from typing import Any

import numpy as np

from tinyslm.generation.decoding_state import CACHES, DecoderState
from tinyslm.ops.rotary import inverse_frequencies
from tinyslm.tree import Array


class Conversation:
    """Decoding states of prompts that begin like the one before and its continuation.

    cache: one of CACHES. The results do not depend on the earlier prompts, except for the rounding of other passes.
    """

    def __init__(self, model: Any, cache: str = "exact"):
        self.model, self.make_cache = model, CACHES[cache]
        self.last: DecoderState | None = None

    def start(self, token_ids: Array, max_new_tokens: int) -> DecoderState:
        """The decoding state of a prompt (1, T), with the cache of the tokens that the last state has read.

        Raises DataError as `start_decoding`.
        """
        state = DecoderState(self.model, token_ids, max_new_tokens, make_cache=self.make_cache)
        if self.last is not None:
            state.engine = self.last.engine
        if self.last is not None and _same_rotations(self.model.config, self.last.longest, state.length):
            known = self.last.cache
            known.length = _common_length(self.last.sequence[0, : known.length], state.sequence[0, : state.length - 1])
            state.cache = known.repeat(1, state.cache.capacity)
        self.last = state
        return state


def _common_length(tokens, others):
    """Number of equal tokens at the begin of two sequences."""
    length = min(len(tokens), len(others))
    differing = np.flatnonzero(tokens[:length] != others[:length])
    return int(differing[0]) if differing.size else length


def _same_rotations(config, length, other):
    """Whether sequences of these lengths have keys of the same rotation angles."""
    return all(
        np.array_equal(inverse_frequencies(rope, length), inverse_frequencies(rope, other))
        for rope in config.ropes
        if rope is not None
    )
