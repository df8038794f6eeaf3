"""tinyslm compress: apply compression recipes to a model, and measure each compressed model."""

import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

import tinyslm
from tinyslm.checkpoints import check_savable, output_lock, remove_directory, save_model
from tinyslm.commands.compression_inputs import (
    QUESTIONS_PER_SUBJECT,
    TRAINING_DOCUMENTS,
    CompressionInputs,
    CompressionOptions,
    choose_weights,
    digest_of_files,
    outline_of,
)
from tinyslm.commands.compression_plan import describe_plan, make_plan
from tinyslm.commands.parser import MODEL_HELP, check_minimum, write_text
from tinyslm.commands.progress import Progress
from tinyslm.commands.text_options import choose_text
from tinyslm.commands.training_inputs import say
from tinyslm.commands.unfinished_run import ROWS, add_row, begin, check_free, read_run
from tinyslm.errors import ConfigError, DataError, Error
from tinyslm.evaluation import measure_speeds
from tinyslm.evaluation.loss import document_nats
from tinyslm.load_save import BUILT_IN, load
from tinyslm.recipes import STEPS, Recipe, compress
from tinyslm.recipes.default_recipes import LARGE_MODEL, MAPPED_MODEL, presets, select_recipes
from tinyslm.recipes.recipe_files import is_recipe_file, make_step, read_recipes, recipe_entry
from tinyslm.reporting import format_table, render_page
from tinyslm.reporting.html_template import write_page
from tinyslm.text.text_source import source_of_files, source_of_record

MODEL, SEED = "teacher", 0
ROUNDS, LARGE_MODEL_ROUNDS = 9, 3  # of the speed measurement


def add_arguments(parser):
    """The options of the command. The default None tells --resume that an option is not given."""
    parser.option("model", None, f"{MODEL_HELP} (default: {MODEL})", "MODEL", nargs="?")
    parser.download()
    parser.text("for calibration and validation")
    recipes = (
        "recipes to apply: names of built-in recipes (an unknown name lists them), recipe files (.toml), the "
        "results.json of another run, or the built-in lists training and no-training (default: training for up to "
        f"{LARGE_MODEL // 1_000_000} million parameters, otherwise no-training)"
    )
    parser.option("--recipe", None, recipes, "NAME", nargs="+")
    weights = (
        "weights of MODEL in memory: float32, or mapped, which reads them from the files a block at a time (default: "
        f"mapped above {MAPPED_MODEL // 1_000_000} million parameters, if all recipes can read them so)"
    )
    parser.option("--weights", None, weights, "FORM", choices=("float32", "mapped"))
    parser.option("--out", "compressed", "output directory for models and report", "DIR")
    parser.flag("--resume", "resume the interrupted run in DIR; finished models are kept")
    parser.flag("--thorough", "ten times the training, five times the exam questions")
    parser.option("--seed", None, f"seed of the order of training documents (default: {SEED})", type=int)


def run(arguments) -> int:
    """Compress and measure, print the table, and write the models, results.json and report.html.

    Returns the exit status: 1 if a recipe failed, or files were removed from DIR while the command ran.
    """
    check_minimum(arguments, seed=0)
    out = Path(arguments.out)
    with output_lock(arguments.out):
        try:
            return resume(arguments, out) if arguments.resume else start(arguments, out)
        except KeyboardInterrupt:
            if not (out / ROWS).exists():
                raise
            resume_with = f"Resume with\n{_resume_command(out)}"
            print(f"tinyslm: interrupted; the finished models are kept. {resume_with}", file=sys.stderr)
            return 130


def start(arguments, out) -> int:
    """A new run."""
    began = time.perf_counter()
    name = MODEL if arguments.model is None else arguments.model
    read = [recipe for name in arguments.recipe or () if is_recipe_file(name) for recipe in read_recipes(name, STEPS)]
    check_free(out)
    model, text = _absolute(name), choose_text(arguments, name)
    outline = outline_of(model)
    recipes = choose_recipes(arguments.recipe, read, outline, arguments.thorough)
    weights = choose_weights(arguments.weights, outline, recipes)
    inputs = CompressionInputs(compression_options(model, text, arguments.thorough, weights))
    details = {
        "name": name,
        "model": model,
        "seed": SEED if arguments.seed is None else arguments.seed,
        "thorough": arguments.thorough,
        "weights": weights,
        "text": text.record(),
        "recipes": [recipe_entry(recipe) for recipe in recipes],
        "files": digest_of_files(inputs.options),
        "record": inputs.record(),
    }
    begin(out, details)
    return complete(out, details, inputs, recipes, {}, began)


