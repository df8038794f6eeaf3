"""GGUF files among the files of a model."""

from pathlib import Path

from tinyslm.checkpoints.directory_contents import file_names
from tinyslm.checkpoints.gguf.container import is_gguf
from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import CheckpointError

ENDING = ".gguf"
OTHER_PARTS = "mmproj"  # beginning of the names of files that hold the encoder of images


def find_gguf(path: str | Path) -> Path | None:
    """The GGUF file at a path, or the only one in a directory without safetensors files; None if there is none.

    Raises CheckpointError for a directory with several.
    """
    path = Path(path)
    if path.is_file():
        return path if path.suffix == ENDING or is_gguf(path) else None
    names = file_names(path)
    found = [name for name in names if name.endswith(ENDING) and not name.startswith(OTHER_PARTS)]
    if not found or any(name.endswith(".safetensors") for name in names):
        return None
    if len(found) > 1:
        raise CheckpointError(
            f"{path}: holds {len(found)} GGUF files: give the path of one, such as {shown(str(path / found[0]))}"
        )
    return path / found[0]
