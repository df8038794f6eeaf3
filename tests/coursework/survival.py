"""Table of the mistakes and the property tests that find them.

    python -m tests.coursework.survival
    python -m tests.coursework.survival divergence-turned-round

The program runs all property tests of a mistake on the library with this mistake. A row of the table contains the
number of properties that find the mistake, their names, and the names of the others.
"""

import argparse
import re
from concurrent.futures import ThreadPoolExecutor

from tinyslm.coursework.mistakes import mistakes, try_mistake

OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR) \S+?::(\w+)", re.MULTILINE)  # all cases of a test count as one


def outcomes(mistake) -> dict[str, bool]:
    """{name of a property test: whether it finds the mistake}."""
    _, said = try_mistake(mistake, mistake.tests, options=("-rA", "--tb=no"), seconds=600)
    found = {}
    for word, name in OUTCOME.findall(said):
        found[name] = found.get(name, False) or word != "PASSED"
    return found


def table_row(mistake, found) -> str:
    """A row of a Markdown table."""
    by = [name for name, caught in found.items() if caught]
    survived = [name for name, caught in found.items() if not caught]
    return f"| {mistake.name} | {len(by)}/{len(found)} | {', '.join(by)} | {', '.join(survived)} |"


def main(argv=None):
    """Print the table."""
    bank = mistakes()
    parser = argparse.ArgumentParser(prog="python -m tests.coursework.survival", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="MISTAKE", help="only these mistakes (default: all)")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args(argv)
    for name in arguments.names:
        if name not in bank:
            parser.error(f"{name!r} is not one of {', '.join(bank)}")
    chosen = [bank[name] for name in arguments.names or bank]
    print("| mistake | found by | these properties | survived these |\n|---|---|---|---|")
    with ThreadPoolExecutor(arguments.workers) as pool:
        for mistake, found in zip(chosen, pool.map(outcomes, chosen), strict=True):
            print(table_row(mistake, found), flush=True)


if __name__ == "__main__":
    main()
