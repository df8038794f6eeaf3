"""A GGUF file in llama.cpp, through its Python binding, as a peer for prompts and generation.

Imports nothing of tinyslm.
"""

import importlib.util

import numpy as np

INSTALLED = all(importlib.util.find_spec(name) for name in ("llama_cpp", "gguf"))


def model_from(path, threads, context):
    """A `Llama` in float32 on the CPU, for so many tokens."""
    from llama_cpp import Llama

    return Llama(
        str(path), n_ctx=context, n_batch=context, n_ubatch=context, n_threads=threads, n_threads_batch=threads,
        n_gpu_layers=0, type_k=0, type_v=0, logits_all=False, verbose=False,
    )  # fmt: skip


def prompt(path, threads, token_ids):
    """A function that reads a prompt, and returns the logits of the token that follows."""
    other, tokens = model_from(path, threads, token_ids.size), token_ids[0].tolist()

    def read():
        other.reset()
        other.eval(tokens)
        return logits_of(other)

    return read


def generation(path, threads, token_ids, new_tokens):
    """A function that continues a prompt greedily, and returns the new tokens."""
    other, tokens = model_from(path, threads, token_ids.size + new_tokens), token_ids[0].tolist()

    def write():
        other.reset()
        other.eval(tokens)
        written = []
        for _ in range(new_tokens):
            written.append(int(logits_of(other).argmax()))
            if len(written) < new_tokens:
                other.eval(written[-1:])
        return np.array([written])

    return write


def logits_of(other):
    """Those of the last token: (1, V)."""
    return np.ctypeslib.as_array(other._ctx.get_logits_ith(-1), (1, other.n_vocab()))
