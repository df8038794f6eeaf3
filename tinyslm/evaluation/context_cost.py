"""What grows with the context: the keys and values that are kept, and the products of attention. From shapes alone."""

from tinyslm.modules import Attention, CrossAttention
from tinyslm.tree import named_modules


def tokens_seen(attention, context) -> int:
    """How many tokens the last of `context` tokens sees in this attention, itself included."""
    return min(context, getattr(attention, "window", None) or context)


def is_causal(attention) -> bool:
    """Whether later tokens are not seen, so that the keys and values of earlier ones can be kept."""
    return getattr(attention, "causal", False)


def cached_numbers(model, context) -> int:
    """The numbers in a key/value cache that holds no more than what can still be seen of `context` tokens.

    Causal attention keeps a key and a value of G D numbers for each token it sees; cross attention keeps those of the
    source, here of `context` tokens as well. An encoder keeps nothing.
    """
    return sum(
        tokens_seen(attention, context) * (attention.key.out_features + attention.value.out_features)
        for attention in _attentions(model)
        if is_causal(attention) or isinstance(attention, CrossAttention)
    )


def cached_numbers_per_token(model) -> int:
    """The numbers that one more token adds to the cache, as long as no window is full; of an encoder-decoder, one more
    token read and one more written."""
    return cached_numbers(model, 1)


def attention_multiply_adds(model, context) -> int:
    """The products that do not involve weights, for the last of `context` tokens: its queries with the keys of the
    tokens it sees, and the probabilities with their values, each H D for one token that is seen."""
    return sum(2 * tokens_seen(attention, context) * attention.query.out_features for attention in _attentions(model))


def _attentions(model):
    return named_modules(model, Attention | CrossAttention).values()
