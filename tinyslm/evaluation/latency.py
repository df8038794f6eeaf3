"""Speed in tokens per second of prompt processing and of generation: median and quartiles."""

import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.generation import prepare, reason_against
from tinyslm.generation.decoding_state import start_decoding


@dataclass(frozen=True)
class Speed:
    """Tokens per second: the median of several runs, and the lower and upper quartile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, rates) -> "Speed":
        """The median and quartiles of measured rates."""
        low, median, high = np.percentile(rates, [25, 50, 75])
        return cls(float(median), float(low), float(high))


def measure_speeds(
    models: Iterable,
    *,
    prompt_length: int = 128,
    new_tokens: int = 32,
    rounds: int = 9,
    seed: int = 0,
    progress: Callable[[str], Any] = lambda text: None,
) -> list[tuple[Speed, Speed]]:
    """(prompt speed, generation speed) of each model, batch size 1: a random prompt, then greedy decoding with a cache.

    Each round runs every model once, so that other load of the machine affects all models alike. Prompt and new tokens
    are cut to the context of each model. The first round is a warm-up and is not counted. An engine is prepared before
    its run, outside the measured time.
    models: iterated once per round. An iterable that loads each model when it is reached keeps one of them in memory.
    """
    run = functools.partial(_run, prompt_length=prompt_length, new_tokens=new_tokens, seed=seed)
    runs = []
    for number in range(rounds + 1):
        progress(f"measuring speed, round {number} of {rounds}")
        runs.append(list(map(run, models)))  # while the next model is loaded, `map` keeps none; a loop would keep one
    rates = [zip(*found, strict=True) for found in zip(*runs[1:], strict=True)]  # of each model
    return [(Speed.of(prompt), Speed.of(generation)) for prompt, generation in rates]


def _run(model, prompt_length, new_tokens, seed):
    """Tokens per second of one prompt and of one continuation."""
    prompt_length = min(prompt_length, model.config.max_position_embeddings // 2)
    new_tokens = min(new_tokens, model.config.max_position_embeddings - prompt_length)
    prompt = np.random.default_rng(seed).integers(0, model.config.vocab_size, (1, prompt_length))
    prepared = prepare(model) if reason_against(model) is None else model
    state = start_decoding(prepared, prompt, new_tokens + 1)
    began = time.perf_counter()
    logits = state.next_logits()
    read = time.perf_counter()
    for _ in range(new_tokens):
        state.read(np.argmax(logits, axis=-1))
        logits = state.next_logits()
    written = time.perf_counter()
    return prompt_length / (read - began), new_tokens / (written - read)
