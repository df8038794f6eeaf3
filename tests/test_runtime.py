"""Process settings: what import changes, that it can be switched off, and that memory is returned to the system."""

import ctypes
import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest

from tests.training.tiny import SETTINGS, tiny_model, tiny_rows
from tinyslm import generate, next_token_loss, trace, value_and_grad
from tinyslm.evaluation import measure_loss
from tinyslm.runtime import keep_freed_memory, release_freed_memory
from tinyslm.training import State, train

on_glibc = pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")), reason="needs glibc"
)


def run_code(code, *arguments, **variables):
    """Standard output of a Python process without process settings in its environment, except `variables`."""
    names = ("OPENBLAS_THREAD_TIMEOUT", "TINYSLM_RUNTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names} | variables
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_a_system_without_the_functions_goes_on_without(monkeypatch):
    def missing(name):
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert keep_freed_memory() is False
    release_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a library without mallopt and malloc_trim
    assert keep_freed_memory() is False
    release_freed_memory()


@on_glibc
def test_glibc_agrees():
    assert keep_freed_memory() is True


WATCH = """
import ctypes, os, subprocess, sys

class Watch:
    def find_spec(name, *rest):
        if name == "numpy":
            print("numpy", os.environ.get("OPENBLAS_THREAD_TIMEOUT"))

class Library:
    def __init__(self, name):
        print("library", name)
        self.library = library(name)

    def __getattr__(self, name):
        print(name)
        return getattr(self.library, name)

sys.meta_path.insert(0, Watch)
library, ctypes.CDLL = ctypes.CDLL, Library
before = dict(os.environ)
import tinyslm
tinyslm.runtime.release_freed_memory()
print("unchanged", os.environ == before)
child = "import os; print('child', os.environ.get('OPENBLAS_THREAD_TIMEOUT'))"
print(subprocess.check_output([sys.executable, "-c", child], text=True), end="")
"""
LEFT_ALONE = ["numpy None", "unchanged True", "child None"]
MEMORY_SET = ["library None", "mallopt"]
MEMORY_RELEASED = ["library None", "malloc_trim"]


@on_glibc
def test_import_changes_settings_before_numpy_is_loaded():
    """Child processes inherit the variable."""
    assert run_code(WATCH).splitlines() == [*MEMORY_SET, "numpy 20", *MEMORY_RELEASED, "unchanged False", "child 20"]


@on_glibc
def test_the_request_to_openblas_does_not_overrule_the_users():
    expected = [*MEMORY_SET, "numpy 4", *MEMORY_RELEASED, "unchanged True", "child 4"]
    assert run_code(WATCH, OPENBLAS_THREAD_TIMEOUT="4").splitlines() == expected


@pytest.mark.parametrize("value", ["off", "OFF", "0", "false", "False", "no"])
def test_one_variable_switches_everything_off(value):
    """The environment is unchanged, and the allocator's library is not opened."""
    assert run_code(WATCH, TINYSLM_RUNTIME=value).splitlines() == LEFT_ALONE


@on_glibc
@pytest.mark.parametrize("value", ["", "on", "1", "offline"])
def test_another_value_switches_nothing_off(value):
    assert run_code(WATCH, TINYSLM_RUNTIME=value).splitlines()[:3] == [*MEMORY_SET, "numpy 20"]


EFFECTS = """
import gc, locale, logging, os, random, signal, sys, threading, warnings
from pathlib import Path
import numpy, rich, scipy.linalg, scipy.sparse, scipy.special, threadpoolctl, tokenizers, tqdm

def state():
    tasks = Path("/proc/self/task")  # of Linux only
    generator = numpy.random.get_state()
    return {
        "environment": dict(os.environ),
        "threads": (threading.active_count(), len(list(tasks.iterdir())) if tasks.exists() else None),
        "warnings": (list(warnings.filters), warnings.showwarning, warnings.formatwarning),
        "numpy": (numpy.geterr(), numpy.geterrcall(), numpy.get_printoptions()),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "path": (list(sys.path), sys.meta_path[:], sys.path_hooks[:], os.getcwd()),
        "random": (random.getstate(), generator[0], generator[1].tolist(), generator[2:]),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.gettrace(), sys.getprofile()),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "logging": (list(logging.root.handlers), logging.root.level, logging.root.disabled),
        "interpreter": (sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold()),
        "locale": locale.setlocale(locale.LC_ALL),
        "files": os.umask(os.umask(0o22)),
    }

os.umask(0o27)
before = state()
import tinyslm, tinyslm.cli, tinyslm.commands, tinyslm.parallel
after = state()
added = after["environment"].pop("OPENBLAS_THREAD_TIMEOUT", None)
print(added, [name for name in before if before[name] != after[name]])
"""


def test_import_has_no_other_effect_on_the_process():
    """Beyond those of importing NumPy, SciPy and the other requirements."""
    assert run_code(EFFECTS) == "20 []\n"
    assert run_code(EFFECTS, TINYSLM_RUNTIME="off") == "None []\n"


def releases(function, *arguments):
    """How often memory is returned during function(*arguments), if 8 tokens are a long sequence."""
    with (
        mock.patch("tinyslm.runtime.RELEASE_TOKENS", 8),
        mock.patch("tinyslm.runtime._allocator_function") as find,
        mock.patch.dict(os.environ, TINYSLM_RUNTIME="on"),
    ):
        function(*arguments)
    assert all(call == mock.call("malloc_trim") for call in find.call_args_list)
    return find.return_value.call_count


def test_memory_is_returned_at_the_end_of_long_passes_without_gradients():
    """Neither for each new token nor after gradients."""
    model, token_ids = tiny_model(), np.arange(8)[None]
    assert releases(model, token_ids) == releases(trace, model, token_ids) == 1
    assert releases(model, token_ids[:, :7]) == releases(trace, model, token_ids[:, :7]) == 0
    assert releases(generate, model, token_ids, 6) == 2  # after the prompt, and at the end
    assert releases(generate, model, token_ids[:, :7], 6) == 0
    assert releases(measure_loss, model, [[0, *range(1, 7), 0]]) == 2
    assert releases(measure_loss, model, [[0, *range(1, 6), 0]] * 3) == 0
    assert releases(value_and_grad(next_token_loss), model, token_ids) == 0


def test_memory_is_returned_once_at_the_end_of_a_training():
    assert SETTINGS.steps > 1 and tiny_rows()[0].shape[1] >= 8
    assert releases(train, State.start(tiny_model(), SETTINGS), *tiny_rows(), SETTINGS) == 1


MEMORY = """
import sys
import numpy as np
from tests.process_memory import resident
from tinyslm import generate
from tinyslm.evaluation import measure_loss
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape

model = random_model(llama_shape(280, 64, 176, 1, 2, 2, max_position_embeddings=8200))
token_ids = np.random.default_rng(0).integers(0, 280, (1, 8192))
model(token_ids[:, :64])
before = resident()
{"call": lambda: model(token_ids),
 "generate": lambda: generate(model, token_ids, 4),
 "loss": lambda: measure_loss(model, [token_ids[0]] * 2)}[sys.argv[1]]()
print(resident() - before)
"""


@on_glibc
@pytest.mark.parametrize("computation", ["call", "generate", "loss"])
def test_a_long_computation_leaves_little_memory(computation):
    """The attention probabilities of 8,192 tokens take 270 MB."""
    assert int(run_code(MEMORY, computation)) < 100e6
