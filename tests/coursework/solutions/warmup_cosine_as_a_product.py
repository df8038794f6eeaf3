"""The cosine from 1 to final, in another arrangement."""

import math


def warmup_cosine(step, steps, warmup_steps, final=0.1):
    done = step + 1
    if done <= warmup_steps:
        return done / warmup_steps
    angle = math.pi * (done - warmup_steps) / max(steps - warmup_steps, 1)
    return 0.5 * (1 + final) + 0.5 * (1 - final) * math.cos(angle)
