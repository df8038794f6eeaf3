"""The mutation command: what it changes, what it leaves alone, and that it tells found mutants from survivors."""

import ast
import os
import subprocess
import sys

import pytest

from tests.mutation.__main__ import equivalent_mutants, sample
from tests.mutation.covering_tests import INTERFACE, CoveringTests
from tests.mutation.mutants import ROOT, files, mutants_of
from tests.mutation.trial import stages

SOURCE = '''
"""Text with 1 + 1."""
LIMIT = 3

@checked(x=positive)
def f(x: "Optional[3]", scale=2.0, *, safe=True):
    """Returns 1."""
    if x < 0:
        raise ValueError(f"{x + 1} is below {0}")
    require(x)
    total = np.sum(x, axis=1) + scale
    total *= -x
    return total.copy() if safe and any(total) else float(total)
'''
CHANGES = """
LIMIT = 4
@checked()
def f(x: "Optional[3]", scale=4.0, *, safe=True):
def f(x: "Optional[3]", scale=2.0, *, safe=False):
if x <= 0:
if x < 1:
if False:
pass
total = np.mean(x, axis=1) + scale
total = np.sum(x) + scale
total = np.sum(x, axis=2) + scale
total = np.sum(x, axis=1) - scale
total = np.sum(x, axis=1)
total /= -x
total *= x
return (total.copy())
return (float(total))
return total if safe and any(total) else float(total)
return total.copy() if safe or any(total) else float(total)
return total.copy() if safe else float(total)
return total.copy() if safe and all(total) else float(total)
return total.copy() if safe and any(total) else (total)
"""


@pytest.fixture
def mutants(tmp_path, monkeypatch):
    """The mutants of SOURCE."""
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    monkeypatch.setattr("tests.mutation.mutants.ROOT", tmp_path)
    return mutants_of(path)


def test_every_change_of_an_example(mutants):
    """Nothing in texts, messages and annotations is changed, and nothing twice."""
    assert sorted(mutant.new for mutant in mutants) == sorted(CHANGES.strip().splitlines())


def test_a_mutant_is_the_file_with_one_line_changed(mutants):
    before = SOURCE.splitlines()
    for mutant in mutants:
        after = mutant.source().splitlines()
        (number,) = (i for i, pair in enumerate(zip(before, after, strict=True), 1) if pair[0] != pair[1])
        assert (mutant.line, mutant.old, mutant.new) == (number, before[number - 1].strip(), after[number - 1].strip())
        assert mutant.function == ("" if number < 6 else "f")


def test_a_sample_is_determined_by_its_seed(mutants):
    assert sample(mutants, 9, 1) == sample(mutants, 9, 1) != sample(mutants, 9, 2)
    assert len(set(sample(mutants, 9, 1))) == 9 and len(sample(mutants, 10**6, 0)) == len(mutants)


def test_equivalent_mutants_exist_and_have_a_reason():
    """An entry whose line has changed must be judged anew."""
    entries = equivalent_mutants()
    lines = {file: set() for file, *_ in entries}
    for file, _, old, _ in entries:
        lines[file].add(old)
    assert lines.keys() <= {path.relative_to(ROOT).as_posix() for path in files()}
    found = {mutant.key for file in lines for mutant in mutants_of(ROOT / file, lines[file])}
    assert [key for key in entries if key not in found] == []
    assert all(len(reason) > 20 for reason in entries.values())


def test_tests_of_the_same_name_come_first_then_the_fastest(mutants):
    lines = {"module.py": {12: ["a/test_x.py::slow", "a/test_module.py::slow", "a/test_x.py::fast"]}}
    seconds = {"a/test_x.py::slow": 3.0, "a/test_x.py::fast": 1.0, "a/test_module.py::slow": 2.0}
    tests = CoveringTests(lines, seconds | {INTERFACE: 9.0})
    (product,) = (mutant for mutant in mutants if "/=" in mutant.new)
    expected = ["a/test_module.py::slow", "a/test_x.py::fast", "a/test_x.py::slow"]
    assert product.line == 12 and tests.of(product) == expected
    assert tests.of(mutants[0]) == [INTERFACE, *expected]  # executed by the import: all tests of the file


def test_refusals_by_a_decorator_are_tests_of_its_line(mutants):
    """Such a test executes lines of the check only, and stands beside a test that executes the function."""
    lines = {
        "module.py": {12: ["a/test_x.py::result"]},
        "checks.py": {3: ["a/test_x.py::refusal", "a/test_other.py::refusal"]},
    }
    tests = CoveringTests(lines, {"a/test_x.py::result": 1.0, "a/test_x.py::refusal": 2.0, INTERFACE: 9.0})
    (without_checks,) = (mutant for mutant in mutants if mutant.new == "@checked()")
    assert tests.of(without_checks) == [INTERFACE, "a/test_x.py::result", "a/test_x.py::refusal"]


def test_a_slow_test_does_not_keep_quick_ones_out_of_a_stage(mutants):
    seconds = {"a/test_module.py::quick": 1.0, "a/test_module.py::slow": 50.0, "a/test_x.py::quick": 1.0}
    (product,) = (mutant for mutant in mutants if "/=" in mutant.new)
    tests = CoveringTests({"module.py": {12: list(seconds)}}, seconds)
    assert stages(tests, product) == [["a/test_module.py::quick", "a/test_x.py::quick"], ["a/test_module.py::slow"]]


TRIALS = """
from tests.mutation.covering_tests import CoveringTests
from tests.mutation.mutants import ROOT, mutants_of
from tests.mutation.trial import try_mutants

name = "tests/properties/test_schedule.py::test_a_training_that_ends_in_its_warm_up_only_rises"
mutants = [m for m in mutants_of(ROOT / "tinyslm/training/schedule.py") if m.new in ({new})]
assert len(mutants) == 2
tests = CoveringTests({{mutants[0].file: {{mutant.line: [name] for mutant in mutants}}}}, {{name: 0.1}})
print(sorted((mutant.line, found) for mutant, found in try_mutants(mutants, tests, 2)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_trial_finds_what_its_tests_find():
    """The test covers the warm-up only. In a process of its own: the parent of trials has not imported the library."""
    changes = "return (step + 2) / warmup_steps", "progress = (step - warmup_steps + 2) / max(steps - warmup_steps, 1)"
    code = TRIALS.format(new=", ".join(map(repr, changes)))
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    (first, found), (second, missed) = ast.literal_eval(ran.stdout)
    assert first < second and found and not missed
