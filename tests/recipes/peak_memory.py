"""How much memory the compression of a mapped model takes, measured in a process of its own: see test_mapped_models.py.

    python -m tests.recipes.peak_memory DIRECTORY OUTPUT STEP

Compresses the model of DIRECTORY with STEP, such as "Quantize(bits=4)", writes OUTPUT, and prints the peak in bytes.
What the process had when the model was open is subtracted.
"""

import sys

import numpy as np

from tests.process_memory import peak, resident
from tinyslm import load, recipes, save
from tinyslm.recipes import Calibration, compress
from tinyslm.runtime import use_threads


def main(directory, output, step):
    """Print the peak."""
    model, _ = load(directory, "mapped")
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (4, 64))
    before = resident()
    with use_threads(1):  # the peak then does not depend on the timing of threads
        compressed, _ = compress(model, [eval(step, vars(recipes))], Calibration(list(tokens), model))
    save(output, compressed)
    print(peak() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
