"""Structured pruning of the residual stream: slices of its channels, and the correction of RMS norms.

Channel j is entry j of each token's hidden state, in all layers. Its weights are column j of the embedding and of each
matrix with the stream as input (query, key, value, gate, up, router, head), row j of each matrix whose output is added
to the stream (output, down), and entry j of the gain of each norm.
Step: `SliceChannels` in `tinyslm/recipes/pruning/channels.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, at_least, checked
from tinyslm.compression.pruning.slicing import require_ascending


def slice_channels(array: np.ndarray, axes: tuple[int, ...], keep: np.ndarray) -> np.ndarray:
    """An array with the channels `keep` only, along each of the given axes.

    Parameters
    ----------
    array : ndarray
        Weight or gain, of any dtype.
    axes : tuple of int
        Axes along which the array has the channels; may be empty.
    keep : ndarray of int, shape (k,)
        Ascending indices of the channels to keep.

    Returns
    -------
    ndarray
        The slice, with size k along each of `axes`.

    Raises
    ------
    DataError
        If `keep` is not ascending.

    Examples
    --------
    >>> slice_channels(np.array([[1, 2, 3], [4, 5, 6]]), (1,), np.array([0, 2]))
    array([[1, 3],
           [4, 6]])
    """
    for axis in axes:
        array = np.take(array, require_ascending(keep, array.shape[axis]), axis=axis)
    return array


@checked(gain=array("C"), eps=at_least(0))
def slice_rms_norm(gain: np.ndarray, eps: float, keep: np.ndarray, *, offset: float = 0.0) -> tuple[np.ndarray, float]:
    """The gain and eps of an RMS norm over the channels `keep`: gain' = gain sqrt(C / k), eps' = eps C / k.

    If the removed channels are 0, the new norm has the same outputs as the original norm: the mean square over fewer
    channels is larger by C / k. If they are not 0, no constant factor corrects the norm. LayerNorm has no such
    correction, because it also subtracts the mean; only its gain and bias can be sliced.

    Parameters
    ----------
    gain : ndarray, shape (C,)
        Stored gain; the norm multiplies by ``offset + gain``.
    eps : float
        Constant added to the mean square, at least 0.
    keep : ndarray of int, shape (k,)
        Ascending indices of the channels to keep.
    offset : float
        0, or 1 for families that store gain - 1 (Gemma).

    Returns
    -------
    tuple
        (gain, shape (k,), as stored; eps).

    Raises
    ------
    DataError
        If `gain` is not a finite vector, or `keep` is not ascending.
    ConfigError
        If `eps` is negative.

    Examples
    --------
    >>> slice_rms_norm(np.ones(4), 1e-6, np.array([2]))
    (array([2.]), 4e-06)
    """
    kept = slice_channels(gain, (0,), keep)  # (k,)
    larger = gain.size / kept.size
    factor = gain.dtype.type(larger**0.5)
    return kept * factor + gain.dtype.type(offset) * (factor - 1), eps * larger
