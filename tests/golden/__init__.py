"""Checkpoints saved and evaluated by Hugging Face transformers, and where to find them.

The directories beside this file were made by make.py. If the environment variable TINYSLM_GOLDEN names a directory with
the full set, that is tested instead.
"""

import json
import os
from pathlib import Path

from tinyslm.checkpoints.families import FAMILIES
from tinyslm.checkpoints.families.multimodal import language_model_values

DIRECTORY = Path(os.environ.get("TINYSLM_GOLDEN", Path(__file__).parent))
LAYOUTS = ("config.json", "config_legacy.json")


def golden_names(kind=None):
    """The golden checkpoints of the families that tinyslm reads; `kind` is a class of configurations, None for all."""
    found = []
    for golden in sorted(DIRECTORY.glob("*/golden.npz")):
        config = json.loads((golden.parent / "config.json").read_text())
        family = FAMILIES.get(language_model_values(config, golden.parent)["model_type"])
        if family is not None and kind in (None, family.config):
            found.append(golden.parent.name)
    return found


def checkpoint_directory(name, layout, directory):
    """A directory that holds one golden checkpoint with its config.json in one of the layouts."""
    for file in (DIRECTORY / name).iterdir():
        if file.name not in LAYOUTS:
            (directory / file.name).symlink_to(file)
    (directory / "config.json").write_bytes((DIRECTORY / name / layout).read_bytes())
    return directory
