"""The corpus: the town with its floor, and the user's text with a held-out tenth."""

import numpy as np
import pytest

from tests.properties.documents import predictions
from tinyslm.errors import DataError
from tinyslm.text import town, train_tokenizer
from tinyslm.text.corpus import text_corpus, town_corpus

TOKENIZER = train_tokenizer(["some text"], 257)
END = 0


def test_the_floor_is_minus_the_log_probability_per_token_of_the_validation_documents():
    corpus = town_corpus(TOKENIZER, END, training=3, validation=6, questions_per_subject=1)
    made = town.documents("validation", 0, 6)
    tokens = sum(len(TOKENIZER.encode(text, add_special_tokens=False).ids) + 1 for _, text, _ in made)
    assert corpus.floor.nats == pytest.approx(-sum(nats for _, _, nats in made) / tokens)
    assert corpus.floor.tokens == tokens == sum(len(document) - 1 for document in corpus.validation)
    texts = [TOKENIZER.decode(document.tolist()) for document in corpus.training]
    assert texts == [text for _, text, _ in town.documents("train", 0, 3)]
    assert len(corpus.questions) == len(town.FAMILIES)


def test_the_first_validation_documents_have_their_own_floor():
    first = town_corpus(TOKENIZER, END, validation=6).first_validation(2)
    alone = town_corpus(TOKENIZER, END, validation=2)
    assert first.floor == alone.floor
    assert [document.tolist() for document in first.validation] == [document.tolist() for document in alone.validation]


def test_every_tenth_document_of_a_text_is_held_out():
    texts = [chr(ord("a") + i) * (i + 1) for i in range(23)]
    corpus = text_corpus(TOKENIZER, END, texts)

    def decoded(documents):
        return [TOKENIZER.decode(document.tolist()) for document in documents]

    assert decoded(corpus.validation) == [texts[9], texts[19]]
    assert decoded(corpus.training) == [text for i, text in enumerate(texts) if i not in (9, 19)]
    assert corpus.floor is None and not corpus.questions
    assert corpus.first_validation(1).floor is None


@pytest.mark.parametrize("texts", [["a" * 9], ["a" * 10], ["a" * 57, "b" * 58, "c" * 40], ["a", "b", "c", "d", "e"]])
def test_few_documents_are_cut_and_still_every_token_is_predicted_once(texts):
    corpus = text_corpus(TOKENIZER, END, texts)
    whole = [END]
    for text in texts:
        whole += [*TOKENIZER.encode(text, add_special_tokens=False).ids, END]
    pieces = corpus.training + corpus.validation
    assert predictions(pieces) == predictions([np.array(whole)])
    held_out = sum(len(piece) - 1 for piece in corpus.validation)
    assert 0.05 < held_out / (len(whole) - 1) <= 0.15


def test_too_little_text():
    with pytest.raises(DataError, match="only 9 tokens; at least 10"):
        text_corpus(TOKENIZER, END, ["a" * 8])
