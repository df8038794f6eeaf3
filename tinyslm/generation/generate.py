"""Generation: predict the next token, read it, repeat."""

import numpy as np

from tinyslm.errors import ConfigError
from tinyslm.generation.decoding_state import start_decoding
from tinyslm.generation.sampling import check_sampling, sample


def generate(
    model,
    token_ids,
    max_new_tokens,
    *,
    temperature=0.0,
    top_k=None,
    top_p=None,
    seed=None,
    attention_mask=None,
    stop_tokens=(),
    cache="exact",
):
    """All that is generated, at once: (B, T) integers -> (B, max_new_tokens) new tokens only.

    The options are those of `stream`. A row that met one of its stop_tokens repeats that token to the end.
    """
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed, "cache": cache}
    steps = list(
        stream(model, token_ids, max_new_tokens, attention_mask=attention_mask, stop_tokens=stop_tokens, **options)
    )
    steps += steps[-1:] * (max_new_tokens - len(steps))  # every row had ended: repeat its stop token
    return np.stack(steps, axis=1)


def stream(
    model,
    token_ids,
    max_new_tokens,
    *,
    temperature=0.0,
    top_k=None,
    top_p=None,
    seed=None,
    attention_mask=None,
    stop_tokens=(),
    cache="exact",
):
    """Yield the tokens of one step at a time, (B,) integers, at most max_new_tokens times.

    token_ids: (B, T) integers, with attention_mask (B, T) 0 for padding. A decoder continues them; of different length,
    they are padded on the left. An encoder-decoder reads them as its source, padded on either side, and what is yielded
    is the text it writes, without the start token.
    temperature 0 is greedy; top_k and top_p as in `next_token_probabilities`; the same seed gives the same tokens.
    stop_tokens: a row that produced one of them repeats it, and generation ends when every row has; by default nothing
    stops (`end_tokens(model.config)` is what a model was trained to end with).
    cache: how keys and values of earlier tokens are stored: "exact" as they are, "int8" in one byte per number.
    Raises, when the first step is asked for, ConfigError for bad options, otherwise as `start_decoding`.
    """
    if not (isinstance(max_new_tokens, int | np.integer) and max_new_tokens >= 1):
        raise ConfigError(f"max_new_tokens is {max_new_tokens}, expected an integer of at least 1")
    check_sampling(temperature, top_k, top_p, seed)
    generator = np.random.default_rng(seed)
    stop_tokens = np.asarray(stop_tokens, np.int64)
    reader = start_decoding(model, token_ids, max_new_tokens, attention_mask, cache)
    tokens, finished = None, False
    for step in range(max_new_tokens):
        if step:
            reader.read(tokens)
        drawn = sample(reader.next_logits(), generator, temperature, top_k, top_p)  # (B,)
        tokens = np.where(finished, tokens, drawn) if step else drawn
        yield tokens.copy()
        finished = finished | np.any(tokens[:, None] == stop_tokens, axis=1)
        if finished.all():
            return


def end_tokens(config) -> tuple[int, ...]:
    """The tokens with which a model says that it has finished: none, one, or several."""
    ends = config.eos_token_id
    return () if ends is None else tuple(np.atleast_1d(ends).tolist())
