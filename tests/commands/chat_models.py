"""A tiny model with a chat template, for the commands that talk to it."""

import json
from dataclasses import replace

import numpy as np

from tests.commands.files import TEXT
from tinyslm import save
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.text import train_tokenizer

CONTEXT = 60
TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] or m.content == 'bad' %}"
    "{{ raise_exception('no ' ~ m.content) }}{% endif %}"
    "{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TOKENIZER = train_tokenizer(TEXT.split("\n\n"), 280)
TOKENIZER.add_special_tokens(["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"])
END = TOKENIZER.token_to_id("<|end|>")
MODEL = random_model(llama_shape(TOKENIZER.get_vocab_size(), 16, 24, 1, 2, 1, CONTEXT), seed=3, deviation=0.5)


def save_chat_model(directory, template=TEMPLATE, **generation_config):
    """Save the model with its template; returns the directory."""
    save(directory, MODEL, TOKENIZER)
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    if generation_config:
        (directory / "generation_config.json").write_text(json.dumps(generation_config))
    return directory


def save_talking_model(directory):
    """Save a model whose answers never end: it writes only "a" and "t", whatever it has read. Returns the directory.

    The logits of these two are opposite numbers, and those of all other tokens are 0. One of the two is the largest.
    """
    config = replace(MODEL.config, tie_word_embeddings=False, max_position_embeddings=10**6)
    model = random_model(config, seed=3, deviation=0.5)
    (a,), (t,) = (TOKENIZER.encode(letter, add_special_tokens=False).ids for letter in "at")
    model.head.weight[np.arange(config.vocab_size) != a] = 0
    model.head.weight[t] = -model.head.weight[a]
    save(directory, model, TOKENIZER)
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return directory


def prompt_of(*messages):
    """Token ids of a conversation whose messages are of the user and of the assistant in turn."""
    text = "".join(f"<|{('user', 'assistant')[i % 2]}|>{message}<|end|>" for i, message in enumerate(messages))
    return TOKENIZER.encode(text + "<|assistant|>", add_special_tokens=False).ids
