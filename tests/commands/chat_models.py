"""A tiny model with a chat template, for the commands that talk to it."""

import json

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


def prompt_of(*messages):
    """Token ids of a conversation whose messages are of the user and of the assistant in turn."""
    text = "".join(f"<|{('user', 'assistant')[i % 2]}|>{message}<|end|>" for i, message in enumerate(messages))
    return TOKENIZER.encode(text + "<|assistant|>", add_special_tokens=False).ids
