"""Calibration of quantization ranges by min-max, percentile, mean square error or entropy.

A range is (lowest, highest) and always includes 0. Values outside are clipped to its ends. A smaller range has smaller
steps: less rounding error for most values, more clipping error for a few.
Sources: Migacz 2017, "8-bit Inference with TensorRT" (GTC 2017), for entropy; Wu et al. 2020, "Integer Quantization for
Deep Learning Inference" (arXiv 2004.09602), for the comparison. Applied to models:
`tinyslm/recipes/quantization/static_quantized_linear.py`. Lesson: `lessons/09_quantization.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import checked, one_of, require_finite
from tinyslm.compression.quantization.affine import affine_parameters, code_range, encode, finite_floats
from tinyslm.errors import ConfigError, DataError

METHODS = ("min_max", "percentile", "mean_square_error", "entropy")
CLIP_RATIOS = np.linspace(0.02, 1, 50)  # fractions of the whole range, 1 among them
BINS = 2048  # number of bins in the histogram of magnitudes


@checked(x=finite_floats, method=one_of(*METHODS))
def choose_range(
    x: np.ndarray, method: str = "min_max", *, percentile: float = 99.9, bits: int = 8, symmetric: bool = True
) -> tuple[np.floating, np.floating]:
    """Range (lowest, highest) of the values that the codes represent, chosen by one of four methods.

    Parameters
    ----------
    x : ndarray, any shape
        float32 or float64, finite, at least one entry.
    method : str
        "min_max": all values. "percentile": all values except the largest magnitudes; if not symmetric, except the
        largest and the smallest values. "mean_square_error": the range with the smallest error after rounding, among
        the whole range times each of `CLIP_RATIOS`. "entropy": see `entropy_threshold`.
    percentile : float
        For "percentile", in percent, above 50 and up to 100. 100 covers all values.
    bits : int
        Bits per code, 2 to 8, for "mean_square_error" and "entropy".
    symmetric : bool
        Whether lowest = -highest.

    Returns
    -------
    lowest, highest : scalars of the dtype of x
        lowest <= 0 <= highest.

    Raises
    ------
    DataError
        If x is empty, not float32 or float64, or not finite.
    ConfigError
        If `method` is unknown or `percentile` is out of range.

    References
    ----------
    Migacz 2017 (entropy); Wu et al. 2020 (arXiv 2004.09602), section 3.

    Examples
    --------
    >>> lowest, highest = choose_range(np.array([-1.0, 0.5, 3.0]), symmetric=False)
    >>> float(lowest), float(highest)
    (-1.0, 3.0)
    """
    zero = x.dtype.type(0)
    lowest, highest = min(np.min(x), zero), max(np.max(x), zero)
    if symmetric:
        highest = max(highest, -lowest)
        lowest = -highest
    if method == "percentile":
        return _percentile_range(x, percentile, symmetric)
    if method == "mean_square_error":
        errors = [_rounding_error(x, r * lowest, r * highest, bits, symmetric) for r in CLIP_RATIOS.astype(x.dtype)]
        ratio = x.dtype.type(CLIP_RATIOS[len(errors) - 1 - np.argmin(errors[::-1])])  # ties: largest
        return ratio * lowest, ratio * highest
    if method == "entropy":
        threshold = x.dtype.type(entropy_threshold(x, bits))
        return max(lowest, -threshold), min(highest, threshold)
    return lowest, highest


def ends_of_range(name, ends, sizes):
    """Check for `checked`: two finite numbers."""
    if len(ends) != 2:
        raise DataError(f"{name} must be (lowest, highest), found {len(ends)} numbers")
    require_finite(name, np.asarray(ends, np.float64))
    return ends


@checked(one=ends_of_range, other=ends_of_range)
def join_ranges(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """The smallest range that contains two ranges.

    The "min_max" ranges of two batches join to the "min_max" range of all their values.

    Parameters
    ----------
    one, other : (lowest, highest)

    Returns
    -------
    lowest, highest

    Raises
    ------
    DataError
        If an end is nan or infinite.

    Examples
    --------
    >>> join_ranges((-1.0, 2.0), (-3.0, 1.0))
    (-3.0, 2.0)
    """
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
    error = x - scale * (codes.astype(x.dtype) - zero_point.astype(x.dtype))
    return np.mean(np.square(error, dtype=np.float64))


@checked(x=finite_floats)
def entropy_threshold(x: np.ndarray, bits: int = 8) -> float:
    """The clipping threshold with the smallest KL divergence between the distributions before and after rounding.

    The magnitudes |x| above 0 are counted in a histogram of `BINS` bins. For every i from the number of levels
    2^(bits - 1) to `BINS`, the first i bins are kept. P is these i bins, with the count of all bins beyond added to the
    last one. Q is these i bins, WITHOUT the count beyond, merged to one group per level; the count of a group is spread
    evenly over its bins that are not empty. (If Q were made from P, it would include the clipped count as well, and
    clipping would appear to have no error.)

    Exact zeros are left out. Every range represents them without an error, but many of them (behind a ReLU, or of
    pruned weights) in the first bin would outweigh the clipping of all other values. NVIDIA's implementations replace
    the count of the first bin by that of the second, with the same effect.

    The histogram needs at least about `BINS` values other than 0. Then the squared error of normal and uniform values
    is at most a few times that of the whole range; with fewer values the threshold can be far too small.

    Parameters
    ----------
    x : ndarray, any shape
    bits : int
        Bits per code, 2 to 8.

    Returns
    -------
    float
        The upper edge of bin i with the smallest KL(P || Q), in the unit of x; ties: the largest i. 0 if x is 0.

    Raises
    ------
    DataError
        If x is empty, not float32 or float64, or not finite.
    ConfigError
        If `bits` is not a whole number from 2 to 8.

    References
    ----------
    Migacz 2017, "8-bit Inference with TensorRT" (GTC 2017). The first bin: `_compute_amax_entropy` in
    `modelopt/torch/quantization/calib/histogram.py` of NVIDIA's Model Optimizer.

    Examples
    --------
    >>> x = np.append(np.random.default_rng(0).standard_normal(10_000), 60.0)
    >>> 2 < entropy_threshold(x) < 12
    True
    """
    magnitudes = np.abs(x)
    largest, levels = float(np.max(magnitudes)), code_range(bits, True)[1] + 1
    if largest == 0:
        return 0.0
    shares = magnitudes[magnitudes > 0] / magnitudes.dtype.type(largest)
    counts = np.histogram(shares, BINS, (0, 1))[0].astype(np.float64)
    divergences = {i: _divergence_of_clipping(counts, i, levels) for i in range(min(levels, BINS), BINS + 1)}
    return largest * max(divergences, key=lambda i: (-divergences[i], i)) / BINS


def _divergence_of_clipping(counts, i, levels):
    """KL(P || Q) in nats, infinite where Q is 0 and P is not."""
    p, kept = counts[:i].copy(), counts[:i]
    p[-1] += np.sum(counts[i:])
    starts = np.arange(levels) * i // levels  # (levels,) first bin of each group
    filled = np.add.reduceat((kept > 0).astype(np.float64), starts)  # (levels,)
    level = np.add.reduceat(kept, starts) / np.maximum(filled, 1)  # (levels,)
    q = np.where(kept > 0, np.repeat(level, np.diff(starts, append=i)), 0)  # (i,)
    if np.any((p > 0) & (q == 0)):
        return np.inf
    occupied = p > 0
    p, q = p[occupied] / np.sum(p), q[occupied] / np.sum(q)
    return max(float(np.sum(p * np.log(p / q))), 0.0)
