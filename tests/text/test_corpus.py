"""The corpus: the town with its floor, and the user's text with a held-out tenth."""

from collections import Counter

import numpy as np
import pytest

from tests.properties.documents import predictions
from tinyslm.errors import DataError
from tinyslm.ops import IGNORED
from tinyslm.text import town, train_tokenizer
from tinyslm.text.batches import encode_documents
from tinyslm.text.corpus import text_corpus, thin, town_corpus
from tinyslm.text.document_marks import DocumentMarks

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


@pytest.mark.parametrize("tokens", [[20] * 400, [3000] * 3, [5, 900] * 30, [7]])
@pytest.mark.parametrize("most", [1, 50, 700, 10_000])
def test_a_thinner_text_has_about_the_wanted_tokens(tokens, most):
    documents = [np.arange(n + 1) for n in tokens]
    thinned = thin(documents, most)
    found = sum(len(document) - 1 for document in thinned)
    if sum(tokens) <= most:
        assert thinned is documents
    else:
        assert len(thinned) <= found <= max(2 * most, len(tokens))
        assert found >= most / 4
    assert all(document[0] == 0 for document in thinned)


def test_validation_bytes_are_those_of_the_thinner_text():
    texts = ["one two three four five six"] * 400
    whole, thinned = (text_corpus(TOKENIZER, END, texts, most_validation=most) for most in (None, 200))
    assert len(thinned.validation) < len(whole.validation) and len(thinned.training) == len(whole.training)
    share = len(thinned.validation) / len(whole.validation)
    assert thinned.validation_bytes == pytest.approx(share * whole.validation_bytes)


def test_the_first_validation_documents_have_their_own_floor():
    first = town_corpus(TOKENIZER, END, validation=6).first_validation(2)
    alone = town_corpus(TOKENIZER, END, validation=2)
    assert first.floor == alone.floor
    assert [document.tolist() for document in first.validation] == [document.tolist() for document in alone.validation]


@pytest.mark.parametrize("marks", [DocumentMarks(), DocumentMarks((7,)), DocumentMarks((), (8,))])
def test_without_a_mark_at_both_ends_the_floor_is_unknown(marks):
    """It includes the first token and the end of each document, which are then not predicted."""
    corpus = town_corpus(TOKENIZER, marks, training=2, validation=3)
    made = [text for _, text, _ in town.documents("validation", 0, 3)]
    encoded = [(*marks.begin, *TOKENIZER.encode(text).ids[1:], *marks.end) for text in made]
    assert [tuple(document.tolist()) for document in corpus.validation] == encoded
    assert corpus.floor is None and len(corpus.families) == 3
    whole = town_corpus(TOKENIZER, DocumentMarks((7,), (8,)), validation=3)
    assert whole.floor == town_corpus(TOKENIZER, END, validation=3).floor


def test_the_documents_of_another_split():
    corpus = town_corpus(TOKENIZER, END, validation=3, split="test")
    made = town.documents("test", 0, 3)
    assert [TOKENIZER.decode(document.tolist()) for document in corpus.validation] == [text for _, text, _ in made]
    assert corpus.floor_nats.tolist() == [-log_probability for _, _, log_probability in made]
    assert corpus.floor != town_corpus(TOKENIZER, END, validation=3).floor


def held_out(texts, **options):
    """(indices of the texts that are for validation, corpus)."""
    corpus = text_corpus(TOKENIZER, END, texts, **options)
    found = [TOKENIZER.decode(document.tolist()) for document in corpus.validation]
    return [i for i, text in enumerate(texts) if text in found], corpus


def distinct(tokens):
    """Texts with these numbers of tokens, one byte each; the end token is not counted."""
    return [f"{i:04}" + "x" * (count - 4) for i, count in enumerate(tokens)]


def tokens_of(documents):
    return sum(len(document) - 1 for document in documents)


def whole_text(texts):
    """All texts as one document."""
    return np.array([END, *(token for text in texts for token in [*TOKENIZER.encode(text).ids[1:], END])])


