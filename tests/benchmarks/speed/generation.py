"""Prompts and generation, batch 1 and more, against transformers and llama.cpp, and how a token's time grows."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.benchmarks.speed import llama_cpp_decoder, transformers_decoder
from tests.benchmarks.speed.case import OURS, Case, timed
from tests.benchmarks.speed.gguf_file import write_gguf
from tests.benchmarks.speed.machine import memory_limit, product_limit, products
from tests.benchmarks.speed.peer import Peer
from tests.benchmarks.speed.shapes import config_of, random_tokens, random_weights
from tests.benchmarks.speed.training import multiply_adds
from tinyslm.evaluation import footprint
from tinyslm.generation import KeyValueCache, generate
from tinyslm.load_save import save
from tinyslm.models import random_model
from tinyslm.recipes import Quantize
from tinyslm.runtime import default_threads

PROMPT = 1  # tokens before those that are generated: every pass then reads one


def peers(model, work, *arguments):
    """{name: a peer with the model in it, for this work: "prompt" or "generation"} of what is installed."""
    found, threads = {}, default_threads()
    with tempfile.TemporaryDirectory() as directory:
        if transformers_decoder.INSTALLED:
            checkpoint = Path(directory) / "checkpoint"
            save(checkpoint, model)
            found["transformers"] = Peer(f"{transformers_decoder.__name__}:{work}", checkpoint, threads, *arguments)
        if llama_cpp_decoder.INSTALLED:
            write_gguf(Path(directory) / "model.gguf", model)
            found["llama.cpp"] = Peer(
                f"{llama_cpp_decoder.__name__}:{work}", f"{directory}/model.gguf", threads, *arguments
            )
    return found


def generation(size, new_tokens):
    """Seconds per token of a greedy continuation, of its matrix products alone, and of reading all weights from memory
    once per token: a limit for models that do not fit in a cache."""

    def prepare():
        model = random_weights(size)
        token_ids = random_tokens(model.config, 1, PROMPT)
        others = peers(model, "generation", token_ids, new_tokens)
        expected, multiply = generate(model, token_ids, new_tokens)[0, :4], products(model, 1, 1)
        for name, peer in others.items():  # the same model writes the same; later, roundings differ
            np.testing.assert_array_equal(peer()[0, :4], expected, err_msg=name)
        return {
            OURS: timed(lambda: generate(model, token_ids, new_tokens), new_tokens),
            **{name: peer.runner(new_tokens) for name, peer in others.items()},
            "products": timed(lambda: [multiply() for _ in range(new_tokens)], new_tokens),
            "memory": memory_limit(footprint(model).bytes),
        }

    return prepare


def eight_bits(size, new_tokens):
    """The same with weights of one byte, against ours in float32."""

    def prepare():
        model = random_weights(size)
        token_ids = random_tokens(model.config, 1, PROMPT)
        small = Quantize()(model)
        return {
            OURS: timed(lambda: generate(small, token_ids, new_tokens), new_tokens),
            "float32": timed(lambda: generate(model, token_ids, new_tokens), new_tokens),
        }

    return prepare


def prompt(size, length):
    """Seconds of a prompt, with its keys and values kept, and of the matrix products of its linear layers alone; the
    limit is all multiply-adds at the best speed."""

    def prepare():
        model = random_weights(size)
        token_ids = random_tokens(model.config, 1, length)

        def read():
            return model(token_ids, cache=KeyValueCache(length), last_only=True)[:, 0]

        others, expected = peers(model, "prompt", token_ids), read()
        for name, peer in others.items():
            np.testing.assert_allclose(peer(), expected, atol=1e-3 * np.abs(expected).max(), err_msg=name)
        head = model.config.vocab_size * model.config.hidden_size  # multiplied for the last token alone
        needed = length * (multiply_adds(model, length) - head) + head
        return {
            OURS: timed(read),
            **{name: peer.runner() for name, peer in others.items()},
            "products": timed(products(model, length, 1)),
            "limit": product_limit(needed),
        }

    return prepare


def together(size, rows, new_tokens):
    """Seconds per token of several continuations at once, and of one."""

    def prepare():
        model = random_weights(size)
        many, one = (random_tokens(model.config, count, PROMPT) for count in (rows, 1))
        return {
            OURS: timed(lambda: generate(model, many, new_tokens), rows * new_tokens),
            "batch 1": timed(lambda: generate(model, one, new_tokens), new_tokens),
        }

    return prepare


def token_at(window, contexts):
    """Seconds of one token after a long text and after a short one."""

    def prepare():
        config = config_of("4m")
        model = random_model(replace(config, windows=(window,) * config.num_hidden_layers))

        def after(length):
            cache = KeyValueCache(length + 1)
            model(random_tokens(config, 1, length), cache=cache, last_only=True)
            token = random_tokens(config, 1, 1)

            def read():
                cache.length = length
                model(token, cache=cache, last_only=True)

            return timed(read)

        long, short = map(after, contexts)
        return {OURS: long, "after 1,024": short}

    return prepare


CASES = [
    Case("generate-1m", "generation, batch 1, 1 M parameters", generation("1m", 64), {"transformers": (10, 15)}),
    Case("generate-4m", "generation, batch 1, 4 M parameters", generation("4m", 64), {"transformers": (4, 10)}),
    Case(
        "generate-1b",
        "generation, batch 1, shape of Llama 3.2 1B, float32",
        generation("1b", 8),
        {"transformers": (1.7, 2.2), "llama.cpp": (0.75, 0.95), "memory": (0.85, 0.95)},
    ),
    Case("generate-1b-int8", "the same with INT8 weights", eight_bits("1b", 8), {"float32": (1.2, 1.5)}),
    Case("prompt-1m", "prompt of 512 tokens, 1 M parameters", prompt("1m", 512), {"transformers": (0.9, 1.2)}),
    Case("prompt-4m", "prompt of 512 tokens, 4 M parameters", prompt("4m", 512), {"transformers": (0.9, 1.2)}),
    Case("prompt-1b", "prompt of 512 tokens, shape of Llama 3.2 1B", prompt("1b", 512), {"transformers": (0.9, 1.2)}),
    Case("batch-16", "16 continuations at once, per token", together("4m", 16, 32), {"batch 1": (6, 12)}),
    Case(
        "token-context",
        "a token after 2,048 others",
        token_at(None, (2048, 1024)),
        {"after 1,024": (2.0, 1.8)},
        at_most=True,
    ),
    Case(
        "token-window",
        "the same with a window of 128",
        token_at(128, (2048, 1024)),
        {"after 1,024": (1.1, 1.0)},
        at_most=True,
    ),
]
