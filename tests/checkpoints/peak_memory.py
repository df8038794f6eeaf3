"""How much memory loading and using a model takes, measured in a process of its own: see test_weights.py.

    python -m tests.checkpoints.peak_memory DIRECTORY SMALL_DIRECTORY WEIGHTS

Prints two numbers of bytes: the peak of loading, and of loading, reading a prompt and generating. What the process had
before is subtracted: the interpreter with its modules, and a small model, loaded and used once.
"""

import sys
from pathlib import Path

import numpy as np

from tinyslm import generate, load

STATUS = Path("/proc/self/status")  # of Linux only


def resident():
    """What this process has in memory now, in bytes, pages of mapped files included."""
    return _bytes("VmRSS")


def peak():
    """The most that it had so far. `resource.getrusage` counts what its parent had before the start as well."""
    return _bytes("VmHWM")


def _bytes(name):
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def use(model):
    """Look up tokens all over the vocabulary, read a prompt and generate."""
    for token in range(0, model.config.vocab_size, 40):
        model.embedding(np.array([token]))
    model(np.arange(32)[None], last_only=True)
    generate(model, np.arange(8)[None], 4)


def main(directory, small_directory, weights):
    """Print the two peaks."""
    use(load(small_directory, weights)[0])
    before = resident()
    model, _ = load(directory, weights)
    loaded = peak() - before
    use(model)
    print(loaded, peak() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
