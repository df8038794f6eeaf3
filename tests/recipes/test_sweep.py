"""A sweep finishes every job once: with threads, processes or a cluster, and whoever is killed in the middle."""

import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kills.groups import group_size, wait_for_group
from tests.recipes import sweep_work
from tests.recipes.cluster import local_cluster
from tests.recipes.sweep_work import die_always, die_once, jobs, pair, square
from tinyslm.errors import ConfigError, Error
from tinyslm.recipes.sweep import append_line, read_finished, sweep

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups and no SIGKILL")
SPAWN = functools.partial(ProcessPoolExecutor, 2, mp_context=multiprocessing.get_context("spawn"))
THREADS = functools.partial(ThreadPoolExecutor, 3)


def squares(count):
    return {f"job {n}": {"square": n * n} for n in range(count)}


def begun(log):
    return sorted(map(int, Path(log).read_text().split()))


def names_in(path):
    return [json.loads(line)["name"] for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("executor", [THREADS, SPAWN])
def test_every_job_is_done_once(tmp_path, executor):
    path, log, seen = tmp_path / "points.jsonl", tmp_path / "log", []
    assert sweep(jobs(log, 7), square, executor, path, lambda *counts: seen.append(counts)) == squares(7)
    assert begun(log) == list(range(7))
    assert sorted(names_in(path)) == sorted(squares(7))
    assert seen == [(n, 7) for n in range(8)]


def test_what_is_finished_is_not_done_again(tmp_path):
    path, log = tmp_path / "points.jsonl", tmp_path / "log"
    sweep(jobs(log, 3), square, THREADS, path)
    assert sweep(jobs(log, 5), square, THREADS, path) == squares(5)
    assert begun(log) == list(range(5))
    assert sweep(jobs(log, 2), square, THREADS, path) == squares(2)  # others stay in the file, not in the answer
    assert begun(log) == list(range(5)) and len(names_in(path)) == 5


def test_a_result_is_the_same_whether_it_is_new_or_was_read(tmp_path):
    path, log = tmp_path / "points.jsonl", tmp_path / "log"
    new = sweep(jobs(log, 2), pair, THREADS, path)
    assert new == sweep(jobs(log, 2), pair, THREADS, path) == {f"job {n}": {"pair": [n, n * n]} for n in range(2)}


def test_wherever_the_file_was_cut_off_the_rest_is_done(tmp_path):
    path, log = tmp_path / "points.jsonl", tmp_path / "log"
    whole = sweep(jobs(log, 4), square, THREADS, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        complete = content[:length].count(b"\n")
        assert len(read_finished(path)) == complete
        assert path.stat().st_size == content[:length].rfind(b"\n") + 1
        append_line(path, {"name": "new", "result": {}})
        assert len(read_finished(path)) == complete + 1
    path.write_bytes(content[:-3])
    assert sweep(jobs(log, 4), square, THREADS, path) == whole


def test_a_killed_worker_costs_nothing_but_its_own_time(tmp_path):
    path, log = tmp_path / "points.jsonl", tmp_path / "log"
    work = jobs(log, 8)
    work["job 3"]["deadly"] = True
    assert sweep(work, die_once, SPAWN, path) == squares(8)
    assert Path(f"{log}.killed").exists()
    assert sorted(names_in(path)) == sorted(squares(8))  # none twice, none lost


def test_workers_that_always_die_are_not_tried_for_ever(tmp_path):
    with pytest.raises(Error, match="the workers died 3 times before one job was finished"):
        sweep(jobs(tmp_path / "log", 2), die_always, SPAWN, tmp_path / "points.jsonl")


def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    path, log = tmp_path / "points.jsonl", tmp_path / "log"
    program = (
        "from tests.recipes.test_sweep import *\n"
        f"sweep(jobs({str(log)!r}, 6, seconds=0.4), square, functools.partial(ThreadPoolExecutor, 1), {str(path)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=Path(sweep_work.__file__).parents[2])
    while not (path.exists() and path.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = len(read_finished(path))
    assert 2 <= before < 6
    assert sweep(jobs(log, 6), square, THREADS, path) == squares(6)
    repeated = len(begun(log)) - 6
    assert 0 <= repeated <= 1  # only what was being done at the time


def test_a_job_that_cannot_be_done_is_finished_too(tmp_path):
    path, log = tmp_path / "points.jsonl", tmp_path / "log"
    work = jobs(log, 3)
    work["job 1"]["impossible"] = True
    for _ in range(2):
        found = sweep(work, square, THREADS, path)
        assert found["job 1"] == {"error": "1 has no square here"} and found["job 2"] == {"square": 4}
    assert begun(log) == [0, 1, 2]


def test_a_mistake_in_the_work_is_not_hidden(tmp_path):
    with pytest.raises(KeyError):
        sweep({"one": {}}, square, THREADS, tmp_path / "points.jsonl")


LINES = ["hello", "[1]", '{"name": "x"}', "{}", "5", "null", "NaN", '{"name": 1, "result": {}}', "[" * 9999, "1" * 9999]
LINES += ['{"name": "x", "result": 2}', '{"name": null, "result": {}}', '{"name": "x", "result": null}', "\xff"]


@pytest.mark.parametrize("content", [f"{line}\n".encode("latin-1") for line in LINES], ids=range(len(LINES)))
def test_other_files_are_left_alone(tmp_path, content):
    path = tmp_path / "points.jsonl"
    path.write_bytes(content)
    message = r"points\.jsonl, line 1: found .*, expected an object with name and result"
    with pytest.raises(ConfigError, match=message) as problem:
        sweep(jobs(tmp_path / "log", 1), square, THREADS, path)
    assert path.read_bytes() == content
    assert "\n" not in str(problem.value) and len(str(problem.value)) < 600


def test_results_of_earlier_runs_are_checked(tmp_path):
    path, log = tmp_path / "points.jsonl", tmp_path / "log"
    append_line(path, {"name": "job 0", "result": {"square": -5}})
    append_line(path, {"name": "job 7", "result": {"square": -5}})  # not a job of this sweep
    before = path.read_bytes()

    def check(job, result):
        if result["square"] != job["n"] ** 2:
            raise ConfigError(f"square is {result['square']}")

    with pytest.raises(ConfigError, match=r"points\.jsonl: job 0: square is -5; remove this line, or the file"):
        sweep(jobs(log, 2), square, THREADS, path, check=check)
    assert path.read_bytes() == before and not log.exists()
    path.unlink()
    for _ in range(2):
        assert sweep(jobs(log, 2), square, THREADS, path, check=check) == squares(2)


@POSIX
@pytest.mark.slow
def test_workers_exit_when_the_sweep_is_killed(tmp_path):
    """While they work, while they wait for work, and while they start."""
    for seconds, begun_jobs in ((60, 2), (0.0, 4), (60, 0)):
        log, path = tmp_path / f"log {seconds} {begun_jobs}", tmp_path / f"points {seconds} {begun_jobs}"
        program = (
            "from tests.recipes.test_sweep import *\n"
            "from tinyslm.recipes.sweep import process_executor\n"
            "if __name__ == '__main__':\n"
            "    executor = functools.partial(process_executor, 2)\n"
            f"    work = jobs({str(log)!r}, 4, seconds={seconds})\n"
            f"    work['slow'] = work['job 0'] | {{'seconds': 60}}\n"
            f"    sweep(work, square, executor, {str(path)!r})\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=Path(sweep_work.__file__).parents[2], start_new_session=True
        )
        while not group_size(process.pid) >= 3 or (begun_jobs and not (log.exists() and len(begun(log)) >= begun_jobs)):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert wait_for_group(process.pid, 5)


@pytest.fixture(scope="module")
def cluster():
    with local_cluster() as cluster:
        yield cluster


@pytest.mark.slow
def test_a_cluster_and_one_of_its_workers_killed(tmp_path, cluster):
    from tinyslm.commands.sweep import dask_executor

    path, log = tmp_path / "points.jsonl", tmp_path / "log"
    work = jobs(log, 8)
    work["job 3"]["deadly"] = True
    executor = functools.partial(dask_executor, cluster.scheduler_address)
    assert sweep(work, die_once, executor, path) == squares(8)
    assert Path(f"{log}.killed").exists()
    assert sorted(names_in(path)) == sorted(squares(8))
