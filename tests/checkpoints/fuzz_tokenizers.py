"""tokenizer.json files, valid and damaged, and what must hold for a tokenizer that was loaded.

It encodes and decodes texts, or refuses them with one clear error.
"""

from tests.checkpoints.fuzz_bytes import damage_bytes
from tests.checkpoints.fuzz_json import TEXTS, Pairs, damage_value, json_bytes, odd_value, pairs_of
from tinyslm.errors import DataError
from tinyslm.text import decode, encode

VOCAB_SIZE = 16  # of the model; some tokenizers have more tokens
WORDS = ["[UNK]", "a", "b", "ab", "c", "##b", "▁a", "▁", "Ġ", "é", " ", "<0x61>", "[CLS]", "[SEP]"]
VOCABULARY = {word: index for index, word in enumerate(WORDS)}
LONG = "ab c" * 1500
INPUTS = ["", "a", "ab abc  b", "[UNK]", "[CLS] a [SEP]", "é𝄞漢", "a\u0301\u200d\u202e", "\0\x1b\x7f\n\t\r"]
INPUTS += ["\ud800", "a\udfff", "a" * 60 + "b", "a" * 60 + "!", LONG, " " * 300, "123 45", "\ufeffa", "\u2028"]

MODELS = {
    "BPE": {"unk_token": "[UNK]", "vocab": VOCABULARY, "merges": [["a", "b"]], "fuse_unk": False}
    | {"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "byte_fallback": False},
    "WordLevel": {"vocab": VOCABULARY, "unk_token": "[UNK]"},
    "WordPiece": {"vocab": VOCABULARY, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    | {"max_input_chars_per_word": 100},
    "Unigram": {"unk_id": 0, "vocab": [[word, -1.0 - i] for i, word in enumerate(WORDS)], "byte_fallback": False},
}
REGEXES = ["a", "", "(a+)+$", "(a|a)*b", "(?=a)", "\\s+", "\\p{L}+| ", "(", "[", "\\", "(?i)A", ".*", "^", "$"]
REGEXES += ["(?<!a)b", "a{1000}", "((a?){30})+", "(?:a|ab)(?:c|bcd)*", "\\G", "(?<x>a)\\k<x>", "\\p{Nope}", "a**"]
REGEXES += ["\\x{110000}"]
PATTERNS = [{"Regex": regex} for regex in REGEXES] + [{"String": text} for text in ("a", "", " ", "ab")]
NORMALIZERS = [
    {"type": "NFC"},
    {"type": "NFKD"},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    | {"lowercase": True},
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Lowercase"},
    {"type": "ByteLevel"},
    {"type": "Nmt"},
    {"type": "Precompiled", "precompiled_charsmap": "ALQCAACEAAAAAACAAQAAgMz8AgC4BQAA"},
    *({"type": "Replace", "pattern": pattern, "content": ""} for pattern in PATTERNS),
]
PRE_TOKENIZERS = [
    {"type": "Whitespace"},
    {"type": "WhitespaceSplit"},
    {"type": "BertPreTokenizer"},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Digits", "individual_digits": True},
    {"type": "Punctuation", "behavior": "Isolated"},
    {"type": "CharDelimiterSplit", "delimiter": "a"},
    {"type": "FixedLength", "length": 3},
    {"type": "UnicodeScripts"},
    *({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False} for pattern in PATTERNS),
    *({"type": "Split", "pattern": pattern, "behavior": "Removed", "invert": True} for pattern in PATTERNS),
]
POST_PROCESSORS = [
    {"type": "BertProcessing", "sep": ["[SEP]", 13], "cls": ["[CLS]", 12]},
    {"type": "RobertaProcessing", "sep": ["[SEP]", 999], "cls": ["[CLS]", 12]}
    | {"trim_offsets": True, "add_prefix_space": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [12], "tokens": ["[CLS]"]}},
    },
]
DECODERS = [
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "WordPiece", "prefix": "##", "cleanup": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "BPEDecoder", "suffix": "</w>"},
    {"type": "CTC", "pad_token": "[UNK]", "word_delimiter_token": "|", "cleanup": True},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": "a", "start": 1, "stop": 1},
    {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    *({"type": "Replace", "pattern": pattern, "content": "x"} for pattern in PATTERNS),
]
PARTS = {
    "normalizer": NORMALIZERS,
    "pre_tokenizer": PRE_TOKENIZERS,
    "post_processor": POST_PROCESSORS,
    "decoder": DECODERS,
}
TRUNCATION = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
PADDING = {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}
PADDING |= {"pad_token": "[UNK]"}


