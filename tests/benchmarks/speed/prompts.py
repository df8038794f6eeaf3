"""Prompts: seconds compared with other libraries, and the growth of seconds and memory with the length."""

import numpy as np

from tests.benchmarks.speed.case import OURS, Case, timed
from tests.benchmarks.speed.decoder_peers import decoder_peers
from tests.benchmarks.speed.machine import product_limit, products
from tests.benchmarks.speed.peer import runners_of, started
from tests.benchmarks.speed.processes import output_of
from tests.benchmarks.speed.shapes import VOCABULARY, random_tokens, random_weights
from tests.benchmarks.speed.training import multiply_adds
from tests.process_memory import peak, resident
from tinyslm.generation import KeyValueCache, generate
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape

MOST_PROBABLE = 20  # tokens whose logits are compared
TOLERANCES = {"transformers": 1e-3, "llama.cpp": 5e-3}  # of the largest logit; llama.cpp stores keys in 16 bits
LONG, SHORT = 32768, 8192


def prompt(size, length):
    """Seconds of a prompt, with its keys and values kept, and of the matrix products of its linear layers alone. The
    limit is all multiply-adds at the best speed."""

    def prepare():
        model = random_weights(size)
        token_ids = random_tokens(model.config, 1, length)

        def read():
            return model(token_ids, cache=KeyValueCache(length), last_only=True)[:, 0]

        peers, expected = decoder_peers(model, "prompt", token_ids), read()[0]
        for name, peer in started(peers).items():
            check_most_probable(peer()[0], expected, name)
        head = model.config.vocab_size * model.config.hidden_size  # multiplied for the last token only
        needed = length * (multiply_adds(model, length) - head) + head
        return {
            OURS: timed(read),
            **runners_of(peers),
            "products": timed(products(model, length, 1)),
            "limit": product_limit(needed),
        }

    return prepare


def check_most_probable(found, expected, name):
    """Compare logits or log-probabilities of tokens, less those of the most probable token.

    found: an array (V,), or {token: number} of the most probable ones;  expected: (V,).
    """
    top = np.argsort(-expected)[:MOST_PROBABLE].tolist()
    theirs, ours = ([values[token] - values[top[0]] for token in top] for values in (found, expected))
    np.testing.assert_allclose(theirs, ours, atol=TOLERANCES[name] * np.abs(expected).max(), err_msg=name)


def long_model(length):
    """A model for long prompts: width 128, two layers, four heads."""
    return random_model(llama_shape(VOCABULARY, 128, 352, 2, 4, 2, length))


def print_prompt_memory(length):
    """In a process of its own: the peak memory of a prompt and one token, in bytes above the one with the model."""
    model = long_model(length)
    generate(model, random_tokens(model.config, 1, 8), 1)
    before = resident()
    generate(model, random_tokens(model.config, 1, length), 1)
    print(peak() - before)


def prompt_memory():
    """Bytes of a long prompt, keys and values included, and of a shorter one."""

    def of(length):
        code = f"from tests.benchmarks.speed.prompts import print_prompt_memory as p; p({length})"
        return lambda: int(output_of("-c", code))

    return {OURS: of(LONG), f"{SHORT:,} tokens": of(SHORT), "a megabyte": lambda: 1e6}


def prompt_seconds():
    """Seconds of a long prompt and of a shorter one. Attention is quadratic, the layers are linear in the length."""

    def of(length):
        model = long_model(length)
        token_ids = random_tokens(model.config, 1, length)
        return timed(lambda: generate(model, token_ids, 1))

    return {OURS: of(LONG), f"{SHORT:,} tokens": of(SHORT)}


CASES = [
    Case("prompt-1m", "prompt of 512 tokens, 1 M parameters", prompt("1m", 512), {"transformers": (1.1, 1.25)}),
    Case("prompt-4m", "prompt of 512 tokens, 4 M parameters", prompt("4m", 512), {"transformers": (1.1, 1.2)}),
    Case("prompt-1b", "prompt of 512 tokens, shape of Llama 3.2 1B", prompt("1b", 512), {"transformers": (1.0, 1.15)}),
    Case("prompt-long", f"prompt of {LONG:,} tokens, two layers, four heads", prompt_seconds, {}, at_most=True),
    Case(
        "prompt-memory",
        f"peak memory of a prompt of {LONG:,} tokens",
        prompt_memory,
        {"a megabyte": (400, 150), f"{SHORT:,} tokens": (4.2, 4.0)},
        at_most=True,
        unit="bytes",
    ),
]
