"""Damaged checkpoints by the thousand: each is read as it truly is, or refused with one clear error.

    python -m tests.checkpoints.fuzz --inputs 100000 --seed 0                        # safetensors files
    python -m tests.checkpoints.fuzz --kind directories --inputs 20000 --seed 0      # directories for load_model
    python -m tests.checkpoints.fuzz --kind configs --inputs 10000 --seed 0          # config.json files
    python -m tests.checkpoints.fuzz --kind tokenizers --inputs 1000 --seed 0        # tokenizer.json files
    python -m tests.checkpoints.fuzz --kind questions --inputs 10000 --seed 0        # files of questions
    python -m tests.checkpoints.fuzz --kind gguf --inputs 2000 --seed 0              # GGUF files
    python -m tests.checkpoints.fuzz --kind quantized --inputs 5000 --seed 0         # directories of quantized models
    python -m tests.checkpoints.fuzz --kind templates --inputs 200 --seed 0          # chat templates, a process each

Input i of a seed is always the same; `--first i --inputs 1` makes it again, with the same verdict. For every input: no
exception but CheckpointError and ConfigError (DataError for tokenizers and questions), whose messages name the path and
are short; no more memory than the stated multiple of the input's size; no more time than MOST_SECONDS. What is accepted
is checked: tensors agree with a second, strict reader; a model of an accepted config.json computes finite logits; a
tokenizer encodes and decodes texts, or refuses them with a DataError; questions are complete.
"""

import argparse
import faulthandler
import random
import re
import shutil
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.checkpoints.fuzz_configs import check_config, damaged_config
from tests.checkpoints.fuzz_directories import damaged_directory, write_directory
from tests.checkpoints.fuzz_files import damaged_file
from tests.checkpoints.fuzz_gguf import check_gguf, damaged_gguf
from tests.checkpoints.fuzz_models import check_model
from tests.checkpoints.fuzz_oracle import Invalid, decode
from tests.checkpoints.fuzz_quantized import FORMS, check_quantized, damaged_quantized, read_quantized
from tests.checkpoints.fuzz_questions import check_questions, damaged_questions
from tests.checkpoints.fuzz_templates import (
    CONVERSATIONS,
    check_tokens,
    check_usage,
    conversation,
    usage_of_children,
    write_templates,
)
from tests.checkpoints.fuzz_tokenizers import check_tokenizer, damaged_tokenizer
from tinyslm.checkpoints import load_model, read_safetensors
from tinyslm.checkpoints.families import family_of
from tinyslm.checkpoints.json_files import read_json
from tinyslm.errors import CheckpointError, ConfigError, DataError
from tinyslm.text import chat_prompt, load_tokenizer
from tinyslm.text.gguf_tokenizer import UnsupportedTokenizer, load_gguf_tokenizer
from tinyslm.text.questions import read_questions

# A header of n bytes costs Python at most this many times n: "[[[[...]]]]" is the worst, a list for every two bytes.
# Numbers cost less: two bytes of a file become at most four in the model, and as many on the way there.
MEMORY_PER_BYTE = 64
MEMORY_OF_ANYTHING = 150_000  # the message, the traceback, the views of a few small tensors
MEMORY_OF_TOKENS = 1_000_000  # bytes of input that the longest text of a template, and its tokens, stand for
MEMORY_OF_LAYERS = 20_000  # bytes of input that a number of layers stands for: a configuration has lists of all layers
ADDRESS_SPACE = 3 * 2**30  # of the command: an input that asks for more is a failure, not the end of the machine
MOST_SECONDS = 5.0  # of the processor, while all memory is traced
LONGEST_MESSAGE = 1000
NUMPY_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "float32", "BOOL": "bool"}
NUMPY_NAMES |= {"F8_E4M3": "float32", "F8_E5M2": "float32"}
NUMPY_NAMES |= {
    f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}


@dataclass
class Tally:
    """What came of the inputs."""

    accepted: int = 0
    refused: Counter = field(default_factory=Counter)  # {kind of message: count}
    failures: list = field(default_factory=list)  # [(number of the input, what was wrong)]
    memory: float = 0.0  # the largest peak beyond MEMORY_OF_ANYTHING, over the size of the input
    peak: int = 0  # the largest peak of all, in bytes
    seconds: float = 0.0  # the slowest input


