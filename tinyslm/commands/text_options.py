"""The text that a command measures and calibrates on: --text, or the text that the model was trained on."""

import os
import sys

from tinyslm.checkpoints import outline_model
from tinyslm.commands.loading import require_kind
from tinyslm.errors import ConfigError, DataError
from tinyslm.load_save import find_directory
from tinyslm.models import Decoder
from tinyslm.text.text_source import CORPUS_RECORD, GIVE_TEXT, TextSource, names_town, read_text_source, source_of_files

LONGEST_PACK = 1024  # tokens of a packed row, for models with a longer context
LARGE_TEXT = 2_000_000  # bytes that take seconds to encode


def choose_text(arguments, model: str) -> TextSource:
    """The source that --text, --documents and --pack name; without --text, the one recorded beside the model.

    Packed rows have the length of the model's context, at most LONGEST_PACK. A recorded text, and the encoding of a
    large one, are reported on standard error. Raises ConfigError for a model that is not a decoder, and DataError if no
    text is recorded, or a file is missing or has changed.
    """
    outline = outline_model(find_directory(model))
    require_kind(outline, model, Decoder, "measuring on text")
    names = arguments.text
    is_town = names_town(names)
    if not names or is_town:
        if arguments.documents or arguments.pack:
            raise ConfigError("--documents and --pack can only be used with --text FILE")
        source = TextSource() if is_town else recorded_text(model)
    else:
        context = outline.config.max_position_embeddings or LONGEST_PACK
        pack_length = min(context, LONGEST_PACK) if arguments.pack else None
        source = source_of_files(names, arguments.documents or "paragraph", pack_length)
    size = sum(map(os.path.getsize, source.files))
    if size >= LARGE_TEXT:
        print(f"encoding {size / 1e6:,.0f} MB of text", file=sys.stderr)
    return source


def recorded_text(model: str) -> TextSource:
    """The source recorded beside a model. The user's files are reported on standard error."""
    source = read_text_source(find_directory(model))
    if source is None:
        raise DataError(f"{model}: no {CORPUS_RECORD} says what text it was trained on; {GIVE_TEXT}")
    source.check_unchanged()
    if not source.is_town:
        print(f"text of the model: {source.described()}", file=sys.stderr)
    return source
