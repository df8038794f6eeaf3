"""Memory that was freed is kept for the next array.

The allocator of most Linux systems (glibc's malloc) gives large arrays back to the system as soon as they are freed.
The next one of the same size is then new memory, which the system clears page by page when it is first written: for
arrays of a megabyte that takes several times as long as the arithmetic. A model frees and makes arrays of the same
sizes all the time.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h
KEPT = 2**29  # bytes that may lie idle
LARGEST_KEPT = 2**25  # bytes of an array: larger ones, such as the weights of a large model, are given back


def keep_freed_memory() -> bool:
    """Ask for it, for this process; returns whether the system can do it. What is computed does not change."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another allocator, or another system
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, KEPT))
