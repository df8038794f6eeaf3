"""Which range of values the codes should cover: all of it, or less, so that the steps are smaller.

A range is (lowest, highest) and always holds 0. What lies outside is clipped to its end: many small errors of rounding
are traded against a few large ones of clipping.
"""

import numpy as np

from tinyslm.compression.argument_checks import require_finite
from tinyslm.compression.quantization.affine import affine_parameters, code_range, encode
from tinyslm.errors import ConfigError, DataError

METHODS = ("min_max", "percentile", "mean_square_error", "entropy")
CLIP_RATIOS = np.linspace(0.02, 1, 50)  # of the whole range, which is among them
BINS = 2048  # of the histogram of magnitudes


def choose_range(x, method="min_max", *, percentile=99.9, bits=8, symmetric=True):
    """(lowest, highest) of the values that codes of this many bits should cover, as scalars of the dtype of x.

    x: any shape, float32 or float64, finite, at least one entry;  symmetric: lowest = -highest. Methods:
    "min_max": all values.
    "percentile": all but the largest magnitudes; asymmetric: all but the largest and the smallest values. 100 is all.
    "mean_square_error": the whole range times the ratio, of CLIP_RATIOS, with the smallest error after rounding.
    "entropy": the threshold for which rounding magnitudes changes their distribution least, `entropy_threshold`.
    Source: Migacz 2017 (8-bit inference with TensorRT) for entropy; the comparison in Wu et al. 2020 (arXiv
    2004.09602).
    """
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64) or x.size == 0:
        raise DataError(f"a range is of at least one float32 or float64, found {x.dtype}{x.shape}")
    require_finite("x", x)
    lowest, highest = min(np.min(x), x.dtype.type(0)), max(np.max(x), x.dtype.type(0))
    if symmetric:
        highest = max(highest, -lowest)
        lowest = -highest
    if method == "min_max":
        return lowest, highest
    if method == "percentile":
        return _percentile_range(x, percentile, symmetric)
    if method == "mean_square_error":
        errors = [_rounding_error(x, r * lowest, r * highest, bits, symmetric) for r in CLIP_RATIOS.astype(x.dtype)]
        ratio = x.dtype.type(CLIP_RATIOS[len(errors) - 1 - np.argmin(errors[::-1])])  # of equal ones the widest
        return ratio * lowest, ratio * highest
    if method == "entropy":
        threshold = x.dtype.type(entropy_threshold(x, bits))
        return max(lowest, -threshold), min(highest, threshold)
    raise ConfigError(f"method must be one of {', '.join(METHODS)}, found {method!r}")


def join_ranges(one, other):
    """The range that holds both: what "min_max" finds in two batches is that of all their values together."""
    return min(one[0], other[0]), max(one[1], other[1])


def _percentile_range(x, percentile, symmetric):
    if not 50 < percentile <= 100:
        raise ConfigError(f"percentile must be above 50 and up to 100, found {percentile!r}")
    if symmetric:
        highest = np.percentile(np.abs(x), percentile).astype(x.dtype)
        return -highest, highest
    lowest, highest = np.percentile(x, [100 - percentile, percentile]).astype(x.dtype)
    return min(lowest, x.dtype.type(0)), max(highest, x.dtype.type(0))


def _rounding_error(x, lowest, highest, bits, symmetric):
    scale, zero_point = affine_parameters(lowest, highest, bits=bits, symmetric=symmetric)
    codes = encode(x, scale, zero_point, bits=bits, symmetric=symmetric)
    return np.mean(np.square(x - scale * (codes.astype(x.dtype) - zero_point.astype(x.dtype))), dtype=np.float64)


def entropy_threshold(x, bits=8):
    """The magnitude beyond which values should be clipped, by the change of their distribution: a float.

    Of a histogram of |x| with BINS bins, the first i are kept, for every i from the number of levels 2^(bits - 1) on.
    P: the i bins, and in the last one all that lies beyond. Q: the i bins, WITHOUT what lies beyond, merged to as many
    groups as there are levels, the content of a group spread evenly over its bins that are not empty. The answer is
    the upper edge of bin i with the smallest KL(P || Q); of equal ones the widest. (Made from P, Q would have the
    clipped mass too, and clipping would look free of cost.)
    """
    magnitudes = np.abs(x)
    largest, levels = float(np.max(magnitudes)), code_range(bits, True)[1] + 1
    if largest == 0:
        return 0.0
    counts = np.histogram(magnitudes / magnitudes.dtype.type(largest), BINS, (0, 1))[0].astype(np.float64)
    divergences = {i: _divergence_of_clipping(counts, i, levels) for i in range(min(levels, BINS), BINS + 1)}
    return largest * max(divergences, key=lambda i: (-divergences[i], i)) / BINS


def _divergence_of_clipping(counts, i, levels):
    """KL(P || Q) in nats, infinite where Q has nothing and P something."""
    p, kept = counts[:i].copy(), counts[:i]
    p[-1] += np.sum(counts[i:])
    starts = np.arange(levels) * i // levels  # (levels,) first bin of each group
    filled = np.add.reduceat((kept > 0).astype(np.float64), starts)  # (levels,)
    level = np.add.reduceat(kept, starts) / np.maximum(filled, 1)  # (levels,)
    q = np.where(kept > 0, np.repeat(level, np.diff(starts, append=i)), 0)  # (i,)
    if np.any((p > 0) & (q == 0)):
        return np.inf
    seen = p > 0
    p, q = p[seen] / np.sum(p), q[seen] / np.sum(q)
    return max(float(np.sum(p * np.log(p / q))), 0.0)
