"""Kinds of byte-level BPE in GGUF files: "tokenizer.ggml.pre" names how a text is split before it is encoded.

Source: https://github.com/ggml-org/llama.cpp, src/llama-vocab.cpp, and the tokenizer.json files of the models.
"""

from typing import NamedTuple

LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
WORDS = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*")  # by case
REST_WITH_SLASH = REST.replace(r"[\r\n]*", r"[\r\n/]*", 1)
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"


class PreTokenizer(NamedTuple):
    """Pre-tokenizer of one kind of byte-level BPE, with its settings.

    pattern: a regular expression of the pieces of a text; "": that of GPT-2.  digits: separate the digits of numbers
    first.  whole_words: a piece that is a token is not split by merges.  begins: texts begin with BOS, unless the file
    says otherwise.  nfc: Unicode normalization NFC.
    """

    pattern: str = ""
    digits: bool = False
    whole_words: bool = False
    begins: bool = False
    nfc: bool = False


GPT2 = PreTokenizer()
GPT2_DIGITS = PreTokenizer(digits=True)
LLAMA3_PATTERN = LETTERS + r"|\p{N}{1,3}" + REST
LLAMA3 = PreTokenizer(LLAMA3_PATTERN, whole_words=True, begins=True)
QWEN2 = PreTokenizer(LETTERS + r"|\p{N}" + REST, nfc=True)
TEKKEN = PreTokenizer("|".join(WORDS) + r"|\p{N}" + REST_WITH_SLASH, whole_words=True, begins=True)
GPT4O = PreTokenizer("|".join(word + CONTRACTION for word in WORDS) + r"|\p{N}{1,3}" + REST_WITH_SLASH)

PRE_TOKENIZERS = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "modern-bert", "roberta-bpe"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), GPT2_DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe"), PreTokenizer(LLAMA3_PATTERN)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), QWEN2),
    "stablelm2": QWEN2._replace(nfc=False),
    "tekken": TEKKEN,
    **dict.fromkeys(("gpt-4o", "llama4"), GPT4O),
}
