"""Submissions that several tests of grading use."""

from pathlib import Path

SOLUTIONS = sorted((Path(__file__).parent / "solutions").glob("*.py"))  # right, and written differently

RIGHT = """
def warmup_cosine(step, steps, warmup_steps, final=0.1):
    import math

    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps + 1) / max(steps - warmup_steps, 1)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
"""
