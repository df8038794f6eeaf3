"""The text of a run in words."""

from pathlib import Path

from tinyslm.reporting.plain_text import joined, shorten

LONGEST_NAMES = 60  # terminal columns


def corpus_text(corpus: dict) -> str:
    """The names of the files, and what a document is. corpus: content of corpus.json, or the corpus of results.json."""
    if corpus["name"] == "town":
        return "the built-in corpus"
    names = [Path(name).name for name in corpus["files"]]
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more files"]
    packed = "" if corpus["pack_length"] is None else f", packed in rows of {corpus['pack_length']:,} tokens"
    return f"{shorten(joined(names), LONGEST_NAMES)} (one document per {corpus['documents']}{packed})"
