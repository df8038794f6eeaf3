"""Layer maps: which layer of the teacher each layer of the student begins with, or learns from."""

from tinyslm.compression.argument_checks import require_integer
from tinyslm.errors import ConfigError

LAYER_MAPS = {
    "uniform": lambda m, M, N: (m + 1) * N // M - 1,
    "spread": lambda m, M, N: m * (N - 1) // (M - 1) if M > 1 else 0,
    "top": lambda m, M, N: N - M + m,
    "bottom": lambda m, M, N: m,
}


def layer_map(strategy, student_layers, teacher_layers) -> tuple[int, ...]:
    """The teacher's layer for each layer of the student, ascending, both counted from 0.

    "uniform": the last of each of M equal parts of the N layers, g(m) = m N / M counted from 1, rounded down: the
    outputs agree in depth. "spread": evenly from the first to the last: without those two a model falls apart, so
    these are the layers to keep. "top": the last M. "bottom": the first M.
    Raises ConfigError for another strategy, or a student with more layers than the teacher.
    Source: Jiao et al. 2020 (TinyBERT), section 3.1 and the ablation in section 4.
    """
    if strategy not in LAYER_MAPS:
        raise ConfigError(f"a layer map is {strategy!r}, expected one of {', '.join(LAYER_MAPS)}")
    require_integer("student_layers", student_layers, 1, teacher_layers)
    return tuple(LAYER_MAPS[strategy](m, student_layers, teacher_layers) for m in range(student_layers))
