"""tinyslm sweep: a grid of recipes on all cores or on a cluster, and the frontier of size and loss that it finds."""

import functools
import hashlib
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from tinyslm.checkpoints import atomic_file
from tinyslm.commands.compression_inputs import (
    TRAINING_DOCUMENTS,
    VALIDATION_DOCUMENTS,
    CompressionOptions,
    digest_of_files,
    open_inputs,
)
from tinyslm.errors import ConfigError
from tinyslm.recipes import STEPS, Recipe, compress, measure
from tinyslm.recipes.recipe_files import make_step, read_recipes, recipe_entry
from tinyslm.recipes.sweep import sweep
from tinyslm.reporting.frontier import format_frontier, render_frontier
from tinyslm.runtime import default_threads, use_threads

POINTS = "points.jsonl"


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument("recipes", nargs="+", metavar="FILE", help="files of recipes (.toml), with grids or without")
    parser.add_argument("--model", default="teacher", metavar="MODEL", help="a built-in model or a directory")
    parser.add_argument("--text", nargs="+", metavar="FILE", help="your own text, for calibration and for the test")
    parser.add_argument(
        "--out", default="sweep", metavar="DIR", help="where results go; run again to go on (default: sweep)"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="each recipe with each of these (default: 0)")
    parser.add_argument("--documents", type=int, default=TRAINING_DOCUMENTS, help="of the town, to learn from")
    parser.add_argument("--validation", type=int, default=VALIDATION_DOCUMENTS, help="of the town, to be judged by")
    parser.add_argument("--questions", type=int, default=0, help="exam questions per subject of the town (default: 0)")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--workers", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    place.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask cluster instead, such as tcp://host:8786")
    parser.add_argument("--threads", action="store_true", help="threads instead of processes for --workers")


def run(arguments) -> int:
    """Measure every recipe with every seed, print the frontier, write points and page; returns the exit status."""
    for name in ("workers", "documents", "validation"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name} is {getattr(arguments, name)}, expected 1 or more")
    if min(arguments.seeds) < 0:
        raise ConfigError(f"--seeds has {min(arguments.seeds)}, expected 0 or more")
    recipes = [recipe for name in arguments.recipes for recipe in read_recipes(name, STEPS)]
    experiment = CompressionOptions(
        str(arguments.model),
        tuple(str(Path(name).resolve()) for name in arguments.text or ()),
        arguments.documents,
        arguments.validation,
        arguments.questions,
    )
    out = Path(arguments.out)
    jobs = make_jobs([Recipe("dense", ()), *recipes], arguments.seeds, experiment, threads_per_worker(arguments))
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(jobs), unit="point", disable=None) as bar:

        def show(finished, total):
            bar.n = finished
            bar.refresh()

        points = sweep(jobs, measure_point, executor_of(arguments), out / POINTS, show)
    for name, point in points.items():
        if "error" in point:
            print(f"{name}: {point['error']}")
    measured = [point for point in points.values() if "error" not in point]
    if not measured:
        raise ConfigError("none of the recipes could be measured")
    with atomic_file(out / "sweep.html") as file:
        file.write(render_frontier(measured).encode())
    print(format_frontier(measured))
    print(f"\n{out / 'sweep.html'}: the same with a figure;  {out / POINTS}: every number of every point")
    return 0


def make_jobs(recipes, seeds, experiment, threads) -> dict:
    """{name: job} of every recipe with every seed. The name holds all that the result depends on, so that what was
    measured under other circumstances is not taken for it."""
    jobs, files = {}, digest_of_files(experiment)
    for recipe in recipes:
        for seed in seeds if recipe.steps else seeds[:1]:
            job = {
                "recipe": recipe_entry(recipe),
                "seed": seed,
                "experiment": asdict(experiment),
                "files": files,
                "threads": threads,
            }
            fingerprint = hashlib.sha256(json.dumps(job).encode()).hexdigest()
            jobs[f"{recipe.directory}, seed {seed}, {fingerprint[:12]}"] = job
    return jobs


def threads_per_worker(arguments) -> int:
    """How many threads a job may use: an even share of the cores. On a cluster 1."""
    return 1 if arguments.scheduler else max(1, default_threads() // arguments.workers)


def executor_of(arguments):
    """A function that makes the executor which the command line asks for."""
    if arguments.scheduler:
        return functools.partial(dask_executor, arguments.scheduler)
    if arguments.threads:
        return functools.partial(ThreadPoolExecutor, arguments.workers)
    context = multiprocessing.get_context("spawn")  # a forked process would have locks of threads it has not
    return functools.partial(ProcessPoolExecutor, arguments.workers, mp_context=context)


@contextmanager
def dask_executor(address):
    """The executor of a running Dask cluster, as long as it is wanted.

    Raises ConfigError without Dask, or where nobody answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError('--scheduler needs Dask: pip install "tinyslm[cluster]"') from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"no Dask scheduler answers at {address} ({problem})") from None
    with client:
        yield client.get_executor(pure=False)


def measure_point(job) -> dict:
    """One recipe with one seed: made and measured where it runs. Takes and returns plain values only."""
    began = time.perf_counter()
    with use_threads(job["threads"]):
        experiment = dict(job["experiment"])
        materials = open_inputs(CompressionOptions(**experiment | {"texts": tuple(experiment["texts"])}), job["files"])
        entry = job["recipe"]
        steps = [make_step(step, STEPS, entry["name"]) for step in entry["step"]]
        model, records = compress(materials.model, steps, materials.calibration(job["seed"]))
        measured, _ = measure(
            model,
            materials.tokenizer,
            materials.corpus,
            materials.end_id,
            prompt=materials.prompt,
            dense_nats=materials.dense_nats,
        )
    return job | {
        "name": entry["name"],
        "steps": records,
        "measured": measured,
        "record": materials.record(),
        "seconds": round(time.perf_counter() - began, 3),
    }
