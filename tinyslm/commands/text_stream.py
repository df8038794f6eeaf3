"""Text of generated tokens, as it can be printed token by token."""

from tinyslm.generation.stop_texts import before_stop, without_begun_stop
from tinyslm.text import decode

TOKENS_BEFORE = 16  # of the prompt that are decoded with its continuation: more change nothing, and cost time


def continuation(prompt, tokens, tokenizer, ends):
    """The text of new tokens, with an empty line between documents.

    Some tokenizers decode the first token of a text without its space. So the first document is decoded after the end
    of the prompt, whose text is removed.
    """
    documents = [[]]
    for token in tokens:
        if token in ends:
            documents.append([])
        else:
            documents[-1].append(token)
    while len(documents) > 1 and not documents[-1]:
        documents.pop()
    before = list(prompt[-TOKENS_BEFORE:])
    first = decode(tokenizer, before + documents[0])[len(decode(tokenizer, before)) :]
    return "\n\n".join([first, *(decode(tokenizer, document) for document in documents[1:])])


class TextStream:
    """The text after a prompt, up to a stop text. Tokens are added one by one.

    A character of several tokens is shown when complete, and the beginning of a stop text when it does not continue.
    is_stopped: whether a stop text was found. No token may be added then.
    """

    def __init__(self, tokenizer, prompt=(), ends=(), stop_texts=()):
        self.tokenizer, self.prompt, self.ends, self.stop_texts = tokenizer, list(prompt), ends, stop_texts
        self.tokens, self.text, self.is_stopped = [], "", False
        self._shown = 0

    def add(self, token) -> str:
        """Add a token; returns the part of the text that can be printed now."""
        self.tokens.append(token)
        self.text = continuation(self.prompt, self.tokens, self.tokenizer, self.ends)
        ended = before_stop(self.text, self.stop_texts)
        if ended is not None:
            self.text, self.is_stopped = ended, True
        if self.is_stopped or self.text.endswith("\ufffd"):
            return ""
        return self._part(without_begun_stop(self.text, self.stop_texts))

    def rest(self) -> str:
        """The part of the text that is not printed yet, at the end."""
        return self._part(self.text)

    def _part(self, visible):
        part = visible[self._shown :]
        self._shown = max(self._shown, len(visible))
        return part
