"""Inputs of compression runs: model, calibration documents, validation documents and exam."""

import functools
import hashlib
import platform
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import scipy
import tokenizers

import tinyslm
from tinyslm.checkpoints import outline_model
from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.checkpoints.upcasting import release_pages
from tinyslm.commands.loading import load_with_tokenizer, require_kind
from tinyslm.commands.training_directory import RECORD as TRAINING_RECORD
from tinyslm.errors import ConfigError
from tinyslm.evaluation.loss import document_nats
from tinyslm.evaluation.machine import describe_machine
from tinyslm.evaluation.parameters import count_parameters
from tinyslm.generation import end_tokens
from tinyslm.load_save import find_directory
from tinyslm.models import Decoder
from tinyslm.modules import Embedding, Linear, LinearLayer, WeightLayer
from tinyslm.recipes import Calibration, measure
from tinyslm.recipes.default_recipes import MAPPED_MODEL, is_large, reads_mapped
from tinyslm.text import decode
from tinyslm.text.corpus import text_corpus, town_corpus
from tinyslm.text.document_marks import DocumentMarks, document_marks
from tinyslm.text.text_source import CORPUS_RECORD, TextSource
from tinyslm.tree import map_modules, named_arrays

TRAINING_DOCUMENTS = 1_500  # of the town, for calibration and training
VALIDATION_DOCUMENTS = 300
QUESTIONS_PER_SUBJECT = 40
LARGE_MODEL_VALIDATION = 5_000  # tokens of the user's text, for a large model
LARGE_MODEL_STATISTICS = 32  # calibration documents for the statistics of a large model
PURPOSE = "compressing and measuring on text"
TOWN_PROMPT = "It was a sunny Monday morning."


@dataclass(frozen=True)
class CompressionOptions:
    """Names and numbers that define the inputs. A worker on another machine opens the same files there.

    model: a built-in name or a directory;  text: the files of the user, or the town;  training, validation, questions:
    numbers of documents and exam questions of the town;  weights: "float32", or "mapped" to leave them in the files;
    split: what is measured: "validation" to choose settings; of the town also "test", for figures to report; of the
    user's text also "whole", for a text that no training used.
    """

    model: str
    text: TextSource = field(default_factory=TextSource)
    training: int = TRAINING_DOCUMENTS
    validation: int = VALIDATION_DOCUMENTS
    questions: int = QUESTIONS_PER_SUBJECT
    weights: str = "float32"
    split: str = "validation"


