"""tinyslm compress: a model made smaller in every way, with what each way costs as a table and a page."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

import tinyslm
from tinyslm.checkpoints import atomic_file, check_new_directory, save_model
from tinyslm.commands.loading import load_with_tokenizer
from tinyslm.errors import ConfigError
from tinyslm.evaluation import measure_speeds
from tinyslm.generation import end_tokens
from tinyslm.models import Decoder
from tinyslm.modules import Embedding, Linear, LinearLayer, Weighted
from tinyslm.recipes import Calibration, compress, default_recipes, measure
from tinyslm.recipes.defaults import select_recipes
from tinyslm.reporting import format_table, render_page
from tinyslm.text import read_documents
from tinyslm.text.corpus import text_corpus, town_corpus
from tinyslm.tree import map_modules

TRAINING_DOCUMENTS = 1_500  # of the town, for calibration and recovery; ten times as many with --thorough
VALIDATION_DOCUMENTS = 300
QUESTIONS_PER_SUBJECT = 40
TOWN_PROMPT = "It was a sunny Monday morning."


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("model", nargs="?", default="teacher", metavar="MODEL", help="a built-in model or a directory")
    parser.add_argument("--text", nargs="+", metavar="FILE", help="your own text, for calibration and for the test")
    parser.add_argument(
        "--recipe", nargs="+", metavar="NAME", help="only these rows of the table (and the dense model)"
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
    model, tokenizer = load_with_tokenizer(arguments.model, Decoder, "compressing and measuring on text")
    model = widen(model)
    recipes = default_recipes(model, thorough=arguments.thorough)
    if arguments.recipe:
        recipes = select_recipes(recipes, arguments.recipe)
    end_id = end_of_document(model.config)
    check_new_directory(out)
    corpus, prompt = _corpus(arguments, tokenizer, end_id)
    calibration = Calibration(corpus.training, model, arguments.seed)

    rows, models, dense_nats = [], [], None
    bar = tqdm(recipes, unit="model", disable=None, bar_format="{n_fmt}/{total_fmt} |{bar:20}| {elapsed} {desc}")
    for recipe in bar:

        def show(text, name=recipe.name):
            bar.set_description_str(f"{name}: {text}")

        compressed, steps = compress(model, recipe, calibration, progress=show)
        row = {"name": recipe.name, "directory": recipe.directory, "description": recipe.description, "steps": steps}
        measured, nats = measure(
            compressed, tokenizer, corpus, end_id, prompt=prompt, dense_nats=dense_nats, progress=show
        )
        dense_nats = nats if dense_nats is None else dense_nats  # the dense model comes first
        row |= measured
        out.mkdir(parents=True, exist_ok=True)
        save_model(out / recipe.directory, compressed, tokenizer)
        row["disk_bytes"] = (out / recipe.directory / "model.safetensors").stat().st_size
        rows.append(row)
        models.append(compressed)
    for row, speeds in zip(rows, measure_speeds(models, progress=bar.set_description_str), strict=True):
        row["prompt_speed"], row["generation_speed"] = map(asdict, speeds)
    bar.close()
    results = _results(arguments, model, corpus, rows, time.perf_counter() - began)
    _write(out / "results.json", json.dumps(results, indent=1) + "\n")
    _write(out / "report.html", render_page(results))
    print(format_table(results))
    print(f"\n{out / 'report.html'}: the same with figures; the models are beside it")
    return 0


def widen(model):
    """The same model with floating-point matrices in place of compressed ones, so that every recipe can begin."""


    def widened(path, layer):
        if isinstance(layer, Linear | Embedding):
            return layer
        weight = layer.dense_weight()
        return Linear(weight, layer.bias) if isinstance(layer, LinearLayer) else Embedding(weight)

    return map_modules(widened, model, Weighted)


def end_of_document(config) -> int:
    """The token between documents: what the model ends with, or else what it begins with, or else token 0."""
    return (*end_tokens(config), config.bos_token_id or 0)[0]


def _corpus(arguments, tokenizer, end_id):
    """The corpus, and the beginning of a text that every model continues."""
    if arguments.text:
        corpus = text_corpus(tokenizer, end_id, read_documents(arguments.text))
        first = max(corpus.validation, key=len)[:-1]
        return corpus, tokenizer.decode(first[: max(2, min(12, len(first) // 2))].tolist())
    corpus = town_corpus(
        tokenizer,
        end_id,
        training=TRAINING_DOCUMENTS * (10 if arguments.thorough else 1),
        validation=VALIDATION_DOCUMENTS,
        questions_per_subject=QUESTIONS_PER_SUBJECT * (5 if arguments.thorough else 1),
    )
    return corpus, TOWN_PROMPT


def _results(arguments, model, corpus, rows, seconds):
    """Everything that is known about the run, as it is written to results.json and drawn on the page."""
    config = model.config
    floor = corpus.floor
    return {
        "version": tinyslm.__version__,
        "seed": arguments.seed,
        "thorough": arguments.thorough,
        "seconds": round(seconds, 1),
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
