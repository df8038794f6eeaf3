"""Exported models in llama.cpp, through a Python binding that is installed: llama-cpp-python, or xllamacpp.

    python -m tests.checkpoints.llama_cpp [--prompts 20] [--tokens 40] [NAME ...]

exports the built-in model, sliced or quantized, to GGUF, and compares what llama.cpp computes from the file with what
this library computes. llama.cpp gets the greedy continuations of this library for prompts from the built-in corpus; its
key/value cache is in float32.

    greedy tokens  of the continuations, that are also the most probable in llama.cpp
    margin         log-probability between the best two tokens here, where the first other token is: the largest of the
                   prompts
    difference     of log-probabilities of the 20 most probable tokens: the root of the mean square, and the largest
    close          tokens of short texts (2 tokens each) of which no log-probability differs by more than 0.001
    perplexity     of documents of the corpus, in llama.cpp and here

llama.cpp rounds the inputs of matrices in Q8_0, Q4_0 and Q4_1 to 8 bits. The rows "inputs rounded" compare with a model
that rounds its inputs in the same way, see `rounded_inputs`. An input that lies between two codes, where the last bits
of a sum decide, can get the other code: then all later numbers differ, and the texts that follow with them. Hence short
texts are close and long ones are not.
"""

import argparse
import importlib.util
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import tinyslm
from tests.checkpoints.rounded_inputs import with_rounded_inputs
from tests.xllamacpp_server import LETTER, next_token, start_server
from tinyslm.checkpoints.gguf.writing import save_gguf
from tinyslm.ops import log_softmax
from tinyslm.recipes import (
    Calibration,
    DropLayers,
    Quantize,
    QuantizeGPTQ,
    SliceHeads,
    SliceNeurons,
    compress,
)
from tinyslm.reporting.number_format import size
from tinyslm.text.gguf_vocabulary import vocabulary_metadata
from tinyslm.text.town import documents

INSTALLED = next((name for name in ("llama_cpp", "xllamacpp") if importlib.util.find_spec(name)), None)
MOST_PROBABLE = 20
FORMS = {  # {name: (steps, --dtype)}
    "dense F32": ([], "F32"),
    "dense F16": ([], "F16"),
    "dense Q8_0": ([], "Q8_0"),
    "dense Q4_0": ([], "Q4_0"),
    "sliced F32": ([SliceNeurons(0.75), SliceHeads(0.5), DropLayers(1)], "F32"),
    "INT8, groups of 32": ([Quantize(bits=8, group_size=32)], None),
    "INT8, rows": ([Quantize(bits=8)], None),
    "INT8, rows, dynamic inputs": ([Quantize(bits=8, dynamic_activations=True)], None),
    "INT4, groups of 32": ([Quantize(bits=4, group_size=32)], None),
    "INT4, zero points": ([Quantize(bits=4, group_size=32, symmetric=False)], None),
    "GPTQ, 4 bits": ([QuantizeGPTQ(bits=4, group_size=32)], None),
}


def open_model(path, vocab_size, context=256):
    """A model in llama.cpp. The key/value cache is in float32; one thread of the CPU computes."""
    return (LlamaCppPython if INSTALLED == "llama_cpp" else Xllamacpp)(str(path), vocab_size, context)


class LlamaCppPython:
    def __init__(self, path, vocab_size, context):
        from llama_cpp import Llama

        threads = {"n_threads": 1, "n_threads_batch": 1, "n_gpu_layers": 0}
        self.model = Llama(path, n_ctx=context, type_k=0, type_v=0, verbose=False, **threads)  # type 0: float32
        self.vocab_size = vocab_size

    def log_probabilities(self, tokens, first, most=None):
        """(T - first + 1, V): of what follows the first tokens, one more, ..., all.

        most: only those of the most probable tokens are asked for; the others can be -inf.
        """
        self.model.reset()
        rows = []
        for piece in (tokens[:first], *([token] for token in tokens[first:])):
            self.model.eval(piece)
            rows.append(np.ctypeslib.as_array(self.model._ctx.get_logits_ith(-1), (self.vocab_size,)).copy())
        return log_softmax(np.array(rows))

    def losses(self, tokens):
        """(T - 1,): the loss of every token but the first."""
        return -self.log_probabilities(tokens[:-1], 1)[np.arange(len(tokens) - 1), tokens[1:]]


class Xllamacpp:
    def __init__(self, path, vocab_size, context):
        self.server, self.vocab_size = start_server(path, context, threads=1, exact=True), vocab_size

    def _next(self, tokens, chosen, most):
        """Log-probabilities of the token after a text, and of the one that is chosen."""
        return next_token(self.server, tokens, chosen, most, cache_prompt=True)

    def log_probabilities(self, tokens, first, most=None):
        """As of LlamaCppPython."""
        rows = np.full((len(tokens) - first + 1, self.vocab_size), -np.inf, np.float32)
        for row, end in zip(rows, range(first, len(tokens) + 1), strict=True):
            for entry in self._next(tokens[:end], LETTER, most or self.vocab_size)["top_logprobs"]:
                row[entry["id"]] = entry["logprob"]
        return rows

    def losses(self, tokens):
        """As of LlamaCppPython."""
        return -np.array([self._next(tokens[:end], tokens[end], 1)["logprob"] for end in range(1, len(tokens))])


