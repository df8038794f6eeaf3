"""Parallel work in Python threads with one BLAS thread each.

NumPy releases the interpreter's lock in its loops and matrix products. So threads that process shards of a batch use
all cores for the elementwise operations too, which BLAS threads do not.
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from tinyslm.runtime import available_cores, default_threads, set_threads, single_threaded_blas, use_threads

WORTH_SHARING = 2**20  # array elements to read: less work ends before another thread has started


def map_in_threads(function: Callable, items: Iterable, threads: int | None = None) -> list:
    """[function(item) for item in items] on several threads; the results keep the order of the items.

    threads: number of threads, None for `default_threads`. `function` must be thread-safe. Inside it, `map_shares` and
    `map_in_threads` use one thread.
    """
    threads = threads or default_threads()
    if threads == 1:
        with use_threads(1):
            return [function(item) for item in items]
    with single_threaded_blas, ThreadPoolExecutor(threads, initializer=set_threads, initargs=(1,)) as executor:
        return list(executor.map(function, items))


@functools.cache
def _thread_pool():
    return ThreadPoolExecutor(available_cores(), initializer=set_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_thread_pool.cache_clear)


def map_shares(function: Callable[[slice], Any], count: int, work: int = WORTH_SHARING) -> None:
    """Split range(count) into one even share per thread, and call function(slice) for all shares at the same time.

    For work of about a millisecond: the threads are started once and reused. Inside `function`, one thread is used.
    work: number of array elements to read in total. Below WORTH_SHARING, function(slice(0, count)) is called directly.
    """
    shares = min(default_threads(), count) if work >= WORTH_SHARING else 1
    if shares < 2:
        function(slice(0, count))
        return
    bounds = [count * i // shares for i in range(shares + 1)]
    with single_threaded_blas:
        futures = [_thread_pool().submit(function, slice(*pair)) for pair in itertools.pairwise(bounds)]
        wait(futures)  # for all, also if one fails: no thread is still working after the return
    for future in futures:
        future.result()
