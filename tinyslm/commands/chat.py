"""tinyslm chat: a conversation with a model that has a chat template."""

import re
import sys
from contextlib import suppress

import numpy as np

from tinyslm.commands.chat_options import add_chat_options, chat_template
from tinyslm.commands.generation_options import (
    add_sampling_options,
    checked_stop_texts,
    generation_settings,
    upcast_model,
)
from tinyslm.commands.loading import load_with_tokenizer
from tinyslm.commands.parser import check_minimum
from tinyslm.commands.text_stream import TextStream
from tinyslm.errors import DataError, Error
from tinyslm.generation.conversation import Conversation
from tinyslm.generation.decoding_steps import Sampling, decoding_steps
from tinyslm.generation.sampling import check_draw
from tinyslm.models import Decoder
from tinyslm.reporting.terminal_table import fitted
from tinyslm.text import chat_prompt
from tinyslm.text.chat_template import end_of_turn

RESET, EXIT = "/reset", "/exit"
INTRODUCTION = f"{RESET} begins a new conversation, {EXIT} or Ctrl-D ends, Ctrl-C stops an answer."


def add_arguments(parser):
    """The options of the command."""
    parser.argument("model", "directory, GGUF file, or id in the local cache of the Hugging Face hub, of a chat model")
    add_chat_options(parser)
    parser.option("--tokens", 512, "maximum number of tokens of an answer", "N")
    add_sampling_options(parser)
    parser.weights()
    parser.download()
    parser.epilog = (
        "From a pipe or a file, every line of standard input is a message, and only the answers are printed. "
        + parser.epilog
    )


def run(arguments) -> int:
    """Answer the messages of standard input; returns the exit status."""
    check_minimum(arguments, tokens=1)
    checked_stop_texts(arguments)
    model, tokenizer = load_with_tokenizer(arguments.model, Decoder, "a chat", arguments.weights)
    chat = Chat(model, tokenizer, arguments)
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        print(fitted(INTRODUCTION))
    for message in _typed_messages() if is_terminal else _piped_messages():
        if message == EXIT:
            break
        if message == RESET:
            chat.reset()
        elif re.fullmatch(r"/\w+", message):
            _notice(f"{message} is not a command; the commands are {RESET} and {EXIT}")
        elif message:
            try:
                chat.answer(message)
            except Error as error:
                if not is_terminal:
                    raise
                _notice(error)
            except KeyboardInterrupt:
                if not is_terminal:
                    raise
    return 0


class Chat:
    """The messages so far, the settings, and the key/value cache."""

    def __init__(self, model, tokenizer, arguments):
        self.model, self.tokenizer, self.arguments = upcast_model(model, arguments), tokenizer, arguments
        self.template, self.settings = chat_template(arguments), generation_settings(arguments, model.config)
        check_draw(arguments.seed, None, None)
        self.sampling, self.generator = Sampling(**self.settings.sampling), np.random.default_rng(arguments.seed)
        self.end_tokens = (*self.settings.end_tokens, *end_of_turn(tokenizer, self.template))
        self.reset()

    def reset(self):
        """Begin a new conversation."""
        system = self.arguments.system
        self.messages = [] if system is None else [{"role": "system", "content": system}]
        self.conversation = Conversation(self.model, self.arguments.cache)

    def answer(self, text):
        """Print the answer to a message token by token.

        After KeyboardInterrupt, what was written of the answer stays in the conversation. Without an answer the
        message is forgotten, as after an Error.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        written = TextStream(self.tokenizer, stop_texts=self.settings.stop_texts)
        self.why_cut = ""
        try:
            for token in self._answer_tokens(messages):
                print(written.add(token), end="", flush=True)
                if written.is_stopped:
                    break
        except KeyboardInterrupt:
            print(written.rest())
            if written.text:
                self.messages = [*messages, {"role": "assistant", "content": written.text}]
            raise
        print(written.rest(), flush=True)
        self.messages = [*messages, {"role": "assistant", "content": written.text}]
        if self.why_cut:
            _notice(self.why_cut)

    def _answer_tokens(self, messages):
        """Yield the tokens of the answer, without the one that ends it. `why_cut`: why none ended it."""
        token_ids = chat_prompt(self.tokenizer, messages, template=self.template)  # (1, T)
        context, length = self.model.config.max_position_embeddings, token_ids.shape[1]
        if length > context:
            raise DataError(
                f"the conversation has {length} tokens, more than the model's context of {context}; {RESET} begins a "
                "new one"
            )
        most = min(self.arguments.tokens, context - length + 1)  # the last new token is not an input
        state = self.conversation.start(token_ids, most)
        for step in decoding_steps(state, most, self.sampling, self.generator, self.end_tokens):
            token = int(step.tokens[0])
            if token in self.end_tokens:
                return
            yield token
        self.why_cut = f"the answer ends after --tokens {most}"
        if most < self.arguments.tokens:
            self.why_cut = f"the model's context of {context} tokens is full; {RESET} begins a new conversation"


def _typed_messages():
    """Messages that are typed in a terminal, until Ctrl-D."""
    with suppress(ImportError):  # on Windows
        import readline  # noqa: F401  # lets `input` edit lines
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()


def _piped_messages():
    """The lines of standard input."""
    for line in sys.stdin.buffer:
        try:
            yield line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise DataError("standard input: not UTF-8 text; convert it first") from None


def _notice(message):
    """A line about the conversation."""
    print(f"tinyslm: {message}", file=sys.stderr)
