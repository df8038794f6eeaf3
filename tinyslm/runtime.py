"""Process settings: the memory allocator, the threads of the matrix library (BLAS), and the number of threads to use.

`import tinyslm` changes two settings of the process, in `configure` and nowhere else. Neither changes a result. The
environment variable TINYSLM_RUNTIME=off leaves both as they are.

1. OPENBLAS_THREAD_TIMEOUT. After a matrix product the threads of OpenBLAS spin for 2^28 cycles (0.1 s), on the cores
   where the threads of `tinyslm.parallel` then work. With the value 20 they spin for 2^20 cycles. OpenBLAS reads it
   when NumPy is loaded, so it has no effect in a program that imported NumPy before `tinyslm`. A value that is already
   set is kept. Child processes inherit it.
2. Thresholds of glibc's malloc. By default, large arrays are returned to the system when they are freed. The next array
   is new memory, which the system clears page by page on first write. For arrays of a megabyte that takes several times
   as long as the arithmetic. With the higher thresholds freed memory is reused.
"""

import ctypes
import functools
import os
import threading
from contextlib import contextmanager, nullcontext

from threadpoolctl import ThreadpoolController

SWITCH = "TINYSLM_RUNTIME"  # "off": leave the process as it is
SPIN_CYCLES = "20"  # log2 of the cycles for which a thread of OpenBLAS waits actively
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt, from malloc.h
IDLE_BYTES = 2**29  # freed memory that the process keeps
LARGEST_KEPT = 2**25  # bytes of an array; larger ones, such as weights of a large model, are returned to the system


def configure() -> None:
    """Apply both settings, unless TINYSLM_RUNTIME is "off". Called once, before NumPy is loaded."""
    if os.environ.get(SWITCH, "").lower() != "off":
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", SPIN_CYCLES)
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Raise the thresholds of malloc in this process; returns False where the system has no `mallopt`."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another allocator, or another system
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, IDLE_BYTES))


_chosen = threading.local()  # the count set by `use_threads`, per thread


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Number of threads to use: the one set by `use_threads` in this thread, otherwise one per core."""
    return getattr(_chosen, "count", None) or available_cores()


def set_threads(count: int | None) -> None:
    """Set `default_threads` of the calling thread; None restores one per core."""
    _chosen.count = count


@contextmanager
def use_threads(count: int):
    """Inside the block, distribute the work of this thread over `count` threads, so that jobs can share a machine."""
    before = getattr(_chosen, "count", None)
    set_threads(count)
    try:
        with single_threaded_blas if count == 1 else nullcontext():
            yield
    finally:
        set_threads(before)


@functools.cache
def _blas():
    """Controller of the BLAS libraries of this process. SciPy ships its own, which must be loaded to be found."""
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()


class _SingleThreadedBlas:
    """Context manager: matrix products run on one thread until the last thread has left it."""

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


single_threaded_blas = _SingleThreadedBlas()
