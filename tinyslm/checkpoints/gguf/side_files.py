"""Settings of tokenizer, chat and generation in the metadata of a GGUF file, as the files of a directory."""

from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.gguf.container import Container, TextArray, read_container

TOKENIZER_CONFIG, GENERATION_CONFIG = "tokenizer_config.json", "generation_config.json"
SPECIAL_TOKENS = {  # {key of tokenizer_config.json: key of the token's id}
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")  # end of a text, of a turn, of a message
END_TOKENS = (  # control tokens that end an answer also where no key names them, as in llama.cpp
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
)
CONTROL = 3  # type of tokens
TOKENIZER_CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}  # transformers then uses tokenizer.json as it is


def read_side_files(path: str | Path) -> dict[str, dict[str, Any]]:
    """{name of a JSON file: its object}: TOKENIZER_CONFIG and GENERATION_CONFIG. Raises CheckpointError."""
    container = read_container(path)
    tokens = container.metadata.get("tokenizer.ggml.tokens")
    texts = list(tokens) if isinstance(tokens, TextArray) else []
    return {
        TOKENIZER_CONFIG: TOKENIZER_CLASS | special_tokens(container, texts) | chat_template(container),
        GENERATION_CONFIG: {"eos_token_id": _end_tokens(container, texts)},
    }


def chat_template(container: Container) -> dict[str, str]:
    """{"chat_template": text}; empty without a template."""
    template = container.metadata.get("tokenizer.chat_template")
    return {"chat_template": template} if isinstance(template, str) else {}


def special_tokens(container: Container, tokens: list[str]) -> dict[str, str]:
    """{key of tokenizer_config.json: token}."""
    ids = {name: _token_id(container, key, tokens) for name, key in SPECIAL_TOKENS.items()}
    return {name: tokens[index] for name, index in ids.items() if index is not None}


def _end_tokens(container, tokens):
    """Ids of the tokens that end a text."""
    named = [_token_id(container, key, tokens) for key in ENDS]
    types = container.metadata.get("tokenizer.ggml.token_type")
    known = isinstance(types, np.ndarray) and len(types) == len(tokens)
    control = [tokens.index(token) for token in END_TOKENS if known and token in tokens]
    ids = [*named, *(index for index in control if types[index] == CONTROL)]
    return list(dict.fromkeys(index for index in ids if index is not None))


def _token_id(container, key, tokens):
    """The id of a token by the end of its key, or None if it is missing or not an id."""
    value = container.metadata.get(f"tokenizer.ggml.{key}")
    return value if type(value) is int and 0 <= value < len(tokens) else None
