"""Many independent jobs on any `concurrent.futures.Executor`, each of them finished once, however often it is stopped.

What is done is a line in a file, written as soon as a job is finished. A sweep that was killed reads the file and does
the rest; a worker that was killed costs what it was doing at the time, and nothing else.
"""

import json
import os
from concurrent.futures import BrokenExecutor, as_completed

from tinyslm.errors import ConfigError, Error

PATIENCE = 3  # executors that may break in a row without a single job being finished


def sweep(jobs, work, make_executor, path, progress=lambda finished, total: None) -> dict:
    """{name: what work(job) returned} of all jobs, those of earlier runs read from the file `path`.

    jobs: {name: dict of plain values};  work(job) -> dict of plain values, a function that another process can import;
    make_executor(): an executor, closed at the end, and made again where its workers die (a Dask cluster replaces its
    own). A job that raises tinyslm.Error is finished too: {"error": what it said}. Raises Error if workers keep dying.
    """
    finished = {name: result for name, result in read_finished(path).items() if name in jobs}
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
                except BaseException:  # an interruption too: what has not begun does not begin
                    executor.shutdown(wait=False, cancel_futures=True)
                    raise
        except BrokenExecutor as problem:
            failures = failures + 1 if len(finished) == before else 1
            if failures >= PATIENCE:
                raise Error(f"the workers died {failures} times before one job was finished ({problem})") from problem
    return {name: finished[name] for name in jobs}


def attempt(work, job) -> dict:
    """work(job) as a file gives it back (lists for tuples), or what was wrong with the job: the same every time, so
    that trying it again would be no use."""
    try:
        return json.loads(json.dumps(work(job)))
    except Error as problem:
        return {"error": str(problem)}


def append_line(path, value):
    """Add a value as one line of JSON, and wait until it is on the disk."""
    with open(path, "ab") as file:
        file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_finished(path) -> dict:
    """{name: result} of the lines of a file, nothing if there is none. A last line that was not written to its end is
    cut off. Raises ConfigError for a file of another kind."""
    if not os.path.lexists(path):
        return {}
    with open(path, "rb+") as file:
        content = file.read()
        complete = content[: content.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in complete.splitlines()]
            found = {line["name"]: line["result"] for line in lines}
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ConfigError(f"{path}: is not a file of a sweep; choose another place or remove it first") from None
        if len(complete) < len(content):
            file.truncate(len(complete))
    return found
