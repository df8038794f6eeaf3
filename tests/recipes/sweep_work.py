"""Jobs for sweeps, in a file that other processes can import. Each leaves a mark in a log when it begins."""

import os
import signal
import time
from pathlib import Path

from tinyslm.errors import DataError


def note(job, text):
    with open(job["log"], "a") as file:
        file.write(text + "\n")


def square(job):
    """n squared, after a while."""
    note(job, str(job["n"]))
    time.sleep(job.get("seconds", 0))
    if job.get("impossible"):
        raise DataError(f"{job['n']} has no square here")
    return {"square": job["n"] ** 2}


def pair(job):
    """n and its square, as a tuple."""
    return {"pair": (job["n"], job["n"] ** 2)}


def die_once(job):
    """The same, but the process of one job is killed the first time."""
    if job.get("deadly"):
        mark = Path(job["log"] + ".killed")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return square(job)


def die_always(job):
    """Nobody survives this."""
    os.kill(os.getpid(), signal.SIGKILL)


def jobs(log, count, **settings):
    """{name: job} of numbers from 0."""
    return {f"job {n}": {"n": n, "log": str(log), **settings} for n in range(count)}
