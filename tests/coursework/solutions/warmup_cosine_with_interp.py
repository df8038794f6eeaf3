"""Interpolation for the warm-up, and the square of a cosine for the rest."""

import numpy as np


def warmup_cosine(step, steps, warmup_steps, final=0.1):
    if step + 1 <= warmup_steps:
        return float(np.interp(step + 1, [0, warmup_steps], [0.0, 1.0]))
    share = (step + 1 - warmup_steps) / max(1, steps - warmup_steps)
    return float(final + (1.0 - final) * np.cos(0.5 * np.pi * share) ** 2)
