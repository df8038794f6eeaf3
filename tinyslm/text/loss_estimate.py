"""A loss as it is reported: a mean in nats per token, with its standard error."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LossEstimate:
    """nats: mean over predicted tokens;  standard_error: of that mean, over documents;  tokens: how many."""

    nats: float
    standard_error: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """How many equally likely tokens would be as uncertain: exp(nats)."""
        return math.exp(self.nats)


def estimate_loss(totals, tokens) -> LossEstimate:
    """Mean over all tokens of documents with these total nats and token counts, (N,) each.

    The standard error is that of a ratio of means over documents (Cochran 1977, Sampling Techniques, chapter 6); a
    single document says nothing about it, and has 0 there.
    """
    totals, tokens = np.asarray(totals, np.float64), np.asarray(tokens, np.float64)
    mean = totals.sum() / tokens.sum()
    residual = totals - mean * tokens
    variance = np.sum(residual**2) / max(len(totals) - 1, 1) / len(totals)
    return LossEstimate(float(mean), float(np.sqrt(variance) / tokens.mean()), int(tokens.sum()))
