"""Checkpoints saved and evaluated by Hugging Face transformers, and where to find them.

The directories beside this file were made by make.py. If the environment variable TINYSLM_GOLDEN names a directory with
the full set, that is tested instead.
"""

import json
import os
from pathlib import Path

from tinyslm.checkpoints.families import FAMILIES

DIRECTORY = Path(os.environ.get("TINYSLM_GOLDEN", Path(__file__).parent))
LAYOUTS = ("config.json", "config_legacy.json")


def golden_names():
    """The golden checkpoints of the families that tinyslm reads."""
    found = []
    for golden in sorted(DIRECTORY.glob("*/golden.npz")):
        config = json.loads((golden.parent / "config.json").read_text())
        if config["model_type"] in FAMILIES:
            found.append(golden.parent.name)
    return found


def checkpoint_directory(name, layout, directory):
    """A directory that holds one golden checkpoint with its config.json in one of the layouts."""
    for file in (DIRECTORY / name).iterdir():
        if file.name not in LAYOUTS:
            (directory / file.name).symlink_to(file)
    (directory / "config.json").write_bytes((DIRECTORY / name / layout).read_bytes())
    return directory
