"""tinyslm sweep: measure a grid of recipes in parallel, and print the Pareto frontier of size and loss."""

import functools
import hashlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tinyslm.checkpoints import output_lock
from tinyslm.checkpoints.json_files import shown
from tinyslm.commands.compression_inputs import (
    TRAINING_DOCUMENTS,
    VALIDATION_DOCUMENTS,
    CompressionOptions,
    digest_of_files,
    open_inputs,
    outline_of,
)
from tinyslm.commands.compression_plan import expected_memory, memory_text
from tinyslm.commands.numeric_warnings import ignore_numeric_warnings
from tinyslm.commands.parser import check_minimum
from tinyslm.commands.progress import Progress
from tinyslm.commands.text_options import choose_text
from tinyslm.commands.training_inputs import say
from tinyslm.commands.training_progress import format_duration
from tinyslm.errors import ConfigError
from tinyslm.evaluation.parameters import count_parameters
from tinyslm.recipes import STEPS, Recipe, compress
from tinyslm.recipes.recipe_files import make_step, read_recipes, recipe_entry
from tinyslm.recipes.sweep import process_executor, sweep
from tinyslm.reporting.frontier import format_frontier, render_frontier
from tinyslm.reporting.html_template import write_page
from tinyslm.reporting.number_format import scaled, size
from tinyslm.runtime import default_threads, use_threads
from tinyslm.text.text_source import source_of_record

POINTS = "points.jsonl"  # a point: the measurements of one recipe with one seed
NUMBERS = ("bits", "parameters", "multiply_adds", "loss.nats", "loss.tokens", "change.nats")  # needed of a point
LARGEST = 1e18  # of these numbers: larger integers have no NumPy type


