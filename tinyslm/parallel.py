"""Several cores, used as Python threads with one BLAS thread each.

NumPy releases the interpreter's lock inside its loops and matrix products, so threads over shards of a batch put the
element-wise work on all cores, which BLAS threads alone do not.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import ThreadpoolController


def default_threads() -> int:
    """As many threads as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _blas():
    """The matrix libraries of this process; finding them takes a few milliseconds."""
    return ThreadpoolController()


def map_in_threads(function, items, threads=None) -> list:
    """[function(item) for item in items], several at a time; the results keep the order of the items.

    threads: how many at a time, all cores if None. What `function` calls must bear being called from several threads.
    """
    threads = threads or default_threads()
    with _blas().limit(limits=1):
        if threads == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(threads) as executor:
            return list(executor.map(function, items))
