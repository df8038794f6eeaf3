"""tinyslm inspect: architecture, parameters, memory and multiply-adds of a model, computed from its array shapes."""

import json
from pathlib import Path

from tinyslm.checkpoints import outline_model, weight_tensors
from tinyslm.commands.parser import check_minimum
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.evaluation.model_summary import inspect_model, inspect_stored
from tinyslm.load_save import BUILT_IN, find_directory
from tinyslm.models import shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.reporting.inspect_comparison import KINDS, format_comparison
from tinyslm.reporting.inspect_report import format_inspection
from tinyslm.reporting.plain_text import one_line
from tinyslm.reporting.terminal_table import wrapped

DEFAULT_CONTEXT = 512  # tokens, for a model without max_position_embeddings


def add_arguments(parser):
    """The options of the command."""
    models = (
        "model directory, GGUF file, id in the local cache of the Hugging Face hub, built-in model or published shape; "
        "without MODEL, a list of the last two"
    )
    parser.argument("models", models, nargs="*", metavar="MODEL")
    parser.download()
    parser.flag("--compare", "a table with one column per model")
    context = (
        "context length in tokens for the cost of attention and cache (default: the maximum of the model; with "
        "--compare, the smallest of these maxima)"
    )
    parser.option("--context", None, context, type=int, metavar="N")
    parser.flag("--json", "print the numbers as JSON")
    parser.epilog = f"Published shapes: {', '.join(CATALOGUE)}."


def run(arguments) -> int:
    """Print a report on each model, or the list of known models. Reads only the headers of weight files.

    Returns the exit status.
    """
    names = arguments.models
    if not names:
        lists = (f"built-in models: {', '.join(BUILT_IN)}", f"published shapes: {', '.join(CATALOGUE)}")
        print("\n".join(line for text in lists for line in wrapped(text)))
        return 0
    if len(names) > 1 and not arguments.compare and not arguments.json:
        raise ConfigError(f"{len(names)} models are given, expected one; use --compare to compare several")
    check_minimum(arguments, context=1)
    opened = {name: _open(name, arguments.download) for name in names}
    limits = {name: getattr(model.config, "max_position_embeddings", None) for name, (model, _) in opened.items()}
    context = _context(arguments.context, limits, is_shared=arguments.compare)
    found = {
        name: inspect_model(model, context or limits[name] or DEFAULT_CONTEXT) for name, (model, _) in opened.items()
    }
    stored = {name: inspect_stored(tensors, model) if tensors else None for name, (model, tensors) in opened.items()}
    if arguments.json:
        print(json.dumps({name: found[name] | {"stored": stored[name]} for name in names}, indent=1))
    elif arguments.compare:
        print(format_comparison(found))
    else:
        (name,) = names
        print(format_inspection(_title(name, found[name], stored[name]), opened[name][0], found[name], stored[name]))
    return 0


def _open(name, download):
    """(model without weights, stored tensors) of a model directory, or (model, None) of a published shape."""
    if name in CATALOGUE and not Path(name).exists():
        return shape_model(CATALOGUE[name]), None
    try:
        directory = find_directory(name, download)
    except CheckpointError as problem:
        hint = "" if "/" in name or Path(name).exists() else f"; published shapes are {', '.join(CATALOGUE)}"
        raise CheckpointError(f"{problem}{hint}") from None
    return outline_model(directory), weight_tensors(directory)


def _context(requested, limits, is_shared):
    """The context length for all models; None means that each model has its maximum.

    limits: {name of a model: its maximum, or None}. is_shared: whether all models must have the same context length.
    """
    for name, longest in limits.items():
        if requested is not None and longest is not None and requested > longest:
            raise ConfigError(f"--context is {requested}, but the longest context of {name} is {longest}")
    if requested is None and is_shared:
        return min(longest or DEFAULT_CONTEXT for longest in limits.values())
    return requested


def _title(name, found, stored):
    source = "published shape without weights" if stored is None else "from file headers"
    return f"{one_line(name)}: {KINDS[found['kind']]}, family {found['family']} ({source})"
