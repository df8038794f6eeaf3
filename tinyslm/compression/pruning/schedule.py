"""How sparsity grows while a model is trained."""

from tinyslm.compression.argument_checks import require_integer
from tinyslm.compression.pruning.magnitude import require_sparsity
from tinyslm.errors import ConfigError


def cubic_sparsity(step, final, *, start=0, stop=1, initial=0.0):
    """The sparsity at a step of gradual pruning: `initial` until `start`, `final` from `stop` on, in between

        s = final + (initial - final) * (1 - (step - start) / (stop - start))^3

    Fast at first, while many weights are superfluous, and ever slower: half way, 7/8 of the growth is done.
    Source: Zhu & Gupta 2017 (arXiv 1710.01878), eq. 1.
    """
    require_sparsity(initial)
    require_sparsity(final)
    if not start < stop:
        raise ConfigError(f"stop must be after start, found {stop} after {start}")
    progress = min(max((step - start) / (stop - start), 0.0), 1.0)
    return final + (initial - final) * (1 - progress) ** 3


def iterative_sparsity(round_number, final, rounds):
    """The sparsity after a round (1 .. rounds) of iterative pruning, each of which removes the same share p of what is
    left, so that the last one ends at `final`: 1 - (1 - p)^round with p = 1 - (1 - final)^(1 / rounds).

    Source: Frankle & Carbin 2019, section 1 and appendix; p = 0.2 there.
    """
    require_sparsity(final)
    require_integer("rounds", rounds, 1, 10**6)
    require_integer("round_number", round_number, 0, rounds)
    return 1 - (1 - final) ** (round_number / rounds)
