"""Make llama_cpp.json: what llama.cpp computes from small models that this project exports.

    python -m tests.golden.make_llama_cpp [--out FILE] [NAME ...]

Needs llama-cpp-python or xllamacpp. `tests/checkpoints/llama_cpp_models.py` makes the models from seeds.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.checkpoints.llama_cpp import open_model
from tests.checkpoints.llama_cpp_models import (
    CASES,
    RESULTS,
    VOCAB_SIZE,
    export,
    golden_model,
    smallest_distance,
    token_ids,
)
from tests.text.gguf_metadata import BYTE_LEVEL, byte_level_tokenizer
from tinyslm.text.gguf_vocabulary import vocabulary_metadata

NEW_TOKENS = 6
KEPT = 8  # most probable tokens of each position
GAP = 0.005  # between the best two tokens
DISTANCE = 0.002  # of inputs from the boundary between two codes
SEEDS = 200
VOCABULARY, _ = vocabulary_metadata(byte_level_tokenizer(*BYTE_LEVEL["qwen2"]), VOCAB_SIZE)


def results(family, kind, path):
    """The entry of one case, with the first seed for which a rounding error changes no choice, or None."""
    for seed in range(SEEDS):
        path.unlink(missing_ok=True)
        export(path, golden_model(family, kind, seed), kind, VOCABULARY)
        tokens = token_ids(kind)[0].tolist()
        if kind != "F32" and smallest_distance(path, np.array([tokens])) < DISTANCE:
            continue
        read, rows = open_model(path, VOCAB_SIZE), []
        for _ in range(NEW_TOKENS if kind == "F32" else 1):
            rows.append(read.log_probabilities(tokens, len(tokens))[0])
            tokens = [*tokens, int(rows[-1].argmax())]
        best = np.sort(np.array(rows), axis=-1)
        if kind != "F32" or np.min(best[:, -1] - best[:, -2]) > GAP:
            ids = np.argsort(-np.array(rows), axis=-1)[:, :KEPT]
            numbers = np.take_along_axis(np.array(rows), ids, axis=-1)
            rounded = [[round(float(number), 6) for number in row] for row in numbers]
            greedy = [int(row[0]) for row in ids]
            return {"seed": seed, "greedy": greedy, "ids": ids.tolist(), "log_probabilities": rounded}
    raise SystemExit(f"{family} {kind}: no seed below {SEEDS} without a close decision")


def main():
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {f"{family} {kind}": (family, kind) for family, kind in CASES}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these, of: {', '.join(names)}")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    entries = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in arguments.names or names:
            entries[name] = results(*names[name], Path(directory, "model.gguf"))
            print(name, "seed", entries[name]["seed"], flush=True)
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # xllamacpp can wait for its threads for ever
