"""The learning rate over time."""

import math


def warmup_cosine(step, steps, warmup_steps, final=0.1) -> float:
    """The fraction of the peak learning rate at `step` (0 .. steps - 1): up linearly, then down along half a cosine.

    Reaches 1 at step warmup_steps - 1 and `final` at the end. Source: Loshchilov & Hutter 2017, eq. 5, with warm-up.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps + 1) / max(steps - warmup_steps, 1)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