def resume(arguments, out) -> int:
    """Go on with an interrupted run."""
    began = time.perf_counter()
    if (out / "results.json").exists() and not (out / ROWS).exists():
        print(f"{out}: this run is already complete")
        return 0
    details, finished = read_run(out)
    details = {"weights": "float32"} | details  # a run of an earlier version does not state them
    for option, value, recorded in (
        ("MODEL", arguments.model and _absolute(arguments.model), details["model"]),
        ("--seed", arguments.seed, details["seed"]),
        ("--thorough", arguments.thorough or None, details["thorough"]),
        ("--weights", arguments.weights, details["weights"]),
    ):
        if value is not None and value != recorded:
            raise ConfigError(f"{option} is {value}, but this run began with {recorded}; leave it out with --resume")
    text = source_of_record(details["text"], out / ROWS)
    if source_of_files(text.files, text.documents, text.pack_length) != text:
        raise DataError(f"{out}: the text has changed since this run began; start a new run")
    if (arguments.text or arguments.documents or arguments.pack) and choose_text(arguments, details["model"]) != text:
        raise ConfigError(f"--text is not the text of this run ({text.described()}); leave it out with --resume")
    options = compression_options(details["model"], text, details["thorough"], details["weights"])
    if digest_of_files(options) != details["files"]:
        raise ConfigError(f"{out}: the model {details['model']} has changed since this run began; start a new run")
    inputs = CompressionInputs(options)
    _check_same(out, inputs.record(), details["record"])
    recipes = [
        Recipe(entry["name"], tuple(make_step(step, STEPS, out / ROWS) for step in entry["step"]), entry["description"])
        for entry in details["recipes"]
    ]
    if arguments.recipe:
        read = [recipe for name in arguments.recipe if is_recipe_file(name) for recipe in read_recipes(name, STEPS)]
        if choose_recipes(arguments.recipe, read, outline_of(options.model), details["thorough"]) != recipes:
            raise ConfigError("--recipe names other recipes than those of this run; leave it out with --resume")
    earlier = max((line["seconds"] for line in finished.values()), default=0)
    return complete(out, details, inputs, recipes, finished, began - earlier)


def compression_options(model, text, thorough, weights) -> CompressionOptions:
    """The options of the inputs. Of the town, the test documents are measured: no settings were chosen on them."""
    return CompressionOptions(
        model,
        text,
        training=TRAINING_DOCUMENTS * (10 if thorough else 1),
        questions=QUESTIONS_PER_SUBJECT * (5 if thorough else 1),
        weights=weights,
        split="test" if text.is_town else "validation",
    )


def choose_recipes(names, read, model, thorough) -> list[Recipe]:
    """The recipes of --recipe, or the default ones. read: those of the recipe files among the names."""
    lists = presets(model, thorough)
    return select_recipes([name for name in names or ["default"] if not is_recipe_file(name)], lists, read)


def _absolute(model):
    """A built-in name, or the absolute path of a directory: `--resume` may run in another directory."""
    return os.path.abspath(model) if Path(model).exists() else model


def _check_same(out, record, recorded):
    """Raise ConfigError if the inputs are not those with which a run began."""
    for name, value in {**record.pop("versions"), **record}.items():
        before = {**recorded["versions"], **recorded}[name]
        if value != before:
            raise ConfigError(f"{out}: {name} is {value}, but this run began with {before}; start a new run")


def complete(out, details, inputs, recipes, finished, began) -> int:
    """Compress and measure what is missing, measure all speeds, print and write. Returns the exit status.

    finished: {directory: line} as of `read_run`.
    """
    calibration = inputs.calibration(details["seed"])
    left = [recipe for recipe in recipes if recipe.directory not in finished]
    rounds = LARGE_MODEL_ROUNDS if inputs.is_large else ROUNDS
    say(describe_plan(make_plan(inputs, calibration, left, len(finished), rounds), inputs, left))
    with Progress(len(recipes), "model") as progress:
        rows, failed = _make_rows(out, inputs, calibration, recipes, finished, began, progress)
        models = _SavedModels(out, rows, details["weights"])
        are_measured = _measure_speeds(out, rows, models, rounds, lambda text: progress.show(len(rows), text))
    results = _results(details, inputs, rows, failed, time.perf_counter() - began)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
    print(format_table(results))
    if are_measured:
        print("", write_page(out / "report.html", render_page, results), sep="\n")
    missing = [row["directory"] for row in rows if not _is_complete(out / row["directory"], row)]
    missing += ["results.json"] * (not (out / "results.json").is_file())
    if not failed:
        (out / ROWS).unlink(missing_ok=True)
    if missing:
        print(f"tinyslm: {out}: removed while the command ran: {', '.join(missing)}; run it again", file=sys.stderr)
    if failed:
        names = ", ".join(each["name"] for each in failed)
        print(f"tinyslm: failed: {names}. Try again with\n{_resume_command(out)}", file=sys.stderr)
    return 1 if missing or failed else 0


