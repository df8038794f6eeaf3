"""Byte-level tokenizers, trained on a few texts, and their metadata in GGUF files."""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
TRAINING = [
    "The cat sat on the mat, 1234 times; don't you THINK it's 12345678?",
    "naïve café\n\n\tCamelCase x_y  é e\u0301",
]
SPECIAL = ["<|end|>", "<|begin|>"]


def split(pattern):
    """A pre-tokenizer with the regular expression of a tokenizer.json."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
LLAMA3 += r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}"
    r"\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])
BYTE_LEVEL = {  # {tokenizer.ggml.pre: (pre-tokenizer, whether whole words are kept, normalizer)}
    "gpt-2": (GPT2, False, None),
    "smollm": (DIGITS, False, None),
    "llama-bpe": (split(LLAMA3), True, None),
    "qwen2": (split(QWEN2), False, normalizers.NFC()),
    "tekken": (split(TEKKEN), True, None),
    "gpt-4o": (split(GPT4O), False, None),
}


def byte_level_tokenizer(pre_tokenizer, whole_words, normalizer):
    """A byte-level BPE trained on a few texts. A token that no merges make is kept only as a whole word."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole_words))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING * 3, trainer)
    values = json.loads(tokenizer.to_str())
    values["model"]["vocab"]["Ġok"] = len(values["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(values))
    tokenizer.add_tokens([AddedToken("user/v2", normalized=False)])
    return tokenizer


def metadata_of(tokenizer, **changes):
    """The metadata of a byte-level tokenizer."""
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    types = dict.fromkeys(SPECIAL, CONTROL) | {"user/v2": USER_DEFINED}
    values = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [token for token, _ in vocabulary],
        "token_type": [types.get(token, NORMAL) for token, _ in vocabulary],
        "merges": merges,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "add_bos_token": False,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (values | changes).items() if value is not None}


def byte_level_metadata(kind="gpt-2", **changes):
    """The metadata of a byte-level tokenizer of a kind in BYTE_LEVEL, with other values for some keys."""
    return metadata_of(byte_level_tokenizer(*BYTE_LEVEL[kind]), **changes)
