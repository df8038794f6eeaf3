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


def measure_speed(model, *, prompt_length=128, new_tokens=32, runs=5, seed=0) -> tuple[Speed, Speed]:
    """(prompt, generation) speed at batch 1, with a random prompt and greedy decoding through the cache.

    The prompt and the tokens are cut to the model's context. The first run warms up and is not counted.
    """
    prompt_length = min(prompt_length, model.config.max_position_embeddings // 2)
    new_tokens = min(new_tokens, model.config.max_position_embeddings - prompt_length)
    prompt = np.random.default_rng(seed).integers(0, model.config.vocab_size, (1, prompt_length))
    prompt_rates, generation_rates = [], []
    for _ in range(runs + 1):
        cache = KeyValueCache(prompt_length + new_tokens)
        began = time.perf_counter()
        logits = model(prompt, cache=cache, last_only=True)
        read = time.perf_counter()
        for _ in range(new_tokens):
            logits = model(np.argmax(logits[:, -1:], axis=-1), cache=cache, last_only=True)
        written = time.perf_counter()
        prompt_rates.append(prompt_length / (read - began))
        generation_rates.append(new_tokens / (written - read))
    return Speed.of(prompt_rates[1:]), Speed.of(generation_rates[1:])
