"""Files of a checkpoint that this library does not write itself, copied from the directory a model was loaded from.

They say how the tokenizer, the generation, the chat and the sentence embeddings of the model work, and stay true for a
compressed or trained model.
"""

import json
import shutil
from pathlib import Path

from tinyslm.checkpoints.atomic_write import flush_to_disk
from tinyslm.checkpoints.gguf.side_files import read_side_files
from tinyslm.errors import Error

CARRIED = (  # patterns of file names
    "generation_config.json",
    "chat_template.*",
    "additional_chat_templates/*.jinja",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",  # tokenizers in the form of SentencePiece
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "[0-9]*_*/config.json",  # of the modules of sentence-transformers, such as 1_Pooling
)


def carry_files(source: str | Path, target: str | Path):
    """Copy the files of CARRIED that are in the directory `source` into the directory `target`.

    source: or a GGUF file, of which the settings of tokenizer and generation are written as JSON files.
    Raises Error if a file cannot be copied.
    """
    if Path(source).is_file():
        for name, values in read_side_files(source).items():
            (Path(target) / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            flush_to_disk(Path(target) / name)
        return
    for pattern in CARRIED:
        for file in sorted(Path(source).glob(pattern)):
            if not file.is_file():
                continue
            copy = Path(target) / file.relative_to(source)
            try:
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, copy)
                flush_to_disk(copy)
            except OSError as problem:
                raise Error(f"{file}: cannot be copied beside the saved model ({problem.strerror})") from problem
