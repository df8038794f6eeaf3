"""Resumable sweep: many independent jobs on any `concurrent.futures.Executor`, each finished exactly once.

Each finished job adds a line to a file. An interrupted sweep reads the file and runs the remaining jobs. A killed
worker loses only its current job.
"""

import json
import multiprocessing
import os
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError, Error

MAX_BROKEN_EXECUTORS = 3  # in a row, without a finished job in between


def sweep(
    jobs,
    work,
    make_executor,
    path,
    progress=lambda finished, total: None,
    check=lambda job, result: None,
) -> dict:
    """{name: work(job)} of all jobs. The file `path` contains the results of earlier runs. One process may write it.

    jobs: {name: dict of plain values};  work(job) -> dict of plain values, a function that another process can import;
    make_executor(): returns an executor, which is closed at the end. If its workers die, a new executor is made (a Dask
    cluster replaces its workers itself). A job that raises tinyslm.Error is finished: {"error": message}. Raises Error
    if workers die repeatedly.
    check(job, result): raises ConfigError for a result in the file that is damaged. The message is extended by the file
    and the name of the job.
    """
    finished = {name: result for name, result in read_finished(path).items() if name in jobs}
    for name, result in finished.items():
        try:
            check(jobs[name], result)
        except ConfigError as problem:
            raise ConfigError(f"{path}: {name}: {problem}; remove this line, or the file") from None
    failures = 0
    while left := [name for name in jobs if name not in finished]:
        before = len(finished)
        progress(before, len(jobs))
        try:
            with make_executor() as executor:
                names = {executor.submit(attempt, work, jobs[name]): name for name in left}
                try:
                    for future in as_completed(names):
                        name = names[future]
                        finished[name] = future.result()
                        append_line(path, {"name": name, "result": finished[name]})
                        progress(len(finished), len(jobs))
                except BaseException:  # including KeyboardInterrupt: cancel the waiting jobs
                    executor.shutdown(wait=False, cancel_futures=True)
                    raise
        except BrokenExecutor as problem:
            failures = failures + 1 if len(finished) == before else 1
            if failures >= MAX_BROKEN_EXECUTORS:
                raise Error(f"the workers died {failures} times before one job was finished ({problem})") from problem
    return {name: finished[name] for name in jobs}


def process_executor(workers) -> ProcessPoolExecutor:
    """Executor with processes on this machine. They exit when the process that started them dies, also by SIGKILL."""
    context = multiprocessing.get_context("spawn")  # fork copies locks, but not the threads that release them
    return ProcessPoolExecutor(workers, mp_context=context, initializer=exit_with_parent)


def exit_with_parent():
    """Start a thread that ends this process as soon as its parent process is dead."""
    parent = multiprocessing.parent_process()

    def wait_and_exit():
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait_and_exit, daemon=True).start()


def attempt(work, job) -> dict:
    """work(job) as read from JSON (lists for tuples), or {"error": message}, because the error would occur again."""
    try:
        return json.loads(json.dumps(work(job)))
    except Error as problem:
        return {"error": str(problem)}


def append_line(path, value):
    """Append a value as one line of JSON, and flush it to the disk."""
    with open(path, "ab") as file:
        file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_finished(path) -> dict:
    """{name: result} of the lines of a file, empty if there is no file. An incomplete last line is removed.

    Raises ConfigError for a file of another kind.
    """
    if not os.path.lexists(path):
        return {}
    with open(path, "rb+") as file:
        content = file.read()
        complete = content[: content.rfind(b"\n") + 1]
        found = dict(_read_line(f"{path}, line {i}", line) for i, line in enumerate(complete.splitlines(), 1))
        if len(complete) < len(content):
            file.truncate(len(complete))
    return found


def _read_line(where, line):
    """(name, result) of a line."""
    try:
        value = json.loads(line)
        name, result = value["name"], value["result"]
    except (ValueError, TypeError, KeyError, RecursionError):
        name = result = None
    if not isinstance(name, str) or not isinstance(result, dict):
        text = shown(line.decode("utf-8", "replace"))
        raise ConfigError(
            f"{where}: found {text}, expected an object with name and result; choose another path or remove it first"
        )
    return name, result
