"""The validation curve of a training: its best step, and how long ago that was."""

import math

Curve = list[tuple[int, float]]  # (step, validation loss in nats per token), in the order of the steps


def best_step(curve: Curve) -> int:
    """The step with the lowest validation loss, the first one of equal losses. The curve has at least one point.

    Examples
    --------
    >>> best_step([(10, 4.0), (20, 3.5), (30, 3.7)])
    20
    """
    return curve[_best_index(curve)][0]


def evaluations_since_best(curve: Curve) -> int:
    """Number of points after the best one; 0 for an empty curve.

    Prechelt 1998, "Early Stopping - But When?", counts the strips since the best one in a similar way (criterion UP).

    Examples
    --------
    >>> evaluations_since_best([(10, 4.0), (20, 3.5), (30, 3.7), (40, 3.6)])
    2
    """
    return len(curve) - 1 - _best_index(curve) if curve else 0


def _best_index(curve):
    losses = [math.inf if math.isnan(nats) else nats for _, nats in curve]
    return losses.index(min(losses))
