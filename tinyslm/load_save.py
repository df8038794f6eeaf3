"""Load and save a model together with its tokenizer."""

import warnings
from pathlib import Path
from typing import Any

from tinyslm.checkpoints import load_model, save_model
from tinyslm.checkpoints.directory_contents import snapshot_of
from tinyslm.checkpoints.gguf.finding import find_gguf
from tinyslm.checkpoints.hub import find_model
from tinyslm.errors import CheckpointError, CheckpointWarning
from tinyslm.text.gguf_tokenizer import UnsupportedTokenizer, load_gguf_tokenizer
from tinyslm.text.tokenizer import load_tokenizer
from tinyslm.tree import Module

BUILT_IN = ("teacher",)


def data_directory() -> Path:
    """The directory of the built-in models: inside an installed package, or the folder `data` of a checkout."""
    package = Path(__file__).parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent / "data"


def find_directory(path: str | Path, download: bool = False) -> Path:
    """The directory of a path, of a built-in name or of an id of the hub, or the path of a GGUF file.

    A path that exists is none of the others. Of an entry in a cache of the hub, it is the snapshot. Of a directory with
    a GGUF file and no safetensors files, it is the file.
    download: download an id of the hub first, see `checkpoints.hub`.
    Raises CheckpointError if the directory does not exist, or has several GGUF files.
    """
    directory = Path(path)
    if str(path) in BUILT_IN and not directory.exists():
        directory = data_directory() / str(path)
    elif not directory.exists() and (found := find_model(str(path), download)):
        directory = found
    if not directory.is_dir():
        if file := find_gguf(directory):
            return file
        what = "no such directory"
        if directory.exists():
            what = "is a file, expected the directory of a model with config.json and safetensors files, or a GGUF file"
        raise CheckpointError(f"{path}: {what}; built-in models are {', '.join(BUILT_IN)}")
    directory = snapshot_of(directory)
    return find_gguf(directory) or directory


def load(path: str | Path, weights: str = "float32", download: bool = False) -> tuple[Any, Any]:
    """A model and its tokenizer, from a Hugging Face directory, a GGUF file, the hub's local cache, or a built-in name.

    Parameters
    ----------
    path : str or Path
        Directory with config.json, one or several safetensors files and, if there is a tokenizer, tokenizer.json;
        or a GGUF file, which has the tokenizer too, or a directory with one GGUF file and no safetensors files;
        or the id of a model of the hub, such as "HuggingFaceTB/SmolLM2-135M-Instruct", with "@REVISION" if it is not
        main; or the name of a built-in model ("teacher"). A directory that exists is preferred.
    weights : {"float32", "int8", "mapped", "stored"}
        Form of the weights in memory: dense float32 arrays, quantized to 8 bits during loading, left in the files, or
        quantized weights in the form that they have in the files.
        The last two are for models that do not fit in memory as float32; see `checkpoints.load_model`.
    download : bool
        Whether to download files of a hub id that the local cache does not have. By default nothing is downloaded.
        Ids need the extra "hub"; its package huggingface_hub chooses the cache.

    Returns
    -------
    model : Module
        Decoder, encoder or encoder-decoder.
    tokenizer : tokenizers.Tokenizer or None
        None if the directory has no tokenizer.json, or the kind of tokenizer in a GGUF file is not known (with a
        CheckpointWarning).

    Raises
    ------
    CheckpointError
        If a file or tensor is missing, damaged, unknown or of the wrong shape.
    ConfigError
        If a value in config.json, or a setting in a GGUF file, is wrong or not supported.
    DataError
        If tokenizer.json, or the tokenizer of a GGUF file, is damaged.

    Examples
    --------
    >>> model, tokenizer = load("teacher", weights="mapped")
    >>> model.config.num_hidden_layers, tokenizer.get_vocab_size()
    (6, 1536)
    """
    directory = find_directory(path, download)
    return load_model(directory, weights), _load_tokenizer(directory)


def _load_tokenizer(location):
    """The tokenizer of a directory or of a GGUF file, or None."""
    if location.is_file():
        try:
            return load_gguf_tokenizer(location)
        except UnsupportedTokenizer as problem:
            warnings.warn(f"{problem}; the model is loaded without its tokenizer", CheckpointWarning, stacklevel=3)
            return None
    file = location / "tokenizer.json"
    return load_tokenizer(file) if file.exists() else None


def save(path: str | Path, model: Module, tokenizer: Any = None, dtype: str | None = None) -> None:
    """Write a directory with config.json, model.safetensors and tokenizer.json, completely or not at all.

    Hugging Face transformers loads the directory of a dense model. A CheckpointWarning names the exceptions: sliced
    models of families that derive the head size from other sizes, such as GPT-2. `load` reads every model back bit for
    bit, unless `dtype` rounds it. A model that was loaded, or made from a loaded one, remembers its directory
    (`model.config.source`): the files there for the tokenizer, generation, chat and sentence-transformers are copied.
    The language model of a multimodal checkpoint is saved as its text family, such as gemma3_text.

    Parameters
    ----------
    path : str or Path
        The new directory. It may exist if it is empty.
    model : Module
        Decoder, encoder or encoder-decoder, dense or compressed.
    tokenizer : tokenizers.Tokenizer, optional
        Any object with `save(path)`.
    dtype : {"float32", "float16", "bfloat16"}, optional
        Stored dtype of the weights; compressed modules keep their own dtypes. By default the dtype of the file from
        which the model was loaded, for tensors whose numbers it holds exactly; otherwise float32.

    Raises
    ------
    Error
        If `path` exists and is not empty, or cannot be written.
    ConfigError, CheckpointError
        If the files of the model's family cannot hold the model, or `dtype` cannot hold a number.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> with TemporaryDirectory() as folder:
    ...     save(f"{folder}/model", random_model(llama_shape(31, 16, 20, 1, 4, 2)))
    ...     model, tokenizer = load(f"{folder}/model")
    >>> model.config.hidden_size, tokenizer
    (16, None)
    """
    save_model(path, model, tokenizer, dtype)
