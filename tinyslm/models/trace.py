"""Looking inside one pass."""

import re

from tinyslm.autodiff import value_of


def trace(model, token_ids, **inputs) -> dict:
    """{name: array} of every named intermediate of one pass, in the order of their computation.

    Among them `hidden_states.{i}` (0: what enters layer 0; the last: after the final norm) and `attentions.{i}`
    (B, H, T, T), counted as Hugging Face transformers does; of encoder-decoders `encoder_hidden_states.{i}`,
    `decoder_attentions.{i}` and so on, and `cross_attentions.{i}` (B, H, T, S). The others are named by the place where
    they arise, such as "layers.0.feed_forward.neurons".
    """
    seen = {}

    def observe(name, value):
        seen[published_name(name)] = value_of(value)

    model(token_ids, observe=observe, **inputs)
    return seen


def published_name(name):
    """What transformers calls an intermediate, where it has a name for it."""
    name = re.sub(r"^decoder\.layers\.(\d+)\.cross_attention\.probabilities$", r"cross_attentions.\1", name)
    name = re.sub(r"\blayers\.(\d+)\.attention\.probabilities$", r"attentions.\1", name)
    return re.sub(r"^(encoder|decoder)\.(hidden_states|attentions)\.", r"\1_\2.", name)
