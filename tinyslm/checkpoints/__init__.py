"""Checkpoints in the format of Hugging Face: a directory with config.json and safetensors files."""

from tinyslm.checkpoints.atomic_write import (
    atomic_directory,
    atomic_file,
    check_new_directory,
    remove_directory,
    remove_leftovers,
)
from tinyslm.checkpoints.output_lock import output_lock
from tinyslm.checkpoints.reading import load_model, outline_model, stored_tensors, weight_tensors
from tinyslm.checkpoints.safetensors import StoredTensor, read_safetensors, write_safetensors
from tinyslm.checkpoints.writing import check_savable, checkpoint_tensors, save_model

__all__ = [
    "StoredTensor",
    "atomic_directory",
    "atomic_file",
    "check_new_directory",
    "check_savable",
    "checkpoint_tensors",
    "load_model",
    "outline_model",
    "output_lock",
    "read_safetensors",
    "remove_directory",
    "remove_leftovers",
    "save_model",
    "stored_tensors",
    "weight_tensors",
    "write_safetensors",
]
