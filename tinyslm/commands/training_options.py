"""Options of `tinyslm train`: their defaults and checks, and their record, from which a training is resumed."""

import argparse
import math

from tinyslm.checkpoints.json_files import shown
from tinyslm.commands.parser import Parser, check_minimum
from tinyslm.errors import ConfigError
from tinyslm.models.tiny_shapes import TINY_SHAPES
from tinyslm.runtime import default_threads
from tinyslm.text.files import DOCUMENT_KINDS
from tinyslm.text.text_source import TOWN, names_town
from tinyslm.text.town import COLLECTIONS
from tinyslm.training import Settings
from tinyslm.training.loop import OPTIMIZERS
from tinyslm.training.schedule import SCHEDULES
from tinyslm.training.text_size import MICRO_BATCH, batch_for, micro_batch_for, rate_for, steps_for

TEXT_OPTIONS = ("text", "documents", "pack")  # recorded in corpus.json
SETTINGS = ("steps", "batch", "optimizer", "rate", "warmup", "schedule", "seed", "threads", "dtype")
OF_THE_TOWN = ("town_documents", "town_families", "town_loss")
OF_A_NEW_MODEL = ("shape", "start", "vocabulary")
OPTIONS = ("from", *OF_A_NEW_MODEL, *OF_THE_TOWN, "context", *SETTINGS)  # recorded in training.json
LARGEST = {  # beyond these, memory or time would never be enough
    **dict.fromkeys(("town_documents", "steps", "warmup"), 2**31 - 1),
    **{"context": 1_000_000, "batch": 100_000, "threads": 10_000},
}
SHAPE, CONTEXT, WARMUP, OPTIMIZER = "small", 256, 50, "adamw"
TOWN_DOCUMENTS, TOWN_VOCABULARY, TOWN_BATCH = 20_000, 1536, 40
TOWN_RATES = {"adamw": 2e-3, "muon": 5e-3}
FROM_RATE = 5e-4  # of a model that is trained further


def add_arguments(parser):
    """The options of the command. The default None is replaced by `new_options` or by the size of the text."""
    text = f"your own text: UTF-8, or .jsonl with a text key; or {TOWN}, the built-in corpus (default)"
    by_size = "by the size of your text"
    parser.option("--text", None, text, nargs="+", metavar="FILE")
    kinds = "what a document of your text is (default: paragraph; of .jsonl always a line)"
    parser.option("--documents", None, kinds, choices=DOCUMENT_KINDS)
    parser.flag("--pack", "fill rows of T tokens with consecutive documents; for many short documents")
    town = f"training documents of the built-in corpus (default: {TOWN_DOCUMENTS})"
    parser.option("--town-documents", None, town, "N", type=int)
    families = "natural: as in the test documents (default); hard: stories, programs and instructions more often; "
    families += "colours, introductions, recall: drills, three steps towards recall"
    parser.option("--town-families", None, families, "NAME", choices=tuple(COLLECTIONS))
    loss = "all: every token is predicted (default); answers: only the answers to questions and instructions; "
    loss += "both: the mean over all tokens plus the mean over the answers"
    parser.option("--town-loss", None, loss, choices=("all", "answers", "both"))
    parser.option("--out", "trained", "output directory", "DIR")
    parser.flag("--overwrite", "replace an earlier or unfinished training in DIR")
    parser.flag("--resume", "resume the interrupted training to DIR, bit for bit, with its own options")
    parser.option("--from", None, "train this model further: its tokenizer, and its text without --text", "MODEL")
    parser.download()
    parser.option("--shape", None, f"size of the model (default: {SHAPE})", choices=TINY_SHAPES)
    start = "initial weights: random (default); or previous-token: heads of the first layer attend to preceding tokens"
    parser.option("--start", None, start, choices=("random", "previous-token"))
    vocabulary = f"maximum size of the vocabulary (default: {by_size}; {TOWN_VOCABULARY} without)"
    parser.option("--vocabulary", None, vocabulary, "V", type=int)
    context = f"tokens per training row, and the model's context length (default: {CONTEXT})"
    parser.option("--context", None, context, "T", type=int)
    steps = f"training steps (default: {by_size}; two passes without); fewer if your text is only memorized further"
    parser.option("--steps", None, steps, type=int)
    parser.option("--batch", None, f"rows per step (default: {by_size}; {TOWN_BATCH} without)", "N", type=int)
    optimizer = f"adamw; or muon for the matrices of the blocks, adamw for the rest (default: {OPTIMIZER})"
    parser.option("--optimizer", None, optimizer, choices=tuple(OPTIMIZERS))
    town_rates = " or ".join(f"{rate} ({name})" for name, rate in TOWN_RATES.items())
    rate = f"peak learning rate (default: {by_size}; {town_rates} without; {FROM_RATE} with --from)"
    parser.option("--rate", None, rate, type=float)
    warmup = f"warmup steps of the learning rate, at most a tenth of all steps (default: {WARMUP})"
    parser.option("--warmup", None, warmup, type=int)
    schedule = "schedule of the learning rate: cosine (default); or stable: constant, then a linear decay"
    parser.option("--schedule", None, schedule, choices=tuple(SCHEDULES))
    parser.option("--seed", None, "seed of the initial weights and the order of the data (default: 0)", type=int)
    parser.option("--threads", None, "number of threads (default: the number of cores)", type=int)
    dtype = "dtype of the stored weights (default: float32)"
    parser.option("--dtype", None, dtype, choices=("float32", "float16"))
    parser.option("--checkpoint-seconds", 60, "time between checkpoints", type=float, metavar="S")


