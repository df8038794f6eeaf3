"""Loss estimate: mean loss in nats per token, with its standard error."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class LossEstimate:
    """nats: mean over predicted tokens;  standard_error: of the mean, over documents;  tokens: number predicted.

    The standard error is None (unknown) for a single document.
    """

    nats: float
    standard_error: float | None
    tokens: int

    @property
    def perplexity(self) -> float:
        """exp(nats)."""
        return math.exp(self.nats)

    def bits_per_byte(self, text_bytes: int) -> float:
        """The loss in bits per UTF-8 byte of the predicted text: it compares models with different tokenizers.

        text_bytes: number of bytes of that text. Source: Gao et al. 2020 (The Pile), section 3.1.
        """
        return self.nats * self.tokens / math.log(2) / text_bytes


def estimate_loss(totals: ArrayLike, tokens: ArrayLike) -> LossEstimate:
    """Mean loss over all tokens. totals: (N,) nats of each document;  tokens: (N,) its number of predicted tokens.

    The standard error is for a ratio of means over documents (Cochran 1977, Sampling Techniques, chapter 6).
    """
    totals, tokens = np.asarray(totals, np.float64), np.asarray(tokens, np.float64)
    documents, mean = len(totals), totals.sum() / tokens.sum()
    standard_error = None
    if documents > 1:
        residual = totals - mean * tokens
        variance = np.sum(residual**2) / (documents - 1) / documents
        standard_error = float(np.sqrt(variance) / tokens.mean())
    return LossEstimate(float(mean), standard_error, int(tokens.sum()))
