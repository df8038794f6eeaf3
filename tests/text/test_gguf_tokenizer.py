"""The tokenizer of a GGUF file encodes as the tokenizer.json from which the file was made."""

from itertools import pairwise

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyslm
from tests.checkpoints.gguf_files import add_value, wide_model, write_gguf
from tests.text.gguf_metadata import (
    BYTE,
    BYTE_LEVEL,
    CONTROL,
    NORMAL,
    TRAINING,
    UNKNOWN,
    USER_DEFINED,
    byte_level_metadata,
    byte_level_tokenizer,
    metadata_of,
)
from tinyslm.errors import CheckpointWarning, DataError
from tinyslm.text.gguf_pre_tokenizers import PRE_TOKENIZERS
from tinyslm.text.gguf_tokenizer import UnsupportedTokenizer, load_gguf_tokenizer

TEXTS = [
    *TRAINING,
    "",
    "  two",
    "a\r\nb\n\n\nc ",
    "I'LL we've 'tis",
    "１２３ ½ Ⅷ 漢字かな",
    "a\u00a0b\u2028c",
    "HTTPServer/v2 //x\n/y",
]
TEXTS += [
    "<|end|> after <|end|>",
    "e\u0301 \u1e9b\u0323",
    "don'T 9.99 a/b",
    "\U0001f468\u200d\U0001f469 ok",
    " ",
    "\t \n x",
]


def read(tmp_path, metadata, architecture="llama"):
    """The tokenizer of a GGUF file with this metadata and without tensors."""
    path = tmp_path / "tokenizer.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        add_value(writer, key, value)
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    return load_gguf_tokenizer(path)


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_byte_level_tokenizers(tmp_path, kind):
    tokenizer = byte_level_tokenizer(*BYTE_LEVEL[kind])
    found = read(tmp_path, metadata_of(tokenizer, pre=kind))
    for text in [*TEXTS, "a user/v2 b", "is ok"]:
        assert ids(found, text) == ids(tokenizer, text), text
        assert found.decode(ids(found, text)) == tokenizer.decode(ids(tokenizer, text)), text
    assert found.get_vocab() == tokenizer.get_vocab()


def test_kinds_divide_texts_differently(tmp_path):
    """Otherwise the test above could not tell them apart."""
    found = {
        kind: read(tmp_path, metadata_of(byte_level_tokenizer(*BYTE_LEVEL[kind]), pre=kind)) for kind in BYTE_LEVEL
    }
    pieces = {
        kind: [str(tokenizer.pre_tokenizer.pre_tokenize_str(text)) for text in TEXTS]
        for kind, tokenizer in found.items()
    }
    assert len({tuple(value) for value in pieces.values()}) == len(BYTE_LEVEL)


SAME_KINDS = {
    "llama-bpe": "llama3",
    "qwen2": "deepseek-r1-qwen",
    "smollm": "starcoder",
    "gpt-2": "olmo",
    "gpt-4o": "llama4",
}


def test_other_names_of_a_kind():
    assert all(PRE_TOKENIZERS[name] == PRE_TOKENIZERS[other] for name, other in SAME_KINDS.items())
    assert set(BYTE_LEVEL) <= set(PRE_TOKENIZERS)


@pytest.mark.parametrize(
    ("changes", "begin", "end"),
    [
        ({}, [], []),
        ({"add_bos_token": None}, [], []),  # the default of GPT-2
        ({"add_bos_token": None, "pre": "llama-bpe"}, [1], []),  # and of Llama 3
        ({"add_bos_token": True}, [1], []),
        ({"add_bos_token": True, "add_eos_token": True}, [1], [0]),
        ({"add_bos_token": True, "bos_token_id": None}, [], []),
    ],
)
def test_tokens_before_and_after_a_text(tmp_path, changes, begin, end):
    tokenizer = read(tmp_path, byte_level_metadata(**changes))
    assert tokenizer.encode("cat").ids == [*begin, *ids(tokenizer, "cat"), *end]


PIECES = [
    "▁",
    "c",
    "a",
    "t",
    "s",
    "e",
    "▁c",
    "at",
    "▁cat",
    "ca",
    "cat",
    "▁ca",
    "ts",
    "cats",
    "▁▁",
    "▁s",
    "es",
    "tse",
    "se",
]
PIECES += ["▁cats", "eat", "ate", "ea", "▁e", "é"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SENTENCE_PIECE = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *BYTES, "[USER]", "  ", *PIECES],
    "tokenizer.ggml.token_type": [
        UNKNOWN,
        CONTROL,
        CONTROL,
        *[BYTE] * 256,
        *[USER_DEFINED] * 2,
        *[NORMAL] * len(PIECES),
    ],
    "tokenizer.ggml.scores": [0.0] * 261 + [-float((7 * i) % 31) for i in range(len(PIECES))],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
}