def kind_of(error, path):
    """The message without what differs from input to input."""
    message = str(error).replace(str(path), "")
    message = re.sub(r"(?s) (is|holds|names) .*, expected", r" \1 ..., expected", message)
    message = re.sub(r"(?s)'.*?'|\".*?\"", "'...'", message)
    message = re.sub(r"(?s)\(.*\)", "(...)", message)
    message = re.sub(r" for [A-Z]+[0-9]* \[.*\]", " for ...", message)
    return f"{type(error).__name__}{re.sub(r'-?[0-9.]*[0-9]', 'N', message)[:110]}"


def check_message(error, path):
    """A message names the file and is short enough to be read."""
    message = str(error)
    assert str(path) in message, f"does not name the path: {message[:200]}"
    assert len(message) < LONGEST_MESSAGE, f"a message of {len(message)} characters: {message[:200]}"
    message.encode()  # can be printed


def check_tensors(tensors, expected):
    """Every tensor reads as the oracle decodes it."""
    assert list(tensors) == list(expected), f"found {list(tensors)}, expected {list(expected)}"
    for name, (dtype, shape, numbers) in expected.items():
        found = tensors[name].read()
        assert tensors[name].dtype == dtype and tensors[name].shape == found.shape == shape, name
        assert found.dtype.name == NUMPY_NAMES[dtype], name
        assert repr(found.ravel().tolist()) == repr(numbers), name  # repr: NaN is NaN, and -0.0 is not 0.0


def try_file(rng, place):
    """Read one damaged file; returns its size and the error, if any. AssertionError: something is wrong."""
    content = damaged_file(rng)
    path = place / "model.safetensors"
    path.write_bytes(content)

    def read():
        for tensor in read_safetensors(path).values():
            tensor.read(np.float32)

    error = yield len(content), path, read
    try:
        expected = decode(content)
    except Invalid as reason:
        assert error is not None, f"accepted, though {reason}"
        return
    assert error is None, f"refused, though it is valid: {error}"
    check_tensors(read_safetensors(path), expected)


def try_directory(rng, place):
    """The same for one damaged directory."""
    files = damaged_directory(rng)
    path = place / "around" / "model"
    write_directory(path, files)
    size = sum(len(content) for content in files.values() if isinstance(content, bytes))
    models = []
    error = yield size, path, lambda: models.append(load_model(path))
    if error is None:
        check_model(models[0], path)


def try_config(rng, place):
    """The same for one config.json; an accepted one must give a model that computes."""
    content = damaged_config(rng)
    path = place / "config.json"
    path.write_bytes(content)
    configs = []

    def read():
        values = read_json(path)
        configs.append(family_of(values, path).read_config(values, path))

    error = yield len(content) + MEMORY_OF_LAYERS, path, read
    if error is None:
        check_config(configs[0])


def try_tokenizer(rng, place):
    """The same for one tokenizer.json; a tokenizer that loads encodes texts or refuses them."""
    content = damaged_tokenizer(rng)
    path = place / "tokenizer.json"
    path.write_bytes(content)
    tokenizers = []
    error = yield len(content), path, lambda: tokenizers.append(load_tokenizer(path))
    if error is None:
        check_tokenizer(rng, tokenizers[0])


def try_gguf(rng, place):
    """The same for one GGUF file; an accepted one must give a model that computes. Its tokenizer may be refused."""
    content, weights = damaged_gguf(rng), rng.choice(("float32", "int8", "mapped"))
    path = place / "model.gguf"
    path.write_bytes(content)
    read = {}

    def read_both():
        read["model"] = load_model(path, weights)
        with suppress(UnsupportedTokenizer):
            read["tokenizer"] = load_gguf_tokenizer(path)

    error = yield len(content) + MEMORY_OF_LAYERS, path, read_both
    if error is None:
        check_gguf(path, read["model"], read.get("tokenizer"))


def try_quantized(rng, place):
    """The same for one directory of a quantized model, in one of the forms of its weights."""
    files, weights = damaged_quantized(rng), rng.choice(FORMS)
    path = place / "around" / "model"
    write_directory(path, files)
    size = sum(len(content) for content in files.values() if isinstance(content, bytes))
    models = []
    error = yield size + MEMORY_OF_LAYERS, path, lambda: models.append(read_quantized(path, weights))
    if error is None:
        check_quantized(models[0], path, weights)


def try_questions(rng, place):
    """The same for one file of questions."""
    name, content = damaged_questions(rng)
    path = place / name
    path.write_bytes(content)
    questions = []
    error = yield len(content), path, lambda: questions.extend(read_questions(path))
    if error is None:
        check_questions(path, questions)


