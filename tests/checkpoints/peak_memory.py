"""How much memory loading and using a model takes, measured in a process of its own: see test_weights.py.

    python -m tests.checkpoints.peak_memory DIRECTORY SMALL_DIRECTORY WEIGHTS

Prints two numbers of bytes: the peak of loading, and of loading, reading a prompt and generating. What the process had
before is subtracted: the interpreter with its modules, and a small model, loaded and used once.
"""

import sys

import numpy as np

from tests.process_memory import peak, resident
from tinyslm import generate, load


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
