"""Generation with a prepared engine, compared with other libraries and with the model's own pass."""

import time
from dataclasses import replace

import numpy as np

from tests.benchmarks.speed.case import OURS, Absent, Case, Noted, timed
from tests.benchmarks.speed.decoder_peers import decoder_peers
from tests.benchmarks.speed.machine import memory_limit, products
from tests.benchmarks.speed.peer import runners_of, started
from tests.benchmarks.speed.shapes import config_of, random_tokens, random_weights
from tinyslm.evaluation import footprint
from tinyslm.generation import KeyValueCache, generate, prepare
from tinyslm.models import random_model
from tinyslm.recipes import Quantize

PROMPT = 1  # tokens before those that are generated: every pass reads one token
TOKEN = "seconds per token"
CHECKED = 4  # tokens that all runners must generate alike; later ones can differ through rounding


def own_pass(model, token_ids, new_tokens):
    """The greedy continuation with the model's own pass and a key/value cache, without an engine: (B, new_tokens)."""
    cache, tokens = KeyValueCache(token_ids.shape[1] + new_tokens), [token_ids]
    for _ in range(new_tokens):
        tokens.append(np.argmax(model(tokens[-1], cache=cache, last_only=True), axis=-1))  # (B, 1)
    return np.concatenate(tokens[1:], axis=1)


def generation(size, new_tokens, with_peers=True):
    """Seconds per token of a greedy continuation, of its matrix products alone, and of reading all weights from memory
    once per token, which is a limit for models that do not fit in a cache."""

    def prepare_case():
        model = random_weights(size)
        token_ids = random_tokens(model.config, 1, PROMPT)
        began = time.perf_counter()
        engine = prepare(model)
        seconds = time.perf_counter() - began
        compiled = None if size == "1b" else "compiled_generation"
        peers = decoder_peers(model, "generation", token_ids, new_tokens, compiled=compiled) if with_peers else {}
        expected = generate(engine, token_ids, new_tokens)[:, :CHECKED]
        np.testing.assert_array_equal(own_pass(model, token_ids, CHECKED), expected)
        for name, peer in started(peers).items():
            np.testing.assert_array_equal(peer()[:, :CHECKED], expected, err_msg=name)
        multiply = products(model, 1, 1)
        runners = {
            OURS: timed(lambda: generate(engine, token_ids, new_tokens), new_tokens),
            "own pass": timed(lambda: own_pass(model, token_ids, new_tokens), new_tokens),
            **runners_of(peers, new_tokens),
            "products": timed(lambda: [multiply() for _ in range(new_tokens)], new_tokens),
        }
        if size == "1b":
            runners["torch.compile"] = Absent("left out: one more copy of the weights in memory")
            runners["memory"] = memory_limit(footprint(model).bytes)
        return runners | {"prepare, seconds": Noted(seconds)}

    return prepare_case


def fewer_bits(size, step, new_tokens, upcast=False):
    """Seconds per token with quantized weights, and in float32. upcast: with a float32 copy of the quantized weights in
    the engine; then the codes themselves are a further runner."""

    def prepare_case():
        model = random_weights(size)
        token_ids = random_tokens(model.config, 1, PROMPT)
        small = step(model)
        engines = {OURS: prepare(small, upcast=upcast), "float32": prepare(model)}
        if upcast:
            engines["codes"] = prepare(small)
        return {
            name: timed(lambda engine=engine: generate(engine, token_ids, new_tokens), new_tokens)
            for name, engine in engines.items()
        }

    return prepare_case


def together(size, batches, new_tokens):
    """Seconds per token of several continuations at once, the first number of them as ours, and of one with the model's
    own pass."""

    def prepare_case():
        model = random_weights(size)
        engine = prepare(model)

        def rows(count):
            token_ids = random_tokens(model.config, count, PROMPT)
            return timed(lambda: generate(engine, token_ids, new_tokens), count * new_tokens)

        one = random_tokens(model.config, 1, PROMPT)
        runners = {OURS if count == batches[0] else f"batch {count}": rows(count) for count in batches}
        return runners | {"own pass, 1": timed(lambda: own_pass(model, one, new_tokens), new_tokens)}

    return prepare_case


def token_at(window, contexts):
    """Seconds of one token after texts of these lengths, the first one as ours. Their keys and values are ones."""

    def prepare_case():
        config = config_of("4m", max_position_embeddings=max(contexts) + 1)
        model = random_model(replace(config, windows=(window,) * config.num_hidden_layers))
        engine = prepare(model, capacity=max(contexts) + 1)
        engine.step(1)  # allocates the cache
        for array in (*engine.cache.keys.values(), *engine.cache.values.values()):
            array.fill(1)

        def after(length):
            def read():
                engine.cache.length = length
                engine.step(1)

            return timed(read)

        return {OURS if length == contexts[0] else f"after {length:,}": after(length) for length in contexts}

    return prepare_case


def batch_one(size, peers, own):
    """The case of one size: bounds of the ratios to the peers and to the model's own pass."""
    return Case(
        f"generate-{size}",
        f"generation, batch 1, {size[:-1]} M parameters",
        generation(size, 64, with_peers=bool(peers)),
        peers | {"own pass": own},
        unit=TOKEN,
    )


CASES = [
    batch_one("1m", {"transformers": (7.5, 10), "llama.cpp": (0.8, 1.1)}, (2.7, 3.3)),
    batch_one("4m", {"transformers": (4, 6), "llama.cpp": (0.5, 0.8)}, (1.5, 2)),
    batch_one("10m", {}, (1.2, 1.7)),
    Case(
        "generate-1m-int8",
        "generation, 1 M parameters, INT8, upcast by the engine",
        fewer_bits("1m", Quantize(), 64, upcast=True),
        {},
        unit=TOKEN,
    ),
    Case(
        "generate-1b",
        "generation, batch 1, shape of Llama 3.2 1B, float32",
        generation("1b", 8),
        {"transformers": (1.7, 2.2), "llama.cpp": (0.75, 0.95), "memory": (0.85, 0.95)},
        unit=TOKEN,
    ),
    Case(
        "generate-1b-int8",
        "generation, shape of Llama 3.2 1B, INT8",
        fewer_bits("1b", Quantize(), 8),
        {"float32": (1.0, 1.25)},
        unit=TOKEN,
    ),
    Case(
        "generate-1b-int4",
        "generation, shape of Llama 3.2 1B, INT4, groups of 32",
        fewer_bits("1b", Quantize(bits=4, group_size=32), 8),
        {"float32": (0.5, 1.0)},
        unit=TOKEN,
    ),
    Case(
        "batch-16",
        "generation, batch 16, 4 M parameters",
        together("4m", (16, 1, 4, 64), 32),
        {"own pass, 1": (12, 20)},
        unit=TOKEN,
    ),
    Case(
        "token-context",
        "a token after 32,768 others",
        token_at(None, (32768, 8192, 2048, 1024)),
        {"after 8,192": (4.2, 4.0)},
        at_most=True,
    ),
    Case(
        "token-window",
        "a token after 32,768 others, window of 128",
        token_at(128, (32768, 8192, 2048, 1024)),
        {"after 1,024": (1.1, 1.0)},
        at_most=True,
    ),
]
