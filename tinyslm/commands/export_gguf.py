"""tinyslm export --to gguf: a model and its tokenizer in one file."""

from pathlib import Path

from tqdm import tqdm

from tinyslm.checkpoints import weight_tensors
from tinyslm.checkpoints.encoded_tensor import EncodedTensor
from tinyslm.checkpoints.generation_config import read_generation_config
from tinyslm.checkpoints.gguf.metadata import exported_config
from tinyslm.checkpoints.gguf.writing import check_new_file, save_gguf
from tinyslm.commands.loading import require_kind
from tinyslm.errors import ConfigError
from tinyslm.load_save import find_directory, load
from tinyslm.models import Decoder
from tinyslm.reporting.number_format import size
from tinyslm.reporting.plain_text import one_line
from tinyslm.reporting.terminal_table import wrapped
from tinyslm.text.gguf_tokenizer import UnsupportedTokenizer
from tinyslm.text.gguf_vocabulary import vocabulary_metadata

DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0", "q4_1": "Q4_1"}


def run(arguments) -> int:
    """Write the file and print what it holds; returns the exit status."""
    out, dtype = Path(arguments.out), arguments.dtype and arguments.dtype.lower()
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"--dtype is {arguments.dtype}, expected one of {', '.join(DTYPES)}")
    check_new_file(out)
    directory = find_directory(arguments.model)
    is_quantized = any(isinstance(tensor, EncodedTensor) for tensor in weight_tensors(directory).values())
    model, tokenizer = load(directory, "stored" if is_quantized else "mapped")
    require_kind(model, arguments.model, Decoder, "a GGUF file")
    exported_config(model.config, arguments.model)  # refuses a family before the tokenizer is read
    vocabulary, losses = None, ["there is no tokenizer in the file: programs take token ids only"]
    if not arguments.no_tokenizer:
        vocabulary, losses = _vocabulary(arguments.model, directory, model, tokenizer)

    def progress(plans):
        return tqdm(plans, unit="tensor", disable=None, leave=False)

    export = save_gguf(out, model, dtype and DTYPES[dtype], vocabulary, progress)
    lines = wrapped(f"{one_line(str(out))}: GGUF, architecture {export.architecture}, {size(out.stat().st_size)}")
    for name, (count, number) in export.types.items():
        lines.append(f"  {name:<5} {count:>5} tensors  {size(number):>8}")
    for note in [*map(_sentence, export.layers), *export.notes, *losses]:
        lines += wrapped(note, indent="- ")
    print("\n".join(lines))
    return 0


def _sentence(layers):
    """Sentence on the form of compressed layers."""
    form = f"codes kept in {layers.type}" if layers.codes else f"dense matrices in {layers.type}"
    return f"{layers.count} {layers.kind}: {form}, {size(layers.written_bytes)} in place of {size(layers.own_bytes)}"


def _vocabulary(name, directory, model, tokenizer):
    """(metadata, losses) as of `vocabulary_metadata`. Raises ConfigError for a model without such a tokenizer."""
    otherwise = "; with --no-tokenizer the file holds none, and programs take token ids only"
    if tokenizer is None:
        raise ConfigError(f"{name}: has no tokenizer{otherwise}")
    config = model.config
    own = config.eos_token_id
    ends = [] if own is None else [own] if isinstance(own, int) else list(own)
    ends = list(dict.fromkeys([*read_generation_config(directory).end_tokens, *ends]))
    try:
        return vocabulary_metadata(tokenizer, config.vocab_size, ends, config.bos_token_id, config.pad_token_id)
    except UnsupportedTokenizer as problem:
        raise ConfigError(f"{name}: {problem}{otherwise}") from None
