"""Mutation testing: how many small changes of the mathematics make a test fail.

    python -m tests.mutation --sample 300 --seed 1 [--out data/mutation.json]

A mutant that cannot change a result is equivalent. These are listed in `equivalent.toml` with a reason, and are not
counted. Survivors are printed with file and line. The tests of a mutant are those that execute its line; they are
recorded first.
"""

import argparse
import json
import random
import sys
import time
import tomllib
from pathlib import Path

from tests.mutation.covering_tests import covering_tests
from tests.mutation.mutants import all_mutants
from tests.mutation.trial import try_mutants

EQUIVALENT = Path(__file__).with_name("equivalent.toml")


def equivalent_mutants() -> dict[tuple[str, str, str, str], str]:
    """{key of a mutant: reason why no result changes}."""
    entries = tomllib.loads(EQUIVALENT.read_text("utf-8")).get("mutant", [])
    return {(each["file"], each["function"], each["old"], each["new"]): each["reason"] for each in entries}


def sample(mutants, count, seed):
    """That many mutants, drawn without replacement."""
    return random.Random(seed).sample(mutants, min(count, len(mutants)))


def described(mutant) -> dict:
    """A mutant as plain values."""
    return {
        "file": mutant.file,
        "line": mutant.line,
        "function": mutant.function,
        "old": mutant.old,
        "new": mutant.new,
    }


def main() -> int:
    """Try a sample of mutants, print the survivors and the score."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int, default=300, metavar="N", help="mutants to try (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="trials at a time (default: 2)")
    parser.add_argument("--files", default="", metavar="TEXT", help="only files whose path contains TEXT")
    parser.add_argument("--out", metavar="FILE", help="add the result of this seed to a JSON file")
    options = parser.parse_args()
    began = time.monotonic()
    mutants = [mutant for mutant in all_mutants() if options.files in mutant.file]
    drawn = sample(mutants, options.sample, options.seed)
    known = equivalent_mutants()
    counted = [mutant for mutant in drawn if mutant.key not in known]
    tests = covering_tests(options.processes)
    survivors = []
    for number, (mutant, found) in enumerate(try_mutants(counted, tests, options.processes), 1):
        if not found:
            survivors.append(mutant)
            print(f"{mutant.file}:{mutant.line}: {mutant.function}\n  - {mutant.old}\n  + {mutant.new}", flush=True)
        if number % 25 == 0:
            print(f"{number} of {len(counted)}", file=sys.stderr, flush=True)
    result = {
        "seed": options.seed,
        "mutants": len(mutants),
        "drawn": len(drawn),
        "equivalent": len(drawn) - len(counted),
        "killed": len(counted) - len(survivors),
        "survived": len(survivors),
        "score": round(1 - len(survivors) / len(counted), 4),
        "seconds": round(time.monotonic() - began),
        "survivors": [described(mutant) for mutant in sorted(survivors, key=lambda m: (m.file, m.line))],
    }
    print(
        f"seed {options.seed}: {result['drawn']} of {result['mutants']} mutants, {result['equivalent']} equivalent, "
        f"{result['killed']} of {len(counted)} others found: {100 * result['score']:.1f} %, {result['seconds']} s"
    )
    if options.out:
        path = Path(options.out)
        results = json.loads(path.read_text("utf-8"))["runs"] if path.exists() else []
        results = [each for each in results if each["seed"] != options.seed]
        path.write_text(json.dumps({"runs": [*results, result]}, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
