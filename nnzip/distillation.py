"""Distillation: a student learns the probabilities that a teacher gives to all classes, and not the label alone.

    loss = alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy with the labels

(Hinton, Vinyals and Dean 2015, arXiv:1503.02531.) The softmax with its temperature, this loss, and two that match what
lies between input and output: hints and attention maps. Every loss comes with its gradient at the student.
"""

import numpy as np

from nnzip.checks import check_labels, check_number, check_same_shape, real_array


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


def kl_divergence(teacher_logits, student_logits, *, temperature=1.0):  # [N, classes] twice -> value, [N, classes]
    """Return KL(p || q) = sum p log(p / q), the mean over the rows, and its gradient at the student's logits.

    With p and q the softmax of teacher and student at temperature T the gradient is (q - p) / (T N): Hinton et al.
    2015, eq. 2. The order matters: what the teacher holds likely the student must hold likely too.

    Parameters
    ----------
    teacher_logits, student_logits : float arrays (N, classes)
    temperature : float > 0, of both

    Returns
    -------
    value : float >= 0, in nats; 0 when both say the same
    grad_student_logits : array of the shape and float dtype of `student_logits`

    Raises ValueError or TypeError for logits that are not finite matrices of one shape, or a temperature that is not
    positive.

    Examples
    --------
    >>> value, gradient = kl_divergence([[0.0, 0.0]], [[0.0, np.log(3.0)]])
    >>> round(value, 4), gradient.round(2).tolist()
    (0.1438, [[-0.25, 0.25]])
    """
    teacher, student = _pair(teacher_logits, student_logits, "logits", 2)
    value, difference = _kl(teacher, student, temperature)
    return value, (difference / (temperature * len(student))).astype(student.dtype)


def _kl(teacher, student, temperature):  # [N, classes] twice -> mean KL(p || q), q - p [N, classes], in float64
    log_p, log_q = (log_softmax(z.astype(np.float64), temperature=temperature) for z in (teacher, student))
    p, q = np.exp(log_p), np.exp(log_q)
    return max(float(np.sum(p * (log_p - log_q)) / len(p)), 0.0), q - p  # rounding may leave a hair below 0


def distillation_loss(  # [N, classes], [N, classes], [N] -> value, [N, classes]
    student_logits, teacher_logits, labels, *, temperature=4.0, alpha=0.5
):
    """Return alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy, means over the batch, and the gradient.

    The gradient at the student's logits is alpha T (q_T - p_T) / N + (1 - alpha) (q_1 - one_hot) / N, where p and q are
    the softmax of teacher and student at the temperature in the index. T^2 makes up for the gradient of the KL, which
    falls as 1 / T^2, so that alpha means the same at every temperature (Hinton et al. 2015, section 2).

    Parameters
    ----------
    student_logits, teacher_logits : float arrays (N, classes)
    labels : int array (N,), each in [0, classes)
    temperature : float > 0
    alpha : float in [0, 1], the teacher's share: 0 is cross-entropy with the labels, 1 does without labels

    Returns
    -------
    loss : float
    grad_student_logits : array of the shape and float dtype of `student_logits`

    Raises ValueError or TypeError for arrays that do not fit each other or are not finite, and numbers out of range.

    Examples
    --------
    >>> loss, gradient = distillation_loss([[0.0, 0.0]], [[1.0, -1.0]], [0], temperature=2.0)
    >>> round(loss, 4), gradient.round(4).tolist()
    (0.5685, [[-0.4811, 0.4811]])
    """
    teacher, student = _pair(teacher_logits, student_logits, "logits", 2)
    labels = check_labels(labels, student.shape)
    alpha = check_number(alpha, "alpha", 0, 1)
    soft, difference = _kl(teacher, student, temperature)
    log_q = log_softmax(student.astype(np.float64))
    one_hot = np.arange(student.shape[1]) == labels[:, None]  # [N, classes]
    loss = alpha * temperature * (temperature * soft) - (1 - alpha) * log_q[one_hot].mean()
    gradient = alpha * temperature * difference + (1 - alpha) * (np.exp(log_q) - one_hot)
    return float(loss), (gradient / len(labels)).astype(student.dtype)


