"""Document marks: what the tokenizer puts around a text, and the end mark of a model that was trained with one."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tinyslm.errors import DataError
from tinyslm.text import train_tokenizer
from tinyslm.text.document_marks import DocumentMarks, document_marks

NAMES = ["<s>", "</s>"]


def make_tokenizer(template=None, words=("x", "y"), wrapped=False):
    """A tokenizer of words: <s> is token 0, </s> is token 1. template: of its post-processor, or None."""
    vocabulary = {word: i for i, word in enumerate((*NAMES, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="missing"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(NAMES)
    if template is not None:
        tokens = [(name, vocabulary[name]) for name in NAMES]
        added = processors.TemplateProcessing(single=template, special_tokens=tokens)
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), added]) if wrapped else added
    return tokenizer


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("template", "begin", "end"),
    [
        (None, (), ()),
        ("$A", (), ()),
        ("<s> $A", (0,), ()),
        ("<s> $A </s>", (0,), (1,)),
        ("</s> <s> $A", (1, 0), ()),
        ("$A </s>", (), (1,)),
        ("</s> $A", (1,), ()),  # it is not known that the token ends documents too
    ],
)
def test_marks_are_what_the_tokenizer_adds(template, begin, end, wrapped):
    assert document_marks(make_tokenizer(template, wrapped=wrapped)) == DocumentMarks(begin, end)


def test_a_model_trained_with_an_end_mark():
    assert document_marks(make_tokenizer("<s> $A"), (1, 3)) == DocumentMarks((0,), (1,))
    assert document_marks(make_tokenizer(), (3,)) == DocumentMarks((), (3,))
    assert document_marks(make_tokenizer("<s> $A </s>"), (3,)) == DocumentMarks((0,), (1,))


def test_the_mark_of_a_trained_tokenizer_begins_and_ends_documents():
    tokenizer = train_tokenizer(["ab"], 257)
    assert document_marks(tokenizer) == document_marks(tokenizer, (7,)) == DocumentMarks((0,), (0,))


def test_a_vocabulary_without_the_letter_x():
    assert document_marks(make_tokenizer("<s> $A", words=("rose",))) == DocumentMarks((0,))


def test_a_mark_outside_the_vocabulary():
    assert document_marks(make_tokenizer("$A </s>"), vocab_size=2) == DocumentMarks((), (1,))
    with pytest.raises(DataError, match=r"token id 1, which the tokenizer adds .* is outside the vocabulary of 1"):
        document_marks(make_tokenizer("$A </s>"), vocab_size=1)


def test_one_token_as_marks():
    assert DocumentMarks.of(5) == DocumentMarks((5,), (5,))
    marks = DocumentMarks((5,))
    assert DocumentMarks.of(marks) is marks


@pytest.mark.parametrize(
    ("marks", "described"),
    [
        (DocumentMarks(), "each text, after its first token"),
        (DocumentMarks((0,)), "each text, after '<s>'"),
        (DocumentMarks((0,), (1,)), "each text and its end '</s>', after '<s>'"),
        (DocumentMarks((), (1,)), "each text and its end '</s>', after its first token"),
        (DocumentMarks((1, 0)), "each text, after '</s>'"),  # the second mark is predicted too
    ],
)
def test_what_is_predicted(marks, described):
    assert marks.described(make_tokenizer()) == described
    assert marks.are_complete == (marks == DocumentMarks((0,), (1,)))