def test_every_tenth_document_of_a_text_is_held_out():
    texts = distinct([100] * 63)
    indices, corpus = held_out(texts)
    assert indices == [9, 19, 29, 39, 49, 59]
    assert [TOKENIZER.decode(document.tolist()) for document in corpus.training] == [
        text for i, text in enumerate(texts) if i not in indices
    ]
    assert corpus.floor is None and not corpus.questions
    assert corpus.first_validation(1).floor is None


@pytest.mark.parametrize(("documents", "every"), [(50, 10), (49, 9), (30, 6), (15, 3), (10, 3)])
def test_more_of_a_short_text_is_held_out(documents, every):
    """Documents of 100 predicted tokens: five of them are 500 tokens, and at most a third of the text."""
    texts = distinct([99] * documents)
    corpus = text_corpus(TOKENIZER, END, texts)
    assert tokens_of(corpus.validation) == 100 * (documents // every)
    assert tokens_of(corpus.training) == 100 * (documents - documents // every)


def test_few_validation_documents_are_cut_into_pieces():
    """The loss of a single document has no standard error."""
    texts = distinct([999] * 10)
    corpus = text_corpus(TOKENIZER, END, texts)
    assert [len(piece) - 1 for piece in corpus.validation] == [200] * 5
    assert predictions(corpus.validation) == predictions([whole_text([texts[9]])])
    short = text_corpus(TOKENIZER, END, distinct([39] * 10)).validation  # 3 of 40 tokens: no piece below 50
    assert [len(piece) - 1 for piece in short] == [40] * 3


@pytest.mark.parametrize("pack_length", [None, 64])
@pytest.mark.parametrize("tokens", [[5], [299], [999] * 10, [10] * 9 + [5_000]])
def test_of_a_whole_text_every_token_is_predicted_once(tokens, pack_length):
    texts = distinct(tokens)
    corpus = text_corpus(TOKENIZER, END, texts, pack_length=pack_length, whole=True)
    assert corpus.training == [] and predictions(corpus.validation) == predictions([whole_text(texts)])
    assert corpus.validation_bytes == sum(tokens) and (len(corpus.validation) >= 5 or tokens == [5])
    assert pack_length is None or max(map(len, corpus.validation)) <= pack_length


@pytest.mark.parametrize(
    "tokens", [[299], [300], [57, 58, 400], [60] * 5, [30_000], [4_999], [10] * 12 + [5_000], [10] * 9 + [5_000, 10]]
)
def test_few_or_unequal_documents_are_joined_and_still_every_token_is_predicted_once(tokens):
    texts = distinct(tokens)
    corpus = text_corpus(TOKENIZER, END, texts)
    whole = whole_text(texts)
    assert predictions(corpus.training + corpus.validation) == predictions([whole])
    share = tokens_of(corpus.validation) / (len(whole) - 1)
    assert 0.1 <= share <= 0.35 and tokens_of(corpus.validation) >= 100
    assert share == pytest.approx(0.1, abs=0.001) or tokens_of(corpus.validation) < 600
    assert len(corpus.validation) >= (5 if len(whole) > 1000 else 2)
    assert min(map(len, corpus.validation)) > 45


def test_fewer_than_ten_documents_are_joined():
    """Of each fifth of 9,000 tokens the last tenth is for validation."""
    corpus = text_corpus(TOKENIZER, END, distinct([999] * 9))
    assert [len(piece) - 1 for piece in corpus.validation] == [180] * 5
    assert [len(piece) - 1 for piece in corpus.training] == [1620] * 5


def test_packed_rows_cross_documents():
    texts = distinct([99] * 100)
    indices, alone = held_out(texts)
    packed = text_corpus(TOKENIZER, END, texts, pack_length=64)
    for part, chosen in ((packed.validation, indices), (packed.training, sorted({*range(100)} - {*indices}))):
        whole = whole_text([texts[i] for i in chosen])
        assert predictions(part) == predictions([whole])
        assert all(len(row) == 64 for row in part[:-1])
        assert part[0].tolist() == whole[:64].tolist() and part[1].tolist() == whole[63:127].tolist()
    assert len(indices) == 10 and tokens_of(alone.validation) == tokens_of(packed.validation)


@pytest.mark.parametrize(
    ("marks", "between"),
    [
        (DocumentMarks((7,), (7,)), [7]),
        (DocumentMarks((7,), (8,)), [8, 7]),
        (DocumentMarks((), (8,)), [8]),
        (DocumentMarks((7,)), TOKENIZER.encode("\n\n").ids[1:]),
        (DocumentMarks(), TOKENIZER.encode("\n\n").ids[1:]),
    ],
)
@pytest.mark.parametrize(("texts", "options"), [(distinct([99] * 100), {"pack_length": 64}), (distinct([400] * 3), {})])
def test_joined_documents_have_their_marks_or_an_empty_line_between_them(marks, between, texts, options):
    corpus = text_corpus(TOKENIZER, marks, texts, **options)
    chosen = [text for i, text in enumerate(texts, 1) if i % 10] if options else texts
    whole = list(marks.begin)
    for text in chosen:
        whole += [*(between if text != chosen[0] else []), *TOKENIZER.encode(text).ids[1:]]
    found = corpus.training + ([] if options else corpus.validation)
    assert predictions(found) == predictions([np.array([*whole, *marks.end])])
    predicted = np.concatenate([piece[1:] for piece in corpus.validation])
    assert corpus.validation_bytes == np.count_nonzero(~np.isin(predicted, [7, 8]))  # a byte per token; marks have none


def test_few_packed_rows_are_cut_further():
    corpus = text_corpus(TOKENIZER, END, distinct([99] * 50), pack_length=400)
    assert [len(row) - 1 for row in corpus.validation] == [100] * 5
    assert [len(row) for row in corpus.training[:-1]] == [400] * 11


def test_a_long_document_is_packed_too():
    corpus = text_corpus(TOKENIZER, END, distinct([20_000]), pack_length=100)
    assert {len(row) for row in corpus.training + corpus.validation} >= {100}
    assert max(map(len, corpus.training + corpus.validation)) == 100


@pytest.mark.parametrize("tokens", [[298], [9] * 29, [9] * 3])
def test_too_little_text(tokens):
    with pytest.raises(DataError, match=rf"only {sum(tokens) + len(tokens)} tokens; at least 300"):
        text_corpus(TOKENIZER, END, distinct(tokens))


def test_labels_of_the_answers_alone():
    """The tokenizer has one token per byte, and the town writes letters of two bytes too."""
    corpus = town_corpus(TOKENIZER, END, training=90, collection="hard", with_answers=True)
    made = town.answered_documents("train", 0, 90, "hard")
    assert not all(text[start:end].isascii() for text, spans in made for start, end in spans)
    for document, labels, (text, spans) in zip(corpus.training, corpus.answers, made, strict=True):
        assert labels.dtype == document.dtype and labels.shape == document.shape
        predicted = labels != IGNORED
        assert np.array_equal(labels[predicted], document[predicted])
        assert (labels[0], labels[-1]) == (IGNORED, END if spans[-1][1] == len(text) else IGNORED)
        assert TOKENIZER.decode(labels[predicted].tolist()) == "".join(text[start:end] for start, end in spans)
    assert town_corpus(TOKENIZER, END, training=2).answers == []


def test_hard_families_are_drawn_more_often_and_only_in_training():
    natural = town_corpus(TOKENIZER, END, training=3, validation=6)
    hard = town_corpus(TOKENIZER, END, training=3, validation=6, collection="hard")
    texts = [text for _, text, _ in town.documents("train", 0, 3, "hard")]
    assert [document.tolist() for document in hard.training] == [
        document.tolist() for document in encode_documents(TOKENIZER, texts, END)
    ]
    assert [document.tolist() for document in hard.training] != [document.tolist() for document in natural.training]
    assert hard.floor == natural.floor
    count = 10 * sum(town.HARD_WEIGHTS.weights)
    counts = Counter(family for family, _, _ in town.documents("train", 0, count, "hard"))
    for family, weight in zip(town.FAMILIES, town.HARD_WEIGHTS.weights, strict=True):
        assert abs(counts[family] - 10 * weight) < 4 * (10 * weight) ** 0.5
