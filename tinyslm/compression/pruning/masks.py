"""Masks that remove the same number of weights from each row, shared by Wanda, N:M pruning and SparseGPT."""

import numpy as np


def largest_in_rows(scores: np.ndarray, count: int) -> np.ndarray:
    """True for all but the `count` smallest scores of each row (last axis).

    Of equal scores the one with the lower index is removed first, so the masks of growing counts are nested.
    """
    order = np.argsort(scores, axis=-1, kind="stable")
    kept = np.ones(scores.shape, bool)
    np.put_along_axis(kept, order[..., :count], False, axis=-1)
    return kept
