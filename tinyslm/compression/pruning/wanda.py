"""Wanda: a weight matters as much as what it multiplies. Source: Sun et al. 2024 (arXiv 2306.11695), section 3."""

import numpy as np

from tinyslm.compression.argument_checks import require_finite, require_matrix, require_same_shape
from tinyslm.compression.pruning.magnitude import require_sparsity
from tinyslm.compression.pruning.n_m import largest_in_rows
from tinyslm.errors import DataError


def wanda_scores(weight, feature_norms):
    """|W_ij| * ||X_j|| (eq. 1): (out, in), the size of what weight ij adds to the output, over all tokens.

    weight: (out, in);  feature_norms: (in,), the L2 norm over calibration tokens of each input feature, which is the
    root of the diagonal of X^T X. Scaling an input feature and dividing its weights changes no score.
    """
    weight, norms = np.asarray(weight), np.asarray(feature_norms)
    require_matrix("weight", weight)
    require_same_shape("feature_norms", norms, weight.shape[1:])
    require_finite("feature_norms", norms)
    if np.any(norms < 0):
        raise DataError(f"feature_norms are norms, found {np.min(norms)}")
    return np.abs(weight) * norms.astype(weight.dtype)  # (out, in)


def wanda_mask(weight, feature_norms, sparsity):
    """True for the weights that stay: all but the round(sparsity * in) lowest scores of every output row.

    weight: (out, in);  feature_norms: (in,);  sparsity: fraction removed, the same in each row. Exactly that many go,
    of equal scores the one further left first. No weight is changed. Where X^T X is diagonal, no other mask of so
    many weights per row has a smaller output error.
    """
    scores = wanda_scores(weight, feature_norms)
    require_sparsity(sparsity)
    return largest_in_rows(scores, round(float(sparsity) * scores.shape[1]))
