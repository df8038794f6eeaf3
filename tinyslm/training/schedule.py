"""Learning-rate schedules: linear warm-up, and decay by a cosine or by a line."""

import math


def warmup_cosine(step: int, steps: int, warmup_steps: int, final: float = 0.1) -> float:
    """Learning rate at `step` (0 .. steps - 1) as a fraction of its peak: linear warm-up, then half a cosine.

    It is 1 at step warmup_steps - 1 and `final` at the last step. Source: Loshchilov & Hutter 2017, eq. 5.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps + 1) / max(steps - warmup_steps, 1)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(
    step: int, steps: int, warmup_steps: int, final: float = 0.1, decay_share: float = 0.5
) -> float:
    """Learning rate at `step` (0 .. steps - 1) as a fraction of its peak: linear warm-up, constant, linear decay.

    The decay takes `decay_share` of all steps. The rate is 1 before it and `final` at the last step. Before the decay
    the rate does not depend on the number of steps, so a training can be made longer from a state saved there.
    Source: Hu et al. 2024, "MiniCPM" (arXiv 2404.06395), section 4.2; there the decay is exponential and takes about
    10 % of the steps.
    """
    decay_steps = max(round(decay_share * steps), 1)
    warmup = min((step + 1) / max(warmup_steps, 1), 1)
    return min(warmup, final + (1 - final) * min((steps - 1 - step) / decay_steps, 1))


SCHEDULES = {"cosine": warmup_cosine, "stable": warmup_stable_decay}
