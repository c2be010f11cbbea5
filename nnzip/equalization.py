"""Change a float layer so that it rounds better: scales moved between neighbours, and biases that undo a shift.

The float network computes the same before and after a scaling, channel by channel,

    y = (x / s) (W diag(s))^T

because what stands between two layers (a ReLU, max pooling, nothing) lets a positive factor of a channel through. A
bias correction changes the rounded network alone: it takes out the mean of its error.
"""

import numpy as np

from nnzip.checks import check_ndim, check_number, check_same_shape, real_array


def smoothquant_scales(x, weight, *, alpha=0.5):  # [N, in], [out, in] -> float64 [in]
    """Return the scales that move outliers of the inputs into the weights:

        s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)        x_j / s_j enters, w_j s_j multiplies

    Parameters
    ----------
    x : float array (N, in), or (N, in, ...): axis 1 has the channels
    weight : float array (out, in) or (out, in, kH, kW)
    alpha : float in [0, 1]; 0 makes the weights' columns equally large, 1 the inputs, 0.5 both to the same extent

    Returns 1 for an input that is always 0 or that no weight uses. Source: Xiao et al. 2023, SmoothQuant
    (arXiv:2211.10438), eq. 4.

    Examples
    --------
    >>> smoothquant_scales([[8.0, -1.0], [2.0, 0.5]], [[0.5, 1.0], [0.5, 4.0]])
    array([4. , 0.5])
    """
    x, weight = real_array(x, "x"), real_array(weight, "weight")
    check_ndim(x, "x", (2, 3, 4))
    check_ndim(weight, "weight", (2, 4))
    alpha = check_number(alpha, "alpha", 0, 1)
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"x and weight must have as many inputs, on axis 1, got {x.shape} and {weight.shape}")
    seen, used = _largest(x, 1), _largest(weight, 1)
    alive = (seen > 0) & (used > 0)
    return np.where(alive, np.where(alive, seen, 1) ** alpha / np.where(alive, used, 1) ** (1 - alpha), 1.0)


def equalize(weight, bias, next_weight):  # [C, in], [C], [out, C] -> the same three
    """Make the rows of a layer as large as the columns of the next that read them:

        s_i = sqrt(r_i / r'_i)        W_i <- W_i / s_i, b_i <- b_i / s_i, W'_i <- s_i W'_i

    r_i = max|W_i|, r'_i = max|W'_i|: both become sqrt(r_i r'_i), and neither has an outlying channel any more.

    Parameters
    ----------
    weight, bias : float arrays (C, in) or (C, in, kH, kW), and (C,)
    next_weight : float array (out, C) or (out, C, kH, kW), or (out, C * places) after a Flatten

    Raises ValueError if the shapes do not meet. A channel without weights on either side stays. Source: Nagel et al.
    2019 (arXiv:1906.04721), section 4.1, eq. 8 to 11.

    Examples
    --------
    >>> [array.tolist() for array in equalize([[4.0], [1.0]], [2.0, 1.0], [[1.0, 4.0]])]
    [[[2.0], [2.0]], [1.0, 2.0], [[2.0, 2.0]]]
    """
    weight, bias = real_array(weight, "weight", ndim=(2, 4)), real_array(bias, "bias", ndim=1)
    following, channels = real_array(next_weight, "next_weight", ndim=(2, 4)), len(weight)
    if (
        len(bias) != channels
        or following.shape[1] % channels
        or (following.ndim == 4 and following.shape[1] != channels)
    ):
        raise ValueError(
            f"bias and next_weight must have {channels} channels, as many as weight {weight.shape} has rows,"
            f" got {bias.shape} and {following.shape}"
        )
    columns = following.reshape(len(following), channels, -1)  # [out, C, places]
    rows, used = _largest(weight, 0), _largest(columns, 1)
    alive = (rows > 0) & (used > 0)
    scales = np.where(alive, np.sqrt(np.where(alive, rows, 1) / np.where(alive, used, 1)), 1.0)
    scaled = (weight / scales.reshape(-1, *[1] * (weight.ndim - 1)), bias / scales, columns * scales[:, None])
    originals = (weight, bias, following)
    return tuple(new.reshape(old.shape).astype(old.dtype) for new, old in zip(scaled, originals, strict=True))


def bias_correction(bias, y, y_hat):  # [out], [N, out, ...], [N, out, ...] -> [out]
    """Return the bias that takes out the mean of a layer's error, b - E[y^ - y].

    Rounding errors of the weights are fixed numbers; times inputs whose mean is not 0 (after a ReLU it never is) they
    move the mean of an output, and what moves means hurts more than noise.

    Parameters
    ----------
    bias : float array (out,)
    y, y_hat : float arrays (N, out) or (N, out, H, W), the outputs of the float layer and of the rounded one

    Source: Nagel et al. 2019, section 4.2, with the means measured (their appendix D).

    Examples
    --------
    >>> bias_correction([1.0], [[2.0], [4.0]], [[2.5], [4.0]]).tolist()
    [0.75]
    """
    bias = real_array(bias, "bias", ndim=1)
    y, y_hat = real_array(y, "y", ndim=(2, 4)), real_array(y_hat, "y_hat", ndim=(2, 4))
    check_same_shape(y, y_hat, ("y", "y_hat"))
    if y.shape[1] != len(bias):
        raise ValueError(f"y must have {len(bias)} outputs on axis 1, as many as bias, got shape {y.shape}")
    others = (0, *range(2, y.ndim))
    return (bias - np.mean(y_hat.astype(np.float64) - y, axis=others)).astype(bias.dtype)


def _largest(array, axis):  # -> float64, the largest magnitude of each index of the axis
    others = tuple(i for i in range(array.ndim) if i != axis)
    return np.abs(array).max(axis=others).astype(np.float64)
