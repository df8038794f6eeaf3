"""A model together with its tokenizer: from a directory, or one of those that come with tinyslm."""

from pathlib import Path

from tinyslm.checkpoints import load_model, save_model
from tinyslm.errors import CheckpointError
from tinyslm.text.tokenizer import load_tokenizer

BUILT_IN = ("teacher",)


def data_directory() -> Path:
    """Where the built-in models are: inside an installed package, or the folder `data` of a checkout."""
    package = Path(__file__).parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent / "data"


def find_directory(path) -> Path:
    """The directory that a path or a built-in name stands for. Raises CheckpointError where there is none."""
    directory = Path(path)
    if str(path) in BUILT_IN and not directory.exists():
        directory = data_directory() / str(path)
    if not directory.is_dir():
        what = "is a file, expected the directory it is in" if directory.exists() else "no such directory"
        raise CheckpointError(f"{path}: {what}; built-in models are {', '.join(BUILT_IN)}")
    return directory


def load(path, weights="float32"):
    """(model, tokenizer) of a built-in name or a Hugging Face directory; the tokenizer is None where there is none.

    weights: "float32"; "int8", quantized on the way; or "mapped", which leaves them in their file: the last two for
    models that would not fit in memory, see `checkpoints.load_model`.
    Raises CheckpointError, ConfigError or DataError (of the tokenizer), naming the file and what was expected of it.
    """
    directory = find_directory(path)
    tokenizer_file = directory / "tokenizer.json"
    return load_model(directory, weights), load_tokenizer(tokenizer_file) if tokenizer_file.exists() else None


def save(path, model, tokenizer=None):
    """Write a directory with config.json, model.safetensors and tokenizer.json, all of it or nothing.

    Dense models load in Hugging Face transformers; every model is read back by `load` bit for bit.
    """
    save_model(path, model, tokenizer=tokenizer)
