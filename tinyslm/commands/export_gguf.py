"""tinyslm export --to gguf: a model and its tokenizer in one file."""

from tinyslm.errors import ConfigError

DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0", "q4_1": "Q4_1"}


def run(arguments) -> int:
    """Write the file and print its size; returns the exit status."""
    raise ConfigError("--to gguf is not available yet")