def sentence_piece(text, tokens, scores):
    """The definition: the neighbours that make the token with the highest score are merged; of equals the first."""
    known = {token: scores[index] for index, token in enumerate(tokens) if token in PIECES}
    symbols = list(text)
    while True:
        pairs = [left + right for left, right in pairwise(symbols)]
        scored = [(known[pair], -i) for i, pair in enumerate(pairs) if pair in known]
        if not scored:
            break
        i = -max(scored)[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    pieces = [[symbol] if symbol in known else [f"<0x{byte:02X}>" for byte in symbol.encode()] for symbol in symbols]
    return [tokens.index(token) for piece in pieces for token in piece]


@pytest.fixture(scope="module")
def sentence_piece_tokenizer(tmp_path_factory):
    return read(tmp_path_factory.mktemp("gguf"), SENTENCE_PIECE)


@given(text=st.text(st.sampled_from("catse é漢\n"), max_size=12).filter(lambda text: "  " not in text))
def test_sentence_piece(sentence_piece_tokenizer, text):
    tokens, scores = SENTENCE_PIECE["tokenizer.ggml.tokens"], SENTENCE_PIECE["tokenizer.ggml.scores"]
    marked = text and "▁" + text.replace(" ", "▁")
    assert ids(sentence_piece_tokenizer, text) == sentence_piece(marked, tokens, scores)
    assert sentence_piece_tokenizer.encode(text).ids[:1] == [1]  # BOS by default
    assert sentence_piece_tokenizer.decode(ids(sentence_piece_tokenizer, text)) == text


def test_tokens_that_users_define_are_found_first(sentence_piece_tokenizer):
    encoding = sentence_piece_tokenizer.encode("cat  cat[USER]", add_special_tokens=False)
    assert encoding.tokens == ["▁cat", "  ", "▁cat", "[USER]"]
    assert ids(sentence_piece_tokenizer, "<unk></s>") == [0, 2]
    assert sentence_piece_tokenizer.decode([0, 2, 259]) == "[USER]"  # the others are special


def test_no_space_before_a_text(tmp_path):
    """As for Gemma."""
    tokenizer = read(tmp_path, SENTENCE_PIECE | {"tokenizer.ggml.add_space_prefix": False})
    assert tokenizer.encode("cat cat", add_special_tokens=False).tokens == ["cat", "▁cat"]
    assert tokenizer.decode(ids(tokenizer, " cat")) == " cat"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "tokenizer.ggml.model is missing, expected gpt2 or llama"),
        ({"model": "bert"}, "tokenizer.ggml.model is 'bert', expected gpt2 or llama"),
        ({"pre": None}, "tokenizer.ggml.pre is missing, expected one of gpt-2"),
        ({"pre": "new-kind"}, "tokenizer.ggml.pre is 'new-kind', expected one of gpt-2"),
    ],
)
def test_unknown_kinds(tmp_path, changes, message):
    """The model is loaded without a tokenizer."""
    with pytest.raises(UnsupportedTokenizer, match=f"tokenizer.gguf: {message}"):
        read(tmp_path, byte_level_metadata(**changes))
    write_gguf(tmp_path / "model.gguf", wide_model("llama"), metadata=byte_level_metadata(**changes))
    with pytest.warns(CheckpointWarning, match=f"model.gguf: {message}.*; the model is loaded without its tokenizer"):
        assert tinyslm.load(tmp_path / "model.gguf")[1] is None


def test_files_of_gpt2_need_no_kind(tmp_path):
    tokenizer = read(tmp_path, byte_level_metadata(pre=None), architecture="gpt2")
    assert ids(tokenizer, TEXTS[0]) == ids(byte_level_tokenizer(*BYTE_LEVEL["gpt-2"]), TEXTS[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": None}, "tokens is missing, expected an array of texts"),
        ({"tokens": [1, 2]}, "tokens is an array of 2, expected an array of texts"),
        ({"tokens": ["a", "b", "a"]}, "tokens holds 'a' twice, expected different tokens"),
        ({"token_type": [1, 1]}, r"token_type is an array of 2, expected an array of \d+ numbers"),
        ({"merges": None}, "merges is missing, expected an array of texts"),
        ({"merges": ["ab"]}, "merges holds 'ab', expected two tokens"),
        ({"merges": ["a nothing"]}, "the tokenizer is damaged"),
        ({"bos_token_id": 5000, "add_bos_token": True}, "bos_token_id is 5000, expected an id below 3"),
        ({"add_bos_token": "yes"}, "add_bos_token is 'yes', expected true or false"),
        ({"model": "llama"}, r"scores is missing, expected an array of \d+ numbers"),
    ],
)
def test_damaged_tokenizers(tmp_path, changes, message):
    with pytest.raises(DataError, match=f"tokenizer.gguf: .*{message}"):
        read(tmp_path, byte_level_metadata(**changes))


def test_the_work_for_merges_is_bounded(tmp_path):
    tokens = ["<unk>", *("ab" * 600 + str(i) for i in range(3))]
    long = {"tokens": tokens, "token_type": [2, 1, 1, 1], "scores": [0.0] * 4, "model": "llama"}
    with pytest.raises(DataError, match="has a token of 1201 characters, and 3603 in all; expected at most 1000"):
        read(tmp_path, {f"tokenizer.ggml.{key}": value for key, value in long.items()})
