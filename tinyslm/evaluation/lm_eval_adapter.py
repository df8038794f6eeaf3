"""Adapter for lm-evaluation-harness (Gao et al. 2021): its tasks measure models of this library.

    pip install "tinyslm[lm-eval]"
    python -m tinyslm.evaluation.lm_eval_adapter run --model tinyslm --model_args model=DIRECTORY --tasks arc_easy

In Python, also for a model in memory, such as a compressed one:

    import lm_eval
    from tinyslm.evaluation.lm_eval_adapter import HarnessModel

    lm_eval.simple_evaluate(model=HarnessModel(model, tokenizer), tasks=["arc_easy"])

Tokens, cuts and sums are those of the harness's own class for Hugging Face transformers (version 0.4.13). Nothing else
of this library imports the harness.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinyslm.checkpoints.generation_config import read_generation_config
from tinyslm.errors import ConfigError
from tinyslm.evaluation.continuations import encode_pair, encode_text, score_pairs
from tinyslm.generation import end_tokens, stream
from tinyslm.generation.stop_texts import before_stop
from tinyslm.load_save import load
from tinyslm.models import Decoder
from tinyslm.text import decode
from tinyslm.text.chat_template import find_chat_template, render_chat, special_tokens
from tinyslm.text.document_marks import document_marks

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ModuleNotFoundError:  # without the extra lm-eval the methods can still be called
    LM = object

    def register_model(name):
        """Register nothing."""
        return lambda kind: kind


NEW_TOKENS = 256  # the default of the harness
LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # the first one counts
SAMPLING = ("top_k", "top_p", "min_p", "repetition_penalty")


@register_model("tinyslm")
class HarnessModel(LM):
    """A decoder with its tokenizer as a model of the harness. Each request has a tuple `args`.

    model: a directory, an id of the hub or a built-in name, or a model with its tokenizer;  weights: as of `load`;
    options: settings of the harness for other libraries, such as a batch size, which have no effect.
    """

    def __init__(self, model: Any = "teacher", tokenizer: Any = None, weights: str = "float32", **options: Any):
        super().__init__()
        self.name = str(model) if isinstance(model, str) else type(model).__name__
        self.model, self.tokenizer = load(model, weights) if isinstance(model, str) else (model, tokenizer)
        if not isinstance(self.model, Decoder) or self.tokenizer is None:
            raise ConfigError(f"{self.name}: the harness needs a decoder (such as Llama or GPT-2) with its tokenizer")
        config = self.model.config
        self.vocab_size, self.longest = config.vocab_size, config.max_position_embeddings
        self.begin = document_marks(self.tokenizer, (), self.vocab_size).begin
        directory = getattr(self.tokenizer, "directory", None)
        ends = () if directory is None else read_generation_config(directory).end_tokens
        special = special_tokens(self.tokenizer)
        bos, eos = (self.tokenizer.token_to_id(special.get(name, "")) for name in ("bos_token", "eos_token"))
        self.ends = [token for token in (*(ends or end_tokens(config)), eos) if token is not None]
        first = (bos, eos, *self.begin, config.bos_token_id, *self.ends)
        self.prefix = next((token for token in first if token is not None), None)  # before a text without context

    def loglikelihood(self, requests: Sequence[Any], **options: Any) -> list[tuple[float, bool]]:
        """Of each (context, continuation): the log-probability, and whether greedy decoding generates it."""
        return score_pairs(self.model, [self._pair(*request.args) for request in requests])

    def loglikelihood_rolling(self, requests: Sequence[Any], **options: Any) -> list[float]:
        """The log-probability of each (text,), in windows as long as the model's context.

        The last window begins early enough to be full, but only its new tokens are counted.
        """
        sums = []
        for (text,) in (request.args for request in requests):
            token_ids = encode_text(self.tokenizer, self.begin, text, self.vocab_size)
            pairs = rolling_pairs(token_ids, self._prefix(), self.longest)
            sums.append(sum(score for score, _ in score_pairs(self.model, pairs)))
        return sums

    def generate_until(self, requests: Sequence[Any], **options: Any) -> list[str]:
        """The continuation of each (context, settings), up to the first text of settings["until"]."""
        return [self._generate(context, dict(settings)) for context, settings in (r.args for r in requests)]

    @property
    def tokenizer_name(self) -> str:
        """Name under which the harness caches requests."""
        return self.name.replace("/", "__")

    def chat_template(self, chat_template: Any = False) -> str:
        """A name of the template that `apply_chat_template` uses."""
        return self.tokenizer_name

    def apply_chat_template(self, chat_history: Sequence[Mapping], add_generation_prompt: bool = True) -> str:
        """The text of a conversation, by the chat template beside the model."""
        return render_chat(
            find_chat_template(self.tokenizer), chat_history, add_generation_prompt=add_generation_prompt
        )

    def _prefix(self):
        if self.prefix is None:
            raise ConfigError(f"{self.name}: no token begins a text without context; give bos_token_id in config.json")
        return self.prefix

    def _pair(self, context, continuation):
        """Token ids of a context and its continuation. An empty context is the token that begins texts."""
        if context == "":
            token_ids = encode_text(self.tokenizer, (), continuation, self.vocab_size)
            prefix = self._prefix()
            return (token_ids[:1], token_ids[1:]) if token_ids[:1] == [prefix] else ([prefix], token_ids)
        context_ids, token_ids = encode_pair(self.tokenizer, self.begin, context, continuation, self.vocab_size)
        return context_ids or [self._prefix()], token_ids

    def _generate(self, context, settings):
        until = settings.pop("until", None) or []
        until = [text for text in ([until] if isinstance(until, str) else until) if text]
        lengths = [settings.pop(name, None) for name in LENGTH_NAMES]
        most = int(next((length for length in lengths if length is not None), NEW_TOKENS))
        temperature = float(settings.pop("temperature", 0.0))
        if settings.pop("do_sample", None) is False:
            temperature = 0.0
        sampling = {name: settings.pop(name) for name in SAMPLING if name in settings}
        if settings:
            raise ConfigError(f"generation with {', '.join(sorted(settings))} is not supported")
        if most >= self.longest:
            raise ConfigError(f"{most} new tokens leave no room for a prompt in a context of {self.longest}")
        prompt = encode_text(self.tokenizer, self.begin, context, self.vocab_size) or [self._prefix()]
        prompt = np.array([prompt[-(self.longest - most) :]])  # (1, T)
        tokens, text = [], ""
        steps = stream(self.model, prompt, most, temperature=temperature, stop_tokens=self.ends, seed=0, **sampling)
        for (token,) in steps:
            tokens.append(int(token))
            text = decode(self.tokenizer, tokens, skip_special_tokens=True)
            if (before := before_stop(text, until)) is not None:
                return before
        return text


def rolling_pairs(token_ids: Sequence[int], prefix: int, longest: int) -> list[tuple[list[int], list[int]]]:
    """Contexts and continuations in which every token is predicted once, by windows of at most `longest` inputs.

    prefix: token before the first one.
    """
    whole = [prefix, *token_ids]
    pairs = []
    for start in range(1, len(whole), longest):
        stop = min(start + longest, len(whole))
        first = max(stop - longest - 1, 0)  # of the window, whose last token is not an input
        pairs.append((whole[first:start], whole[start:stop]))
    return pairs


if __name__ == "__main__":
    if LM is object:
        raise SystemExit('the harness is missing: pip install "tinyslm[lm-eval]"')
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
