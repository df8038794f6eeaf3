"""Several cores, used as Python threads with one BLAS thread each.

NumPy releases the interpreter's lock inside its loops and matrix products, so threads over shards of a batch put the
element-wise work on all cores, which BLAS threads alone do not.
"""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor, wait

from tinyslm.runtime import available_cores, default_threads, set_threads, single_threaded_blas, use_threads

WORTH_SHARING = 2**20  # array elements read: smaller work ends before another thread has started


def map_in_threads(function, items, threads=None) -> list:
    """[function(item) for item in items], several at a time; the results keep the order of the items.

    threads: how many at a time, all cores if None. What `function` calls must bear being called from several threads;
    it has one core there, and its own work is not spread again.
    """
    threads = threads or default_threads()
    if threads == 1:
        with use_threads(1):
            return [function(item) for item in items]
    with single_threaded_blas, ThreadPoolExecutor(threads, initializer=set_threads, initargs=(1,)) as executor:
        return list(executor.map(function, items))


@functools.cache
def _kept_threads():
    return ThreadPoolExecutor(available_cores(), initializer=set_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_kept_threads.cache_clear)


def map_shares(function, count, work=WORTH_SHARING):
    """Call function(slice) for as many even shares of range(count) as there are cores, at the same time.

    For work of a millisecond, for which starting threads would take too long: these are kept. What `function` does is
    not spread again. work: how many numbers are read in all; where they are few, it is called once, for everything.
    """
    shares = min(default_threads(), count) if work >= WORTH_SHARING else 1
    if shares < 2:
        function(slice(0, count))
        return
    bounds = [count * i // shares for i in range(shares + 1)]
    with single_threaded_blas:
        futures = [_kept_threads().submit(function, slice(*pair)) for pair in itertools.pairwise(bounds)]
        wait(futures)  # all of them, also where one fails: nobody works on when this returns
    for future in futures:
        future.result()
