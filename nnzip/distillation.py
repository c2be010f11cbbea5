"""Softmax with a temperature: what turns logits into probabilities, and what a teacher hands to its student."""

import numpy as np

from nnzip.checks import check_number, real_array


def softmax(logits, *, temperature=1.0):  # [..., classes] -> [..., classes]
    """Return exp(z / T) / sum exp(z / T) along the last axis; each row sums to 1.

    Parameters
    ----------
    logits : float array (..., classes)
    temperature : float > 0
        1 is the usual softmax; larger is softer (Hinton et al. 2015, eq. 1).

    Returns
    -------
    array of the shape and float dtype of `logits`

    Examples
    --------
    >>> softmax([0.0, 0.0, 1000.0]).tolist()
    [0.0, 0.0, 1.0]
    >>> softmax([0.0, 1.0], temperature=1e6).round(3).tolist()
    [0.5, 0.5]
    """
    z, dtype = _exponents(logits, temperature)
    weights = np.exp(z)
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(dtype, copy=False)


def log_softmax(logits, *, temperature=1.0):  # [..., classes] -> [..., classes]
    """Return the logarithm of `softmax`, which stays finite where the probability itself would be rounded to 0.

    Examples
    --------
    >>> log_softmax([0.0, 1000.0]).tolist()
    [-1000.0, 0.0]
    """
    z, dtype = _exponents(logits, temperature)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return np.maximum(log_p, np.finfo(dtype).min).astype(dtype, copy=False)


def _exponents(logits, temperature):  # -> (z - max z) / T in float64, so that no exponential overflows; the float dtype
    z = real_array(logits, "logits")
    if z.ndim == 0:
        raise ValueError("logits must have at least one dimension, got a single number")
    temperature = check_number(temperature, "temperature", 0, np.inf, open_low=True, open_high=True)
    with np.errstate(over="ignore"):  # to -infinity, whose exponential is 0
        return (z - z.max(axis=-1, keepdims=True)) / np.float64(temperature), z.dtype
