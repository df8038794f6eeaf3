"""SmoothQuant: scales that move outliers from the activations into the weights.

(X / s)(W * s)^T = X W^T for any positive s per input feature. Smoothing needs no additional computation at inference:
the gain of the norm before the layer (or the rows of the linear layer before it) is multiplied by 1 / s.
Source: Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models"
(arXiv 2211.10438), section 4. Applied to models: `tinyslm/recipes/quantization/smoothquant.py`. Lesson:
`lessons/09_quantization.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, matrices, matrix
from tinyslm.errors import ConfigError

SMALLEST = 1e-5  # of a scale: features or columns that are always 0 would have scale 0 or infinity


@checked(activation_maxima=array("in", nonnegative=True), weight_maxima=array("in", nonnegative=True))
def smoothing_scales(activation_maxima: np.ndarray, weight_maxima: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """SmoothQuant's scales s_j = max|X_j|^alpha / max|W_j|^(1 - alpha), at least 1e-5.

    Feature j is divided by s_j, and column j is multiplied by s_j. Then the maximum of the feature is
    (max|X_j| max|W_j|)^(1 - alpha), and the maximum of the column is (max|X_j| max|W_j|)^alpha. For alpha = 0.5 both
    are equal.

    Parameters
    ----------
    activation_maxima : ndarray, shape (in,)
        Largest magnitude of each feature.
    weight_maxima : ndarray, shape (in,)
        Largest magnitude of each column, over all matrices that read the feature, see `column_maxima`.
    alpha : float
        Migration strength, 0 to 1: with 1 the weights receive the whole range of the activations.

    Returns
    -------
    ndarray, shape (in,)
        dtype of the maxima.

    Raises
    ------
    ConfigError
        If alpha is not from 0 to 1.
    DataError
        If shapes do not match, or maxima are negative or not finite.

    References
    ----------
    Xiao et al. 2023 (arXiv 2211.10438), eq. 4. The lower bound 1e-5, also of the weight maxima, is from the authors'
    code.

    Examples
    --------
    >>> smoothing_scales(np.array([16.0, 1.0]), np.array([1.0, 4.0]))
    array([4. , 0.5])
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha must be from 0 to 1, found {alpha!r}")
    weight_maxima = np.maximum(weight_maxima, weight_maxima.dtype.type(SMALLEST))
    scales = activation_maxima**alpha / weight_maxima ** (1 - alpha)
    return np.maximum(scales, scales.dtype.type(SMALLEST))


@checked(weights=matrices("in"))
def column_maxima(*weights: np.ndarray) -> np.ndarray:
    """Largest magnitude of every column, over several matrices that read the same features.

    Parameters
    ----------
    *weights : ndarray, shape (out, in)
        `out` may differ.

    Returns
    -------
    ndarray, shape (in,)
        dtype of the weights.

    Raises
    ------
    DataError
        If there is no matrix, shapes do not match, or values are not finite.

    Examples
    --------
    >>> column_maxima(np.array([[1.0, -2.0]]), np.array([[-3.0, 0.0], [0.0, 1.0]]))
    array([3., 2.])
    """
    return np.max([np.max(np.abs(weight), axis=0) for weight in weights], axis=0)


@checked(gain=array("in"), scales=array("in", positive=True))
def smooth_gain(gain: np.ndarray, scales: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """Gain or bias of a norm, for an output divided by the scales.

    Parameters
    ----------
    gain : ndarray, shape (in,)
        Stored gain or bias of the norm.
    scales : ndarray, shape (in,)
        Above 0.
    offset : float
        Constant that the norm adds to its stored gain (1 for Gemma, whose gain is offset + w). 0 for a bias.

    Returns
    -------
    ndarray, shape (in,)

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or a scale is not above 0.

    Examples
    --------
    >>> smooth_gain(np.array([0.0, 1.0]), np.array([2.0, 4.0]), offset=1.0)
    array([-0.5, -0.5])
    """
    return (gain + gain.dtype.type(offset)) / scales - gain.dtype.type(offset)


@checked(weight=matrix("out", "in"), scales=array("in", positive=True))
def smooth_weight(weight: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Weight of a linear layer whose input features are divided by the scales.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
    scales : ndarray, shape (in,)
        Above 0.

    Returns
    -------
    ndarray, shape (out, in)
        dtype of `weight`.

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or a scale is not above 0.

    Examples
    --------
    >>> smooth_weight(np.array([[1.0, 2.0]]), np.array([4.0, 0.5]))
    array([[4., 1.]])
    """
    return weight * scales
