"""A tokenizer as the metadata of a GGUF file: the reverse of `gguf_tokenizer`.

llama.cpp has its own program for each way of splitting a text, and "tokenizer.ggml.pre" names it. A tokenizer that
splits texts in another way has no name, and is refused: the file would encode texts as other tokens.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tinyslm.checkpoints.gguf.container import TextArray
from tinyslm.checkpoints.gguf.side_files import END_TOKENS
from tinyslm.errors import DataError
from tinyslm.text.chat_template import DEFAULT, chat_templates, special_tokens
from tinyslm.text.gguf_pre_tokenizers import PRE_TOKENIZERS
from tinyslm.text.gguf_tokenizer import (
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    UnsupportedTokenizer,
    byte_level_pre_tokenizer,
    gguf_tokenizer,
)

UNUSED, BYTE = 5, 6  # further types of tokens
LOWEST_SCORE = -1e6  # of tokens that no merge makes
TOKEN_KEYS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
FURTHER_ENDS = ("eot", "eom")  # end of a turn, of a message
PROBES = (  # texts that the tokenizer of the file must encode as the original
    "The cat sat on the mat, 1234 times; don't you THINK it's 12345678?",
    "naïve  café\n\n\tCamelCase x_y  é e\u0301 //path/to, Привет 你好 👍🏽\r\n ",
    "",
)
Metadata = dict[str, Any]


def vocabulary_metadata(
    tokenizer: Any,
    vocab_size: int,
    end_tokens: Iterable[int] = (),
    bos: int | None = None,
    pad: int | None = None,
) -> tuple[Metadata, list[str]]:
    """(metadata of a tokenizer with its chat template, sentences about what they do not hold).

    vocab_size: rows of the embedding; ids without a token get an unused one.  end_tokens: ids of the tokens that end a
    text, the main one first.  bos, pad: ids of the tokens before texts and of padding, where the tokenizer names none.
    Raises UnsupportedTokenizer for a tokenizer that llama.cpp does not have, DataError for one with more tokens than
    the model.
    """
    values = json.loads(tokenizer.to_str())
    if (kind := values["model"]["type"]) != "BPE":
        raise UnsupportedTokenizer(f"the tokenizer is {kind}, but GGUF files of decoders hold BPE only")
    tokens, types = _tokens(tokenizer, values, vocab_size)
    ends = [index for index in end_tokens if index < vocab_size]  # configurations can name tokens that do not exist
    is_sentence_piece = values["model"].get("byte_fallback")
    metadata = _sentence_piece(values, tokens, types) if is_sentence_piece else _byte_level(values)
    metadata |= {"tokens": tokens, "token_type": types}
    metadata |= _special(tokenizer, ends, {"bos": bos, "padding": pad}, tokens)
    metadata = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    again = _read_back(metadata)
    for text in PROBES:
        if tokenizer.encode(text).ids != again.encode(text).ids:
            raise UnsupportedTokenizer(f"a GGUF file of this tokenizer would encode {text!r} as other tokens")
    losses = _losses(values, tokens, types, ends, metadata)
    if tokenizer.encode(" a").ids != again.encode(" a").ids:
        losses.append("a text that begins with a space gets one more")
    templates = chat_templates(tokenizer)
    if templates and DEFAULT not in templates:
        losses.append(
            f"of the chat templates {', '.join(sorted(templates))} none is named {DEFAULT}: a program that is not told "
            "which one to use takes another"
        )
    return metadata | _template_metadata(templates), losses


def _template_metadata(templates):
    """The chat templates: the default one, and the others with their names."""
    named = {re.sub("[^0-9A-Za-z]", "_", name): text for name, text in templates.items() if name != DEFAULT}
    metadata = {f"tokenizer.chat_template.{name}": text for name, text in named.items()}
    if named:
        metadata["tokenizer.chat_templates"] = list(named)
    return metadata | ({"tokenizer.chat_template": templates[DEFAULT]} if DEFAULT in templates else {})


def _tokens(tokenizer, values, vocab_size):
    """(the texts of the tokens, their types), one for each row of the embedding."""
    ids = {index: token for token, index in tokenizer.get_vocab(with_added_tokens=True).items()}
    last = max(ids, default=-1)
    if last >= vocab_size:
        raise DataError(f"the tokenizer has the token id {last}, but the model has only {vocab_size} tokens")
    tokens = [ids.get(index, f"[PAD{index}]") for index in range(vocab_size)]
    types = [NORMAL if index in ids else UNUSED for index in range(vocab_size)]
    for index, token in enumerate(tokens):
        if values["model"].get("byte_fallback") and len(token) == 6 and token.startswith("<0x"):
            types[index] = BYTE
    for added in values["added_tokens"]:
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    unknown = values["model"].get("unk_token")
    if unknown in tokens:
        types[tokens.index(unknown)] = UNKNOWN
    return tokens, types


def _steps(value):
    """The steps of a normalizer or pre-tokenizer in a tokenizer.json."""
    if value is None:
        return []
    if value["type"] == "Sequence":
        inner = value.get("normalizers") or value.get("pretokenizers") or []
        return [step for each in inner for step in _steps(each)]
    return [{key: entry for key, entry in value.items() if key != "trim_offsets"}]  # of offsets, not of tokens


def _pairs(model):
    """The merges as pairs; older files have them as texts."""
    return [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]


def _byte_level(values):
    """The metadata of byte-level BPE."""
    model = values["model"]
    splits = _steps(values["pre_tokenizer"])
    normalizers = [step["type"] for step in _steps(values["normalizer"])]
    has_affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    for name, kind in PRE_TOKENIZERS.items():
        same = splits == _steps(json.loads(byte_level_pre_tokenizer(kind).__getstate__()))
        whole_words = bool(model.get("ignore_merges"))
        if same and normalizers == ["NFC"] * kind.nfc and whole_words == kind.whole_words and not has_affixes:
            merges = [" ".join(pair) for pair in _pairs(model)]
            return {"model": "gpt2", "pre": name, "merges": merges}
    raise UnsupportedTokenizer(
        "the tokenizer splits texts in a way that llama.cpp does not have; known ones are " + ", ".join(PRE_TOKENIZERS)
    )


def _sentence_piece(values, tokens, types):
    """The metadata of the BPE of SentencePiece: a score for each token in place of the merges."""
    scores = np.full(len(tokens), LOWEST_SCORE)
    ids = {token: index for index, token in enumerate(tokens)}
    made = dict.fromkeys(left + right for left, right in _pairs(values["model"]))
    for rank, token in enumerate(made):
        scores[ids[token]] = -rank
    for index, kind in enumerate(types):
        if kind != NORMAL:
            scores[index] = 0.0 if kind in (BYTE, CONTROL, UNKNOWN) else -1000.0
    return {
        "model": "llama",
        "pre": "default",
        "scores": scores.tolist(),
        "add_space_prefix": _begins_with_space(values),
    }


def _begins_with_space(values):
    """Whether a space is put before each text. Raises UnsupportedTokenizer for other changes of the text."""
    normalizers, splits = _steps(values["normalizer"]), _steps(values["pre_tokenizer"])
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    if normalizers == [{"type": "Prepend", "prepend": SPACE}, replace] and not splits:
        return True
    if normalizers == [replace] and [step["type"] for step in splits] in ([], ["Split"]):
        return False
    if not normalizers and len(splits) == 1 and splits[0]["type"] == "Metaspace":
        return splits[0].get("prepend_scheme", "always") != "never"
    raise UnsupportedTokenizer("the tokenizer changes texts, before it encodes them, as llama.cpp does not")


def _special(tokenizer, end_tokens, otherwise, tokens):
    """The ids of special tokens, and which of them surround each text."""
    named = {TOKEN_KEYS[name]: text for name, text in special_tokens(tokenizer).items() if name in TOKEN_KEYS}
    ids = {name: tokens.index(text) for name, text in named.items() if text in tokens}
    known = {name: index for name, index in otherwise.items() if index is not None and index < len(tokens)}
    ids = known | ids
    if end_tokens and ids.get("eos") not in end_tokens:
        ids["eos"] = end_tokens[0]
    others = [index for index in dict.fromkeys(end_tokens) if index != ids["eos"]]
    ids |= dict(zip(FURTHER_ENDS, others, strict=False))
    before, after = _marks(tokenizer)
    if before:
        ids["bos"] = before[0]
    if after:
        ids.setdefault("eos", after[0])
    found = {f"{name}_token_id": index for name, index in ids.items()}
    return found | {"add_bos_token": bool(before), "add_eos_token": bool(after)}


def _marks(tokenizer):
    """(ids before each text, ids after it)."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    marked = tokenizer.encode("a").ids
    start = next((i for i in range(len(marked)) if marked[i : i + len(plain)] == plain), 0)
    return marked[:start], marked[start + len(plain) :]


