"""DIR.training: everything that resumes an unfinished training to DIR.

corpus.json says what the text is, training.json holds the options, tokenizer.json the tokenizer, state.safetensors the
last saved state, best.safetensors the parameters with the lowest validation loss so far, and `start` the model of
--from.
"""

import json
import re
from pathlib import Path

from tinyslm.checkpoints import atomic_directory, check_new_directory, remove_directory, save_model
from tinyslm.checkpoints.json_files import read_json, shown
from tinyslm.commands.parser import write_text
from tinyslm.commands.training_options import check_recorded
from tinyslm.errors import CheckpointError, ConfigError, DataError, Error
from tinyslm.text.text_source import CORPUS_RECORD, TextSource, read_text_source, source_of_files
from tinyslm.training.checkpoint import save_state

RECORD = "training.json"  # options and results, also beside the weights of the finished model
TOKENIZER, STATE, BEST, START = "tokenizer.json", "state.safetensors", "best.safetensors", "start"


def check_free(out: Path, directory: Path, overwrite: bool):
    """Raise Error if a training to `out` has begun or ended, unless `overwrite`; and for anything else there."""
    if not (out / RECORD).exists():
        check_new_directory(out)
    elif not overwrite:
        raise Error(f"{out}: exists already; choose another --out, or replace the model with --overwrite")
    if directory.exists() and not overwrite:
        raise Error(f"{directory}: an unfinished training; resume it with --resume, or start again with --overwrite")


def begin(directory: Path, record, source: TextSource, tokenizer, state, start):
    """Write everything that --resume needs, atomically: a killed process leaves nothing or a complete directory.

    start: the model of --from, or None.
    """
    with atomic_directory(directory) as temporary:
        write_text(temporary / TOKENIZER, tokenizer.to_str(pretty=True))
        write_text(temporary / RECORD, json.dumps(record, indent=1))
        write_text(temporary / CORPUS_RECORD, json.dumps(source.record(), indent=1))
        save_state(temporary / STATE, state)
        if start is not None:
            save_model(temporary / START, start)


def remove_outputs(out: Path, directory: Path):
    """Remove a finished and an unfinished training, and nothing else."""
    for path in (directory, out):
        if (path / RECORD).exists():
            remove_directory(path)


def read_record(directory: Path) -> tuple[dict, TextSource]:
    """The record of a training and its text. Raises Error if they are missing, incomplete, or not valid."""
    path = directory / RECORD
    if not path.exists():
        raise Error(f"{directory}: no training to resume; start one without --resume")
    try:
        record = read_json(path)
    except CheckpointError as problem:
        raise Error(f"{problem}; no training to resume") from None
    source = read_text_source(directory)
    if source is None:
        raise Error(f"{directory}: has no {CORPUS_RECORD}; no training to resume")
    check_recorded(record.get("options"), path, source.is_town)
    digest = record.get("data_sha256")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ConfigError(f"{path}: data_sha256 is {shown(digest)}, expected 64 hexadecimal digits")
    return record, source


def check_same_text(directory: Path, source: TextSource):
    """Raise DataError if the files of an unfinished training are missing, or have changed."""
    if source_of_files(source.files, source.documents, source.pack_length) != source:
        raise changed_text(directory)


def changed_text(directory: Path) -> DataError:
    """The error for a text that is not that of the training."""
    return DataError(f"{directory}: the text has changed since this training started; start again with --overwrite")


def is_finished(out: Path, directory: Path) -> bool:
    """Whether the model is complete. The process may have been killed before it removed the training directory."""
    try:
        finished, _ = read_record(out)
    except Error:
        return False
    record = read_record(directory)[0] if directory.exists() else {}
    return all(finished.get(key) == value for key, value in record.items())
