"""Several cores, used as Python threads with one BLAS thread each.

NumPy releases the interpreter's lock inside its loops and matrix products, so threads over shards of a batch put the
element-wise work on all cores, which BLAS threads alone do not.
"""

import functools
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext

from threadpoolctl import ThreadpoolController

WORTH_SHARING = 2**20  # numbers to be read: less than that is done before another thread has woken up

_chosen = threading.local()  # what `use_threads` says, for the thread that called it


def default_threads() -> int:
    """As many threads as `use_threads` allows here, or else as this process may use cores."""
    return getattr(_chosen, "count", None) or _cores()


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _blas():
    """The matrix libraries of this process; finding them takes a few milliseconds. SciPy brings one of its own, which
    has to be there to be found."""
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()


class _SingleThreadedBlas:
    """Entered: every matrix product runs on one thread, until the last of those who entered has left."""

    def __init__(self):
        self.lock, self.users, self.limits = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            if self.users == 0:
                self.limits = _blas().limit(limits=1)
            self.users += 1

    def __exit__(self, *exception):
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.limits.restore_original_limits()


_single_threaded_blas = _SingleThreadedBlas()


def map_in_threads(function, items, threads=None) -> list:
    """[function(item) for item in items], several at a time; the results keep the order of the items.

    threads: how many at a time, all cores if None. What `function` calls must bear being called from several threads;
    it has one core there, and its own work is not spread again.
    """
    threads = threads or default_threads()
    if threads == 1:
        with use_threads(1):
            return [function(item) for item in items]
    with _single_threaded_blas, ThreadPoolExecutor(threads, initializer=_choose, initargs=(1,)) as executor:
        return list(executor.map(function, items))


def _choose(count):
    _chosen.count = count


@contextmanager
def use_threads(count: int):
    """Inside, this thread's work is spread over `count` threads, so that several jobs can share a machine."""
    before = getattr(_chosen, "count", None)
    _chosen.count = count
    try:
        with _single_threaded_blas if count == 1 else nullcontext():
            yield
    finally:
        _chosen.count = before


@functools.cache
def _kept_threads():
    return ThreadPoolExecutor(_cores(), initializer=_choose, initargs=(1,))


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
    with _single_threaded_blas:
        futures = [_kept_threads().submit(function, slice(*pair)) for pair in itertools.pairwise(bounds)]
        wait(futures)  # all of them, also where one fails: nobody works on when this returns
    for future in futures:
        future.result()
