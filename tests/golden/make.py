"""Make the golden checkpoints of this directory from a full set: python make.py FULL_SET [NAME ...]

The full set was saved and evaluated by Hugging Face transformers (float32, CPU). Per checkpoint: config.json,
config_legacy.json (the same model in the older layout), model.safetensors, and golden.npz, whose keys are those of
transformers. To keep it small, hidden states and attentions are those of the first sequence only, and of each gradient
only every GRADIENT_STRIDE-th row is kept (the stride is stored too).
"""

import shutil
import sys
from pathlib import Path

import numpy as np

NAMES = ("llama3", "mistral", "gpt2", "mixtral")
LEFT_OUT = ("meta", "gen_margin", "router_margin", "aux_loss")
GRADIENT_STRIDE = 5


def kept(name, array):
    """The part of an array that is kept."""
    if name.startswith(("hidden_states.", "attentions.")):
        return array[:1]
    return array[::GRADIENT_STRIDE] if name.startswith("grad.") else array


def trim(source, target):
    """Copy one checkpoint without what no test needs."""
    target.mkdir(exist_ok=True)
    for name in ("config.json", "config_legacy.json", "model.safetensors"):
        shutil.copyfile(source / name, target / name)
    golden = np.load(source / "golden.npz")
    arrays = {name: kept(name, golden[name]) for name in golden.files if name not in LEFT_OUT}
    np.savez_compressed(target / "golden.npz", gradient_stride=GRADIENT_STRIDE, **arrays)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[2:] or NAMES:
        trim(Path(sys.argv[1]) / name, Path(__file__).parent / name)
