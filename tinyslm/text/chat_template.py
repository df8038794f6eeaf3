"""Chat templates: a conversation as the text, or the tokens, with which a model was trained.

A template is a Jinja program beside the model. It is found and rendered as by Hugging Face transformers (5.23), but in
a process of its own, see `template_rendering`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.json_files import check_file, read_json, shown
from tinyslm.errors import CheckpointError, ConfigError, DataError
from tinyslm.text.template_rendering import render_template
from tinyslm.text.tokenizer import encode
from tinyslm.tree import Array

FILE, FOLDER = "chat_template.jinja", "additional_chat_templates"
SETTINGS, SPECIAL_TOKENS = "tokenizer_config.json", "special_tokens_map.json"
DEFAULT = "default"  # name of the template that is used, if there are several
LARGEST_TEMPLATE = 1_000_000  # bytes
ROLES = ("system", "developer", "user", "assistant", "tool")
PROBE = "answer"


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template. text: its program;  special_tokens: {variable: text};  source: name for messages."""

    text: str
    special_tokens: Mapping[str, str]
    source: str


def chat_prompt(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    template: str | None = None,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> Array:
    """The tokens of a conversation, as its model reads them, up to the begin of the next answer.

    The text is rendered by the chat template of the model and encoded without further special tokens, because the
    template writes them. Special tokens in the text of a message are encoded as such too.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        As `load` returns it. Its template is the attribute `chat_template` if that is set, with the variables
        `special_tokens`; otherwise that of the directory from which it was loaded: chat_template.jinja and
        additional_chat_templates, or chat_template in tokenizer_config.json. Of several the one named "default".
    messages : sequence of mappings
        Each has a "role" (usually "system", "user" or "assistant") and a "content", a text or a list of parts
        {"type": "text", "text": ...}.
    template : str, optional
        Program to be used in place of that of the model.
    add_generation_prompt : bool
        Whether the template adds the begin of the next answer.
    **variables
        Further variables of the template, such as `enable_thinking`.

    Returns
    -------
    ndarray of integers, shape (1, T)
        Token ids as `generate` takes them.

    Raises
    ------
    ConfigError
        If there is no template, or Jinja2 is missing.
    DataError
        If the messages are not a conversation, or the template refuses them.
    CheckpointError
        If a file or the template is damaged, or the template takes too much time or memory.

    Examples
    --------
    >>> import tinyslm
    >>> model, tokenizer = tinyslm.load("teacher")
    >>> template = "{% for message in messages %}{{ message.role }}: {{ message.content }}. {% endfor %}"
    >>> token_ids = chat_prompt(tokenizer, [{"role": "user", "content": "The train"}], template=template)
    >>> tokenizer.decode(token_ids[0])
    'user: The train. '
    """
    found = find_chat_template(tokenizer, template)
    text = render_chat(found, messages, add_generation_prompt=add_generation_prompt, **variables)
    token_ids = encode(tokenizer, text, add_special_tokens=False, allow_empty=True)
    if not token_ids:
        raise DataError(f"{found.source}: the chat template gives no text")
    return np.array([token_ids])


def render_chat(
    template: ChatTemplate,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """The text of a conversation. Other arguments, and errors, as of `chat_prompt`."""
    messages = [_checked(message, f"message {i}") for i, message in enumerate(_listed(messages), 1)]
    given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
    text = render_template(template.text, {**template.special_tokens, **variables, **given}, template.source)
    for i, message in enumerate(messages, 1):
        if message["role"] not in ROLES and _text(message["content"]).strip() not in text:
            raise DataError(
                f"{template.source}: the chat template leaves out message {i} of the role {shown(message['role'])}; "
                f"use one of {', '.join(ROLES)}"
            )
    if not _is_utf8(text):
        raise DataError(f"{template.source}: the chat template gives a text that is not UTF-8")
    return text


def end_of_turn(tokenizer: Any, template: str | None = None) -> tuple[int, ...]:
    """The special token that the chat template puts after an answer: one token id, or none.

    Raises errors as `chat_prompt`, but a template that refuses a conversation of a question and its answer has none.
    """
    question, answer = {"role": "user", "content": "question"}, {"role": "assistant", "content": PROBE}
    found = find_chat_template(tokenizer, template)
    try:
        text = render_chat(found, [question, answer], add_generation_prompt=False)
    except DataError:
        return ()
    _, probe, after = text.rpartition(PROBE)
    tokens = encode(tokenizer, after.lstrip(), add_special_tokens=False, allow_empty=True) if probe else []
    special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return tuple(token for token in tokens[:1] if token in special)


def find_chat_template(tokenizer: Any, template: str | None = None) -> ChatTemplate:
    """The given template, or that of the tokenizer, see `chat_prompt`. Raises ConfigError if there is none."""
    directory = getattr(tokenizer, "directory", None)
    own = getattr(tokenizer, "chat_template", None)
    if template is None and own is not None:
        return ChatTemplate(own, getattr(tokenizer, "special_tokens", {}), str(directory or "the tokenizer"))
    special = special_tokens(tokenizer)
    if template is not None:
        return ChatTemplate(template, special, "template")
    templates = _templates(directory, _settings(directory))
    if not templates:
        raise ConfigError(
            f"{directory or 'the tokenizer'}: has no chat template (neither {FILE} nor chat_template in {SETTINGS}); "
            "continue a text with tinyslm generate, or give a template (--template FILE)"
        )
    if DEFAULT not in templates:
        names = ", ".join(sorted(map(shown, templates)))
        raise ConfigError(f"{directory}: has several chat templates ({names}), none named {DEFAULT}; give one of them")
    source, text = templates[DEFAULT]
    return ChatTemplate(text, special, source)


def chat_templates(tokenizer: Any) -> dict[str, str]:
    """{name: program} of all chat templates of a tokenizer."""
    own = getattr(tokenizer, "chat_template", None)
    if own is not None:
        return {DEFAULT: own}
    directory = getattr(tokenizer, "directory", None)
    return {name: text for name, (_, text) in _templates(directory, _settings(directory)).items()}


def special_tokens(tokenizer: Any) -> Mapping[str, str]:
    """{name: text} of the special tokens, such as bos_token: those of the tokenizer, or of the files beside it."""
    directory = getattr(tokenizer, "directory", None)
    return getattr(tokenizer, "special_tokens", None) or _special_tokens(directory, _settings(directory))


def _settings(directory):
    """The object in tokenizer_config.json; empty without the file."""
    return _read_if_there(directory, SETTINGS)


def _read_if_there(directory, name):
    path = directory and Path(directory) / name
    return read_json(path) if path and path.exists() else {}


def _special_tokens(directory, settings):
    """{name: text} of the special tokens in the files, such as bos_token."""
    found = settings if "added_tokens_decoder" in settings else settings | _read_if_there(directory, SPECIAL_TOKENS)
    more = settings.get("extra_special_tokens")
    named = {name: value for name, value in found.items() if name.endswith("_token")}
    named |= more if isinstance(more, dict) else {}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in named.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _templates(directory, settings):
    """{name: (name for messages, program)} of the templates of a directory. Files replace those of the settings."""
    if directory is None:
        return {}
    files = {path.stem: path for path in sorted((Path(directory) / FOLDER).glob("*.jinja"))}
    if (Path(directory) / FILE).exists():
        files.setdefault(DEFAULT, Path(directory) / FILE)
    if files:
        return {name: (str(path), _read_template(path)) for name, path in files.items()}
    where, value = f"{Path(directory) / SETTINGS}", settings.get("chat_template")
    entries = [{"name": DEFAULT, "template": value}] if isinstance(value, str) else [] if value is None else value
    try:
        named = {entry["name"]: (f"{where}, chat_template", entry["template"]) for entry in entries}
    except (TypeError, KeyError):
        named = {"": (where, None)}
    if not all(isinstance(part, str) for name, (_, text) in named.items() for part in (name, text)):
        raise CheckpointError(f"{where}: chat_template is {shown(value)}, expected a text or a list of named templates")
    return named


def _read_template(path):
    """The text of a template's file. Raises CheckpointError."""
    check_file(path)
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_TEMPLATE + 1)
        if len(content) > LARGEST_TEMPLATE:
            raise CheckpointError(f"{path}: has more than {LARGEST_TEMPLATE} bytes, expected a chat template")
        return content.decode("utf-8")
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem.strerror})") from problem
    except UnicodeDecodeError as problem:
        raise CheckpointError(f"{path}: is not UTF-8 text (byte {problem.start})") from None


def _listed(messages):
    """The messages as a list. Raises DataError for none, or for anything but a sequence."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise DataError(f'messages is {shown(messages)}, expected a list of {{"role": ..., "content": ...}}')
    return messages


def _checked(message, name):
    """A message without its entries of None. Raises DataError unless it has a role and a text."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise DataError(f'{name} is {shown(message)}, expected {{"role": ..., "content": ...}}')
    content = message.get("content")
    if not isinstance(content, str) and not _is_parts(content):
        raise DataError(f"the content of {name} is {shown(content)}, expected a text")
    if not _is_utf8(str(content)):
        raise DataError(f"the content of {name} is {shown(content)}, which is not UTF-8")
    return {key: value for key, value in message.items() if value is not None}


def _is_parts(content):
    return isinstance(content, list | tuple) and all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
    )


def _text(content):
    """The text of a message, or of its first part."""
    return content if isinstance(content, str) else content[0]["text"] if content else ""


def _is_utf8(text):
    """Whether the text has no unpaired surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
