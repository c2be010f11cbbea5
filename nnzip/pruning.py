"""Which weights may go: masks by threshold and by magnitude (True = kept)."""

import numpy as np

from nnzip.checks import check_number, real_array


def threshold_mask(w, threshold):  # [...] -> bool [...]
    """Keep the weights with |w| > threshold; a weight on the threshold is pruned.

    Parameters
    ----------
    w : float array
    threshold : float >= 0, on the scale of the weights

    Raises ValueError or TypeError for a negative threshold or weights that are not finite numbers.

    Examples
    --------
    >>> threshold_mask([-0.5, 0.1, 0.25, 0.3], 0.25).tolist()
    [True, False, False, True]
    """
    threshold = check_number(threshold, "threshold", 0, np.inf, open_high=True)
    return np.abs(real_array(w, "w")) > threshold


def magnitude_mask(w, sparsity):  # [...] -> bool [...]
    """Prune the smallest magnitudes: exactly round(sparsity * size) weights, of equal ones the first.

    Parameters
    ----------
    w : float array
    sparsity : float in [0, 1], the fraction that is pruned

    Raises ValueError or TypeError for a sparsity outside [0, 1] or weights that are not finite numbers.
    Source: Han et al. 2015, Learning both Weights and Connections (arXiv:1506.02626), section 3.

    Examples
    --------
    >>> magnitude_mask([-0.5, 0.1, 0.25, 0.3], 0.5).tolist()
    [True, False, False, True]
    """
    w = real_array(w, "w")
    pruned = round(check_number(sparsity, "sparsity", 0, 1) * w.size)
    mask = np.ones(w.size, bool)
    mask[np.argsort(np.abs(w), axis=None, kind="stable")[:pruned]] = False
    return mask.reshape(w.shape)
