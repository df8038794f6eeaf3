"""Named intermediates of one forward pass."""

import re
from typing import Any

from numpy.typing import ArrayLike

from tinyslm.autodiff import value_of
from tinyslm.tree import Array, Module


def trace(model: Module, token_ids: ArrayLike, **inputs: Any) -> dict[str, Array]:
    """Named intermediates of one forward pass.

    Parameters
    ----------
    model : Module
        Decoder, encoder or encoder-decoder.
    token_ids : array_like of int, shape (B, T)
        Input tokens; the source text of an encoder-decoder, (B, S).
    **inputs
        Further inputs of the model: `attention_mask`, `token_type_ids` (encoders), `decoder_token_ids`
        (encoder-decoders).

    Returns
    -------
    dict of str to ndarray
        In the order of computation. Indices i count layers from 0, as Hugging Face transformers does.

        - ``hidden_states.{i}``, (B, T, C): input of layer i; the last one is the output of the final norm.
        - ``attentions.{i}``, (B, H, T, T): attention probabilities.
        - ``logits``, (B, T, V), unless the model is an encoder without a head.
        - ``layers.{i}.attention.input`` and ``.output``, (B, T, C); ``.queries`` (B, T, H, D), ``.keys`` and
          ``.values`` (B, T, G, D), after query and key norms and rotation; ``.mixed``, (B, T, H * D): the heads'
          outputs, which the output projection reads.
        - ``layers.{i}.feed_forward.input`` and ``.output``, (B, T, C); ``.neurons``, (B, T, F): the input of the
          down projection.
        - Of a mixture of experts: ``layers.{i}.feed_forward.router_logits``, (B * T, E), and
          ``layers.{i}.feed_forward.experts.{e}.input`` (N, C) and ``.neurons`` (N, F) of the N tokens of expert e.
        - Of encoder-decoders: ``encoder_hidden_states.{i}``, ``decoder_hidden_states.{i}``,
          ``encoder_attentions.{i}``, ``decoder_attentions.{i}`` and ``cross_attentions.{i}``, (B, H, T, S). The other
          names begin with ``encoder.`` or ``decoder.``; ``decoder.layers.{i}.cross_attention`` has the names of
          ``attention`` and ``.source``, (B, S, C): the encoder's final hidden states.

    Raises
    ------
    DataError
        If the inputs do not fit the model.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> intermediates = trace(random_model(llama_shape(31, 16, 20, 3, 4, 2)), [[1, 2, 3]])
    >>> intermediates["attentions.2"].shape
    (1, 4, 3, 3)
    >>> [name for name in intermediates if name.startswith("hidden_states")]
    ['hidden_states.0', 'hidden_states.1', 'hidden_states.2', 'hidden_states.3']
    """
    intermediates = {}

    def observe(name, value):
        intermediates[_published_name(name)] = value_of(value)

    model(token_ids, observe=observe, **inputs)
    return intermediates


def _published_name(name):
    """The name of an intermediate in transformers where it has one, its own name otherwise."""
    name = re.sub(r"^decoder\.layers\.(\d+)\.cross_attention\.probabilities$", r"cross_attentions.\1", name)
    name = re.sub(r"\blayers\.(\d+)\.attention\.probabilities$", r"attentions.\1", name)
    return re.sub(r"^(encoder|decoder)\.(hidden_states|attentions)\.", r"\1_\2.", name)
