"""Tiny encoders with a WordPiece tokenizer, saved for the commands that use them."""

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.strategies import generic_model
from tinyslm import save
from tinyslm.models import EncoderConfig

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *SPECIAL,
    *"abcdefghijklmnopqrstuvwxyz.,",
    "the",
    "cat",
    "dog",
    "saw",
    "ran",
    "home",
    "##s",
    "##ing",
    "old",
    "big",
)
CONTEXT = 12


def word_pieces(words=WORDS):
    """A tokenizer as BERT's, which is told to cut to 5 tokens and to pad to 9, as some files are."""
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens([word for word in SPECIAL if word in words])
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=9)
    return tokenizer


def encoder(**changes):
    """A BERT in generic position that knows the words and a few more."""
    fields = {"type_vocab_size": 2, "norm_eps": 1e-2} | changes
    config = EncoderConfig("bert", len(WORDS) + 3, 12, 20, 2, 3, 4, CONTEXT, **fields)
    return generic_model(config, 1, np.float32)


def save_encoder(path, tokenizer=True, **changes):
    """The model, and its directory."""
    model = encoder(**changes)
    save(path, model, (word_pieces() if tokenizer is True else tokenizer) or None)
    return model, path