def _read_back(metadata):
    """The tokenizer that is read from the metadata."""
    arrays = dict(metadata)
    for name in ("tokens", "merges"):
        if (key := f"tokenizer.ggml.{name}") in arrays:
            arrays[key] = _text_array(arrays[key])
    for name in ("token_type", "scores"):
        if (key := f"tokenizer.ggml.{name}") in arrays:
            arrays[key] = np.array(arrays[key])
    return gguf_tokenizer(arrays, Path("the new file"))


def _text_array(texts):
    """Texts as an array of a GGUF file."""
    parts = [text.encode() for text in texts]
    content = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return TextArray("the new file", np.frombuffer(content, np.uint8), 0, len(parts))


def _losses(values, tokens, types, end_tokens, metadata):
    """Sentences on parts of the tokenizer that the metadata do not hold."""
    losses = []
    spaces = [added["content"] for added in values["added_tokens"] if added["lstrip"] or added["rstrip"]]
    if spaces:
        losses.append(f"the token {spaces[0]} keeps the spaces beside it, which the tokenizer here removes")
    if unused := types.count(UNUSED):
        losses.append(f"{unused} ids without a token get unused ones, such as {tokens[types.index(UNUSED)]}")
    named = {metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", *FURTHER_ENDS)}
    known = {index for index in end_tokens if tokens[index] in END_TOKENS and types[index] == CONTROL}
    if lost := [tokens[index] for index in end_tokens if index not in named | known]:
        losses.append(f"{', '.join(lost)} no longer ends a text")
    return losses
