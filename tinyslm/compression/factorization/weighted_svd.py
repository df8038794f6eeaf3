"""SVD in a norm that weighs inputs and outputs: the common frame of the methods that only differ in their weights."""

import numpy as np
import scipy

from tinyslm.compression.argument_checks import require_finite, require_matrix, require_same_shape
from tinyslm.compression.factorization.components import Components, balanced_components
from tinyslm.errors import DataError

RELATIVE_FLOOR = 1e-6  # of the largest importance


def weighted_components(weight, inputs, outputs=None) -> Components:
    """The components of W in the norm sqrt(sum_ij (outputs_i W_ij inputs_j)^2).

    weight: (out, in);  inputs: (in,), outputs: (out,) by default 1: importances of the features, not negative.
    With P = diag(outputs), R = diag(inputs) and P W R = U S V^T, W = (P^-1 U) (S V^T R^-1), and its first k components
    minimize ||P (W - W') R|| over all W' of rank k: Eckart & Young 1936, because P and R are invertible. For that,
    importances are at least 10^-6 of the largest; if all are 0 they are taken as 1.
    """
    require_matrix("weight", weight)
    inputs = _importance("inputs", inputs, weight.shape[1])
    outputs = np.ones(len(weight)) if outputs is None else _importance("outputs", outputs, weight.shape[0])
    scaled = outputs[:, None] * weight * inputs  # (out, in)
    U, S, Vt = scipy.linalg.svd(scaled, full_matrices=False)  # (out, r), (r,), (r, in)
    return balanced_components(U / outputs[:, None], S[:, None] * Vt / inputs, S)


def weighted_svd(weight, inputs, outputs, rank):
    """(left, right) of this rank that minimize sum_ij (outputs_i inputs_j)^2 (weight - left right)_ij^2.

    weight: (out, in);  inputs: (in,), outputs: (out,) importances;  returns left (out, R), right (R, in), dtype of
    weight. Where the Fisher information is of rank one, F_ij = outputs_i^2 inputs_j^2, this solves exactly the problem
    with a weight for each entry, which in general has no solution in closed form (Srebro & Jaakkola 2003).
    """
    return weighted_components(weight, inputs, outputs).first(rank, weight.dtype)


def _importance(name, importance, features):
    importance = np.asarray(importance, np.float64)
    require_same_shape(name, importance, (features,))
    require_finite(name, importance)
    if np.any(importance < 0):
        raise DataError(f"{name} must hold importances, found negative ones")
    largest = np.max(importance)
    return np.maximum(importance, RELATIVE_FLOOR * largest) if largest > 0 else np.ones(features)
