"""What is measured on whole processes: memory, starting, and several workers."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.speed import torch_decoder
from tests.benchmarks.speed.case import OURS, Case
from tests.benchmarks.speed.shapes import config_of, random_tokens
from tests.checkpoints.peak_memory import peak, resident
from tinyslm.models import random_model

COMMAND = "from tinyslm.cli import main; raise SystemExit(main())"  # a failure is not to pass for speed
SWEEP = """
[[recipe]]
name = "keep {ratio}"
grid.ratio = [0.9, 0.8, 0.7, 0.6]

[[recipe.step]]
use = "SliceNeurons"
ratio = "{ratio}"

[[recipe.step]]
use = "Recover"
steps = 10
"""


def output_of(*arguments):
    """What a Python process printed."""
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def print_training_memory(who, micro_batch_size):
    """In a process of its own: two training steps, and what they took at most beyond what was there before."""
    from tests.benchmarks.speed import training

    model = random_model(config_of("4m"))
    token_ids = random_tokens(model.config, 32, 256)
    make_step = training.training_step if who == OURS else torch_decoder.training_step
    make_step(random_model(config_of("1m")), token_ids[:1, :8], 1)()  # loads what is loaded when first used
    before = resident()
    step = make_step(model, token_ids, micro_batch_size)
    step(), step()
    print(peak() - before)


def training_memory():
    """Bytes that a training step takes: the model, its gradients, both moments, and all that it keeps on the way."""

    def bytes_of(who, rows):
        code = f"from tests.benchmarks.speed.processes import print_training_memory as p; p({who!r}, {rows})"
        return lambda: int(output_of("-c", code))

    found = {OURS: bytes_of(OURS, 1)}
    if torch_decoder.INSTALLED:
        found |= {"PyTorch": bytes_of("PyTorch", None), "PyTorch, row by row": bytes_of("PyTorch", 1)}
    return found


def start():
    """Seconds of `tinyslm --help`, beside one second."""

    def run():
        began = time.perf_counter()
        output_of("-m", "tinyslm", "--help")
        return time.perf_counter() - began

    return {OURS: run, "a second": lambda: 1.0}


def workers():
    """Seconds of a sweep on two workers with a core each, and on one worker with one core."""

    def run(count):
        cores = sorted(os.sched_getaffinity(0))[:count]

        def sweep():
            with tempfile.TemporaryDirectory() as directory:
                recipe = Path(directory) / "recipe.toml"
                recipe.write_text(SWEEP)
                arguments = ["sweep", str(recipe), "--workers", str(count), "--out", str(Path(directory) / "out")]
                began = time.perf_counter()
                output_of("-c", f"import os; os.sched_setaffinity(0, {cores}); {COMMAND}", *arguments)
                return time.perf_counter() - began

        return sweep

    return {OURS: run(2), "one worker": run(1)}


CASES = [
    Case(
        "train-memory",
        "peak memory of a training step, 4 M parameters, 32 x 256 tokens, row by row",
        training_memory,
        {"PyTorch": (0.4, 0.15)},
        at_most=True,
        unit="bytes",
    ),
    Case("start", "tinyslm --help", start, {"a second": (0.5, 0.2)}, at_most=True),
    Case("workers", "a sweep of five points: two workers and cores, against one", workers, {"one worker": (1.8, 2.0)}),
]
