"""Tokenizers as metadata of GGUF files: what is read back encodes as the original."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import tinyslm
from tests.text.gguf_metadata import BYTE_LEVEL, SPECIAL, byte_level_tokenizer, metadata_of
from tinyslm.errors import DataError
from tinyslm.text.gguf_tokenizer import UnsupportedTokenizer
from tinyslm.text.gguf_vocabulary import vocabulary_metadata

PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdet", "▁a", "ab", "▁ab", "abc"]
MERGES = [("▁", "a"), ("a", "b"), ("▁a", "b"), ("▁", "ab"), ("ab", "c")]
LLAMA_2 = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
FORMS = {  # {name: (normalizer, pre-tokenizer, whether a space is put before a text)}
    "llama": (LLAMA_2, None, True),
    "gemma": (normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), False),
    "mistral": (None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), True),
}


def sentence_piece(form="llama", merges=MERGES):
    """A small tokenizer of SentencePiece's kind."""
    normalizer, pre_tokenizer, _ = FORMS[form]
    ids = {piece: index for index, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_byte_level(kind):
    """The name of the way of splitting, tokens, types and merges."""
    tokenizer = byte_level_tokenizer(*BYTE_LEVEL[kind])
    found, losses = vocabulary_metadata(tokenizer, tokenizer.get_vocab_size(), [0], 1)
    expected = metadata_of(tokenizer, pre=kind, add_eos_token=False)
    assert found == expected and not losses


@pytest.mark.parametrize("form", FORMS)
def test_sentence_piece(form):
    """Scores in the order of the merges."""
    found, losses = vocabulary_metadata(sentence_piece(form), len(PIECES) + 2, [2])
    assert losses[1:] == (["a text that begins with a space gets one more"] if form == "mistral" else [])
    values = {key.removeprefix("tokenizer.ggml."): value for key, value in found.items()}
    assert (values["model"], values["add_space_prefix"]) == ("llama", FORMS[form][2])
    assert values["tokens"] == [*PIECES, "[PAD270]", "[PAD271]"] and len(PIECES) == 270
    assert values["token_type"] == [2, 3, 3, *[6] * 256, *[1] * 11, 5, 5]
    scores = dict(zip(values["tokens"], values["scores"], strict=True))
    assert scores["▁a"] > scores["ab"] > scores["▁ab"] > scores["abc"] > scores["a"]
    assert (values["bos_token_id"], values["eos_token_id"], values["add_bos_token"]) == (1, 2, True)


def test_the_tokenizer_of_the_teacher():
    tokenizer = tinyslm.load("teacher")[1]
    found, losses = vocabulary_metadata(tokenizer, 1536, [0], 0)
    assert found["tokenizer.ggml.pre"] == "smollm" and found["tokenizer.ggml.add_bos_token"] and not losses


def test_ends_of_texts():
    """The token that tokenizer_config.json names is the end of a text, others those of a turn and a message."""
    tokenizer = byte_level_tokenizer(*BYTE_LEVEL["gpt-2"])
    tokenizer.special_tokens = {"eos_token": SPECIAL[1], "pad_token": SPECIAL[0], "unk_token": "none"}
    found, losses = vocabulary_metadata(tokenizer, 400, [5, 0, 1, 7, 8, 400], 400, 2)
    ids = {key.removeprefix("tokenizer.ggml."): value for key, value in found.items() if key.endswith("_token_id")}
    assert ids == {"eos_token_id": 1, "eot_token_id": 5, "eom_token_id": 0, "padding_token_id": 0}
    tokens = found["tokenizer.ggml.tokens"]
    unused = 400 - tokenizer.get_vocab_size()
    assert losses == [
        f"{unused} ids without a token get unused ones, such as [PAD{400 - unused}]",
        f"{tokens[7]}, {tokens[8]} no longer ends a text",
    ]


def test_tokens_that_the_model_names():
    tokenizer = byte_level_tokenizer(*BYTE_LEVEL["gpt-2"])
    found, _ = vocabulary_metadata(tokenizer, 400, [], bos=1, pad=0)
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.padding_token_id"]) == (1, 0)
    assert "tokenizer.ggml.eos_token_id" not in found


def test_marks_around_a_text():
    tokenizer = byte_level_tokenizer(*BYTE_LEVEL["gpt-2"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[1]} $A {SPECIAL[0]}", special_tokens=[(SPECIAL[0], 0), (SPECIAL[1], 1)]
    )
    found, _ = vocabulary_metadata(tokenizer, 400)
    keys = ("add_bos_token", "add_eos_token", "bos_token_id", "eos_token_id")
    assert [found[f"tokenizer.ggml.{key}"] for key in keys] == [True, True, 1, 0]


def test_a_chat_template():
    tokenizer = byte_level_tokenizer(*BYTE_LEVEL["gpt-2"])
    tokenizer.chat_template = "{{ messages }}"
    assert vocabulary_metadata(tokenizer, 400)[0]["tokenizer.chat_template"] == "{{ messages }}"


@pytest.mark.parametrize("has_default", [True, False])
def test_several_chat_templates(tmp_path, has_default):
    """All are written; without a default one, this is said."""
    tokenizer = byte_level_tokenizer(*BYTE_LEVEL["gpt-2"])
    tokenizer.directory = tmp_path
    texts = {"tool use": "{{ tools }}", "rag": "{{ documents }}"} | (
        {"default": "{{ messages }}"} if has_default else {}
    )
    templates = [{"name": name, "template": text} for name, text in texts.items()]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    found, losses = vocabulary_metadata(tokenizer, 340)
    assert found.get("tokenizer.chat_template") == texts.get("default")
    assert found["tokenizer.chat_templates"] == ["tool_use", "rag"]
    assert found["tokenizer.chat_template.tool_use"] == "{{ tools }}"
    assert found["tokenizer.chat_template.rag"] == "{{ documents }}"
    said = [loss for loss in losses if "chat templates rag, tool use none is named default" in loss]
    assert bool(said) != has_default


def test_spaces_beside_a_token_are_said():
    values = json.loads(byte_level_tokenizer(*BYTE_LEVEL["gpt-2"]).to_str())
    values["added_tokens"][0]["rstrip"] = True
    _, losses = vocabulary_metadata(Tokenizer.from_str(json.dumps(values)), 400)
    assert losses[0] == "the token <|end|> keeps the spaces beside it, which the tokenizer here removes"


def test_tokenizers_that_gguf_does_not_hold():
    splits = BYTE_LEVEL["gpt-2"][0]
    other = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), splits])
    space = pre_tokenizers.ByteLevel(add_prefix_space=True)
    for tokenizer, message in [
        (byte_level_tokenizer(other, False, None), "splits texts in a way that llama.cpp does not have"),
        (byte_level_tokenizer(space, False, None), "splits texts in a way that llama.cpp does not have"),
        (byte_level_tokenizer(splits, True, None), "splits texts in a way that llama.cpp does not have"),
        (byte_level_tokenizer(splits, False, normalizers.Lowercase()), "splits texts in a way that llama.cpp does not"),
        (
            Tokenizer(models.Unigram([("a", 0.0)], 0, True)),
            "the tokenizer is Unigram, but GGUF files",
        ),
        (Tokenizer(models.WordPiece({"[UNK]": 0})), "WordPiece, but GGUF files of decoders hold BPE only"),
    ]:
        with pytest.raises(UnsupportedTokenizer, match=message):
            vocabulary_metadata(tokenizer, 400)
    lower = sentence_piece()
    lower.normalizer = normalizers.Sequence([normalizers.Lowercase(), LLAMA_2])
    with pytest.raises(UnsupportedTokenizer, match=r"changes texts, before it encodes them, as llama.cpp does not"):
        vocabulary_metadata(lower, 300)
    twice = sentence_piece()
    twice.post_processor = processors.TemplateProcessing(single="<s> <s> $A", special_tokens=[("<s>", 1)])
    with pytest.raises(UnsupportedTokenizer, match=r"would encode .The cat .* as other tokens"):
        vocabulary_metadata(twice, 300)


def test_more_tokens_than_the_model():
    with pytest.raises(DataError, match="the tokenizer has the token id 269, but the model has only 100 tokens"):
        vocabulary_metadata(sentence_piece(), 100)
