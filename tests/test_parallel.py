"""Threads that share the work, and BLAS libraries whose number of threads is restored."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from tinyslm import parallel
from tinyslm.parallel import WORTH_SHARING, map_in_threads, map_shares
from tinyslm.runtime import available_cores, default_threads, use_threads


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@given(st.integers(0, 20), st.integers(1, 5))
def test_results_keep_their_order(count, threads):
    assert map_in_threads(lambda item: 2 * item, range(count), threads) == [2 * item for item in range(count)]


@given(st.integers(0, 30))
def test_shares_cover_everything_once(count):
    seen = [0] * count

    def visit(share):
        for i in range(count)[share]:
            seen[i] += 1

    map_shares(visit, count)
    assert seen == [1] * count


def test_little_work_is_done_at_once_and_so_is_work_of_a_thread_that_has_one_core():
    def shares(work):
        seen = []
        map_shares(seen.append, 4, work)
        return len(seen)

    assert shares(WORTH_SHARING - 1) == 1 and shares(WORTH_SHARING) == min(default_threads(), 4)
    assert map_in_threads(lambda _: shares(WORTH_SHARING), range(3), 2) == [1, 1, 1]
    for threads in (1, 2):
        assert map_in_threads(lambda _: default_threads(), range(2), threads) == [1, 1]
    inside = []
    map_shares(lambda share: inside.append(default_threads()), default_threads())
    assert set(inside) == {1} or default_threads() == 1


def test_no_thread_is_working_after_a_share_failed():
    finished = []

    def work(share):
        if share.start == 0:
            raise ZeroDivisionError
        time.sleep(0.1)
        finished.append(share)

    with pytest.raises(ZeroDivisionError):
        map_shares(work, 2)
    assert len(finished) == min(default_threads(), 2) - 1


def test_the_caller_processes_all_shares_if_the_other_threads_are_busy():
    started, finish, seen = threading.Semaphore(0), threading.Event(), []
    others = available_cores() - 1
    for _ in range(others):
        parallel._tasks().put(lambda: started.release() or finish.wait(20))
    for _ in range(others):
        assert started.acquire(timeout=20)
    with use_threads(4):
        map_shares(lambda share: seen.append((threading.get_ident(), share)), 4)
        assert default_threads() == 4
    finish.set()
    assert seen == [(threading.get_ident(), slice(i, i + 1)) for i in range(4)]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot limit a process to one core")
def test_on_one_core_no_task_is_left():
    """A task holds what its function reads, such as all gradients of a training step."""
    code = (
        "import os, time; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from tinyslm import parallel; from tinyslm.runtime import use_threads\n"
        "with use_threads(2):\n    for _ in range(9):\n        parallel.map_shares(lambda share: None, 2)\n"
        "end = time.monotonic() + 20\n"
        "while not parallel._tasks().empty() and time.monotonic() < end:\n    time.sleep(0.01)\n"
        "print(parallel._tasks().qsize())"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == "0\n"


def test_every_matrix_library_is_limited_in_a_fresh_process():
    """SciPy ships its own library, which may not be loaded when the first threads are started."""
    code = (
        "from tinyslm.parallel import map_in_threads; from threadpoolctl import threadpool_info as info\n"
        "def count(_):\n    import scipy.linalg\n"
        "    return [each['num_threads'] for each in info() if each['user_api'] == 'blas']\n"
        "print(map_in_threads(count, [0], 1)[0])"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert set(json.loads(said)) == {1}


def test_the_matrix_libraries_have_one_thread_inside_and_their_own_afterwards():
    before = blas_threads()
    inside = map_in_threads(lambda _: blas_threads(), range(2))
    assert inside == [[1] * len(before)] * 2
    map_in_threads(lambda _: map_shares(lambda share: None, 4), range(3))  # one inside the other
    map_shares(lambda share: map_shares(lambda share: map_in_threads(lambda _: None, range(2)), 4), 4)
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda item: 1 // item, [1, 0])
    with pytest.raises(ZeroDivisionError):
        map_shares(lambda share: 1 // 0, 3)
    assert blas_threads() == before


def test_overlapping_calls_restore_the_limits():
    """The second call enters and leaves last: the limits at its entry are not those from before the first call."""
    before = blas_threads()
    first_is_in, second_is_in, first_has_left = (threading.Event() for _ in range(3))

    def first():
        map_in_threads(lambda _: (first_is_in.set(), second_is_in.wait(10)), [0], 1)
        first_has_left.set()

    def second():
        first_is_in.wait(10)
        map_in_threads(lambda _: (second_is_in.set(), first_has_left.wait(10)), [0], 1)

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert first_has_left.is_set() and blas_threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking a process that has threads
def test_a_forked_process_starts_threads_of_its_own():
    map_shares(lambda share: None, default_threads())
    child = os.fork()
    if child == 0:
        map_shares(lambda share: None, default_threads())
        os._exit(7)
    for _ in range(200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        threading.Event().wait(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child waits for threads that it has not")
    assert os.waitstatus_to_exitcode(status) == 7
