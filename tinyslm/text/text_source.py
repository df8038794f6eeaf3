"""Text source: which text a model was trained or compressed on, recorded in corpus.json beside its weights."""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.checkpoints.json_files import read_json, shown
from tinyslm.errors import CheckpointError, DataError
from tinyslm.text.files import DOCUMENT_KINDS, read_documents

CORPUS_RECORD = "corpus.json"  # beside the weights
TOWN = "town"  # name of the built-in corpus
GIVE_TEXT = "give a text with --text FILE"


@dataclass(frozen=True)
class TextSource:
    """The built-in corpus for no files, otherwise files of the user.

    files: absolute paths;  documents: what a document is, as of `read_documents`;  pack_length: as of `text_corpus`;
    sha256: the digest of each file.
    """

    files: tuple[str, ...] = ()
    documents: str = "paragraph"
    pack_length: int | None = None
    sha256: tuple[str, ...] = ()

    @property
    def is_town(self) -> bool:
        """Whether this is the built-in corpus."""
        return not self.files

    def record(self) -> dict[str, Any]:
        """The content of corpus.json, for `save_model(..., records={CORPUS_RECORD: source.record()})`."""
        if self.is_town:
            return {"name": TOWN}
        lists = {"files": list(self.files), "sha256": list(self.sha256)}
        return {"name": "text", "documents": self.documents, "pack_length": self.pack_length, **lists}

    def described(self) -> str:
        """The source in one line: files, kind of documents, packing."""
        if self.is_town:
            return "the built-in corpus"
        packed = "" if self.pack_length is None else f", packed in rows of {self.pack_length} tokens"
        return f"{', '.join(self.files)} (one document per {self.documents}{packed})"

    def check_unchanged(self) -> None:
        """Raise DataError if a file is missing or its content is not that of the digest."""
        for path, digest in zip(self.files, self.sha256, strict=True):
            try:
                found = _digest(path)
            except DataError as problem:
                raise DataError(f"{problem}; it is the text of the model; {GIVE_TEXT}") from None
            if found != digest:
                raise DataError(f"{path}: has changed, it is no longer the text of the model; {GIVE_TEXT}")

    def texts(self) -> list[str]:
        """The documents of the files. Raises DataError like `check_unchanged` and `read_documents`."""
        self.check_unchanged()
        return read_documents(self.files, self.documents)


def names_town(names: list[str] | None) -> bool:
    """Whether the value of --text names the built-in corpus, and not a file of this name."""
    return names == [TOWN] and not os.path.exists(TOWN)


def source_of_files(
    paths: Iterable[str | Path], documents: str = "paragraph", pack_length: int | None = None
) -> TextSource:
    """The text source of files, with their digests.

    Raises DataError for a file that is missing, or that can be read only once, such as a pipe.
    """
    files = tuple(os.path.abspath(path) for path in paths)
    return TextSource(files, documents, pack_length, tuple(map(_digest, files)))


def read_text_source(directory: str | Path) -> TextSource | None:
    """The text source of the model in a directory; None without corpus.json.

    Raises CheckpointError for a damaged file.
    """
    path = Path(directory) / CORPUS_RECORD
    return source_of_record(read_json(path), path) if os.path.lexists(path) else None


def source_of_record(record: dict[str, Any], where: str | Path) -> TextSource:
    """The text source of a record. Raises CheckpointError naming `where` if the record is damaged."""
    if record == {"name": TOWN}:
        return TextSource()
    accepted = {
        "name": lambda value: value == "text",
        "documents": lambda value: isinstance(value, str) and value in DOCUMENT_KINDS,
        "pack_length": lambda value: value is None or (type(value) is int and 2 <= value < 2**31),
        "files": lambda value: _is_list_of(value, _is_file_name),
        "sha256": lambda value: _is_list_of(value, _is_digest) and len(value) == len(record["files"]),
    }
    for key, is_accepted in accepted.items():
        if key not in record or not is_accepted(record[key]):
            found = shown(record[key]) if key in record else "missing"
            raise CheckpointError(f"{where}: {key} is {found}; {GIVE_TEXT}")
    if unknown := record.keys() - accepted:
        raise CheckpointError(f"{where}: has the unknown key {shown(min(unknown))}; {GIVE_TEXT}")
    return TextSource(tuple(record["files"]), record["documents"], record["pack_length"], tuple(record["sha256"]))


def _is_list_of(value, is_accepted):
    """Whether a value is a list of accepted strings; not empty."""
    return (
        isinstance(value, list) and value != [] and all(isinstance(item, str) and is_accepted(item) for item in value)
    )


def _is_file_name(text):
    """Whether the operating system accepts a text as a file name."""
    try:
        return text != "" and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _is_digest(text):
    """Whether a text is a SHA-256 in hexadecimal digits."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def _digest(path):
    """SHA-256 of a file."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise DataError(f"{path}: is not a regular file, so it cannot be read again; write the text to a file")
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
