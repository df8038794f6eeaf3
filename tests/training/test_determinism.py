"""Training repeats bit for bit on two cores, in processes with the BLAS threads that a user has.

The workers of parallel tests have one BLAS thread (tests/conftest.py). The processes started here have one per core.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.commands.files import write_text
from tinyslm.runtime import available_cores

pytestmark = pytest.mark.skipif(available_cores() < 2, reason="needs two cores")

TRAIN = ["-m", "tinyslm", "train"]
TRAIN_AFTER_NUMPY = ["-c", "import sys, numpy; from tinyslm.cli import main; sys.exit(main(sys.argv[1:]))", "train"]
OPTIONS = (  # 4 micro-batches per step: two threads add their gradients in another order than one thread
    *("--shape", "smallest", "--vocabulary", "280", "--context", "24"),
    *("--batch", "20", "--steps", "20", "--warmup", "2"),
)


def users_environment(**changes):
    """The environment without limits of the BLAS threads."""
    limits = ("_NUM_THREADS", "_MAXIMUM_THREADS")
    return {name: value for name, value in os.environ.items() if not name.endswith(limits)} | changes


def run_python(*arguments, **changes):
    """Standard output of a Python process, which must succeed."""
    ran = subprocess.run(
        [sys.executable, *map(str, arguments)], env=users_environment(**changes), capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextmanager
def busy_core():
    """One core does other work inside the block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def outcome(directory):
    """The weights and everything that was recorded, losses among it, but for the time."""
    record = json.loads((directory / "training.json").read_text())
    del record["seconds"]
    return (directory / "model.safetensors").read_bytes(), record


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """{number of threads: outcome of a training}."""
    outcomes = {}
    for threads in (1, 2):
        out = tmp_path_factory.mktemp("trained") / "model"
        run_python(*TRAIN, "--text", text, "--out", out, *OPTIONS, "--threads", threads, PYTHONHASHSEED="0")
        outcomes[threads] = outcome(out)
    return outcomes


def test_these_trainings_depend_on_the_order_of_additions(trained):
    """So the other tests would notice another order."""
    (one, _), (two, _) = trained.values()
    assert one != two


@pytest.mark.parametrize(("command", "threads"), [(TRAIN, 1), (TRAIN, 2), (TRAIN_AFTER_NUMPY, 2)])
def test_a_training_repeats_on_a_busy_machine(tmp_path, text, trained, threads, command):
    """With another hash seed too, and in a program that imported NumPy before tinyslm."""
    out = tmp_path / "model"
    with busy_core():
        run_python(*command, "--text", text, "--out", out, *OPTIONS, "--threads", threads, PYTHONHASHSEED="1")
    assert outcome(out) == trained[threads]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_repeats_when_it_is_killed_and_resumed(tmp_path, text, trained, threads):
    out, state = tmp_path / "model", tmp_path / "model.training" / "state.safetensors"
    options = ["--text", text, "--out", out, *OPTIONS, "--threads", threads, "--checkpoint-seconds", 0]
    process = subprocess.Popen(
        [sys.executable, *TRAIN, *map(str, options)], env=users_environment(), stderr=subprocess.DEVNULL
    )
    states = set()
    while len(states) < 4 and process.poll() is None:  # before the first step, and after three
        if state.exists():
            states.add(state.stat().st_mtime_ns)
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert state.exists() and not out.exists()
    with busy_core():
        run_python(*TRAIN, "--out", out, "--resume", PYTHONHASHSEED="2")
    assert outcome(out) == trained[threads]


GRADIENTS = """
import hashlib
import numpy as np
from threadpoolctl import threadpool_info
from tinyslm import named_arrays, next_token_loss, value_and_grad
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import tiny_config

model = random_model(tiny_config("small", 512))
token_ids = np.random.default_rng(0).integers(0, 512, (8, 128))  # products of 1024 rows: OpenBLAS uses all threads
assert all(library["num_threads"] > 1 for library in threadpool_info() if library["user_api"] == "blas")
for _ in range(2):
    loss, gradients = value_and_grad(next_token_loss)(model, token_ids)
    digest = hashlib.sha256(loss.tobytes())
    for array in named_arrays(gradients).values():
        digest.update(array.tobytes())
    print(digest.hexdigest())
"""


def test_gradients_of_products_on_several_blas_threads_repeat():
    quiet = run_python("-c", GRADIENTS, PYTHONHASHSEED="0")
    with busy_core():
        busy = run_python("-c", GRADIENTS, PYTHONHASHSEED="1")
    assert len(set(quiet.split())) == 1
    assert busy == quiet
