"""Structured pruning of the residual stream: channel j is one number of every token's state, in the whole model.

It is column j of the embedding and of whatever reads the stream (query, key, value, gate, up, router, head), row j of
whatever writes to it (output, down), and a gain of every norm.
"""

import numpy as np

from tinyslm.compression.pruning.selection import require_ascending
from tinyslm.errors import ConfigError


def slice_channels(array, axes, keep):
    """The array with the channels `keep` only along these axes. keep: (k,) ascending indices."""
    for axis in axes:
        array = np.take(array, require_ascending(keep, array.shape[axis]), axis=axis)
    return array


def slice_rms_norm(gain, eps, keep, *, offset=0.0):
    """(gain (k,), eps) of the RMS norm over the channels `keep` that gives what the whole one gives where the others
    are 0: gain' = gain sqrt(C / k), eps' = eps C / k.

    gain: (C,), as it is stored: the norm multiplies by offset + gain. The mean over fewer channels is larger, although
    what was removed is 0. Where it is not 0, no constant can make up for it; and none for LayerNorm, which subtracts a
    mean too: of that, only the gain and shift can be sliced.
    """
    if eps < 0:
        raise ConfigError(f"eps is a number of at least 0, found {eps!r}")
    kept = slice_channels(gain, (0,), keep)  # (k,)
    larger = gain.size / kept.size
    factor = gain.dtype.type(larger**0.5)
    return kept * factor + gain.dtype.type(offset) * (factor - 1), eps * larger
