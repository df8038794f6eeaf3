"""Looking inside one pass."""

from tinyslm.autodiff import value_of


def trace(model, token_ids, **inputs) -> dict:
    """{name: array} of every named intermediate of one pass, in the order of their computation.

    Among them `hidden_states.{i}` (0: what enters layer 0; the last: after the final norm) and `attentions.{i}`
    (B, H, T, T), counted as Hugging Face transformers does; the others are named by the place where they arise, such as
    "layers.0.feed_forward.neurons".
    """
    seen = {}

    def observe(name, value):
        parts = name.split(".")
        if parts[0] == "layers" and parts[2:] == ["attention", "probabilities"]:
            name = f"attentions.{parts[1]}"
        seen[name] = value_of(value)

    model(token_ids, observe=observe, **inputs)
    return seen