def add_arguments(parser):
    """The options of the command."""
    parser.argument("recipes", "recipe files (.toml), with or without grids", nargs="+", metavar="FILE")
    parser.model("--model")
    parser.text("for calibration and validation")
    parser.option("--out", "sweep", "output directory; repeat the command to resume an interrupted sweep", "DIR")
    parser.option("--seeds", [0], "seeds of each recipe", nargs="+", type=int)
    parser.option("--town-documents", TRAINING_DOCUMENTS, "training documents of the built-in corpus", "N")
    parser.option("--validation", VALIDATION_DOCUMENTS, "validation documents of the built-in corpus", "N")
    parser.option("--questions", 0, "exam questions per subject of the built-in corpus", "N")
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument("--workers", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    cluster = "address of a running Dask cluster, such as tcp://host:8786"
    workers.add_argument("--scheduler", metavar="ADDRESS", help=cluster)
    parser.flag("--threads", "use threads instead of processes")


def run(arguments) -> int:
    """Measure every recipe with every seed, print the Pareto frontier, and write points.jsonl and sweep.html.

    Returns the exit status.
    """
    check_minimum(arguments, workers=1, town_documents=1, validation=1, questions=0)
    if min(arguments.seeds) < 0:
        raise ConfigError(f"--seeds has {min(arguments.seeds)}, expected at least 0")
    recipes = [recipe for name in arguments.recipes for recipe in read_recipes(name, STEPS)]
    options = CompressionOptions(
        str(arguments.model),
        choose_text(arguments, arguments.model),
        arguments.town_documents,
        arguments.validation,
        arguments.questions,
    )
    jobs = make_jobs([Recipe("dense", ()), *recipes], arguments.seeds, options, threads_per_worker(arguments))
    plan = describe_sweep(arguments, outline_of(options.model), recipes, len(jobs))
    with output_lock(arguments.out):
        try:
            return _run_locked(arguments, jobs, plan, Path(arguments.out))
        except KeyboardInterrupt:
            print("tinyslm: interrupted; the finished points are kept. Resume with the same command", file=sys.stderr)
            return 130


def describe_sweep(arguments, model, recipes, points) -> str:
    """Plan of a sweep, with the memory it needs, as lines of text.  model: its outline."""
    with use_threads(threads_per_worker(arguments)):
        memory = expected_memory(model, recipes)  # of a worker
    if arguments.scheduler:
        expected = f"{size(memory)} of memory in each worker"
    else:
        workers = f"{arguments.workers} workers" if arguments.workers > 1 else "1 worker"
        expected = f"{workers}, {memory_text(arguments.workers * memory)}"
    names = f"{len(recipes)} recipe{'s' if len(recipes) != 1 else ''}"
    return (
        f"model: {scaled(count_parameters(model))} parameters; {points} points, of {names} and dense\n"
        f"expected: {expected}"
    )


def _run_locked(arguments, jobs, plan, out):
    """Measure the jobs, print and write. The process holds the lock of `out`.  plan: text to print before the work."""
    out.mkdir(parents=True, exist_ok=True)
    with Progress(len(jobs), "point") as progress:
        times = {}  # {number of finished points: the time}

        def show(finished, total):
            times[finished] = time.perf_counter()
            progress.show(finished, time_left(times, total))

        make_executor = saying(plan, executor_factory(arguments))
        points = sweep(jobs, measure_point, make_executor, out / POINTS, show, check_point)
    for name, point in points.items():
        if "error" in point:
            print(f"{name}: {point['error']}")
    measured = [point for point in points.values() if "error" not in point]
    if not measured:
        raise ConfigError("none of the recipes could be measured")
    print(format_frontier(measured), write_page(out / "sweep.html", render_frontier, measured), sep="\n\n")
    print(f"{out / POINTS}: the measurements of every point")
    return 0


def time_left(times, total) -> str:
    """About how long a sweep still takes, as text; "" before the first point.

    times: {number of finished points: the time}, those of earlier runs first.
    """
    before, finished = min(times), max(times)
    if finished == before:
        return ""
    seconds = (times[finished] - times[before]) / (finished - before)  # per point
    return f"about {format_duration(seconds * (total - finished))} left"


def make_jobs(recipes, seeds, options, threads) -> dict:
    """{name: job}, one job per recipe and seed; recipes without steps get the first seed only.

    The name contains a digest of the job, that is of all inputs of the result. So a stored result is reused only for an
    identical job.
    """
    jobs, files = {}, digest_of_files(options)
    for recipe in recipes:
        for seed in seeds if recipe.steps else seeds[:1]:
            job = {
                "recipe": recipe_entry(recipe),
                "seed": seed,
                "experiment": asdict(options) | {"text": options.text.record()},
                "files": files,
                "threads": threads,
            }
            fingerprint = hashlib.sha256(json.dumps(job).encode()).hexdigest()
            jobs[f"{recipe.directory}, seed {seed}, {fingerprint[:12]}"] = job
    return jobs


def threads_per_worker(arguments) -> int:
    """Number of threads of each job: the default number of threads divided by the workers; 1 on a cluster."""
    return 1 if arguments.scheduler else max(1, default_threads() // arguments.workers)


def executor_factory(arguments):
    """Function that creates the executor selected by --workers, --threads or --scheduler."""
    if arguments.scheduler:
        return functools.partial(dask_executor, arguments.scheduler)
    if arguments.threads:
        return functools.partial(ThreadPoolExecutor, arguments.workers)
    return functools.partial(process_executor, arguments.workers)


def saying(text, make_executor):
    """The function `make_executor`, which then prints a text after it has created the executor."""

    @contextmanager
    def make():
        with make_executor() as executor:
            say(text)
            yield executor

    return make


@contextmanager
def dask_executor(address):
    """Context manager: the executor of a running Dask cluster.

    Raises ConfigError without Dask, or if no scheduler answers.
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
    """Compress with one recipe and one seed, and measure. Runs in a worker. Arguments and result are JSON values."""
    began = time.perf_counter()
    ignore_numeric_warnings()
    with use_threads(job["threads"]):
        inputs = open_inputs(options_of(job), job["files"])
        entry = job["recipe"]
        steps = [make_step(step, STEPS, entry["name"]) for step in entry["step"]]
        model, records = compress(inputs.model, steps, inputs.calibration(job["seed"]))
        measured, _ = inputs.measure(model, inputs.dense_nats)
    check_measured(measured)
    return job | {
        "name": entry["name"],
        "steps": records,
        "measured": measured,
        "record": inputs.record(),
        "seconds": round(time.perf_counter() - began, 3),
    }


def options_of(job) -> CompressionOptions:
    """The options of the inputs of a job."""
    values = job["experiment"]
    return CompressionOptions(**values | {"text": source_of_record(values["text"], "the job")})


def check_point(job, point):
    """Raise ConfigError unless a point of the file has the content of its job, and all that the page reads."""
    if isinstance(point.get("error"), str):
        return
    expected = json.loads(json.dumps(job))  # lists for tuples
    for key, value in (expected | {"name": expected["recipe"]["name"]}).items():
        if point.get(key) != value:
            raise ConfigError(f"{key} is {shown(point.get(key))}, expected {shown(value)}")
    steps = [{"step": step["use"]} for step in expected["recipe"]["step"]]
    found = point.get("steps")
    if not isinstance(found, list) or [{"step": look_up(step, "step")} for step in found] != steps:
        raise ConfigError(f"steps is {shown(found)}, expected a list of {shown(steps)}")
    version = look_up(point, "record.versions.tinyslm")
    if not isinstance(version, str):
        raise ConfigError(f"record.versions.tinyslm is {shown(version)}, expected a text")
    check_measured(point.get("measured"))


def check_measured(measured):
    """Raise ConfigError unless all of NUMBERS are numbers. A broken model has an infinite or undefined loss."""
    for key in NUMBERS:
        value = look_up(measured, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
            raise ConfigError(f"measured.{key} is {shown(value)}, expected a finite number")


def look_up(value, keys):
    """The value of nested dictionaries under keys separated by dots; None if it is missing."""
    for key in keys.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
