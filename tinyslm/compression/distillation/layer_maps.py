"""Layer maps: the teacher layer that each student layer is initialized from, or compared with.

Steps: `KeepLayers` and `Distill` in `tinyslm/recipes/distillation`. Lesson: `lessons/06_distillation.py`.
"""

from tinyslm.compression.argument_checks import require_choice, require_integer

LAYER_MAPS = {
    "uniform": lambda m, M, N: (m + 1) * N // M - 1,
    "spread": lambda m, M, N: m * (N - 1) // (M - 1) if M > 1 else 0,
    "top": lambda m, M, N: N - M + m,
    "bottom": lambda m, M, N: m,
}


def layer_map(strategy: str, student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Index of the teacher's layer for each layer of the student, ascending from 0.

    Parameters
    ----------
    strategy : str
        For M student layers and N teacher layers: "uniform", the last layer of each of M equal parts, g(m) = m N / M
        counted from 1 and rounded down, so that outputs correspond in depth; "spread", evenly from the first to the
        last layer, for students that keep teacher layers (without the first or last layer the loss increases most);
        "top", the last M; "bottom", the first M.
    student_layers : int
        M, from 1 to `teacher_layers`.
    teacher_layers : int
        N.

    Returns
    -------
    tuple of int, length M

    Raises
    ------
    ConfigError
        For an unknown strategy, or a student with more layers than the teacher.

    References
    ----------
    Jiao et al. 2020, "TinyBERT" (arXiv 1909.10351), section 3.1 and the ablation in section 4.

    Examples
    --------
    >>> layer_map("uniform", 4, 12), layer_map("spread", 4, 12)
    ((2, 5, 8, 11), (0, 3, 7, 11))
    """
    require_choice("the strategy of a layer map", strategy, LAYER_MAPS)
    require_integer("student_layers", student_layers, 1, teacher_layers)
    return tuple(LAYER_MAPS[strategy](m, student_layers, teacher_layers) for m in range(student_layers))
