"""What compressed models are made from and measured on: a model, documents to learn from, documents to be judged by."""

import functools
import hashlib
import platform
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
import tokenizers

import tinyslm
from tinyslm.commands.loading import load_with_tokenizer
from tinyslm.errors import ConfigError
from tinyslm.evaluation.loss import document_nats
from tinyslm.generation import end_tokens
from tinyslm.load_save import find_directory
from tinyslm.models import Decoder
from tinyslm.modules import Embedding, Linear, LinearLayer, WeightLayer
from tinyslm.recipes import Calibration
from tinyslm.runtime import default_threads
from tinyslm.text import read_documents
from tinyslm.text.corpus import text_corpus, town_corpus
from tinyslm.tree import map_modules, named_arrays

TRAINING_DOCUMENTS = 1_500  # of the town, for calibration and recovery
VALIDATION_DOCUMENTS = 300
QUESTIONS_PER_SUBJECT = 40
TOWN_PROMPT = "It was a sunny Monday morning."


@dataclass(frozen=True)
class CompressionOptions:
    """Names and numbers only: small enough to be sent to another machine, which finds the same files there.

    model: a built-in name or a directory;  texts: files of one's own text, none for the town, of which the numbers of
    documents and exam questions are taken.
    """

    model: str
    texts: tuple[str, ...] = ()
    training: int = TRAINING_DOCUMENTS
    validation: int = VALIDATION_DOCUMENTS
    questions: int = QUESTIONS_PER_SUBJECT


class CompressionInputs:
    """The model (widened) and the documents of an experiment, in memory."""

    def __init__(self, experiment: CompressionOptions):
        self.experiment = experiment
        model, self.tokenizer = load_with_tokenizer(experiment.model, Decoder, "compressing and measuring on text")
        self.model = upcast(model)
        self.end_id = end_of_document(model.config)

    @functools.cached_property
    def corpus(self):
        """The documents, and the exam."""
        experiment = self.experiment
        if experiment.texts:
            return text_corpus(self.tokenizer, self.end_id, read_documents(experiment.texts))
        return town_corpus(
            self.tokenizer,
            self.end_id,
            training=experiment.training,
            validation=experiment.validation,
            questions_per_subject=experiment.questions,
        )

    @functools.cached_property
    def prompt(self) -> str:
        """The beginning of a text that every model continues."""
        if not self.experiment.texts:
            return TOWN_PROMPT
        first = max(self.corpus.validation, key=len)[:-1]
        return self.tokenizer.decode(first[: max(2, min(12, len(first) // 2))].tolist())

    def calibration(self, seed) -> Calibration:
        """The training documents, in an order that follows from the seed, and the model as the teacher."""
        return Calibration(self.corpus.training, self.model, seed)

    @functools.cached_property
    def dense_nats(self):
        """Nats of the model itself on each validation document."""
        return document_nats(self.model, self.corpus.validation)[0]

    def record(self) -> dict:
        """What a run depends on beside its recipes and seed: with the same, it gives the same models."""
        return {
            "versions": {
                "tinyslm": tinyslm.__version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
                "scipy": scipy.__version__,
                "tokenizers": tokenizers.__version__,
            },
            "machine": platform.machine(),
            "threads": default_threads(),
            "model_digest": digest_of_arrays(named_arrays(self.model)),
            "calibration_digest": digest_of_arrays(dict(enumerate(self.corpus.training))),
            "validation_digest": digest_of_arrays(dict(enumerate(self.corpus.validation))),
        }


_opening = threading.Lock()


def open_inputs(experiment: CompressionOptions, files: str) -> CompressionInputs:
    """The materials of an experiment; those of the last one are kept, since jobs of a sweep share them.

    files: `digest_of_files` where the experiment was planned. Raises ConfigError if they are others here.
    """
    with _opening:  # in one thread, and complete before another takes them
        materials = _last_experiment(experiment, files)
        _ = materials.corpus, materials.dense_nats
        return materials


@functools.lru_cache(maxsize=1)
def _last_experiment(experiment, files):
    if digest_of_files(experiment) != files:
        raise ConfigError(f"{experiment.model}: the files here are not those that the sweep began with")
    return CompressionInputs(experiment)


def digest_of_files(experiment: CompressionOptions) -> str:
    """SHA-256 of an experiment's numbers and of the content of its files: other files, other results."""
    content = hashlib.sha256(repr(experiment).encode())
    directory = find_directory(experiment.model)
    for path in [*sorted(path for path in directory.iterdir() if path.is_file()), *map(Path, experiment.texts)]:
        content.update(f"{path.name}\0".encode())
        with open(path, "rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()


def digest_of_arrays(arrays) -> str:
    """SHA-256 of names, dtypes, shapes and numbers."""
    content = hashlib.sha256()
    for name, array in arrays.items():
        content.update(f"{name} {array.dtype} {array.shape}\0".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def upcast(model):
    """The same model with floating-point matrices in place of compressed ones, so that every recipe can begin."""

    def widened(path, layer):
        if isinstance(layer, Linear | Embedding):
            return layer
        weight = layer.dense_weight()
        return Linear(weight, layer.bias) if isinstance(layer, LinearLayer) else Embedding(weight)

    return map_modules(widened, model, WeightLayer)


def end_of_document(config) -> int:
    """The token between documents: what the model ends with, or else what it begins with, or else token 0."""
    return (*end_tokens(config), config.bos_token_id or 0)[0]
