"""A list of NumPy integers."""

import numpy as np


def layer_map(strategy, student_layers, teacher_layers):
    counted = np.arange(1, student_layers + 1)
    if strategy == "uniform":
        return list(counted * teacher_layers // student_layers - 1)
    if strategy == "spread":
        if student_layers == 1:
            return [0]
        return [round_down(m * (teacher_layers - 1), student_layers - 1) for m in range(student_layers)]
    return list(range(teacher_layers))[-student_layers:] if strategy == "top" else list(range(student_layers))


def round_down(a, b):
    return a // b
