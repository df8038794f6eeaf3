"""Which parts of a layer stay: the most important ones, in the order they had."""

import numpy as np

from tinyslm.compression.argument_checks import require_integer
from tinyslm.errors import DataError


def most_important(importance, count):
    """Indices of the `count` most important parts, in ascending order. importance: (n,);  returns (count,).

    Of equally important parts the one with the lower index stays. Ascending, so that the parts keep their order.
    """
    require_integer("count of parts to keep", count, 1, importance.size)
    return np.sort(np.argsort(-importance, kind="stable")[:count])


def require_ascending(keep, parts):
    """keep as an array of ascending indices of some of that many parts. Raises DataError for anything else."""
    keep = np.asarray(keep)
    valid = keep.ndim == 1 and keep.size > 0 and np.issubdtype(keep.dtype, np.integer)
    if not (valid and np.all(np.diff(keep) > 0) and keep[0] >= 0 and keep[-1] < parts):
        raise DataError(f"keep must be ascending indices from 0 to {parts - 1}, at least one, found {keep!r}")
    return keep
