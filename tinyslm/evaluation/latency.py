"""How fast a model reads a prompt and writes tokens, as medians with their spread."""

import time
from dataclasses import dataclass

import numpy as np

from tinyslm.generation.cache import KeyValueCache


@dataclass(frozen=True)
class Speed:
    """Tokens per second: the median of several runs, and the lower and upper quartile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, rates):
        low, median, high = np.percentile(rates, [25, 50, 75])
        return cls(float(median), float(low), float(high))


def measure_speeds(models, *, prompt_length=128, new_tokens=32, rounds=9, seed=0, progress=lambda text: None):
    """[(prompt speed, generation speed)] of each model, batch 1: a random prompt, then greedy decoding with the cache.

    The models take turns, one run each per round, so that what else the machine does meets all of them alike. Prompt
    and tokens are cut to each model's context. The first round warms up and is not counted.
    """
    rates = [[] for _ in models]
    for number in range(rounds + 1):
        progress(f"measuring speed, round {number} of {rounds}")
        for model, found in zip(models, rates, strict=True):
            found.append(_run(model, prompt_length, new_tokens, seed))
    return [tuple(map(Speed.of, zip(*found[1:], strict=True))) for found in rates]


def _run(model, prompt_length, new_tokens, seed):
    """Tokens per second of one prompt and of one continuation."""
    prompt_length = min(prompt_length, model.config.max_position_embeddings // 2)
    new_tokens = min(new_tokens, model.config.max_position_embeddings - prompt_length)
    prompt = np.random.default_rng(seed).integers(0, model.config.vocab_size, (1, prompt_length))
    cache = KeyValueCache(prompt_length + new_tokens)
    began = time.perf_counter()
    logits = model(prompt, cache=cache, last_only=True)
    read = time.perf_counter()
    for _ in range(new_tokens):
        logits = model(np.argmax(logits[:, -1:], axis=-1), cache=cache, last_only=True)
    written = time.perf_counter()
    return prompt_length / (read - began), new_tokens / (written - read)
