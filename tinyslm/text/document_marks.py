"""Document marks: the tokens before and after the text of each document."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import DataError
from tinyslm.text.tokenizer import END_OF_DOCUMENT, encode_all

PROBE = "x"  # a text that nearly every tokenizer encodes
PROBES = 100  # otherwise words of its vocabulary


@dataclass(frozen=True)
class DocumentMarks:
    """Token ids before (`begin`) and after (`end`) the text of each document. Each can be empty."""

    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    @classmethod
    def of(cls, marks: "int | DocumentMarks") -> "DocumentMarks":
        """The marks themselves, or those of one token that both begins and ends documents."""
        return marks if isinstance(marks, DocumentMarks) else cls((marks,), (marks,))

    @property
    def are_complete(self) -> bool:
        """Whether a whole document is predicted: its first token, which needs a mark before it, and its end."""
        return bool(self.begin and self.end)

    def described(self, tokenizer: Any) -> str:
        """The predicted tokens of a document, in words: all but the first."""

        def names(tokens):
            return " ".join(shown(tokenizer.id_to_token(token)) for token in tokens)

        ending = f" and its end {names(self.end)}" if self.end else ""
        return f"each text{ending}, after {names(self.begin[:1]) or 'its first token'}"


def document_marks(tokenizer: Any, end_tokens: Iterable[int] = (), vocab_size: int | None = None) -> DocumentMarks:
    """The marks with which a model reads documents.

    A document begins and ends with the tokens that the tokenizer puts before and after a text. If it puts none after a
    text, the end mark is the first of `end_tokens`, which are given for a model that was trained with an end mark. The
    END_OF_DOCUMENT of a tokenizer of `train_tokenizer` both begins and ends documents.

    vocab_size: as of `encode`. Raises DataError if a mark is outside the vocabulary.
    """
    begin, end = _added_tokens(tokenizer)
    outside = [token for token in (*begin, *end) if vocab_size is not None and token >= vocab_size]
    if outside:
        raise DataError(
            f"token id {outside[0]}, which the tokenizer adds to a text, is outside the vocabulary of {vocab_size} "
            "(0 to V - 1); use the tokenizer.json of this model"
        )
    if begin == (tokenizer.token_to_id(END_OF_DOCUMENT),):
        end_tokens = begin
    return DocumentMarks(begin, end or tuple(end_tokens)[:1])


def _added_tokens(tokenizer):
    """The tokens that the tokenizer puts before, and after, a text."""
    words = islice(tokenizer.get_vocab(with_added_tokens=False), PROBES)
    for text in (PROBE, *words):
        try:
            (encoding,) = encode_all(tokenizer, [text])
        except DataError:  # a vocabulary without this word
            continue
        places = [i for i, sequence in enumerate(encoding.sequence_ids) if sequence is not None]
        if places:
            return tuple(encoding.ids[: places[0]]), tuple(encoding.ids[places[-1] + 1 :])
    return (), ()
