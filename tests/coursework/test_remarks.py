"""Remarks: what a reader of a submission should look at, with the line."""

import pytest

from tinyslm.coursework.exercises import exercises
from tinyslm.coursework.remarks import remarks_on
from tinyslm.coursework.stubs import stub

WRITTEN = [exercise for exercise in exercises().values() if not exercise.writes_tests]
ANSWERS = ["tinyslm.compression.pruning.magnitude.magnitude_mask", "tinyslm.training.adamw.AdamW.step"]


@pytest.mark.parametrize(
    ("source", "remark"),
    [
        ("from tinyslm.compression.pruning import magnitude_mask as m", "line 1 imports the library's magnitude_mask"),
        ("import tinyslm.compression.pruning as p\np.magnitude_mask", "line 2 uses the library's magnitude_mask"),
        ("from tinyslm.compression import pruning\npruning.magnitude_mask", "line 2 uses the library's magnitude_mask"),
        ("import os\nos._exit(0)", "line 1 imports os"),
        ("from sys import modules", "line 1 imports sys.modules"),
        ("import numpy.testing\nnumpy.testing.assert_equal = print", "line 2 changes numpy.testing.assert_equal"),
        ("import numpy as np\nnp.core['x'] = 1", "line 2 changes np.core['x']"),
        ("f.__code__ = 1", "line 1 uses __code__"),
        ("def f():\n    exec('1')", "line 2 calls exec"),
        ("from tinyslm.coursework import plugin", "line 1 imports tinyslm.coursework.plugin"),
    ],
)
def test_what_reaches_beyond_a_function_is_named(tmp_path, source, remark):
    path = tmp_path / "file.py"
    path.write_text(source)
    assert remarks_on(path, ANSWERS) == [remark]


def test_ordinary_code_has_no_remarks(tmp_path):
    path = tmp_path / "file.py"
    path.write_text(
        "import math\nimport numpy as np\nfrom scipy import linalg\nfrom tinyslm import ops\n\n"
        "def magnitude_mask(weight, sparsity):\n    x = np.zeros(3)\n    x[0] = 1\n    return ops.silu(x)\n"
        "class A:\n    def step(self):\n        self.steps = magnitude_mask(1, 2)\n"
    )
    assert remarks_on(path, ANSWERS) == []


@pytest.mark.parametrize("exercise", WRITTEN, ids=lambda exercise: exercise.name)
def test_a_stub_has_no_remarks(exercise, tmp_path):
    path = tmp_path / exercise.file_name
    path.write_text(stub(exercise), "utf-8")
    assert remarks_on(path, [*exercise.functions, *exercise.equivalent]) == []
