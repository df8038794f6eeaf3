"""Measure the cases, print the table, and write it as JSON."""

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

import tinyslm  # noqa: F401 (first: before NumPy is loaded, as in the command)
from tests.benchmarks.speed import compressed, compressing, generation, processes, prompts, training
from tests.benchmarks.speed.case import OURS, measured
from tests.benchmarks.speed.machine import blas, processor
from tinyslm.checkpoints.atomic_write import atomic_file
from tinyslm.runtime import default_threads

TOPICS = (training, generation, prompts, compressed, compressing, processes)
CASES = {case.name: case for topic in TOPICS for case in topic.CASES}
PACKAGES = ("tinyslm", "numpy", "scipy", "torch", "transformers", "xllamacpp")
LEGEND = """After each cost: the ratio to the cost of tinyslm, with its quartiles (2.00:
tinyslm is twice as fast). With "at most": the inverse ratio."""
COMMAND = "python -m tests.benchmarks.speed"
BLAS_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # results with one of them are not those of other users


def main(argv=None):
    """Measure the cases that the command line names."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these cases (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="number of measurements of each runner (default: 7)")
    parser.add_argument("--out", metavar="FILE", help="write the table as JSON")
    parser.add_argument("--list", action="store_true", help="only show names and descriptions of the cases")
    arguments = parser.parse_args(argv)
    if arguments.list:
        for case in CASES.values():
            print(f"{case.name:19}  {case.work}")
        return
    if arguments.rounds < 1:
        parser.error(f"--rounds is {arguments.rounds}, expected at least 1")
    for name in arguments.names:
        if name not in CASES:
            parser.error(f"{name!r} is not one of {', '.join(CASES)}")
    changed = [name for name in BLAS_SETTINGS if name in os.environ]
    if arguments.out and changed:
        unset = " ".join(f"-u {name}" for name in BLAS_SETTINGS)
        problem = f"matrix products have another speed with {' and '.join(changed)}"
        parser.error(f"{problem}; run: env {unset} {command_line(arguments)}")
    print(f"processor: {processor()}; threads: {default_threads()}")
    print("matrix library of NumPy:", ", ".join(f"{key} {value}" for key, value in blas().items()) or "unknown")
    print(LEGEND, flush=True)
    began, rows = time.perf_counter(), []
    for name in arguments.names or CASES:
        rows.append(measured(CASES[name], arguments.rounds))
        print("\n".join(lines(rows[-1])), flush=True)
        gc.collect()
        if arguments.out:
            write(Path(arguments.out), arguments, rows, time.perf_counter() - began)


def command_line(arguments) -> str:
    """The command that repeats this measurement."""
    return " ".join([COMMAND, *arguments.names, "--rounds", str(arguments.rounds), "--out", str(arguments.out)])


def lines(row) -> list[str]:
    """The results of a case as text: one line per runner, absent peer and note."""
    costs, entries = row["costs"], {}
    entries[OURS] = f"{cost(costs[OURS]['median'], row['unit']):>14}"
    for name, comparison in row["comparisons"].items():
        ratio = comparison["ratio"]
        line = f"{cost(costs[name]['median'], row['unit']):>14}"
        line += f"  {ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
        entries[name] = f"{line}  {verdict(comparison, 'at most' if row['at_most'] else 'floor')}".rstrip()
    entries |= {name: f"{'not measured':>14}  {reason}" for name, reason in row["absent"].items()}
    entries |= {name: f"{value:>14.3g}" for name, value in row["noted"].items()}
    width = max(map(len, entries))
    return [f"{row['name']}: {row['work']}"] + [f"    {name:{width}} {text}" for name, text in entries.items()]


def verdict(comparison, bound) -> str:
    """The bounds of a comparison and whether they are met; "" without bounds."""
    floor, aim = comparison["floor"], comparison["aim"]
    texts = {"aim": f"aim {aim} met", "floor": f"{bound} {floor} met, aim {aim}", "missed": f"{bound} {floor} missed"}
    return texts.get(comparison["verdict"], "")


def cost(value, unit) -> str:
    """Seconds, tokens per second or bytes, in a suitable unit."""
    if unit == "bytes":
        return f"{value / 1e6:.0f} MB"
    if unit == "seconds per token":
        return f"{1 / value:,.{0 if value < 0.1 else 2}f} tokens/s"
    for name, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size or name == "us":
            return f"{value / size:.3g} {name}"


def versions() -> dict:
    """{package: its version, None if it is not installed}."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def write(path, arguments, rows, seconds):
    """The table, with the machine, the versions and the command of the measurement."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "command": command_line(arguments),
        "rounds": arguments.rounds,
        "processor": processor(),
        "threads": default_threads(),
        "blas": blas(),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "cases": rows,
    }
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
