"""Compression of the shape of SmolLM2 135M with random weights and tokens: time, growth with the depth, memory. Export
of the model, and reading it again."""

import importlib.util
import os
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.speed.case import OURS, Case, timed
from tests.benchmarks.speed.processes import output_of
from tests.benchmarks.speed.shapes import random_tokens
from tests.process_memory import peak, resident
from tinyslm.checkpoints.gguf.writing import save_gguf
from tinyslm.checkpoints.transformers_export import export_transformers
from tinyslm.evaluation import footprint
from tinyslm.load_save import load
from tinyslm.models import random_model, shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.recipes import Calibration, PruneWanda, Quantize, QuantizeGPTQ
from tinyslm.tree import named_arrays

SHAPE = "smollm2-135m"
BLOCKS = 6  # of its 30: the time per block is measured with this number of blocks, and with half of it
DOCUMENTS = (8, 256)  # calibration documents and their tokens: more tokens than a layer has inputs
STEPS = {
    "gptq": ("GPTQ 4 bits", QuantizeGPTQ(bits=4)),
    "wanda": ("Wanda 2:4", PruneWanda(0.5, "2:4")),
    "int8": ("INT8 weights", Quantize(bits=8)),
}


def shortened(blocks):
    """The configuration with its first blocks only."""
    config = CATALOGUE[SHAPE]
    return replace(config, num_hidden_layers=blocks, ropes=config.ropes[:blocks], windows=config.windows[:blocks])


def compression(name, blocks):
    """A function that compresses the shortened model."""
    model, (_, step) = random_model(shortened(blocks)), STEPS[name]
    calibration = Calibration(list(random_tokens(model.config, *DOCUMENTS)), model)
    return lambda: step(model, calibration)


def seconds_per_block(name):
    """Seconds per block, with a share of the layers outside the blocks, at the full depth and at half of it. Equal
    numbers mean that the cost is proportional to the depth; a ratio of 1.05 is 2.1 times the cost of half of it."""

    def prepare():
        return {
            OURS: timed(compression(name, BLOCKS), BLOCKS),
            "half the depth": timed(compression(name, BLOCKS // 2), BLOCKS // 2),
        }

    return prepare


def print_peak(name):
    """In a process of its own: the peak memory of making and compressing the model, in bytes above the one before."""
    before = resident()
    compression(name, BLOCKS)()
    print(peak() - before)


def peak_memory(name):
    """Bytes of the model and of compressing it, and of the model alone."""
    code = f"from tests.benchmarks.speed.compressing import print_peak as p; p({name!r})"

    def prepare():
        size = footprint(shape_model(shortened(BLOCKS))).bytes
        return {OURS: lambda: int(output_of("-c", code)), "the model": lambda: size}

    return prepare


def written_and_read(name, write):
    """Seconds of writing a model and reading it again, and of the same bytes without a format. Both reach the disk."""

    def prepare():
        model = random_model(shortened(BLOCKS))
        arrays = list(named_arrays(model).values())

        def in_a_format():
            with tempfile.TemporaryDirectory() as directory:
                began = time.perf_counter()
                write(Path(directory) / name, model)
                with warnings.catch_warnings(action="ignore"):  # the GGUF file has no tokenizer
                    load(Path(directory) / name)
                return time.perf_counter() - began

        def plain():
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory) / "bytes"
                began = time.perf_counter()
                with open(path, "wb") as file:
                    for array in arrays:
                        file.write(array)
                    file.flush()
                    os.fsync(file.fileno())
                path.read_bytes()
                return time.perf_counter() - began

        return {OURS: in_a_format, "plain file": plain}

    return prepare


def cases_of(name):
    """The cases of one step."""
    words, _ = STEPS[name]
    shape = f"{words}, shape of SmolLM2 135M"
    return [
        Case(
            f"{name}-135m",
            f"{shape}, per block of {BLOCKS} blocks",
            seconds_per_block(name),
            {"half the depth": (1.05, 1.0)},
            at_most=True,
        ),
        Case(
            f"{name}-135m-memory",
            f"peak memory: {shape}, {BLOCKS} blocks",
            peak_memory(name),
            {"the model": (2.5, 2.0)},
            at_most=True,
            unit="bytes",
        ),
    ]


CASES = [case for name in STEPS for case in cases_of(name)]
CASES.append(
    Case(
        "export-transformers",
        f"export for transformers and reload, {BLOCKS} blocks",
        written_and_read("model", export_transformers),
        {"plain file": (3.0, 1.5)},
        at_most=True,
    )
)
if importlib.util.find_spec("gguf"):
    CASES.append(
        Case(
            "export-gguf",
            f"export as GGUF and reload, {BLOCKS} blocks",
            written_and_read("model.gguf", save_gguf),
            {"plain file": (3.0, 1.5)},
            at_most=True,
        )
    )
