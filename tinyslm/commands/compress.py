"""tinyslm compress: a model made smaller in every way, with what each way costs as a table and a page."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

import tinyslm
from tinyslm.checkpoints import atomic_file, check_new_directory, save_model
from tinyslm.commands.compression_inputs import (
    QUESTIONS_PER_SUBJECT,
    TRAINING_DOCUMENTS,
    CompressionInputs,
    CompressionOptions,
)
from tinyslm.errors import ConfigError
from tinyslm.evaluation import measure_speeds
from tinyslm.recipes import STEPS, compress, default_recipes, measure
from tinyslm.recipes.default_recipes import select_recipes
from tinyslm.recipes.recipe_files import is_recipe_file, read_recipes
from tinyslm.reporting import format_table, render_page


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("model", nargs="?", default="teacher", metavar="MODEL", help="a built-in model or a directory")
    parser.add_argument("--text", nargs="+", metavar="FILE", help="your own text, for calibration and for the test")
    parser.add_argument(
        "--recipe",
        nargs="+",
        metavar="NAME",
        help="only these rows of the table (and the dense model); or files of recipes of your own (.toml), or the "
        "results.json of another run, to repeat it",
    )
    parser.add_argument(
        "--out", default="compressed", metavar="DIR", help="where models and report go (default: compressed)"
    )
    parser.add_argument("--thorough", action="store_true", help="ten times the recovery training, five times the exam")
    parser.add_argument("--seed", type=int, default=0, help="order of the recovery documents (default: 0)")


def run(arguments) -> int:
    """Compress in every way, print the table, write models, results.json and report.html; returns the exit status."""
    began = time.perf_counter()
    out = Path(arguments.out)
    if arguments.seed < 0:
        raise ConfigError(f"--seed is {arguments.seed}, expected 0 or more")
    longer = 10 if arguments.thorough else 1
    experiment = CompressionOptions(
        arguments.model,
        tuple(arguments.text or ()),
        training=TRAINING_DOCUMENTS * longer,
        questions=QUESTIONS_PER_SUBJECT * (5 if arguments.thorough else 1),
    )
    read = [recipe for name in arguments.recipe or () if is_recipe_file(name) for recipe in read_recipes(name, STEPS)]
    check_new_directory(out)
    materials = CompressionInputs(experiment)
    model = materials.model
    recipes = default_recipes(model, thorough=arguments.thorough)
    if arguments.recipe:
        recipes = select_recipes(recipes, [name for name in arguments.recipe if not is_recipe_file(name)], read)
    calibration = materials.calibration(arguments.seed)

    rows, models, dense_nats = [], [], None
    bar = tqdm(recipes, unit="model", disable=None, bar_format="{n_fmt}/{total_fmt} |{bar:20}| {elapsed} {desc}")
    for recipe in bar:

        def show(text, name=recipe.name):
            bar.set_description_str(f"{name}: {text}")

        compressed, steps = compress(model, recipe, calibration, progress=show)
        row = {"name": recipe.name, "directory": recipe.directory, "description": recipe.description, "steps": steps}
        measured, nats = measure(
            compressed,
            materials.tokenizer,
            materials.corpus,
            materials.end_id,
            prompt=materials.prompt,
            dense_nats=dense_nats,
            progress=show,
        )
        dense_nats = nats if dense_nats is None else dense_nats  # the dense model comes first
        row |= measured
        out.mkdir(parents=True, exist_ok=True)
        save_model(out / recipe.directory, compressed, materials.tokenizer)
        row["disk_bytes"] = (out / recipe.directory / "model.safetensors").stat().st_size
        rows.append(row)
        models.append(compressed)
    for row, speeds in zip(rows, measure_speeds(models, progress=bar.set_description_str), strict=True):
        row["prompt_speed"], row["generation_speed"] = map(asdict, speeds)
    bar.close()
    results = _results(arguments, materials, rows, time.perf_counter() - began)
    _write(out / "results.json", json.dumps(results, indent=1) + "\n")
    _write(out / "report.html", render_page(results))
    print(format_table(results))
    print(f"\n{out / 'report.html'}: the same with figures; the models are beside it")
    return 0


def _results(arguments, materials, rows, seconds):
    """Everything that is known about the run, as it is written to results.json and drawn on the page."""
    config, corpus = materials.model.config, materials.corpus
    floor = corpus.floor
    return {
        "version": tinyslm.__version__,
        "seed": arguments.seed,
        "thorough": arguments.thorough,
        "seconds": round(seconds, 1),
        "record": materials.record(),
        "model": {
            "name": str(arguments.model),
            "family": config.family,
            "layers": config.num_hidden_layers,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "vocab_size": config.vocab_size,
            "context": config.max_position_embeddings,
        },
        "corpus": {
            "name": corpus.name,
            "texts": list(materials.experiment.texts),
            "training_documents": len(corpus.training),
            "validation_documents": len(corpus.validation),
            "validation_tokens": rows[0]["loss"]["tokens"],
            "floor": floor and vars(floor),
            "questions": len(corpus.questions),
        },
        "rows": rows,
    }


def _write(path, text):
    with atomic_file(path) as file:
        file.write(text.encode())