def valid_tokenizer(rng):
    """A tokenizer.json of any model with any of the parts, as Pairs."""
    kind = rng.choice(list(MODELS))
    added = {"id": rng.choice([12, 14, 40]), "content": "[CLS]", "single_word": False, "lstrip": False, "rstrip": False}
    values = {
        "version": "1.0",
        "truncation": rng.choice([None, None, TRUNCATION]),
        "padding": rng.choice([None, None, PADDING]),
        "added_tokens": rng.choice([[], [added | {"normalized": False, "special": True}]]),
        **{part: rng.choice([None, rng.choice(options)]) for part, options in PARTS.items()},
        "model": {"type": kind, **MODELS[kind]},
    }
    return pairs_of(values)


def change_model(rng, tokenizer):
    """Remove or change tokens of the model: often the one for unknown words."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab")
    kind = rng.choice(["unknown", "unknown", "remove", "ids", "empty", "merges"])
    if kind == "unknown":
        name = "unk_id" if model.get("type") == "Unigram" else "unk_token"
        model.set(name, rng.choice([None, "[NO]", "", 999, 13, -1, 0]))
    elif kind == "remove":
        del vocabulary[rng.randrange(len(vocabulary)) :]
    elif kind == "ids":
        rng.choice(vocabulary)[1] = rng.choice([999, 2**31, 2**32 - 1, 0, 1, 15, 16])
    elif kind == "empty":
        model.set("vocab", rng.choice([Pairs(), []]))
    else:
        model.set("merges", rng.choice([[], [["a", "b"], ["ab", "c"]], [["x", "y"]], ["a b"], [["a"]]]))


def damaged_tokenizer(rng):
    """The bytes of a tokenizer.json that may be valid, damaged or nonsense."""
    tokenizer = valid_tokenizer(rng)
    if rng.random() < 0.4:
        change_model(rng, tokenizer)
    if rng.random() < 0.3:
        damage_value(rng, rng.choice([value for value in [tokenizer, *tokenizer.values()] if isinstance(value, list)]))
    if rng.random() < 0.05:
        rng.choice(tokenizer)[1] = odd_value(rng)
    content = json_bytes(tokenizer)
    return damage_bytes(rng, content) if rng.random() < 0.1 else content


def check_tokenizer(rng, tokenizer):
    """Raise AssertionError unless texts become token ids of the model and text again, or are refused."""
    for text in rng.sample([*INPUTS, rng.choice(TEXTS)], 6):
        special = rng.random() < 0.5
        try:
            token_ids = encode(tokenizer, text, add_special_tokens=special, vocab_size=VOCAB_SIZE)
            assert token_ids and all(0 <= token < VOCAB_SIZE for token in token_ids), f"{text[:50]!a}: {token_ids[:9]}"
            assert isinstance(decode(tokenizer, token_ids, skip_special_tokens=special), str)
        except DataError as problem:
            message = str(problem)
            assert len(message) < 700 and message.isprintable(), ascii(message)
            assert "tokenizer" in message or "the text" in message, message
    try:
        assert isinstance(decode(tokenizer, range(VOCAB_SIZE + 3)), str)
    except DataError as problem:
        assert "cannot decode" in str(problem)