def _make_rows(out, inputs, calibration, recipes, finished, began, progress):
    """(rows, [{name, error}] of the recipes that failed). Without the first recipe, the dense model, there is no table.

    finished, began: as of `complete`.
    """
    rows, failed, dense_nats = [], [], None
    for number, recipe in enumerate(recipes):
        if recipe.directory in finished:
            rows.append(finished[recipe.directory]["row"])
            continue

        def show(text, number=number, name=recipe.name):
            progress.show(number, f"{name}: {text}")

        if rows and dense_nats is None:
            dense_nats = _dense_nats(out / rows[0]["directory"], inputs)
        try:
            row, nats = _make_row(out, inputs, calibration, recipe, dense_nats, show)
        except (Error, MemoryError) as problem:
            if not rows:
                raise
            error = str(problem) or type(problem).__name__
            progress.write(f"tinyslm: {recipe.name}: {error}")
            failed.append({"name": recipe.name, "error": error})
            continue
        dense_nats = nats if dense_nats is None else dense_nats
        add_row(out, row, time.perf_counter() - began)
        rows.append(row)
    return rows, failed


def _dense_nats(directory, inputs):
    """Nats of the saved dense model on each validation document."""
    model, _ = load(directory, inputs.options.weights)
    return document_nats(model, inputs.corpus.validation)[0]


def _make_row(out, inputs, calibration, recipe, dense_nats, show):
    """Compress, measure and save one model. Returns its row, and its nats on each validation document."""
    compressed, steps = compress(inputs.model, recipe, calibration, progress=show, check=check_savable)
    measured, nats = inputs.measure(compressed, dense_nats, show)
    directory = out / recipe.directory
    out.mkdir(parents=True, exist_ok=True)
    if directory.exists():  # of a run that was killed before it recorded the row
        remove_directory(directory)
    dtype = "float32" if inputs.options.model in BUILT_IN else None  # the published table compares float32 files
    save_model(directory, compressed, inputs.tokenizer, dtype, inputs.records)
    row = {"name": recipe.name, "directory": recipe.directory, "description": recipe.description, "steps": steps}
    size = (directory / "model.safetensors").stat().st_size
    row = json.loads(json.dumps(row | measured | {"disk_bytes": size}))  # as it is read again: lists for tuples
    return row, nats


class _SavedModels:
    """The models of the rows, each loaded when it is reached and not kept.  weights: as of `load`."""

    def __init__(self, out, rows, weights):
        self.directories, self.weights = [out / row["directory"] for row in rows], weights

    def __iter__(self):
        for directory in self.directories:
            yield load(directory, self.weights)[0]


def _measure_speeds(out, rows, models, rounds, show) -> bool:
    """Add the speeds to the rows. False, and no speeds, if models were removed while the command ran."""
    try:
        measured = measure_speeds(models, rounds=rounds, progress=show)
    except (Error, OSError):
        if all(_is_complete(out / row["directory"], row) for row in rows):
            raise
        return False
    for row, speeds in zip(rows, measured, strict=True):
        row["prompt_speed"], row["generation_speed"] = map(asdict, speeds)
    return True


def _resume_command(out):
    return shlex.join(["tinyslm", "compress", "--out", str(out), "--resume"])


def _is_complete(directory, row):
    """Whether the files of a model are there, with all of the weights."""
    weights = directory / "model.safetensors"
    others = [directory / name for name in ("config.json", "tokenizer.json", "corpus.json")]
    return all(map(Path.is_file, (weights, *others))) and weights.stat().st_size == row["disk_bytes"]


def _results(details, inputs, rows, failed, seconds):
    """The content of results.json.  failed: as of `_make_rows`."""
    config, corpus = inputs.model.config, inputs.corpus
    shape = ("family", "hidden_size", "intermediate_size", "vocab_size")
    return {
        "version": tinyslm.__version__,
        "seed": details["seed"],
        "thorough": details["thorough"],
        "weights": details["weights"],
        "seconds": round(seconds, 1),
        "record": details["record"],
        "model": {
            "name": details["name"],
            "layers": config.num_hidden_layers,
            "context": config.max_position_embeddings,
            **{key: getattr(config, key) for key in shape},
        },
        "corpus": {
            **details["text"],
            "training_documents": len(corpus.training),
            "split": inputs.options.split,
            "validation_documents": len(corpus.validation),
            "validation_tokens": rows[0]["loss"]["tokens"],
            "validation_bytes": corpus.validation_bytes,
            "floor": corpus.floor and vars(corpus.floor),
            "questions": len(corpus.questions),
        },
        "rows": rows,
        "failed": failed,
    }
