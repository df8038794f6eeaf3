"""Two other masks whose gradient reaches a rank: monotone by construction, so that they can only keep beginnings."""

import numpy as np
import scipy

from tinyslm.autodiff import differentiable
from tinyslm.compression.argument_checks import require_integer


@differentiable
def staircase_mask(logits):
    """(r,) descending from 1: entry i is the probability that the rank is more than i, for a rank from 1 to r.

    logits: (r,) of the ranks 1 .. r;  returns sums from the end of softmax(logits), so that the first entry is 1, none
    is larger than the one before, and all together are the expected rank. Every logit feels every component.
    Source: ARA (Adaptive Rank Allocation, arXiv 2510.19389): softmax(theta) times the matrix of all staircases.
    """
    p = scipy.special.softmax(logits)  # (r,)

    def vjp(dmask):
        dp = np.cumsum(dmask)  # (r,) rank i + 1 is in the entries 0 .. i
        return (p * (dp - np.sum(p * dp)),)

    return np.cumsum(p[::-1])[::-1], vjp


@differentiable
def tanh_mask(cut, *, size, sharpness):
    """(size,) entries 1/2 + tanh(sharpness (cut - i)) / 2 for i = 1 .. size: near 1 before the cut, near 0 after it.

    cut: a scalar array, the only trainable number of a layer;  sharpness: above 0; as it grows the mask approaches
    "the components i < cut", 1/2 at the cut itself. Source: Wang et al. 2025 (Dobi-SVD).
    """
    require_integer("size", size, 1, np.inf)
    i = np.arange(1, size + 1, dtype=cut.dtype)  # (r,)
    slope = np.tanh(cut.dtype.type(sharpness) * (cut - i))  # (r,)

    def vjp(dmask):
        dslope = dmask * (1 - slope * slope) / 2  # (r,)
        return (np.asarray(np.sum(dslope) * cut.dtype.type(sharpness), cut.dtype).reshape(cut.shape),)

    return (1 + slope) / 2, vjp
