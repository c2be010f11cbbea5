"""A float layer that rounds better: scales moved between neighbours, biases that undo a shift (chapter 10).

The float network computes the same before and after a scaling, channel by channel,

    y = (x / s) (W diag(s))^T

because what stands between two layers (a ReLU, max pooling, nothing) lets a positive factor of a channel through. A
bias correction changes the rounded network alone: it takes out the mean of its error.
"""

import numpy as np

from nnzip.checks import door, reals, same_shape, unit


@door
def smoothquant_scales(x: reals(2, 3, 4), weight: reals(2, 4), *, alpha: unit = 0.5):  # [N, in], [out, in] -> [in]
    """Return the scales that move outliers of the inputs into the weights, in float64:

        s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)        x_j / s_j enters, w_j s_j multiplies

    Axis 1 of x has the channels. alpha 0 makes the weights' columns equally large, 1 the inputs. An input that is
    always 0 or that no weight uses has a scale of 1. Xiao et al. 2023, SmoothQuant (arXiv:2211.10438), eq. 4.

    >>> smoothquant_scales([[8.0, -1.0], [2.0, 0.5]], [[0.5, 1.0], [0.5, 4.0]])
    array([4. , 0.5])
    """
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"x and weight must have as many inputs, on axis 1, got {x.shape} and {weight.shape}")
    seen, used = _largest(x, 1), _largest(weight, 1)
    alive = (seen > 0) & (used > 0)
    return np.where(alive, seen, 1) ** alpha / np.where(alive, used, 1) ** (1 - alpha)


@door
def equalize(weight: reals(2, 4), bias: reals(1), next_weight: reals(2, 4)):  # [C, in], [C], [out, C] -> the same three
    """Make the rows of a layer as large as the columns of the next that read them:

        s_i = sqrt(r_i / r'_i)        W_i <- W_i / s_i, b_i <- b_i / s_i, W'_i <- s_i W'_i

    r_i = max|W_i|, r'_i = max|W'_i|: both become sqrt(r_i r'_i). After a Flatten, next_weight is (out, C * places). A
    channel without weights on either side stays. Nagel et al. 2019 (arXiv:1906.04721), section 4.1, eq. 8 to 11.

    >>> [array.tolist() for array in equalize([[4.0], [1.0]], [2.0, 1.0], [[1.0, 4.0]])]
    [[[2.0], [2.0]], [1.0, 2.0], [[2.0, 2.0]]]
    """
    channels, read = len(weight), next_weight.shape[1]
    if len(bias) != channels or read % channels or (next_weight.ndim == 4 and read != channels):
        raise ValueError(
            f"bias and next_weight must have {channels} channels, as many as weight {weight.shape} has rows,"
            f" got {bias.shape} and {next_weight.shape}"
        )
    columns = next_weight.reshape(len(next_weight), channels, -1)  # [out, C, places]
    rows, used = _largest(weight, 0), _largest(columns, 1)
    alive = (rows > 0) & (used > 0)
    scales = np.sqrt(np.where(alive, rows, 1) / np.where(alive, used, 1))
    scaled = (weight / scales.reshape(-1, *[1] * (weight.ndim - 1)), bias / scales, columns * scales[:, None])
    given = (weight, bias, next_weight)
    return tuple(new.reshape(old.shape).astype(old.dtype) for new, old in zip(scaled, given, strict=True))


@door
def bias_correction(bias: reals(1), y: reals(2, 4), y_hat: reals(2, 4)):  # [out], [N, out, ...] twice -> [out]
    """Return the bias that takes out the mean of a layer's error, b - E[y^ - y].

    y is what the float layer gives, y_hat what the rounded one gives. Rounding errors of the weights are fixed numbers:
    times inputs whose mean is not 0, as after a ReLU, they move the mean of an output. Nagel et al. 2019, section 4.2,
    with the means measured (their appendix D).

    >>> bias_correction([1.0], [[2.0], [4.0]], [[2.5], [4.0]]).tolist()
    [0.75]
    """
    same_shape(y, y_hat, ("y", "y_hat"))
    if y.shape[1] != len(bias):
        raise ValueError(f"y must have {len(bias)} outputs on axis 1, as many as bias, got shape {y.shape}")
    others = (0, *range(2, y.ndim))
    return (bias - np.mean(y_hat.astype(np.float64) - y, axis=others)).astype(bias.dtype)


def _largest(array, axis):  # -> float64, the largest magnitude of each index of the axis
    others = tuple(i for i in range(array.ndim) if i != axis)
    return np.abs(array).max(axis=others).astype(np.float64)
