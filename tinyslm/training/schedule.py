"""Learning-rate schedule: linear warm-up and cosine decay."""

import math


def warmup_cosine(step: int, steps: int, warmup_steps: int, final: float = 0.1) -> float:
    """Learning rate at `step` (0 .. steps - 1) as a fraction of its peak: linear warm-up, then half a cosine.

    It is 1 at step warmup_steps - 1 and `final` at the last step. Source: Loshchilov & Hutter 2017, eq. 5.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps + 1) / max(steps - warmup_steps, 1)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