def hint_loss(student_features, teacher_features):  # [N, ...] twice -> value, [N, ...]
    """Return 1/2 ||student - teacher||^2, the mean over the batch, and its gradient at the student's features.

    The student's middle layer is to say what the teacher's says (Romero et al. 2015, FitNets, arXiv:1412.6550, eq. 3).
    If the widths differ, a regressor stands between, a layer that is trained along and thrown away afterwards:
    `hint_loss(regressor.forward(features), hints)`, and `regressor.backward(gradient)` gives both gradients.

    Parameters
    ----------
    student_features, teacher_features : float arrays of one shape, the batch first

    Raises ValueError or TypeError for features that are not finite or differ in shape.

    Examples
    --------
    >>> value, gradient = hint_loss([[1.0, 2.0]], [[1.0, 4.0]])
    >>> value, gradient.tolist()
    (2.0, [[0.0, -2.0]])
    """
    teacher, student = _pair(teacher_features, student_features, "features", None)
    if student.ndim == 0:
        raise ValueError("features must have the batch as their first dimension, got a single number")
    difference = student.astype(np.float64) - teacher
    return float(np.sum(difference**2) / (2 * len(student))), (difference / len(student)).astype(student.dtype)


def attention_loss(student_maps, teacher_maps):  # [N, C, H, W], [N, D, H, W] -> value, [N, C, H, W]
    """Return 1/2 ||a_s - a_t||^2, the mean over the batch, and its gradient at the student's feature maps.

    a = Q / ||Q|| with Q[h, w] = sum over the channels of maps^2 says where a layer looks, however many channels it has
    (Zagoruyko and Komodakis 2017, arXiv:1612.03928, eq. 2). The distance is squared, as in their published code:
    without the square it has no gradient where the two agree. Maps that are all zero look nowhere: a = 0, gradient 0.

    Parameters
    ----------
    student_maps, teacher_maps : float arrays (N, channels, H, W), the channels of each its own

    Raises ValueError or TypeError for maps that are not finite, or differ in batch, height or width.

    Examples
    --------
    >>> student, teacher = np.array([[[[1.0, 0.0]]]]), np.array([[[[0.0, 3.0]], [[0.0, 4.0]]]])
    >>> attention_loss(student, teacher)[0], attention_loss(teacher[:, :1], teacher)[0]
    (1.0, 0.0)
    """
    student, teacher = (
        real_array(maps, name, ndim=4)
        for maps, name in ((student_maps, "student_maps"), (teacher_maps, "teacher_maps"))
    )
    check_same_shape(student[:, 0], teacher[:, 0], ("the student's maps, without channels,", "the teacher's"))
    a, x, scale = _attention(student)
    error = a - _attention(teacher)[0]  # [N, H, W]
    along = np.sum(error * a, axis=(1, 2), keepdims=True) * a  # the part that the division by the norm takes out
    gradient = 2 * x * ((error - along) / scale)[:, None] / len(x)
    return float(np.sum(error**2) / (2 * len(x))), gradient.astype(student.dtype)


def _attention(maps):  # [N, C, H, W] -> a [N, H, W], the maps over their largest, that times ||Q|| [N, 1, 1]
    x = maps.astype(np.float64)
    largest = np.abs(x).max(axis=(1, 2, 3), keepdims=True)
    x = x / np.where(largest > 0, largest, 1)  # a does not change with the scale, and no square overflows
    Q = np.sum(x**2, axis=1)
    norm = np.sqrt(np.sum(Q**2, axis=(1, 2), keepdims=True))
    norm = np.where(norm > 0, norm, 1)
    return Q / norm, x, norm * np.where(largest > 0, largest, 1)[:, 0]


def _pair(teacher, student, what, ndim):
    names = f"teacher_{what}", f"student_{what}"
    pair = tuple(real_array(array, name, ndim=ndim) for array, name in zip((teacher, student), names, strict=True))
    check_same_shape(*pair, names)
    return pair
