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


@functools.cache
def _kept_threads():
    return ThreadPoolExecutor(default_threads())


def map_shares(function, count):
    """Call function(slice) for as many even shares of range(count) as there are cores, at the same time.

    For work of a millisecond, for which starting threads would take too long: these are kept. `function` must not come
    here again, or all of them could be waiting.
    """
    size = max(1, -(-count // default_threads()))
    with _blas().limit(limits=1):
        for _ in _kept_threads().map(function, [slice(start, start + size) for start in range(0, count, size)]):
            pass
