"""tinyslm export: write a model in a form that other programs read."""

from tinyslm.commands import export_directory, export_gguf
from tinyslm.commands.parser import MODEL_HELP

TARGETS = {  # {--to: module with DTYPES, {--dtype: stored dtype}, and `run(arguments)`}
    "gguf": export_gguf,
    "compressed-tensors": export_directory,
    "transformers": export_directory,
}


def add_arguments(parser):
    """The options of the command."""
    parser.argument("model", MODEL_HELP)
    parser.argument("out", "new file (gguf) or new directory")
    targets = (
        "gguf: one file for llama.cpp and programs built on it, with the tokenizer; compressed-tensors: a directory "
        "for vLLM and transformers, in which quantized layers keep their codes; transformers: a directory with dense "
        "weights"
    )
    parser.option("--to", None, targets, "FORM", choices=TARGETS, required=True)
    dtypes = f"of gguf {', '.join(export_gguf.DTYPES)}; otherwise {', '.join(export_directory.DTYPES)}"
    parser.option("--dtype", None, f"type of the weights: {dtypes} (default: as the model stores them)", "TYPE")
    without = "gguf only: leave the tokenizer out, if the model has none or one that GGUF cannot hold"
    parser.flag("--no-tokenizer", without)
    parser.download()


def run(arguments) -> int:
    """Write the model and print what was written; returns the exit status."""
    return TARGETS[arguments.to].run(arguments)
