"""The request to the threads of OpenBLAS is made before NumPy is loaded, and does not overrule the user's."""

import os
import subprocess
import sys

import pytest

WATCH = """
import os, sys

class Watch:
    def find_spec(name, *rest):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_THREAD_TIMEOUT"))

sys.meta_path.insert(0, Watch)
import tinyslm
"""


@pytest.mark.parametrize(("chosen", "expected"), [({}, "20"), ({"OPENBLAS_THREAD_TIMEOUT": "4"}, "4")])
def test_it_is_there_when_numpy_is_loaded(chosen, expected):
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    ran = subprocess.run([sys.executable, "-c", WATCH], env=environment | chosen, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{expected}\n", "")
