"""Where a loaded model came from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """The directory or GGUF file that a model was loaded from, and the dtype of most of its weights there.

    A configuration holds it, so that models made from the loaded one (trained, pruned, quantized) have it too. Saving
    uses it: the dtype is kept, and the other files of the directory are copied.
    """

    directory: Path
    dtype: str  # "float32", "float16" or "bfloat16"
