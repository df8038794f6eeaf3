"""tinyslm compress: apply compression recipes to a model, and measure each compressed model."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

import tinyslm
from tinyslm.checkpoints import check_new_directory, output_lock, save_model
from tinyslm.commands.compression_inputs import (
    QUESTIONS_PER_SUBJECT,
    TRAINING_DOCUMENTS,
    CompressionInputs,
    CompressionOptions,
)
from tinyslm.commands.parser import check_minimum, write_text
from tinyslm.evaluation import measure_speeds
from tinyslm.recipes import STEPS, compress, default_recipes
from tinyslm.recipes.default_recipes import select_recipes
from tinyslm.recipes.recipe_files import is_recipe_file, read_recipes
from tinyslm.reporting import format_table, render_page
from tinyslm.reporting.html_template import write_page


def add_arguments(parser):
    """The options of the command."""
    parser.model()
    parser.text("for calibration and validation")
    recipes = (
        "recipes to apply: names of built-in recipes, recipe files (.toml), or the results.json of another run "
        "(default: all built-in recipes)"
    )
    parser.option("--recipe", None, recipes, "NAME", nargs="+")
    parser.option("--out", "compressed", "output directory for models and report", "DIR")
    parser.flag("--thorough", "ten times the training, five times the exam questions")
    parser.option("--seed", 0, "seed of the order of training documents")


def run(arguments) -> int:
    """Compress and measure, print the table, and write the models, results.json and report.html.

    Returns the exit status: 1 if files were removed from DIR while the command ran.
    """
    check_minimum(arguments, seed=0)
    with output_lock(arguments.out):
        return _run_locked(arguments, Path(arguments.out))


def _run_locked(arguments, out):
    """Compress, measure and write. The process holds the lock of `out`."""
    began = time.perf_counter()
    options = CompressionOptions(
        arguments.model,
        tuple(arguments.text or ()),
        training=TRAINING_DOCUMENTS * (10 if arguments.thorough else 1),
        questions=QUESTIONS_PER_SUBJECT * (5 if arguments.thorough else 1),
    )
    read = [recipe for name in arguments.recipe or () if is_recipe_file(name) for recipe in read_recipes(name, STEPS)]
    check_new_directory(out)
    inputs = CompressionInputs(options)
    recipes = default_recipes(inputs.model, thorough=arguments.thorough)
    if arguments.recipe:
        recipes = select_recipes(recipes, [name for name in arguments.recipe if not is_recipe_file(name)], read)
    calibration = inputs.calibration(arguments.seed)

    rows, models, dense_nats = [], [], None
    bar = tqdm(recipes, unit="model", disable=None, bar_format="{n_fmt}/{total_fmt} |{bar:20}| {elapsed} {desc}")
    for recipe in bar:

        def show(text, name=recipe.name):
            bar.set_description_str(f"{name}: {text}")

        compressed, steps = compress(inputs.model, recipe, calibration, progress=show)
        measured, nats = inputs.measure(compressed, dense_nats, show)
        dense_nats = nats if dense_nats is None else dense_nats  # the first recipe is the dense model
        out.mkdir(parents=True, exist_ok=True)
        save_model(out / recipe.directory, compressed, inputs.tokenizer)
        row = {"name": recipe.name, "directory": recipe.directory, "description": recipe.description, "steps": steps}
        size = (out / recipe.directory / "model.safetensors").stat().st_size
        rows.append(row | measured | {"disk_bytes": size})
        models.append(compressed)
    for row, speeds in zip(rows, measure_speeds(models, progress=bar.set_description_str), strict=True):
        row["prompt_speed"], row["generation_speed"] = map(asdict, speeds)
    bar.close()
    results = _results(arguments, inputs, rows, time.perf_counter() - began)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "results.json", json.dumps(results, indent=1) + "\n")
    print(format_table(results), write_page(out / "report.html", render_page, results), sep="\n\n")
    missing = [row["directory"] for row in rows if not _is_complete(out / row["directory"], row)]
    missing += ["results.json"] * (not (out / "results.json").is_file())
    if missing:
        print(f"tinyslm: {out}: removed while the command ran: {', '.join(missing)}; run it again", file=sys.stderr)
    return 1 if missing else 0


def _is_complete(directory, row):
    """Whether the files of a model are there, with all of the weights."""
    weights, others = directory / "model.safetensors", (directory / "config.json", directory / "tokenizer.json")
    return all(map(Path.is_file, (weights, *others))) and weights.stat().st_size == row["disk_bytes"]


def _results(arguments, inputs, rows, seconds):
    """The content of results.json."""
    config, corpus = inputs.model.config, inputs.corpus
    shape = ("family", "hidden_size", "intermediate_size", "vocab_size")
    return {
        "version": tinyslm.__version__,
        "seed": arguments.seed,
        "thorough": arguments.thorough,
        "seconds": round(seconds, 1),
        "record": inputs.record(),
        "model": {
            "name": str(arguments.model),
            "layers": config.num_hidden_layers,
            "context": config.max_position_embeddings,
            **{key: getattr(config, key) for key in shape},
        },
        "corpus": {
            "name": corpus.name,
            "texts": list(inputs.options.texts),
            "training_documents": len(corpus.training),
            "validation_documents": len(corpus.validation),
            "validation_tokens": rows[0]["loss"]["tokens"],
            "floor": corpus.floor and vars(corpus.floor),
            "questions": len(corpus.questions),
        },
        "rows": rows,
    }
