"""Measure the claims, print the table, and write it as JSON."""

import argparse
import json
import platform
import time
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
from tinyslm.checkpoints.atomic import atomic_file
from tinyslm.errors import ConfigError
from tinyslm.parallel import default_threads

TOPICS = (distillation, pruning, structure, quantization_formats, quantization_calibrated, low_rank, pipeline)
CLAIMS = {claim.name: claim for topic in TOPICS for claim in topic.CLAIMS}
WORDS = {True: "holds", False: "does not hold", None: "undecided"}


def main(argv=None):
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.claims", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CLAIM", help="only these (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", choices=["test", "validation"], default="test", help="what is measured on")
    parser.add_argument(
        "--out", metavar="FILE", help="write the table as JSON after every claim; what is there already is not repeated"
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
    bench, out = Bench(arguments.split), Path(arguments.out) if arguments.out else None
    rows = earlier_rows(out, arguments) if out else {}
    for name in arguments.names or CLAIMS:
        rows[name] = rows.get(name) or measured(CLAIMS[name], bench, arguments.seeds)
        print(table_row(rows[name]), flush=True)
        if out:
            write(out, arguments, [rows[name] for name in CLAIMS if name in rows])


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
    return {
        "tinyslm": tinyslm.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def table_row(row) -> str:
    """The claim as a line of a Markdown table."""
    cells = (row["statement"], row["published"], row["ours"], f"**{row['verdict']}**", f"{row['seconds']:.0f} s")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write(path, arguments, rows):
    """Everything, with what is needed to measure it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [] if len(rows) == len(CLAIMS) else [row["name"] for row in rows]
    content = {
        "command": " ".join(["python -m tests.benchmarks.claims", *names, "--out", str(path)]),
        "seeds": arguments.seeds,
        "split": arguments.split,
        "versions": versions(),
        "threads": default_threads(),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "claims": rows,
    }
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        raise SystemExit(f"claims: {error}") from None