class Comparison(NamedTuple):
    """Log-probabilities of llama.cpp beside those of a model of this library, on the same tokens."""

    equal: int  # tokens that are the most probable in both
    count: int
    margin: float
    mean_difference: float
    largest_difference: float


def compare(theirs, ours):
    """theirs, ours: lists of (T, V) log-probabilities, one of each prompt."""
    equal, count, margins, differences = 0, 0, [0.0], []
    for their, our in zip(theirs, ours, strict=True):
        same = their.argmax(-1) == our.argmax(-1)
        equal, count = equal + int(same.sum()), count + len(same)
        if not same.all():
            first = int(same.argmin())
            margins.append(float(our[first].max() - our[first, their[first].argmax()]))
        top = np.argsort(-our, axis=-1)[:, :MOST_PROBABLE]
        differences.append(np.take_along_axis(their, top, -1) - np.take_along_axis(our, top, -1))
    errors = np.concatenate(differences)
    return Comparison(equal, count, max(margins), float(np.sqrt(np.mean(errors**2))), float(np.abs(errors).max()))


def _own(model, texts, first):
    """Log-probabilities as those of `open_model`, for each text."""
    return [log_softmax(model(np.array([text]))[0, start - 1 :]) for text, start in zip(texts, first, strict=True)]


def _close(theirs, ours):
    """(tokens with the same log-probabilities, number of tokens)."""
    differences = np.concatenate([np.abs(one - other).max(-1) for one, other in zip(theirs, ours, strict=True)])
    return int(np.sum(differences < 1e-3)), len(differences)


def _losses(model, text):
    """(T - 1,): the loss of every token but the first."""
    return -log_softmax(model(np.array([text]))[0])[np.arange(len(text) - 1), text[1:]]


def _perplexity(losses):
    """exp of the mean loss of all texts."""
    return float(np.exp(np.mean(np.concatenate(losses))))


def compressed(steps):
    """(the built-in model after the steps, its tokenizer)."""
    teacher, tokenizer = tinyslm.load("teacher")
    sample = [np.array(tokenizer.encode(text).ids) for _, text, _ in documents("train", 0, 32)]
    return compress(teacher, steps, Calibration(sample, teacher))[0], tokenizer


def measure(name, texts, new_tokens, directory):
    """Print the rows of the table for one form."""
    steps, dtype = FORMS[name]
    model, tokenizer = compressed(steps)
    vocabulary, _ = vocabulary_metadata(tokenizer, model.config.vocab_size)
    prompts, short = [text[: min(len(text) // 2, 40)] for text in texts], [text[5:7] for text in texts]
    starts, ones = [len(prompt) for prompt in prompts], [1] * len(texts)
    written = [prompt + tinyslm.generate(model, np.array([prompt]), new_tokens)[0].tolist() for prompt in prompts]
    written = [tokens[:-1] for tokens in written]  # no token after the last one is compared
    for kind in dict.fromkeys((dtype, "F32")) if steps else (dtype,):
        path = Path(directory, f"{name.replace(' ', '-')}-{kind}.gguf")
        types = [kind for kind in save_gguf(path, model, kind, vocabulary).types if kind != "F32"]
        read = open_model(path, model.config.vocab_size)
        theirs = [read.log_probabilities(*each, most=100) for each in zip(written, starts, strict=True)]
        theirs_short = [read.log_probabilities(text, 1) for text in short]
        there = _perplexity([read.losses(text) for text in texts])
        models = {name: model}
        if types and "F16" not in types:
            models["  inputs rounded"] = with_rounded_inputs(path)
        for label, each in models.items():
            result = compare(theirs, _own(each, written, starts))
            close, count = _close(theirs_short, _own(each, short, ones))
            here = _perplexity([_losses(each, text) for text in texts])
            print(
                f"{label:<26} {'+'.join(types) or 'F32':<9} {result.equal:>4} of {result.count:<4}"
                f"{result.margin:>7.4f} {result.mean_difference:>8.1e} {result.largest_difference:>8.1e} "
                f"{close:>3} of {count:<3}{there:>8.4f} {here:>8.4f} {size(path.stat().st_size):>8}",
                flush=True,
            )
        path.unlink()


def main(argv=None):
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these, of: {'; '.join(FORMS)}")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=40)
    arguments = parser.parse_args(argv)
    if INSTALLED is None:
        parser.error("needs the package llama-cpp-python or xllamacpp")
    _, tokenizer = tinyslm.load("teacher")
    texts = [tokenizer.encode(text).ids[:100] for _, text, _ in documents("test", 0, arguments.prompts)]
    print(f"{'':36} {'greedy':>12} {'':>6} {'difference':^17} {'':10} {'perplexity':^17}")
    print(
        f"{'form':<26} {'types':<9} {'tokens':>12} {'margin':>6} {'mean':>8} {'largest':>8} {'close':>10}"
        f"{'there':>8} {'here':>8} {'size':>8}"
    )
    sys.stdout.flush()
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        for name in arguments.names or FORMS:  # each in a process of its own: servers of xllamacpp are not stopped
            process = processes.Process(target=_measure, args=(name, texts, arguments.tokens, directory))
            process.start()
            process.join()
    return 0


def _measure(*arguments):
    """Measure and end the process, which could otherwise wait for the threads of xllamacpp for ever."""
    measure(*arguments)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
