"""Measure the claims, print the table, and write it as JSON."""

import argparse
import functools
import hashlib
import itertools
import json
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import scipy

import tinyslm
from tests.benchmarks.claims import (
    distillation,
    low_rank,
    pipeline,
    pruning,
    quantization_calibrated,
    quantization_formats,
    structure,
)
from tests.benchmarks.claims.bench import Bench
from tests.benchmarks.claims.claim import Claim
from tinyslm.checkpoints.atomic_write import atomic_file
from tinyslm.errors import ConfigError
from tinyslm.load_save import data_directory
from tinyslm.runtime import default_threads, use_threads

# Each lane is measured in a process of its own: claims of one topic share what they train. They take equally long.
LANES = (
    (distillation, pruning, quantization_formats),
    (structure, quantization_calibrated, low_rank, pipeline),
)
TOPICS = [topic for lane in LANES for topic in lane]
FIRST = ["distilbert", "distillation-steps", "feed-forward-third", "int8-weights", "low-rank-neurons", "learned-ranks"]
CLAIMS = {claim.name: claim for topic in TOPICS for claim in topic.CLAIMS}
CLAIMS = {name: CLAIMS[name] for name in [*FIRST, *CLAIMS]}  # the four routes first, each with what is said of it most
WORDS = {True: "holds", False: "does not hold", None: "undecided"}


def main(argv=None):
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.claims", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CLAIM", help="only these (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", choices=["test", "validation"], default="test", help="what is measured on")
    parser.add_argument(
        "--out",
        metavar="FILE.json",
        help="write the table as JSON, and beside it as Markdown, after every claim; what is there is not repeated",
    )
    parser.add_argument("--list", action="store_true", help="names and statements only")
    arguments = parser.parse_args(argv)
    if arguments.list:
        for claim in CLAIMS.values():
            print(f"{claim.name:24}  {claim.statement}")
        return
    for name in arguments.names:
        if name not in CLAIMS:
            parser.error(f"{name!r} is not one of {', '.join(CLAIMS)}")
    out = Path(arguments.out) if arguments.out else None
    rows = earlier_rows(out, arguments) if out else {}
    names, began = arguments.names or list(CLAIMS), time.perf_counter()
    for name in names:
        if name in rows:
            print(table_row(rows[name]), flush=True)
    for name, row in measured_lanes([name for name in names if name not in rows], arguments):
        rows[name] = row
        print(table_row(row), flush=True)
        if out:
            write(out, arguments, [rows[name] for name in CLAIMS if name in rows])
    if out:
        write(out, arguments, [rows[name] for name in CLAIMS if name in rows])
    print(f"{time.perf_counter() - began:.0f} s in all")


def measured_lanes(names, arguments):
    """Yield (name, row) of every claim as soon as it is measured; two lanes share the cores evenly."""
    lanes = [lane for lane in in_lanes(names) if lane]
    threads = max(default_threads() // max(len(lanes), 1), 1)
    if len(lanes) < 2:
        for name in itertools.chain(*lanes):
            yield name, measured_here(name, arguments.split, arguments.seeds, threads)
        return
    with ExitStack() as stack:
        jobs = {}
        for lane in lanes:
            executor = stack.enter_context(ProcessPoolExecutor(1))
            for name in lane:
                jobs[executor.submit(measured_here, name, arguments.split, arguments.seeds, threads)] = name
        for job in as_completed(jobs):
            yield jobs[job], job.result()


def in_lanes(names):
    """The names lane by lane."""
    return [[claim.name for topic in lane for claim in topic.CLAIMS if claim.name in names] for lane in LANES]


def measured_here(name, split, seeds, threads) -> dict:
    """The row of a claim, measured in this process with so many threads."""
    with use_threads(threads):
        return measured(CLAIMS[name], bench_of(split), seeds)


@functools.cache
def bench_of(split):
    """One for all claims of a process."""
    return Bench(split)


def measured(claim: Claim, bench, seeds) -> dict:
    """One row: the claim, what every seed gave, and the verdict."""
    began = time.perf_counter()
    runs = [claim.measure(bench, seed) for seed in seeds]
    runs = [{quantity: float(value) for quantity, value in run.items()} for run in runs]
    return judged(claim, runs, round(time.perf_counter() - began, 1))


def judged(claim: Claim, runs, seconds) -> dict:
    """The row of a claim that was measured."""
    verdict = claim.judge({quantity: np.array([run[quantity] for run in runs]) for quantity in runs[0]})
    return {
        "name": claim.name,
        "statement": claim.statement,
        "published": claim.published,
        "ours": verdict.ours,
        "verdict": WORDS[verdict.holds],
        "reason": claim.reason,
        "measured": runs,
        "seconds": seconds,
    }


def earlier_rows(path, arguments) -> dict:
    """{name: row} of a table that was begun with the same seeds, split and versions, judged anew."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text("utf-8"))
    same = {"seeds": arguments.seeds, "split": arguments.split, "versions": versions()}
    for key, wanted in same.items():
        if content[key] != wanted:
            raise ConfigError(f"{path} was measured with the {key} {content[key]}, not {wanted}: give another file")
    rows = {row["name"]: row for row in content["claims"] if row["name"] in CLAIMS}
    return {name: judged(CLAIMS[name], row["measured"], row["seconds"]) for name, row in rows.items()}


def versions() -> dict:
    """Of what the numbers depend on."""
    weights = (data_directory() / "teacher" / "model.safetensors").read_bytes()
    return {
        "teacher": hashlib.sha256(weights).hexdigest(),
        "tinyslm": tinyslm.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def table_row(row) -> str:
    """The claim as a line of a Markdown table."""
    cells = (row["statement"], row["published"], row["ours"], f"**{row['verdict']}**", row["reason"])
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write(path, arguments, rows):
    """Everything, with what is needed to measure it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [] if len(rows) == len(CLAIMS) else [row["name"] for row in rows]
    seconds = {row["name"]: row["seconds"] for row in rows}
    content = {
        "command": " ".join(["python -m tests.benchmarks.claims", *names, "--out", str(path)]),
        "seeds": arguments.seeds,
        "split": arguments.split,
        "versions": versions(),
        "cores": default_threads(),
        "seconds": round(max(sum(seconds[name] for name in lane) for lane in in_lanes(seconds)), 1),
        "claims": rows,
    }
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    with atomic_file(path.with_suffix(".md")) as file:
        file.write(markdown(content).encode())


def markdown(content) -> str:
    """The table of a JSON file, with what it was measured with."""
    rows, words = content["claims"], list(WORDS.values())
    counts = ", ".join(f"{sum(row['verdict'] == word for row in rows)} {word}" for word in words)
    lines = [
        f"`{content['command']}`: {content['seconds'] / 60:.0f} minutes in {len(LANES)} processes on "
        f"{content['cores']} cores.",
        f"Mean ± standard deviation over the seeds {content['seeds']}, on {content['split']} documents. {counts}.",
        "",
        "| claim | published | ours | verdict | reason |",
        "|---|---|---|---|---|",
        *map(table_row, rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        raise SystemExit(f"claims: {error}") from None