def try_template(rng, place):
    """The same for one directory with a chat template, and a conversation."""
    path = place / "chat"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    size = write_templates(rng, path)
    tokenizer, messages = load_tokenizer(path / "tokenizer.json"), conversation(rng)
    named = path if messages in CONVERSATIONS else ""  # the messages are looked at first, or the files
    before = usage_of_children()
    found = []
    error = yield size + MEMORY_OF_TOKENS, named, lambda: found.append(chat_prompt(tokenizer, messages))
    check_usage(before)
    if error is None:
        check_tokens(found[0], tokenizer)


KINDS = {"files": try_file, "directories": try_directory, "configs": try_config, "tokenizers": try_tokenizer}
KINDS |= {"quantized": try_quantized, "gguf": try_gguf, "templates": try_template, "questions": try_questions}
ERRORS = dict.fromkeys(KINDS, (CheckpointError, ConfigError)) | {"tokenizers": DataError}
ERRORS |= dict.fromkeys(("gguf", "templates"), (CheckpointError, ConfigError, DataError)) | {"questions": DataError}


def run(kind, inputs, seed=0, first=0, progress=False) -> Tally:
    """Try that many inputs. With progress, count them on the standard error stream."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(first, first + inputs):
            if progress and (number - first) % 100 == 0:
                faulthandler.dump_traceback_later(120, exit=True)  # endless time
            try_one(kind, random.Random(f"{kind} {seed} {number}"), Path(place), number, tally)
            if progress and (number + 1 - first) % 1000 == 0:
                print(f"{number + 1 - first} of {inputs}", file=sys.stderr, flush=True)
        faulthandler.cancel_dump_traceback_later()
    return tally


def measure(read, errors):
    """(the error of reading or None, the peak of the memory in bytes, seconds of the processor)."""
    error = None
    tracemalloc.start()
    start = time.process_time()
    try:
        read()
    except errors as problem:
        error = problem
    finally:
        seconds = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return error, peak, seconds


def try_one(kind, rng, place, number, tally):
    """Try one input and write down what came of it.

    An input that takes too much is measured again: Python's table of interned strings grows by megabytes once in many
    thousand inputs, and tracemalloc counts them for the input that is read at that moment.
    """
    trial = KINDS[kind](rng, place)
    size, path, read = next(trial)
    most = MEMORY_PER_BYTE * size + MEMORY_OF_ANYTHING
    try:
        error, peak, seconds = measure(read, ERRORS[kind])
        if peak > most or seconds > MOST_SECONDS:
            error, peak, seconds = measure(read, ERRORS[kind])
        tally.peak, tally.seconds = max(tally.peak, peak), max(tally.seconds, seconds)
        tally.memory = max(tally.memory, (peak - MEMORY_OF_ANYTHING) / max(size, 1))
        assert peak <= most, f"{peak} bytes of memory for {size}"
        assert seconds <= MOST_SECONDS, f"took {seconds:.1f} s"
        if error is None:
            tally.accepted += 1
        else:
            tally.refused[kind_of(error, path)] += 1
            check_message(error, path)
        with suppress(StopIteration):
            trial.send(error)
    except BaseException as problem:  # also the panics of the tokenizers library
        if isinstance(problem, KeyboardInterrupt):
            raise
        where = problem.__traceback__
        while where.tb_next:
            where = where.tb_next
        place = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}"
        tally.failures.append((number, f"{place}: {type(problem).__name__}: {str(problem)[:300]}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, default="files")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    import resource  # which Windows has not

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    tally = run(options.kind, options.inputs, options.seed, options.first, progress=True)
    print(f"\n{options.inputs} {options.kind} of seed {options.seed}: {tally.accepted} accepted, ", end="")
    print(f"{sum(tally.refused.values())} refused, {len(tally.failures)} failures")
    print(f"largest memory: {tally.peak} bytes; {tally.memory:.1f} times the input beyond {MEMORY_OF_ANYTHING} bytes")
    print(f"slowest: {tally.seconds:.2f} s")
    for message, count in tally.refused.most_common():
        print(f"{count:8d}  {ascii(message)[1:-1]}")
    for number, problem in tally.failures:
        print(f"failure: --kind {options.kind} --seed {options.seed} --first {number} --inputs 1: {problem!a}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
