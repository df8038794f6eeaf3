"""Kill processes at random moments and check what they leave.

    python -m tests.kills --kills 300 --seed 0

Real runs of `tinyslm train`, `compress`, `sweep --workers 2`, `export` and of `tinyslm.save` are killed with SIGKILL:
half of them at a random moment, half at the start of a random system call that changes files. Then every visible model
must load and have the bits of an uninterrupted run; training, compression and sweep are resumed to the same results; no
process is left after SECONDS_TO_EXIT; and after a complete run no temporary, lock file or training directory is left.

Kill i of a seed is always planned in the same way; `--first i --kills 1` repeats it. Exit status 1 with failures.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from tests.kills.groups import wait_for_group
from tests.kills.kinds import Compress, Export, Kind, Save, Sweep, Train, write_inputs

ORDER = (Train, Save, Compress, Train, Export, Save, Sweep)
SECONDS_TO_EXIT = 5
ROOT = Path(__file__).parents[2]


def start(arguments, call, count):
    """A victim in a process group of its own."""
    command = [sys.executable, "-m", "tests.kills.victim", call, count, *arguments]
    return subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for_entry(place, process):
    """Wait until the process has made the first file in a directory, or has ended."""
    while not os.listdir(place) and process.poll() is None:
        time.sleep(0.002)


def run_references(kinds):
    """Uninterrupted runs. {kind: (seconds from its first file to its end, number of calls)}"""
    extents = {}
    for kind in kinds:
        kind.reference.mkdir()
        count = kind.inputs / "count"
        process = start(kind.arguments(kind.reference), 0, count)
        wait_for_entry(kind.reference, process)
        began = time.monotonic()
        if process.wait() != 0:
            raise SystemExit(f"{type(kind).__name__.lower()}: the uninterrupted run exits with {process.returncode}")
        extents[kind] = time.monotonic() - began, int(count.read_text())
    return extents


def kill_once(kind: Kind, extent, rng, place):
    """Kill one process. Returns (the plan as text, whether it was killed before its end, its process group)."""
    seconds, calls = extent
    if rng.random() < 0.5:
        call = rng.randint(1, calls)
        process = start(kind.arguments(place), call, place.parent / "count")
        return f"call {call} of {calls}", process.wait() == -signal.SIGKILL, process.pid
    share = rng.random()
    process = start(kind.arguments(place), 0, place.parent / "count")
    wait_for_entry(place, process)
    time.sleep(share * seconds)
    process.send_signal(signal.SIGKILL)
    return f"after {share:.3f} of {seconds:.2f} s", process.wait() == -signal.SIGKILL, process.pid


def leftovers(place):
    """Names of temporaries, lock files and training directories."""
    paths = [path.relative_to(place) for path in place.rglob("*")]
    return [str(path) for path in paths if path.name[0] == "." or path.suffix in (".training", ".partial", ".lock")]


def kill_all(kills, seed, first=0, report=print):
    """({kind: Counter of what the killed processes had reached}, texts of failures)."""
    reached, failures = defaultdict(Counter), []
    with tempfile.TemporaryDirectory() as directory:
        inputs = Path(directory, "inputs")
        inputs.mkdir()
        write_inputs(inputs)
        kinds = {kind: kind(inputs) for kind in dict.fromkeys(ORDER)}  # Train first: its model is the others' input
        extents = run_references(kinds.values())
        for i in range(first, first + kills):
            rng = random.Random(f"{seed} {i}")
            kind = kinds[ORDER[i % len(ORDER)]]
            name = type(kind).__name__.lower()
            place = Path(directory, "place")
            place.mkdir()
            plan, killed, group = kill_once(kind, extents[kind], rng, place)
            try:
                if not wait_for_group(group, SECONDS_TO_EXIT):
                    raise AssertionError(f"processes were alive {SECONDS_TO_EXIT} s after the kill")
                found = kind.check(place)
                if leftovers(place):
                    raise AssertionError(f"left after a complete run: {', '.join(leftovers(place))}")
                reached[name][found if killed else "ended before the kill"] += 1
            except Exception as problem:
                failures.append(f"kill {i}, {name}, {plan}: {type(problem).__name__}: {problem}")
                report(failures[-1])
            shutil.rmtree(place)
    return reached, failures


def main(argv=None):
    """Print the counts per kind, and failures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first kill")
    arguments = parser.parse_args(argv)
    if os.name == "nt":
        parser.error("Windows has no SIGKILL")
    began = time.monotonic()
    reached, failures = kill_all(arguments.kills, arguments.seed, arguments.first)
    for name, counts in reached.items():
        print(f"{name:9} {counts.total():4}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    print(f"{arguments.kills} kills, {len(failures)} failures, {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