class CompressionInputs:
    """The model, upcast to floating point or mapped from its files, and the documents in memory."""

    def __init__(self, options: CompressionOptions):
        self.options = options
        model, self.tokenizer = load_with_tokenizer(options.model, Decoder, PURPOSE, options.weights)
        self.model = upcast(model)
        self.is_large = is_large(self.model)
        self.marks = marks_of_model(options.model, model.config, self.tokenizer)

    @functools.cached_property
    def corpus(self):
        """The documents, and the exam."""
        most = LARGE_MODEL_VALIDATION if self.is_large else None
        return open_corpus(self.tokenizer, self.marks, self.options, self.model.config.vocab_size, most)

    @property
    def records(self) -> dict:
        """Files beside the weights of each compressed model, for `save_model`."""
        return {CORPUS_RECORD: self.options.text.record()}

    @functools.cached_property
    def prompt(self) -> str:
        """The prompt that every model continues."""
        if self.options.text.is_town:
            return TOWN_PROMPT
        first = max(self.corpus.validation, key=len)[:-1]
        start = decode(self.tokenizer, first[: max(2, min(12, len(first) // 2))].tolist())
        return whole_words(start, decode(self.tokenizer, first.tolist()))

    def calibration(self, seed: int) -> Calibration:
        """The training documents in an order determined by the seed, and the model as the teacher."""
        calibration = Calibration(self.corpus.training, self.model, seed)
        return replace(calibration, statistics_documents=LARGE_MODEL_STATISTICS) if self.is_large else calibration

    @functools.cached_property
    def dense_losses(self):
        """(nats, number of tokens) of each validation document for the dense model, two arrays (N,)."""
        return document_nats(self.model, self.corpus.validation)

    @property
    def dense_nats(self):
        """Nats of the dense model on each validation document, (N,)."""
        return self.dense_losses[0]

    def measure(self, model, dense_nats=None, progress=lambda text: None):
        """(row, nats) of `recipes.measure` for a compressed model."""
        return measure(
            model,
            self.tokenizer,
            self.corpus,
            self.marks,
            prompt=self.prompt,
            dense_nats=dense_nats,
            losses=self.dense_losses if model is self.model else None,
            progress=progress,
        )

    def record(self) -> dict:
        """Versions, the computer, and digests of the inputs. Equal records, recipes and seeds give equal models."""
        packages = {"tinyslm": tinyslm, "numpy": np, "scipy": scipy, "tokenizers": tokenizers}
        versions = {name: package.__version__ for name, package in packages.items()}
        return {
            "versions": versions | {"python": platform.python_version()},
            **describe_machine(),
            "model_digest": digest_of_arrays(named_arrays(self.model)),
            "calibration_digest": digest_of_arrays(dict(enumerate(self.corpus.training))),
            "validation_digest": digest_of_arrays(dict(enumerate(self.corpus.validation))),
        }


def outline_of(model: str):
    """The outline of the model, a built-in name or a directory. Raises ConfigError if it is not a decoder."""
    outline = outline_model(find_directory(model))
    require_kind(outline, model, Decoder, PURPOSE)
    return outline


def choose_weights(wanted: str | None, outline, recipes) -> str:
    """The form of the weights: the wanted one, or by default the form that suits the size of the model and the recipes.

    Raises ConfigError if a step of the recipes cannot read the wanted form.
    """
    need_memory = [recipe.name for recipe in recipes if not reads_mapped(recipe)]
    if wanted == "mapped" and need_memory:
        raise ConfigError(
            f"--weights mapped: a step of the recipe {need_memory[0]!r} needs the weights in memory; "
            "choose other recipes, or --weights float32"
        )
    is_mapped = count_parameters(outline) > MAPPED_MODEL and not need_memory
    return wanted or ("mapped" if is_mapped else "float32")


def whole_words(start: str, text: str) -> str:
    """The start of a text, without its last word or character if the text continues within it."""
    start = start.rstrip("\ufffd") or start  # part of a character
    following = text.removeprefix(start)
    is_cut = start[-1:].isalnum() and following[:1].isalnum() and following != text
    words = start.rsplit(maxsplit=1)
    return words[0] if is_cut and len(words) > 1 else start


def open_corpus(tokenizer, marks, options, vocab_size, most_validation=None):
    """The corpus of the options. marks: of documents;  vocab_size: number of tokens of the model.

    most_validation: as of `text_corpus`, for the user's text.
    """
    text = options.text
    if not text.is_town:
        sizes = {"pack_length": text.pack_length, "most_validation": most_validation}
        return text_corpus(tokenizer, marks, text.texts(), vocab_size, **sizes, whole=options.split == "whole")
    return town_corpus(
        tokenizer,
        marks,
        training=options.training,
        validation=options.validation,
        split=options.split,
        questions_per_subject=options.questions,
        vocab_size=vocab_size,
    )


_opening = threading.Lock()


def open_inputs(options: CompressionOptions, files: str) -> CompressionInputs:
    """The inputs of a run. The last ones are cached for the other jobs of the sweep.

    files: `digest_of_files` on the machine that started the sweep. Raises ConfigError if the files here are different.
    """
    with _opening:  # one thread reads; the others wait for complete inputs
        inputs = _last_inputs(options, files)
        _ = inputs.corpus, inputs.dense_nats
        return inputs


@functools.lru_cache(maxsize=1)
def _last_inputs(options, files):
    if digest_of_files(options) != files:
        raise ConfigError(f"{options.model}: the files here differ from those at the start of the sweep")
    return CompressionInputs(options)


def digest_of_files(options: CompressionOptions) -> str:
    """SHA-256 of the options, and of the names and contents of their files."""
    content = hashlib.sha256(repr(options).encode())
    location = find_directory(options.model)
    files = [location] if location.is_file() else sorted(path for path in location.iterdir() if path.is_file())
    for path in [*files, *map(Path, options.text.files)]:
        content.update(f"{path.name}\0".encode())
        with open(path, "rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()


def digest_of_arrays(arrays) -> str:
    """SHA-256 of names, dtypes, shapes and values."""
    content = hashlib.sha256()
    for name, array in arrays.items():
        content.update(f"{name} {array.dtype} {array.shape}\0".encode())
        content.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        release_pages(array)
    return content.hexdigest()


def upcast(model):
    """The model with floating-point matrices in place of compressed ones, so that every recipe applies.

    Layers that are mapped from their files stay as they are.
    """

    def upcast_layer(path, layer):
        if isinstance(layer, Linear | Embedding | MappedLayer):
            return layer
        weight = layer.dense_weight()
        return Linear(weight, layer.bias) if isinstance(layer, LinearLayer) else Embedding(weight)

    return map_modules(upcast_layer, model, WeightLayer)


def marks_of_model(model: str, config, tokenizer) -> DocumentMarks:
    """The marks of documents for a built-in model or a directory. `tinyslm train` always trains with an end mark."""
    was_trained_here = (find_directory(model) / TRAINING_RECORD).is_file()
    return document_marks(tokenizer, end_tokens(config) if was_trained_here else (), config.vocab_size)
