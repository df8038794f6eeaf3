"""Measurements of whole processes: memory of training, the start of the command, and several workers."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.speed import torch_decoder
from tests.benchmarks.speed.case import OURS, Case
from tests.benchmarks.speed.peer import Peer, missing
from tests.benchmarks.speed.shapes import config_of, random_tokens
from tests.benchmarks.speed.training import for_torch, training_step
from tests.process_memory import peak, resident
from tinyslm.models import random_model
from tinyslm.runtime import default_threads

MEMORY_BATCH = (32, 256)
COMMAND = "from tinyslm.cli import main; raise SystemExit(main())"  # with the exit status of the command
SWEEP = """
[[recipe]]
name = "keep {ratio}"
grid.ratio = [0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55]

[[recipe.step]]
use = "SliceNeurons"
ratio = "{ratio}"

[[recipe.step]]
use = "Distill"
steps = 2
"""


def output_of(*arguments):
    """The standard output of a Python process."""
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def print_training_memory(micro_batch_size):
    """In a process of its own: the peak memory of two training steps, in bytes above the memory before."""
    small, large = random_model(config_of("1m")), random_model(config_of("4m"))
    token_ids = random_tokens(large.config, *MEMORY_BATCH)
    training_step(small, token_ids[:1, :8], 1)()  # loads libraries that are loaded in the first call
    before = resident()
    step = training_step(large, token_ids, micro_batch_size)
    step(), step()
    print(peak() - before)


def training_memory():
    """Bytes of a training step: the model, its gradients, both moments, and all arrays that it keeps on the way."""
    code = "from tests.benchmarks.speed.processes import print_training_memory as p; p(1)"
    models = [random_model(config_of(size)) for size in ("1m", "4m")]
    token_ids = random_tokens(models[0].config, *MEMORY_BATCH)

    def of_torch(micro_batch_size):
        with tempfile.TemporaryDirectory() as directory:
            small, large = (for_torch(directory, model) for model in models)
            arguments = small, large, default_threads(), token_ids, micro_batch_size
            return Peer(f"{torch_decoder.__name__}:training_memory", *arguments)()

    found = {OURS: lambda: int(output_of("-c", code))}
    absent = missing(torch_decoder.PACKAGES)
    return found | {
        "PyTorch": absent or (lambda: of_torch(None)),
        "PyTorch, by rows": absent or (lambda: of_torch(1)),
    }


def start():
    """Seconds of `tinyslm --help`, compared with one second."""

    def run():
        began = time.perf_counter()
        output_of("-m", "tinyslm", "--help")
        return time.perf_counter() - began

    return {OURS: run, "a second": lambda: 1.0}


def workers():
    """Seconds of a sweep with two workers on two cores, and with one worker on one core."""

    def run(count):
        cores = sorted(os.sched_getaffinity(0))[:count]

        def sweep():
            with tempfile.TemporaryDirectory() as directory:
                recipe = Path(directory) / "recipe.toml"
                recipe.write_text(SWEEP)
                arguments = ["sweep", str(recipe), "--workers", str(count), "--out", str(Path(directory) / "out")]
                arguments += ["--town-documents", "150", "--validation", "60"]
                began = time.perf_counter()
                output_of("-c", f"import os; os.sched_setaffinity(0, {cores}); {COMMAND}", *arguments)
                return time.perf_counter() - began

        return sweep

    return {OURS: run(2), "one worker": run(1)}


CASES = [
    Case(
        "train-memory",
        "memory of a training step, 4 M parameters, 32 x 256 by rows",
        training_memory,
        {"PyTorch": (0.4, 0.15)},
        at_most=True,
        unit="bytes",
    ),
    Case("start", "tinyslm --help", start, {"a second": (0.5, 0.2)}, at_most=True),
    Case(
        "workers",
        "sweep of eight recipes: two workers and cores, against one",
        workers,
        {"one worker": (1.8, 2.0)},
    ),
]
