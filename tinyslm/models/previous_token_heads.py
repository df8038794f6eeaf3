"""Initial weights with previous-token heads: the heads of the first layer attend to the four preceding tokens."""

from typing import Any

import numpy as np

from tinyslm.errors import ConfigError
from tinyslm.ops.rotary import rotary, rotary_tables

LARGEST_OFFSET = 4  # heads attend to the token 1, 2, 3, 4, 1, 2, ... positions before
PAIRS = 5  # dimension pairs of a head that give the position: those with the fastest rotations
SCORE = 25.0  # of the token at the offset
KEPT = 0.2  # factor of the random weights of queries and keys in the first layer
OUTPUT = 3.0  # factor of the output projection of the first layer
DEVIATION = 0.3  # of the embeddings


def with_previous_token_heads(model: Any) -> Any:
    """The model with a first layer in which each head attends to the token 1, 2, 3 or 4 positions before.

    Such a head writes into the residual stream of a position what stands before it. Heads of later layers can then
    find a token by what precedes it, as induction heads do. Without this start, both kinds of heads have to be learned
    at the same time, although neither is of use without the other.

    The biases of the first layer make queries and keys that do not depend on the tokens. All keys are the same before
    RoPE, and the query of a head is the key rotated back by its offset. So the score is the largest for the key at this
    offset. The embeddings are small beside what the first layer adds, and the gain of the final norm is 1 / sqrt(C), so
    that the first predictions of a tied head are nearly uniform.

    Parameters
    ----------
    model : Decoder
        With RoPE, biases of queries and keys, a tied head and random weights. It is not changed.

    Returns
    -------
    Decoder
        New arrays for the weights that differ.

    Raises
    ------
    ConfigError
        If the head is not tied, the embedding is scaled, or the first layer has no biases or no RoPE of PAIRS pairs.

    References
    ----------
    Olsson et al. 2022, "In-context Learning and Induction Heads" (arXiv 2209.11895), for the two kinds of heads.

    Examples
    --------
    >>> from tinyslm.models import random_model, trace
    >>> from tinyslm.models.tiny_shapes import tiny_config
    >>> model = with_previous_token_heads(random_model(tiny_config("small", 300, biases=True)))
    >>> attentions = trace(model, [[5, 17, 90, 8, 41]])["attentions.0"]  # (1, H, T, T)
    >>> attentions[0, :, 4].argmax(axis=-1)  # of the last token, in each head
    array([3, 2, 1, 0])
    """
    config, first = model.config, model.layers[0]
    attention, rope = first.attention, config.ropes[0]
    if model.head is not None or config.embedding_scale != 1.0:
        raise ConfigError("previous-token heads need a tied head, and an embedding that is not scaled")
    if rope is None or rope.dimension < 2 * PAIRS or attention.query.bias is None:
        raise ConfigError(f"previous-token heads need biases and RoPE of at least {2 * PAIRS} dimensions")
    H, G, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    offsets = 1 + np.arange(H) % LARGEST_OFFSET  # (H,)
    key = np.zeros((1, H, 1, D))  # one per head
    key[..., :PAIRS] = np.sqrt(SCORE / (PAIRS * config.scale))  # with dimension i + R / 2, dimension i is a pair
    cos, sin = rotary_tables(rope, -offsets)
    query = rotary(key, cos=cos, sin=sin)  # (1, H, 1, D)

    def scaled(array, factor):
        return array * array.dtype.type(factor)

    def constant(projection, bias):
        bias = bias.reshape(-1).astype(projection.bias.dtype)
        return projection.replace(weight=scaled(projection.weight, KEPT), bias=bias)

    attention = attention.replace(
        query=constant(attention.query, query),
        key=constant(attention.key, key[:, :G]),
        output=attention.output.replace(weight=scaled(attention.output.weight, OUTPUT)),
    )
    table = model.embedding.table
    return model.replace(
        embedding=model.embedding.replace(table=scaled(table, DEVIATION / np.std(table))),
        layers=[first.replace(attention=attention), *model.layers[1:]],
        norm=model.norm.replace(weight=scaled(model.norm.weight, config.hidden_size**-0.5)),
    )
