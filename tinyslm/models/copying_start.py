"""Initial weights from which a small model learns early to copy tokens of its context."""

import numpy as np

from tinyslm.errors import ConfigError
from tinyslm.models.decoder import Decoder

COPIED = 0.9  # share of the variance of an output projection that is the transposed value projection


def with_copying_start(model: Decoder) -> Decoder:
    """The model with initial weights that copy; the distribution of its first predictions hardly changes.

    Two things are different from independent normal weights:

    - The embedding has standard deviation 1, as large as what the blocks add. So a token can still be recognized in
      the residual stream after the first block. The gain of the final norm becomes 1 / sqrt(C), so that the logits of
      a tied head keep a standard deviation of about 1.
    - The output projection of each head is mostly the transpose of its value projection. The product of both is then
      close to a multiple of the identity on the values' subspace: a head adds to the stream what it reads from another
      token, and the tied head turns this into a higher logit of the same token. With independent weights this has to
      be learned for each word of the vocabulary.

    Parameters
    ----------
    model
        A decoder with a tied head and random weights. It is not changed.

    Raises
    ------
    ConfigError
        If the head is not tied, or the model scales its embedding.

    References
    ----------
    Trockman & Kolter 2023, "Mimetic Initialization of Self-Attention Layers" (arXiv 2305.09828), use products of the
    projections close to the identity, with the other sign for values and output, for images.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import tiny_config
    >>> model = with_copying_start(random_model(tiny_config("smallest", 300)))
    >>> attention = model.layers[0].attention
    >>> product = attention.output.weight[:, :16] @ attention.value.weight[:16]  # of the first head
    >>> bool(np.trace(product) > 5 * np.abs(product - np.diag(np.diag(product))).max())
    True
    """
    config = model.config
    if model.head is not None or config.embedding_scale != 1.0:
        raise ConfigError("the copying start needs a tied head, and an embedding that is not scaled")
    table = model.embedding.table
    gain = model.norm.weight * model.norm.weight.dtype.type(config.hidden_size**-0.5)
    return model.replace(
        embedding=model.embedding.replace(table=table / np.std(table)),
        norm=model.norm.replace(weight=gain),
        layers=[block.replace(attention=with_copying_heads(block.attention)) for block in model.layers],
    )


def with_copying_heads(attention):
    """The attention whose output projection (C, H * D) is mostly the transposed value projection (G * D, C)."""
    output, value = attention.output.weight, attention.value.weight
    heads = value.reshape(-1, attention.head_dim, value.shape[1])  # (G, D, C)
    repeated = np.repeat(heads, output.shape[1] // value.shape[0], axis=0)  # (H, D, C)
    transposed = repeated.reshape(output.shape[::-1]).T  # (C, H * D)
    copied = transposed * (np.std(output) / np.std(transposed))
    mixed = np.sqrt(COPIED) * copied + np.sqrt(1 - COPIED) * output
    return attention.replace(output=attention.output.replace(weight=mixed.astype(output.dtype)))
