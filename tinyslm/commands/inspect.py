"""tinyslm inspect: what a model looks like and what it costs, from shapes alone."""

import json
from pathlib import Path

from tinyslm.checkpoints import outline_model, stored_tensors
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.evaluation.model_summary import inspect_model, inspect_stored
from tinyslm.load_save import BUILT_IN, find_directory
from tinyslm.models import shape_model
from tinyslm.models.catalogue import CATALOGUE
from tinyslm.reporting import units
from tinyslm.reporting.inspect_comparison import KINDS, format_comparison
from tinyslm.reporting.inspect_report import format_inspection

USUAL_CONTEXT = 512  # tokens, of a model without a longest context


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="a directory, a built-in model, or a published shape (without any: a list of them)",
    )
    parser.add_argument("--compare", action="store_true", help="several models side by side")
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="tokens, for what grows with them (default: the longest context; side by side: the shortest of those)",
    )
    parser.add_argument("--json", action="store_true", help="the numbers for a program, not for the eye")
    parser.epilog = f"Published shapes: {', '.join(CATALOGUE)}."


def run(arguments) -> int:
    """Print the models; returns the exit status. Of files, nothing but their headers is read."""
    names = arguments.models
    if not names:
        print(f"built-in models: {', '.join(BUILT_IN)}\npublished shapes: {', '.join(CATALOGUE)}")
        return 0
    if len(names) > 1 and not arguments.compare and not arguments.json:
        raise ConfigError(f"{len(names)} models are given, expected one; --compare shows several side by side")
    opened = {name: _open(name) for name in names}
    limits = {name: getattr(model.config, "max_position_embeddings", None) for name, (model, _) in opened.items()}
    context = _context(arguments.context, limits, together=arguments.compare)
    found = {
        name: inspect_model(model, context or limits[name] or USUAL_CONTEXT) for name, (model, _) in opened.items()
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


def _open(name):
    """(a model of shapes, its stored tensors): from a directory, or from the catalogue, where nothing is stored."""
    if name in CATALOGUE and not Path(name).exists():
        return shape_model(CATALOGUE[name]), None
    try:
        directory = find_directory(name)
    except CheckpointError as problem:
        hint = "" if Path(name).exists() else f"; published shapes are {', '.join(CATALOGUE)}"
        raise CheckpointError(f"{problem}{hint}") from None
    return outline_model(directory), stored_tensors(directory)


def _context(asked, limits, together):
    """The context for all models together, or None where each has its own."""
    if asked is not None and asked < 1:
        raise ConfigError(f"--context is {asked}, expected at least 1 token")
    for name, longest in limits.items():
        if asked is not None and longest is not None and asked > longest:
            raise ConfigError(f"--context is {asked}, but the longest context of {name} is {longest}")
    if asked is None and together:
        return min(longest or USUAL_CONTEXT for longest in limits.values())
    return asked


def _title(name, found, stored):
    where = "its published shape, without weights" if stored is None else "shapes and sizes; its weights are not read"
    kind = KINDS[found["kind"]]
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{units.one_line(name)}: {article} {kind} of the family {found['family']}; {where}"
