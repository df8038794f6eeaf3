"""Reading of generation_config.json: how a published model is meant to generate."""

from dataclasses import dataclass, replace
from pathlib import Path

from tinyslm.checkpoints.families.config_reader import ConfigReader
from tinyslm.checkpoints.gguf.side_files import read_side_files
from tinyslm.checkpoints.json_files import read_json
from tinyslm.models.config_checks import FACTOR, FRACTION, SIZE, Range

FILE = "generation_config.json"
DEFAULTS = {  # of Hugging Face transformers, for keys that are missing or null
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
TEMPERATURE = Range(0, 1e6)
TOP_P = Range(1e-6, 1)  # 1 keeps all tokens
TOP_K = SIZE._replace(low=0)  # 0 keeps all tokens


@dataclass(frozen=True)
class GenerationConfig:
    """Settings of `generate`. end_tokens: ids of tokens that end a text; empty if the file names none."""

    end_tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


def read_generation_config(directory: str | Path) -> GenerationConfig:
    """The settings in generation_config.json, as Hugging Face transformers uses them; the defaults without the file.

    A GGUF file in place of the directory only names the tokens that end a text.

    The model is sampled from only if `do_sample` is true. Otherwise the temperature is 0 (greedy), and the other
    settings of sampling are not read. Other keys, such as those of beam search, have no effect.
    Raises CheckpointError if the file is not JSON, and ConfigError for a wrong value.
    """
    if Path(directory).is_file():
        ends = read_side_files(directory)[FILE]["eos_token_id"]
        return GenerationConfig(end_tokens=tuple(ends))
    path = Path(directory) / FILE
    if not path.exists():
        return GenerationConfig()
    values = {name: value for name, value in read_json(path).items() if value is not None}
    keys = ConfigReader(values, DEFAULTS, path)
    ends, penalty = keys.tokens("eos_token_id"), keys.in_range("repetition_penalty", FACTOR)
    config = GenerationConfig(
        end_tokens=ends if isinstance(ends, tuple) else () if ends is None else (ends,),
        repetition_penalty=None if penalty == 1 else penalty,
    )
    if not keys.flag("do_sample"):
        return config
    top_p, min_p = keys.in_range("top_p", TOP_P), keys.in_range("min_p", FRACTION)
    return replace(
        config,
        temperature=keys.in_range("temperature", TEMPERATURE),
        top_k=keys.in_range("top_k", TOP_K) or None,
        top_p=None if top_p == 1 else top_p,
        min_p=min_p or None,
    )
