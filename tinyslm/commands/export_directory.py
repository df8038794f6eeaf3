"""tinyslm export --to compressed-tensors or transformers: a directory that transformers loads."""

from tinyslm.checkpoints import check_new_directory, stored_tensors, weight_tensors
from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.quantized.compressed_tensors_export import export_compressed_tensors
from tinyslm.checkpoints.safetensors import STORED_AS
from tinyslm.checkpoints.transformers_export import export_transformers
from tinyslm.errors import ConfigError
from tinyslm.load_save import find_directory, load
from tinyslm.reporting.number_format import size
from tinyslm.reporting.plain_text import one_line
from tinyslm.reporting.terminal_table import wrapped

DTYPES = STORED_AS
EXPORTS = {"compressed-tensors": export_compressed_tensors, "transformers": export_transformers}


def run(arguments) -> int:
    """Write the directory and print what it holds; returns the exit status.

    Dense weights stay in the files of the model until they are written.
    """
    if arguments.dtype not in (None, *DTYPES):
        raise ConfigError(f"--dtype is {arguments.dtype}, expected one of {', '.join(DTYPES)}")
    if arguments.no_tokenizer:
        raise ConfigError(f"--no-tokenizer is for gguf, found --to {arguments.to}")
    check_new_directory(arguments.out)
    directory = find_directory(arguments.model)
    tensors = weight_tensors(directory).values()
    is_quantized = any(isinstance(tensor, EncodedTensor) for tensor in tensors)
    model, tokenizer = load(directory, "stored" if is_quantized else "mapped")
    exported = EXPORTS[arguments.to](arguments.out, model, tokenizer, arguments.dtype)
    written = sum(tensor.nbytes for tensor in stored_tensors(arguments.out).values())
    own = sum(tensor.nbytes for tensor in tensors)
    sizes = f"{arguments.to}, {size(written)}; {one_line(arguments.model)}: {size(own)}"
    lines = wrapped(f"{one_line(arguments.out)}: {sizes}")
    for form, count in exported.forms.items():
        lines += wrapped(form, indent=f"  {count:>5} matrices  ")
    for note in [*map(_sentence, exported.folded), *exported.notes]:
        lines += wrapped(note, indent="- ")
    print("\n".join(lines))
    return 0


def _sentence(layers):
    """Sentence on folded layers."""
    names = layers.paths[0] if len(layers.paths) == 1 else f"{layers.paths[0]}, ..."
    verb = "is a dense matrix" if len(layers.paths) == 1 else "are dense matrices"
    sizes = f"{size(layers.written_bytes)} in place of {size(layers.own_bytes)}"
    why = f": {layers.reason}" if layers.reason else ""
    return f"{len(layers.paths)} {layers.kind} ({names}) {verb}, {sizes}{why}"
