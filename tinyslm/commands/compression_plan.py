"""Plan of `tinyslm compress`: the recipes, the expected time and the expected memory.

Time is counted in tokens: the cost of a forward pass of one token, which is measured on some documents. The factors are
estimates from the multiply-adds of each technique, so the time is approximate.
"""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.commands.training_progress import format_duration, seconds_of
from tinyslm.evaluation.loss import LOGITS_AT_ONCE, document_nats
from tinyslm.evaluation.parameters import count_parameters
from tinyslm.recipes.linear_layers import compressible_layers, paths_by_block
from tinyslm.recipes.statistics import SHARDS, observed_input
from tinyslm.reporting.number_format import scaled, size
from tinyslm.runtime import IDLE_BYTES, default_threads
from tinyslm.tree import named_modules

TIMED_TOKENS = 512  # of the documents that the cost of a token is measured on
WARM_SECONDS = 1  # a shorter pass is measured again: its first run starts threads
TOKENS_PER_BATCH = 2048  # of `document_nats`, per thread
LOGITS_COPIES = 3  # the logits, their log-probabilities, and exponentials in between
PROCESS_BYTES = 150_000_000  # Python and the libraries
SAVING, SPEED_RUN, QUESTION = 3000, 2000, 150  # tokens that cost as much: a sample and a file, a speed run, a question
TOO_LARGE = (
    "\nThis is more than the available memory. Recipes that only quantize weights or"
    "\nset them to zero need less if the weights stay in their files: --weights mapped"
)
TRAINING = 4  # tokens that a trained token costs: forward, backward (two), and the teacher
STATISTICS = 2  # a pass of the calibration documents, and their X^T X or the pass of the compressed block
# tokens per unit of the width, for steps that solve for weights; measured on the shape of SmolLM2-135M
SOLVE = {"QuantizeGPTQ": 50, "PruneSparseGPT": 50, "SliceNeurons": 40, "Factorize": 40, "LearnRanks": 40}
WITHOUT_STATISTICS = {"FoldMasks", "KeepLayers", "Quantize", "PruneMagnitude", "StoreSparse"}


@dataclass(frozen=True)
class Plan:
    """seconds: of each recipe, {directory: seconds};  speed_seconds: of the speed measurement;  memory: in bytes."""

    seconds: dict
    speed_seconds: float
    memory: int

    def total(self) -> float:
        """Seconds of the whole run."""
        return sum(self.seconds.values()) + self.speed_seconds


def make_plan(inputs, calibration, recipes, finished, rounds) -> Plan:
    """The plan of a run.  finished: number of models that exist already;  rounds: of the speed measurement."""
    seconds = seconds_per_token(inputs.model, inputs.corpus.validation)
    measured = sum(len(document) - 1 for document in inputs.corpus.validation)
    measured += SAVING + QUESTION * len(inputs.corpus.questions)
    costs = {
        recipe.directory: measured + sum(tokens_of_step(step, inputs.model, calibration) for step in recipe.steps)
        for recipe in recipes
    }
    return Plan(
        {directory: tokens * seconds for directory, tokens in costs.items()},
        SPEED_RUN * (rounds + 1) * (finished + len(recipes)) * seconds,
        expected_memory(inputs.model, recipes),
    )


def seconds_per_token(model, documents) -> float:
    """Seconds of a forward pass per token, on all threads. Raises DataError if a loss is not finite."""
    chosen, tokens = [], 0
    for document in documents:
        chosen.append(document[: 1 + TIMED_TOKENS - tokens])
        tokens += len(chosen[-1]) - 1
        if tokens >= TIMED_TOKENS:
            break

    def measure():
        document_nats(model, chosen, tokens_per_batch=-(-tokens // default_threads()))

    seconds = seconds_of(measure)
    if seconds < WARM_SECONDS:
        seconds = seconds_of(measure)
    return seconds / tokens


def tokens_of_step(step, model, calibration) -> float:
    """Tokens of a forward pass that cost as much as a step."""
    name = type(step).__name__
    if name in WITHOUT_STATISTICS:
        return 0
    if hasattr(step, "steps") and hasattr(step, "batch_size"):
        rows, _ = calibration.rows()
        documents = [min(len(document), rows.shape[1]) for document in calibration.documents]
        return TRAINING * step.steps * step.batch_size * sum(documents) / len(documents)
    sample = sum(task.inputs["token_ids"].size for task in calibration.sample())
    return STATISTICS * sample + SOLVE.get(name, 0) * model.config.hidden_size


def expected_memory(model, recipes) -> int:
    """Bytes: the dense model, a compressed one, and the larger of the logits and the state of a training.

    Of a model that is mapped from its files, the work on one block takes the place of both models.
    """
    numbers = TOKENS_PER_BATCH * model.config.vocab_size
    logits = LOGITS_COPIES * 4 * default_threads() * min(LOGITS_AT_ONCE, numbers)
    if named_modules(model, MappedLayer):
        return PROCESS_BYTES + IDLE_BYTES + max(logits, block_memory(model, recipes))
    weights = 4 * count_parameters(model)
    trains = any(hasattr(step, "learning_rate") for recipe in recipes for step in recipe.steps)
    training = 3 * weights + 2 * LOGITS_COPIES * 4 * default_threads() * numbers if trains else 0  # and two moments
    return PROCESS_BYTES + min(IDLE_BYTES, weights) + 2 * weights + max(logits, training)


def block_memory(model, recipes) -> int:
    """Bytes of the work on the largest block: its weights before and after, and X^T X where steps need it."""
    solves = any(type(step).__name__ in SOLVE for recipe in recipes for step in recipe.steps)
    layers, sizes = compressible_layers(model), [0]
    for paths in paths_by_block(model).values():
        weights = sum(layers[path].in_features * layers[path].out_features for path in paths)
        widths = {observed_input(path): layers[path].in_features for path in paths}
        products = sum(width**2 for width in widths.values())
        sizes.append(2 * 4 * weights + (4 * SHARDS * products if solves else 0))
    return max(sizes)


def describe_plan(plan, inputs, recipes) -> str:
    """The plan as lines of text."""
    names = textwrap.fill("; ".join(recipe.name for recipe in recipes), 69, subsequent_indent=" " * 9)
    corpus, parameters = inputs.corpus, count_parameters(inputs.model)
    tokens = sum(len(document) - 1 for document in corpus.validation)
    mapped = " in their files" if named_modules(inputs.model, MappedLayer) else ""
    return (
        f"model: {scaled(parameters)} parameters{mapped}; loss measured on {tokens:,} tokens\n"
        f"recipes: {names}\n"
        f"expected: about {format_duration(plan.total())}, {memory_text(plan.memory)}"
        + (TOO_LARGE if plan.memory > (available_memory() or plan.memory) else "")
    )


def memory_text(needed: int) -> str:
    """The needed memory, and the available memory where it is known."""
    available = available_memory()
    return f"{size(needed)} of memory" + (f"; {size(available)} are available" if available else "")


def available_memory() -> int | None:
    """Bytes that a process can use without swapping, where Linux states them; otherwise None."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