def given(arguments) -> dict:
    """{name: value} of the options on the command line, without --out and --checkpoint-seconds."""
    names = (*TEXT_OPTIONS, *OPTIONS, "overwrite")
    values = {name: vars(arguments)[name] for name in names}
    return {name: value for name, value in values.items() if value is not None and value is not False}


def check_options(arguments):
    """Raise ConfigError for options that are out of range, or that exclude each other."""
    options = given(arguments)
    if arguments.resume and options:
        raise ConfigError(f"--resume keeps the options of the training; leave out {_flags(options)}")
    _check_numbers(arguments)
    if "from" in options and (fixed := options.keys() & {*OF_A_NEW_MODEL, "context"}):
        raise ConfigError(f"--from keeps the model as it is; leave out {_flags(fixed)}")
    own_text = "text" in options and not names_town(arguments.text)
    if not own_text and (of_text := options.keys() & {"documents", "pack"}):
        raise ConfigError(f"{_flags(of_text)} can only be used with --text FILE")


def _flags(names):
    """Names of options as they are typed."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in (*TEXT_OPTIONS, *OPTIONS, "overwrite") if name in names)


def _check_numbers(arguments):
    """Raise ConfigError for numbers out of range."""
    positive = dict.fromkeys(("town_documents", "steps", "batch", "warmup", "threads"), 1)
    check_minimum(arguments, context=2, seed=0, checkpoint_seconds=0, **positive)
    for name, largest in LARGEST.items():
        if (getattr(arguments, name) or 0) > largest:
            raise ConfigError(f"{_flags([name])} is {shown(getattr(arguments, name))}, expected at most {largest}")
    if arguments.rate is not None and not 0 < arguments.rate < math.inf:
        raise ConfigError(f"--rate is {arguments.rate}, expected a positive number")


def new_options(arguments, is_town: bool) -> dict:
    """The options of a new training. None where the data decide.

    They include the number of threads, on which the last bits of the result depend. Raises ConfigError for options of
    the built-in corpus with another text.
    """
    if not is_town and (foreign := [name for name in OF_THE_TOWN if name in given(arguments)]):
        raise ConfigError(f"{_flags(foreign)}: only for the built-in corpus; leave it out with your own text")
    defaults = {"context": CONTEXT, "optimizer": OPTIMIZER, "warmup": WARMUP, "schedule": "cosine"}
    defaults |= {"seed": 0, "threads": default_threads(), "dtype": "float32"}
    if is_town:
        defaults |= {"town_documents": TOWN_DOCUMENTS, "town_families": "natural", "town_loss": "all"}
        defaults["batch"] = TOWN_BATCH
        defaults["rate"] = TOWN_RATES[arguments.optimizer or OPTIMIZER]
    if vars(arguments)["from"] is None:
        defaults |= {"shape": SHAPE, "start": "random"} | ({"vocabulary": TOWN_VOCABULARY} if is_town else {})
    else:
        defaults["rate"] = FROM_RATE
    chosen = {name: value for name, value in given(arguments).items() if name in OPTIONS}
    return dict.fromkeys(OPTIONS) | defaults | chosen


def complete(options, is_town: bool, tokens: int, rows: int, hidden_size: int):
    """Replace None by values for `rows` training rows with `tokens` predicted tokens, and a model of a width."""
    if options["batch"] is None:
        options["batch"] = batch_for(tokens, rows)
    if options["steps"] is None:
        two_passes = max(2 * rows // options["batch"], 1)
        options["steps"] = two_passes if is_town else steps_for(tokens, rows, options["batch"])
    if options["rate"] is None:
        options["rate"] = rate_for(hidden_size)


def make_settings(options, is_town: bool, vocab_size: int) -> Settings:
    """Training settings from complete options."""
    sizes = options["batch"], options["threads"], options["context"], vocab_size
    return Settings(
        steps=options["steps"],
        batch_size=options["batch"],
        micro_batch_size=MICRO_BATCH if is_town and options["from"] is None else micro_batch_for(*sizes),
        learning_rate=options["rate"],
        warmup_steps=min(options["warmup"], max(options["steps"] // 10, 1)),
        schedule=options["schedule"],
        optimizer=options["optimizer"],
        seed=options["seed"],
        threads=options["threads"],
    )


def check_recorded(options, where, is_town: bool):
    """Raise ConfigError unless the options of a record are complete, and such as the parser accepts."""
    if not isinstance(options, dict):
        raise ConfigError(f"{where}: options is {shown(options)}, expected an object; no training to resume")
    missing = [name for name in OPTIONS if name not in options]
    if missing:
        raise ConfigError(f"{where}: options has no {', '.join(missing)}; no training to resume")
    absent = {"from"} if options["from"] is None else set(OF_A_NEW_MODEL)
    absent |= set() if is_town else set(OF_THE_TOWN)
    for name in OPTIONS:
        value = options[name]
        if not (value is None if name in absent else _is_accepted(name, value)):
            expected = "nothing" if name in absent else f"a value of {_flags([name])}"
            raise ConfigError(f"{where}: options: {name} is {shown(value)}, expected {expected}")
    try:
        _check_numbers(argparse.Namespace(**options, checkpoint_seconds=0))
    except ConfigError as problem:
        raise ConfigError(f"{where}: options: {problem}") from None


def _is_accepted(name, value):
    """Whether the parser returns exactly this value for an option."""
    parser = Parser(add_help=False)
    add_arguments(parser)
    try:
        parsed = vars(parser.parse_args([f"{_flags([name])}={value}"]))[name]
    except ConfigError:
        return False
    return type(parsed) is type(value) and parsed == value
