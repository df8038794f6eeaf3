"""Costs that grow with the context: key/value cache and attention products. Computed from shapes."""

from tinyslm.modules import Attention, CrossAttention
from tinyslm.tree import named_modules


def attended_tokens(attention, context: int) -> int:
    """Number of tokens to which the last of `context` tokens attends, itself included."""
    return min(context, getattr(attention, "window", None) or context)


def cached_numbers(model, context: int) -> int:
    """Size of a key/value cache that keeps only tokens within the attention windows, for `context` tokens.

    Causal attention caches a key and a value of G D numbers each per token. Cross attention caches the keys and values
    of the source, which is assumed to have `context` tokens too. An encoder has no cache.
    """
    return sum(
        attended_tokens(attention, context) * (attention.key.out_features + attention.value.out_features)
        for attention in _attentions(model)
        if isinstance(attention, CrossAttention) or attention.causal
    )


def attention_multiply_adds(model, context: int) -> int:
    """Multiply-adds without weights for the last of `context` tokens: query-key and probability-value products, each
    H D per attended token."""
    return sum(
        2 * attended_tokens(attention, context) * attention.query.out_features for attention in _attentions(model)
    )


def _attentions(model):
    return named_modules(model, Attention | CrossAttention).values()
