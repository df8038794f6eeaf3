"""Classic mistakes: the test suite finds every one, and the tests of students are graded by them."""

import json
import time
from collections import Counter

import pytest

from tests.coursework.forked import try_in_fork
from tinyslm.cli import main
from tinyslm.coursework.exercises import find_exercise
from tinyslm.coursework.mistakes import CAUGHT, SURVIVED, grade_tests, mistakes, try_mistake
from tinyslm.errors import ConfigError

GOOD = """
import numpy as np
from hypothesis import given, strategies as st
from tinyslm.coursework.implementation import magnitude_mask

@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.floats(0, 1))
def test_the_smallest_go_first_and_exactly_so_many(values, sparsity):
    weight = np.array(values, float)
    order = sorted(range(len(values)), key=lambda i: (abs(values[i]), i))
    gone = order[: round(sparsity * len(values))]
    assert sorted(np.flatnonzero(~magnitude_mask(weight, sparsity))) == sorted(gone)
"""
WEAK = """
import numpy as np
from tinyslm.coursework.implementation import magnitude_mask

def test_a_half_of_four():
    np.testing.assert_array_equal(magnitude_mask(np.array([3.0, 1.0, 2.0, 4.0]), 0.5), [True, False, False, True])
"""
FALSE = WEAK.replace("[True, False, False, True]", "[True, True, False, False]")


def test_the_bank_is_large_and_every_mistake_is_in_words():
    bank = mistakes()
    assert len(bank) >= 60
    for mistake in bank.values():
        assert mistake.wrong and mistake.seen and mistake.old != mistake.new
        compile(mistake.source(), mistake.module, "exec")
    assert Counter((m.module, m.old, m.new) for m in bank.values()).most_common(1)[0][1] == 1


@pytest.mark.mistakes
@pytest.mark.parametrize("name", mistakes())
def test_our_own_suite_catches_it(name):
    mistake = mistakes()[name]
    status, said = try_in_fork(mistake, mistake.tests, options=("-x", "--hypothesis-profile=mistakes"))
    assert status == CAUGHT, f"{mistake.wrong}: status {status}\n{said[-2000:]}"


@pytest.mark.mistakes
def test_without_a_mistake_the_properties_pass_in_a_forked_process():
    """So a property that fails there fails because of the mistake."""
    status, said = try_in_fork(None, ["tests/properties"], options=("--hypothesis-profile=few",))
    assert status == SURVIVED, said[-2000:]


def test_without_a_mistake_the_same_way_of_running_passes():
    status, said = try_mistake(None, ["tests/properties/test_schedule.py"])
    assert status == SURVIVED, said


@pytest.mark.mistakes
def test_good_properties_find_every_mistake_and_weak_ones_some(tmp_path, capsys):
    exercise = find_exercise("properties-of-magnitude-mask")
    path = tmp_path / exercise.file_name
    scores = {}
    for name, text in {"good": GOOD, "weak": WEAK}.items():
        path.write_text(text)
        scores[name] = grade_tests(path, exercise)
    assert scores["good"].score == len(scores["good"].found) >= 4
    assert 0 < scores["weak"].score < scores["good"].score
    assert main(["grade-tests", str(path), "--out", str(tmp_path / "out.json")]) == 0
    shown = capsys.readouterr().out
    assert "✓ found" in shown and "✗ survived" in shown
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))["score"] == scores["weak"].score


def test_properties_that_the_library_fails_are_worth_nothing(tmp_path):
    exercise = find_exercise("properties-of-magnitude-mask")
    path = tmp_path / "anything.py"
    path.write_text(FALSE)
    result = grade_tests(path, exercise)
    assert result.score == 0 and "do not pass for the library" in result.as_text()
    path.write_text("import subprocess\nsubprocess.Popen(['sleep', '1000'])\n" + FALSE)  # it keeps the output open
    began = time.monotonic()
    assert grade_tests(path, exercise).score == 0 and time.monotonic() - began < 60
    path.write_text("def test_nothing(:")
    assert grade_tests(path, exercise).score == 0


def test_files_that_ask_for_nothing_are_refused(tmp_path, capsys):
    path = tmp_path / "test_other.py"
    path.write_text(GOOD)
    assert main(["grade-tests", str(path)]) == 2
    assert main(["grade-tests", str(path), "--exercise", "wanda"]) == 2
    assert main(["grade-tests", str(tmp_path / "nowhere.py")]) == 2
    assert capsys.readouterr().err.count("tinyslm:") == 3


def test_a_mistake_that_is_not_in_the_source_is_noticed():
    first = next(iter(mistakes().values()))
    wrong = type(first)("x", "w", "s", first.module, "no such piece", "y")
    with pytest.raises(ConfigError, match="occurs 0 times"):
        wrong.source()
