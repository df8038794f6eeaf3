"""Error messages for directories without a model in safetensors files: other formats, adapters, caches of the hub."""

import json
import os
from itertools import islice
from pathlib import Path

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import CheckpointError

MOST_ENTRIES = 10_000  # of a directory that are looked at
ADAPTER = "adapter_config.json"
SAVE_AGAIN = "load the model with the library that wrote it, and save it as safetensors"
OTHER_FORMATS = {  # ending of a file name: what it is, and what to do
    ".bin": ("pickled PyTorch weights, which can execute code when they are read", SAVE_AGAIN),
    ".pth": ("pickled PyTorch weights, which can execute code when they are read", SAVE_AGAIN),
    ".pt": ("pickled PyTorch weights, which can execute code when they are read", SAVE_AGAIN),
    ".h5": ("TensorFlow weights", SAVE_AGAIN),
    ".msgpack": ("Flax weights", SAVE_AGAIN),
    ".onnx": ("an ONNX graph", SAVE_AGAIN),
}
SLOW_TOKENIZERS = ("tokenizer.model", "spiece.model", "vocab.txt", "vocab.json")


def file_names(directory: str | Path) -> list[str]:
    """Sorted names of the entries of a directory, at most MOST_ENTRIES of them; none if it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in islice(entries, MOST_ENTRIES))
    except OSError:
        return []


def instead_of_model(directory: str | Path) -> str:
    """Description of the other format in a directory without config.json or safetensors files; "" if it is unknown.

    It ends with what to do.
    """
    directory, names = Path(directory), file_names(directory)
    if ADAPTER in names:
        return f"holds an adapter ({ADAPTER}) and not a whole model: merge it into its base model{_base_of(directory)}"
    cached = [name for name in names if name.startswith("models--")]
    if cached:
        return (
            f"is a cache of the hub with {len(cached)} entries: give the directory of one, such as {shown(cached[0])}"
        )
    for ending, (what, advice) in OTHER_FORMATS.items():
        found = [name for name in names if name.endswith(ending)]
        if found:
            return f"holds {shown(found[0])}, {what}, and no safetensors file: {advice}"
    models = [name for name in names if (directory / name / "config.json").is_file()]
    if models:
        return f"holds no model, but directories of models: give one of them, such as {shown(models[0])}"
    return ""


def _base_of(directory):
    """The name of the base model of an adapter with a space before it, or ""."""
    try:
        name = json.loads((directory / ADAPTER).read_text("utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return f" {shown(name)}" if isinstance(name, str) else ""


def instead_of_tokenizer(directory: str | Path) -> str:
    """Description of the tokenizer files in a directory without tokenizer.json, with advice; "" if there are none."""
    names = file_names(directory)
    found = [name for name in SLOW_TOKENIZERS if name in names]
    if not found:
        return ""
    return (
        f"only {found[0]} of another form of tokenizer: load it with transformers.AutoTokenizer, and save it to get "
        "tokenizer.json"
    )


def snapshot_of(directory: Path) -> Path:
    """The directory of the files, if `directory` is a model's entry in a cache of the hub; otherwise `directory`.

    The entry has snapshots/REVISION/ with the files, and refs/main with the revision that is followed.
    Raises CheckpointError if that revision is not there.
    """
    if not (directory / "snapshots").is_dir() or (directory / "config.json").exists():
        return directory
    try:
        revision = (directory / "refs" / "main").read_bytes()[:200].decode("ascii").strip()
    except (OSError, ValueError):
        revision = ""
    snapshot = directory / "snapshots" / revision
    if not revision or Path(revision).name != revision or revision in (".", "..") or not snapshot.is_dir():
        found = file_names(directory / "snapshots")
        advice = f"give the path of one, such as {shown('snapshots/' + found[0])}" if found else "load it again"
        raise CheckpointError(
            f"{directory}: is an entry of a cache of the hub, but refs/main names {shown(revision)}, which is not "
            f"among its {len(found)} snapshots; {advice}"
        )
    return snapshot
