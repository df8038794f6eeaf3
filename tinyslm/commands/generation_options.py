"""Options of the commands that generate text, and what they and the model's files set."""

import sys
from dataclasses import dataclass

from tinyslm.checkpoints.generation_config import read_generation_config
from tinyslm.errors import ConfigError
from tinyslm.evaluation import footprint
from tinyslm.generation import end_tokens, prepare
from tinyslm.generation.decoding_state import CACHES
from tinyslm.generation.stop_texts import check_stop_texts
from tinyslm.load_save import find_directory
from tinyslm.reporting.number_format import size

SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
FROM_THE_MODEL = (
    "If generation_config.json beside the model sets do_sample to true, its temperature, top_k, top_p and min_p are "
    "used where the option is not given. As in transformers, top_k is 50 if it is not set. Its repetition_penalty is "
    "used in any case, and its end tokens end the generation. Without the file, config.json names them."
)


@dataclass(frozen=True)
class GenerationSettings:
    """Settings of a generation. sampling: arguments of `Sampling`;  end_tokens: token ids that end a text."""

    sampling: dict
    end_tokens: tuple[int, ...]
    stop_texts: list[str]


def add_sampling_options(parser):
    """The options of sampling, and --stop, --cache and --upcast."""
    parser.option("--temperature", None, "sampling temperature; 0 is greedy (default: 0, see below)", "T", type=float)
    parser.option("--top-k", None, "sample from the K most probable tokens", type=int, metavar="K")
    nucleus = "sample from the smallest set of tokens with total probability P (nucleus sampling)"
    parser.option("--top-p", None, nucleus, type=float, metavar="P")
    least = "sample from tokens with at least P times the probability of the most probable one"
    parser.option("--min-p", None, least, type=float, metavar="P")
    penalty = "divide positive logits of tokens already in the text by R, and multiply negative ones by R"
    parser.option("--repetition-penalty", None, penalty, type=float, metavar="R")
    parser.option("--seed", None, "random seed; the same seed gives the same text (default: random)", type=int)
    stop = "end before this text appears in the output; can be given several times"
    parser.option("--stop", None, stop, "TEXT", action="append")
    parser.option("--cache", "exact", "storage of the key/value cache", choices=tuple(CACHES))
    upcast = "copy compressed weights to floating point: faster for a small model, with the memory of a dense one"
    parser.flag("--upcast", upcast)
    parser.epilog = FROM_THE_MODEL


def generation_settings(arguments, config) -> GenerationSettings:
    """The settings of the options, otherwise of the model's generation_config.json. config: of the model."""
    given = {name: value for name in SETTINGS if (value := getattr(arguments, name)) is not None}
    from_file = read_generation_config(find_directory(arguments.model))
    return GenerationSettings(
        {name: given.get(name, getattr(from_file, name)) for name in SETTINGS},
        from_file.end_tokens or end_tokens(config),
        checked_stop_texts(arguments),
    )


def upcast_model(model, arguments):
    """With --upcast the engine of a decoder, whose memory is printed; otherwise the model."""
    if not arguments.upcast:
        return model
    if arguments.cache != "exact":
        raise ConfigError(f"--upcast needs --cache exact, found --cache {arguments.cache}")
    engine = prepare(model, upcast=True)
    copies, own = size(engine.num_bytes()), size(footprint(model).bytes)
    print(f"tinyslm: --upcast: {copies} of copied weights beside the {own} of the model", file=sys.stderr)
    return engine


def checked_stop_texts(arguments) -> list[str]:
    """The texts of --stop. Raises ConfigError for an empty one."""
    stop_texts = arguments.stop or []
    check_stop_texts(stop_texts)
    return stop_texts
