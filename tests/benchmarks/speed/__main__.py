"""Measure the cases, print the table, and write it as JSON."""

import argparse
import gc
import importlib.metadata
import json
import platform
import re
import time
from pathlib import Path

import tinyslm  # noqa: F401 (first: before NumPy is loaded, as in the command)
from tests.benchmarks.speed import compressed, compressing, generation, processes, training
from tests.benchmarks.speed.case import OURS, measured
from tinyslm.checkpoints.atomic_write import atomic_file
from tinyslm.runtime import default_threads

TOPICS = (training, generation, compressed, compressing, processes)
CASES = {case.name: case for topic in TOPICS for case in topic.CASES}
PACKAGES = ("tinyslm", "numpy", "scipy", "torch", "transformers", "llama-cpp-python")
WORDS = {"aim": "aim reached", "floor": "floor reached", "missed": "missed", None: ""}


def main(argv=None):
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.speed", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these cases (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="how often the sides of a case take turns (default: 7)")
    parser.add_argument("--out", metavar="FILE", help="write the table as JSON")
    parser.add_argument("--list", action="store_true", help="names and what they measure only")
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
    began, rows = time.perf_counter(), []
    for name in arguments.names or CASES:
        rows.append(measured(CASES[name], arguments.rounds))
        print("\n".join(lines(rows[-1])), flush=True)
        gc.collect()
        if arguments.out:
            write(Path(arguments.out), arguments, rows, time.perf_counter() - began)


def lines(row) -> list[str]:
    """What was measured, as text: one line for ours, one for each comparison."""
    costs = row["costs"]
    text = [f"{row['name']}: {row['work']}"]
    text.append(f"    {OURS:14} {cost(costs[OURS]['median'], row['unit']):>10}")
    for name, comparison in row["comparisons"].items():
        ratio = comparison["ratio"]
        spread = f"{ratio['median']:.2f} (quartiles {ratio['low']:.2f}, {ratio['high']:.2f})"
        line = f"    {name:14} {cost(costs[name]['median'], row['unit']):>10}   ratio {spread}"
        if comparison["verdict"]:
            most = "at most " if row["at_most"] else ""
            line += f"   {most}{comparison['floor']:g}, aim {comparison['aim']:g}: {WORDS[comparison['verdict']]}"
        text.append(line)
    return text


def cost(value, unit) -> str:
    """Seconds or bytes, in the multiple that suits them."""
    if unit == "bytes":
        return f"{value / 1e6:.0f} MB"
    for name, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size or name == "us":
            return f"{value / size:.3g} {name}"


def versions() -> dict:
    """Of what takes part; None for what is not installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def processor() -> str:
    """Its name, where the system tells it."""
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()).group(1)
    except (OSError, AttributeError):
        return platform.machine()


def write(path, arguments, rows, seconds):
    """Everything, with what is needed to measure it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = ["--rounds", str(arguments.rounds), "--out", str(path)]
    content = {
        "command": " ".join(["python -m tests.benchmarks.speed", *arguments.names, *options]),
        "rounds": arguments.rounds,
        "processor": processor(),
        "threads": default_threads(),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "cases": rows,
    }
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
