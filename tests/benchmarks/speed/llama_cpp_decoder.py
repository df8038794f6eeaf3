"""A GGUF file in llama.cpp, as a peer for prompts and generation. Imports nothing of tinyslm.

The weights are float32. Keys and values are stored in 16 bits, the default of llama.cpp, with which it is faster than
with float32. Times are those that its server reports for the prompt and for the new tokens. The wheel of xllamacpp is
built for AVX2; a llama.cpp that is built for AVX-512 can be faster.
"""

import atexit
import os

import numpy as np

from tests.xllamacpp_server import LETTER, complete, next_token, start_server

PACKAGES = ("xllamacpp", "gguf")  # gguf writes the file
MOST = 100  # log-probabilities that a prompt returns


class Request:
    """A request for greedy tokens after a prompt. value: the function that a call executes."""

    def __init__(self, server, tokens, new_tokens, value):
        self.server, self.tokens, self.new_tokens, self.value = server, tokens, new_tokens, value

    def __call__(self):
        return self.value()

    def seconds(self):
        """Seconds of reading the prompt and of the new tokens after the first, which follows from the prompt."""
        times = complete(self.server, self.tokens, self.new_tokens, ignore_eos=True)["timings"]
        if (times["prompt_n"], times["predicted_n"]) != (len(self.tokens), self.new_tokens):
            raise RuntimeError(f"llama.cpp read {times['prompt_n']} tokens and generated {times['predicted_n']}")
        return (times["prompt_ms"] + (times["predicted_ms"] if self.new_tokens > 1 else 0)) / 1000


def server_of(path, context, threads):
    """A server, in a process that does not wait for its threads when it ends."""
    atexit.register(os._exit, 0)
    return start_server(path, context, threads)


def prompt(path, threads, token_ids):
    """A request for one token. Value: {token: log-probability} of the most probable ones, in a list of one row."""
    tokens, server = token_ids[0].tolist(), server_of(path, token_ids.size + 1, threads)

    def value():
        entries = next_token(server, tokens, LETTER, MOST)["top_logprobs"]
        return [{entry["id"]: entry["logprob"] for entry in entries}]

    return Request(server, tokens, 1, value)


def generation(path, threads, token_ids, new_tokens):
    """A request for a greedy continuation. Value: the new tokens, (1, new_tokens)."""
    tokens, server = token_ids[0].tolist(), server_of(path, token_ids.size + new_tokens, threads)

    def value():
        content = complete(server, tokens, new_tokens, ignore_eos=True, n_probs=1)["choices"][0]["logprobs"]["content"]
        return np.array([[entry["id"] for entry in content]])

    return Request(server, tokens, new_tokens, value)
