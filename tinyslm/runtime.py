"""Process settings: the memory allocator, the threads of the matrix library (BLAS), and the number of threads to use.

`import tinyslm` changes two settings of the process, in `configure` and nowhere else. Neither changes a result. The
environment variable TINYSLM_RUNTIME=off leaves both as they are. The values 0, false and no mean the same, in upper or
lower case. Any other value has no effect.

1. OPENBLAS_THREAD_TIMEOUT. After a matrix product the threads of OpenBLAS spin for 2^28 cycles (0.1 s), on the cores
   where the threads of `tinyslm.parallel` then work. With the value 20 they spin for 2^20 cycles. OpenBLAS reads it
   when NumPy is loaded, so it has no effect in a program that imported NumPy before `tinyslm`. A value that is already
   set is kept. Child processes inherit the environment variable, also those that do not import `tinyslm`.
2. Parameters of glibc's malloc. By default, large arrays are returned to the system when they are freed. The next array
   is new memory, which the system clears page by page on first write. For arrays of a megabyte that takes several times
   as long as the arithmetic. With higher thresholds freed memory is reused. All threads share one heap, so a thread
   reuses what another one freed. Child processes do not inherit the parameters, except forked ones.

Freed memory stays with the process. `release_freed_memory` returns it to the system. The library calls it at the end of
a training, and after passes without gradients over sequences of RELEASE_TOKENS tokens or more.
"""

import ctypes
import functools
import os
import threading
from contextlib import contextmanager, nullcontext

from threadpoolctl import ThreadpoolController

SWITCH = "TINYSLM_RUNTIME"
OFF = ("off", "0", "false", "no")  # values of SWITCH that leave the process as it is
SPIN_CYCLES = "20"  # log2 of the cycles for which a thread of OpenBLAS waits actively
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # parameters of mallopt, from malloc.h
IDLE_BYTES = 2**29  # freed memory that the process keeps
LARGEST_KEPT = 2**25  # bytes of an array; larger ones, such as weights of a large model, are returned to the system
HEAPS = 1  # shared by all threads; `malloc_trim` shrinks only the first one
RELEASE_TOKENS = 8192  # tokens of a sequence: long enough that returning memory takes little of the time of a pass


def is_switched_off() -> bool:
    """Whether the environment variable TINYSLM_RUNTIME leaves the process as it is."""
    return os.environ.get(SWITCH, "").lower() in OFF


def configure() -> None:
    """Apply both settings, unless they are switched off. Called once, before NumPy is loaded."""
    if not is_switched_off():
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", SPIN_CYCLES)
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Set the parameters of malloc in this process; returns False where the system has no `mallopt`."""
    mallopt = _allocator_function("mallopt")
    if mallopt is None:
        return False
    parameters = ((M_MMAP_THRESHOLD, LARGEST_KEPT), (M_TRIM_THRESHOLD, IDLE_BYTES), (M_ARENA_MAX, HEAPS))
    return all(mallopt(parameter, value) for parameter, value in parameters)


def release_freed_memory() -> None:
    """Return freed memory to the system. Does nothing if the settings are switched off, or without `malloc_trim`."""
    malloc_trim = None if is_switched_off() else _allocator_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def release_after_long_pass(length: int) -> None:
    """`release_freed_memory` if the sequences of a pass have RELEASE_TOKENS tokens or more."""
    if length >= RELEASE_TOKENS:
        release_freed_memory()


def _allocator_function(name):
    """A function of the C library, or None: another allocator, or another system."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None


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
        self.lock, self.users, self.before = threading.Lock(), 0, []

    def __enter__(self):
        with self.lock:
            if self.users == 0:
                self.before = [(library, library.num_threads) for library in _blas().lib_controllers]
                for library, _ in self.before:
                    library.set_num_threads(1)
            self.users += 1

    def __exit__(self, *exception):
        with self.lock:
            self.users -= 1
            if self.users == 0:
                for library, count in self.before:
                    library.set_num_threads(count)


single_threaded_blas = _SingleThreadedBlas()
