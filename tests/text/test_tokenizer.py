"""The tokenizer loses nothing, splits numbers into digits, and marks the beginning of every text."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.golden import DIRECTORY
from tinyslm.errors import DataError
from tinyslm.text import (
    END_OF_DOCUMENT,
    batches,
    decode,
    encode,
    encode_all,
    encode_documents,
    load_tokenizer,
    train_tokenizer,
)

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


def broken(tokenizer_model, **parts):
    """A tokenizer that splits at spaces, from the settings of its model and other parts."""
    values = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    values |= {"pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None}
    return Tokenizer.from_str(json.dumps(values | parts | {"model": tokenizer_model}))


WORDS = {"a": 0, "b": 1}
WITHOUT_UNKNOWN = {
    "WordLevel": {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"},
    "WordPiece": {"type": "WordPiece", "vocab": WORDS, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    | {"max_input_chars_per_word": 100},
    "Unigram": {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]], "unk_id": None},
    "BPE": {"type": "BPE", "vocab": WORDS, "merges": [], "unk_token": "[UNK]"},
}
WORD_LEVEL = WITHOUT_UNKNOWN["WordLevel"] | {"unk_token": "a"}
BACKTRACKING = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize("kind", WITHOUT_UNKNOWN)
def test_an_unknown_word_without_a_token_for_it(kind):
    tokenizer = broken(WITHOUT_UNKNOWN[kind])
    assert encode(tokenizer, "b a") == [1, 0]
    message = r"^the tokenizer cannot encode the text 'a zebra'; use another tokenizer\.json \(.+\)$"
    with pytest.raises(DataError, match=message):
        encode(tokenizer, "a zebra")
    with pytest.raises(DataError, match=message):
        encode_all(tokenizer, ["a", "a zebra", "b"])
    with pytest.raises(DataError, match=message):
        encode_documents(tokenizer, ["a", "a zebra", "b"], 0)


def test_a_panic_of_the_library():
    """A regular expression with too much backtracking, and a decoder that reads outside a token."""
    tokenizer = broken(WORD_LEVEL, pre_tokenizer=BACKTRACKING)
    assert encode(tokenizer, "a") == [0]
    with pytest.raises(DataError, match=r"cannot encode the text 'a+b'; use another tokenizer\.json \(.*retry-limit"):
        encode(tokenizer, "a" * 40 + "b")
    tokenizer = broken(WORD_LEVEL, decoder={"type": "Strip", "content": "a", "start": 1, "stop": 1})
    with pytest.raises(DataError, match=r"^the tokenizer cannot decode its tokens; use another tokenizer\.json \("):
        decode(tokenizer, [0])


@pytest.mark.parametrize("problem", [KeyboardInterrupt, MemoryError, SystemExit])
def test_other_exceptions_are_not_those_of_the_library(problem):
    class Interrupted:
        def encode(self, text, add_special_tokens):
            raise problem

    with pytest.raises(problem):
        encode(Interrupted(), "a")


def test_texts_that_have_no_token_ids_for_the_model(capfd):
    tokenizer = broken(WORD_LEVEL)
    for text in ("", "  \n"):
        assert encode(tokenizer, text, allow_empty=True) == []
        with pytest.raises(DataError, match=rf"^the text {re.escape(repr(text))} has no tokens$"):
            encode(tokenizer, text)
    for text in ("a\ud800", "\udcff"):
        with pytest.raises(DataError, match=rf"^the text {re.escape(repr(text))} is not UTF-8$"):
            encode_all(tokenizer, ["a", text])
    assert encode(tokenizer, "b", vocab_size=2) == [1]
    with pytest.raises(DataError, match=r"^token id 1 of the text 'a b' is outside the vocabulary of 1 "):
        encode(tokenizer, "a b", vocab_size=1)
    with pytest.raises(DataError, match=r"^token id 1 of the text 'b' is outside"):
        encode_documents(tokenizer, ["a", "b"], 0, vocab_size=1)
    assert capfd.readouterr() == ("", "")


def test_long_texts_and_messages_are_shortened():
    tokenizer = broken(WITHOUT_UNKNOWN["WordLevel"])
    with pytest.raises(DataError) as caught:
        encode(tokenizer, "zebra\n\x1b" * 1000)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_a_file_on_which_the_library_panics(tmp_path):
    charsmap = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    values = json.loads(broken(WORD_LEVEL).to_str()) | {"normalizer": charsmap}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer\.json \(Precompiled"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_documents_are_encoded_some_at_a_time(monkeypatch):
    """The library's encodings are not kept: those of a long text need much memory."""
    tokenizer, most = train_tokenizer(["some text"], 257), []
    usual = batches.encode_all

    def encode_all(tokenizer, texts, **options):
        most.append(len(texts))
        return usual(tokenizer, texts, **options)

    monkeypatch.setattr(batches, "encode_all", encode_all)
    monkeypatch.setattr(batches, "TEXTS_AT_ONCE", 3)
    texts = ["one", "", "two", "three", "four", "", "", "five"]
    documents = encode_documents(tokenizer, iter(texts), 0)
    assert [tokenizer.decode(document.tolist()) for document in documents] == [text for text in texts if text]
    assert most == [3, 3, 2]
