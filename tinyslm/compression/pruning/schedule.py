"""Sparsity schedules: the sparsity at each step of gradual pruning, and at each round of iterative pruning.

Steps: `PruneGradually` and `PruneIteratively` in `tinyslm/recipes/pruning/schedule.py`.
Lesson: `lessons/07_pruning_weights.py`.
"""

import math

from tinyslm.compression.argument_checks import checked, fraction, integer
from tinyslm.errors import ConfigError


@checked(initial=fraction, final=fraction)
def cubic_sparsity(step: int, final: float, *, start: int = 0, stop: int = 1, initial: float = 0.0) -> float:
    """Sparsity at a step of gradual pruning: `initial` until `start`, `final` from `stop` on, a cubic in between.

    s = final + (initial - final) * (1 - (step - start) / (stop - start))^3. The sparsity grows fast at first, while
    many weights are redundant, then slowly: half way, 7/8 of the growth is done.

    Parameters
    ----------
    step : int
        Training step.
    final : float
        Sparsity at the end, from 0 to 1.
    start, stop : int
        First and last step of the growth.
    initial : float
        Sparsity at the beginning, from 0 to 1.

    Returns
    -------
    float
        Fraction of the weights removed.

    Raises
    ------
    ConfigError
        If a sparsity is not from 0 to 1, `stop` is not after `start`, or `step` is not finite.

    References
    ----------
    Zhu & Gupta 2017, "To prune, or not to prune" (arXiv 1710.01878), eq. 1.

    Examples
    --------
    >>> [cubic_sparsity(step, 1.0, stop=4) for step in (0, 2, 4)]
    [0.0, 0.875, 1.0]
    """
    if not start < stop:
        raise ConfigError(f"stop must be after start, found {stop} after {start}")
    if not math.isfinite(step):
        raise ConfigError(f"step must be finite, found {step}")
    progress = min(max((step - start) / (stop - start), 0.0), 1.0)
    return final + (initial - final) * (1 - progress) ** 3


@checked(final=fraction, rounds=integer(1, 10**6), round_number=integer(0, "rounds"))
def iterative_sparsity(round_number: int, final: float, rounds: int) -> float:
    """Sparsity after a round of iterative pruning: each round removes the same fraction p of the remaining weights.

    1 - (1 - p)^round_number with p = 1 - (1 - final)^(1 / rounds), so that the last round ends at `final`.

    Parameters
    ----------
    round_number : int
        Number of rounds done, from 0 to `rounds`.
    final : float
        Sparsity after the last round, from 0 to 1.
    rounds : int
        Number of rounds.

    Returns
    -------
    float
        Fraction of the weights removed.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    References
    ----------
    Frankle & Carbin 2019, "The Lottery Ticket Hypothesis" (arXiv 1803.03635), section 1 and appendix; p = 0.2 there.

    Examples
    --------
    >>> [iterative_sparsity(number, 0.75, rounds=2) for number in (0, 1, 2)]
    [0.0, 0.5, 0.75]
    """
    return 1 - (1 - final) ** (round_number / rounds)
