"""Parallel work in Python threads with one BLAS thread each.

NumPy releases the interpreter's lock in its loops and matrix products. So threads that process shards of a batch use
all cores for the elementwise operations too, which BLAS threads do not.
"""

import functools
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
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
def _tasks():
    """The queue of the worker threads: one per core besides that of the caller, and at least one, which empties it.

    A task is a function to be called.
    """
    tasks: queue.SimpleQueue = queue.SimpleQueue()

    def work():
        set_threads(1)
        while True:
            tasks.get()()

    for _ in range(max(available_cores() - 1, 1)):
        threading.Thread(target=work, daemon=True).start()
    return tasks


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_tasks.cache_clear)


def map_shares(function: Callable[[slice], Any], count: int, work: int = WORTH_SHARING) -> None:
    """Split range(count) into one even share per thread, and call function(slice) for all shares at the same time.

    For work of 0.1 milliseconds or more: the threads are started once and wait at a queue, which costs a fifth of the
    time of futures. The calling thread processes shares too. Inside `function`, one thread is used if work is shared.
    work: number of array elements to read in total. Below WORTH_SHARING, function(slice(0, count)) is called directly.
    """
    threads = min(default_threads(), count) if work >= WORTH_SHARING else 1
    if threads < 2:
        function(slice(0, count))
        return
    bounds = [count * i // threads for i in range(threads + 1)]
    shares: queue.SimpleQueue = queue.SimpleQueue()
    for pair in itertools.pairwise(bounds):
        shares.put(slice(*pair))
    outcomes: queue.SimpleQueue = queue.SimpleQueue()  # of every share: None or the exception

    def process_shares():  # a thread that starts late finds none
        while True:
            try:
                share = shares.get_nowait()
            except queue.Empty:
                return
            try:
                function(share)
                outcomes.put(None)
            except BaseException as error:
                outcomes.put(error)

    with use_threads(1):
        for _ in range(threads - 1):
            _tasks().put(process_shares)
        process_shares()
        found = [outcomes.get() for _ in range(threads)]  # of all, also if one failed: then no thread is still working
    for error in found:
        if error is not None:
            raise error
