"""The tokenizer loses nothing, splits numbers into digits, and marks the beginning of every text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import DIRECTORY
from tinyslm.errors import DataError
from tinyslm.text import END_OF_DOCUMENT, load_tokenizer, train_tokenizer

TEXTS = ["the cat sat on the mat 1234 times", "the dog sat 1234 1234"] * 5
TOKENIZER = train_tokenizer(TEXTS, 270)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back(text):
    """Bytes are tokens, so nothing is unknown. (A text that spells the end mark is meant to be one.)"""
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text


def test_the_end_mark_is_token_0_and_begins_every_text():
    assert TOKENIZER.token_to_id(END_OF_DOCUMENT) == 0
    assert TOKENIZER.encode("the").ids[0] == 0
    assert TOKENIZER.encode("the", add_special_tokens=False).ids.count(0) == 0


def test_digits_are_single_and_frequent_words_are_one_token():
    assert TOKENIZER.encode("the 1234", add_special_tokens=False).tokens == ["the", "Ġ", "1", "2", "3", "4"]


def test_the_size_is_an_upper_bound():
    assert train_tokenizer(TEXTS, 257).get_vocab_size() == 257
    assert TOKENIZER.get_vocab_size() == 270
    assert 257 < train_tokenizer(TEXTS, 5000).get_vocab_size() < 400


@pytest.mark.parametrize("size", [256, 0, -1, 1_000_001, 10**30])
def test_an_impossible_vocabulary(size):
    with pytest.raises(DataError, match=f"a vocabulary of {size}"):
        train_tokenizer(TEXTS, size)


def test_a_saved_tokenizer_is_the_same_and_never_truncates_or_pads(tmp_path):
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(str(path))
    content = json.loads(path.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None}
    content["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": END_OF_DOCUMENT}
    path.write_text(json.dumps(content))
    assert load_tokenizer(path).encode(TEXTS[0]).ids == TOKENIZER.encode(TEXTS[0]).ids


def test_what_is_no_tokenizer(tmp_path):
    with pytest.raises(DataError, match="no such tokenizer file"):
        load_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")


GOLDEN = DIRECTORY / "tokenizers"  # one of each kind that the families use; only in a full set
KINDS = ("gpt2_bpe", "llama3_bpe", "smollm2_bpe", "sp_bpe", "unigram", "wordpiece")


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs a full golden set")
@pytest.mark.parametrize("kind", KINDS)
def test_tokenizers_of_every_family(kind):
    tokenizer = load_tokenizer(GOLDEN / f"{kind}.json")
    for text in json.loads((GOLDEN / "golden.json").read_text())[kind]["texts"]:
        encoding = tokenizer.encode(text["text"])
        assert (encoding.ids, encoding.tokens) == (text["ids"], text["tokens"])
        assert tokenizer.encode(text["text"], add_special_tokens=False).ids == text["ids_no_special"]
        assert tokenizer.decode(encoding.ids) == text["decoded"]
