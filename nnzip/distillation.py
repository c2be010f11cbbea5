"""Distillation: a student learns the probabilities that a teacher gives to all classes, not the label (chapter 06).

    loss = alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy with the labels

(Hinton, Vinyals and Dean 2015, arXiv:1503.02531.) And two losses that match what lies between input and output. Every
loss comes with its gradient, of the shape and float dtype of the student's array.
"""

import numpy as np

from nnzip.checks import check_labels, door, positive, real, reals, same_shape, unit


@door
def softmax(logits: real, *, temperature: positive = 1.0):  # [..., classes] -> [..., classes]
    """Return exp(z / T) / sum exp(z / T) along the last axis; each row sums to 1.

    T = 1 is the usual softmax; larger is softer (Hinton et al. 2015, eq. 1).

    >>> softmax([0.0, 1000.0]).tolist(), softmax([0.0, 1.0], temperature=1e6).round(3).tolist()
    ([0.0, 1.0], [0.5, 0.5])
    """
    weights = np.exp(_exponents(logits, temperature))  # e^((z - max z) / T): the factor e^(-max z / T) cancels
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(logits.dtype)


@door
def log_softmax(logits: real, *, temperature: positive = 1.0):  # [..., classes] -> [..., classes]
    """Return the logarithm of `softmax`, which stays finite where the probability itself would be rounded to 0.

    >>> log_softmax([0.0, 1000.0]).tolist()
    [-1000.0, 0.0]
    """
    z = _exponents(logits, temperature)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return np.maximum(log_p, np.finfo(logits.dtype).min).astype(logits.dtype)


def _exponents(z, temperature):  # -> (z - max z) / T in float64, so that no exponential overflows
    with np.errstate(over="ignore"):  # to -infinity, whose exponential is 0
        return (z - z.max(axis=-1, keepdims=True)) / np.float64(temperature)


def mean_kl(log_p, log_q):  # [N, classes] twice, logarithms of probabilities -> float
    """Return KL(p || q) = sum p log(p / q) in nats, the mean over the rows.

    >>> p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    >>> round(mean_kl(np.log(p), np.log(q)), 4), round(mean_kl(np.log(q), np.log(p)), 4)
    (0.1438, 0.1308)
    """
    return max(float(np.sum(np.exp(log_p) * (log_p - log_q)) / len(log_p)), 0.0)  # rounding may leave a hair below 0


@door
def kl_divergence(
    teacher_logits: reals(2), student_logits: reals(2), *, temperature: positive = 1.0
):  # [N, classes] twice -> value, [N, classes]
    """Return KL(p || q) in nats, the mean over the rows, and its gradient at the student's logits, (q - p) / (T N).

    p and q are the softmax of teacher and student at temperature T (Hinton et al. 2015, eq. 2).

    >>> value, gradient = kl_divergence([[0.0, 0.0]], [[0.0, np.log(3.0)]])
    >>> round(value, 4), gradient.round(2).tolist()
    (0.1438, [[-0.25, 0.25]])
    """
    same_shape(teacher_logits, student_logits, ("teacher_logits", "student_logits"))
    log_p, log_q = (log_softmax(z.astype(float), temperature=temperature) for z in (teacher_logits, student_logits))
    gradient = (np.exp(log_q) - np.exp(log_p)) / (temperature * len(log_q))
    return mean_kl(log_p, log_q), gradient.astype(student_logits.dtype)


@door
def distillation_loss(
    student_logits: reals(2), teacher_logits: reals(2), labels, *, temperature: positive = 4.0, alpha: unit = 0.5
):  # [N, classes], [N, classes], [N] -> value, [N, classes]
    """Return alpha T^2 KL(teacher || student) + (1 - alpha) cross-entropy, means over the batch, and the gradient.

    The gradient at the student's logits is alpha T (q_T - p_T) / N + (1 - alpha) (q_1 - one_hot) / N, where p and q are
    the softmax of teacher and student at the temperature in the index. T^2 makes up for the gradient of the KL, which
    falls as 1 / T^2 (Hinton et al. 2015, section 2). alpha is the teacher's share: 0 is cross-entropy with the labels.

    >>> loss, gradient = distillation_loss([[0.0, 0.0]], [[1.0, -1.0]], [0], temperature=2.0)
    >>> round(loss, 4), gradient.round(4).tolist()
    (0.5685, [[-0.4811, 0.4811]])
    """
    same_shape(teacher_logits, student_logits, ("teacher_logits", "student_logits"))
    labels = check_labels(labels, *student_logits.shape)
    one_hot = np.arange(student_logits.shape[1]) == labels[:, None]  # [N, classes]
    student = student_logits.astype(np.float64)
    log_p = log_softmax(teacher_logits.astype(np.float64), temperature=temperature)
    log_q, log_q1 = log_softmax(student, temperature=temperature), log_softmax(student)
    loss = alpha * temperature * (temperature * mean_kl(log_p, log_q)) - (1 - alpha) * log_q1[one_hot].mean()
    gradient = alpha * temperature * (np.exp(log_q) - np.exp(log_p)) + (1 - alpha) * (np.exp(log_q1) - one_hot)
    return float(loss), (gradient / len(labels)).astype(student_logits.dtype)


@door
def hint_loss(student_features: real, teacher_features: real):  # [N, ...] twice -> value, [N, ...]
    """Return 1/2 ||student - teacher||^2, the mean over the batch, and its gradient at the student's features.

    (Romero et al. 2015, FitNets, arXiv:1412.6550, eq. 3.) If the widths differ, a regressor stands between, a layer
    that is trained along and thrown away afterwards: `hint_loss(regressor.forward(features), hints)`.

    >>> value, gradient = hint_loss([[1.0, 2.0]], [[1.0, 4.0]])
    >>> value, gradient.tolist()
    (2.0, [[0.0, -2.0]])
    """
    same_shape(teacher_features, student_features, ("teacher_features", "student_features"))
    N = len(student_features)
    difference = student_features.astype(np.float64) - teacher_features
    return float(np.sum(difference**2) / (2 * N)), (difference / N).astype(student_features.dtype)


@door
def attention_loss(student_maps: reals(4), teacher_maps: reals(4)):  # [N, C, H, W], [N, D, H, W] -> value, [N, C, H, W]
    """Return 1/2 ||a_s - a_t||^2, the mean over the batch, and its gradient at the student's feature maps.

    a = Q / ||Q|| with Q[h, w] = sum over the channels of maps^2 says where a layer looks (Zagoruyko and Komodakis 2017,
    arXiv:1612.03928, eq. 2, squared as in their code). Maps that are all zero look nowhere: a = 0, gradient 0.

    >>> student, teacher = np.array([[[[1.0, 0.0]]]]), np.array([[[[0.0, 3.0]], [[0.0, 4.0]]]])
    >>> attention_loss(student, teacher)[0], attention_loss(teacher[:, :1], teacher)[0]
    (1.0, 0.0)
    """
    same_shape(student_maps[:, 0], teacher_maps[:, 0], ("the student's maps, without channels,", "the teacher's"))
    a, x, scale = _attention(student_maps)
    error = a - _attention(teacher_maps)[0]  # [N, H, W]
    along = np.sum(error * a, axis=(1, 2), keepdims=True) * a  # the part that the division by the norm takes out
    gradient = 2 * x * ((error - along) / scale)[:, None] / len(x)
    return float(np.sum(error**2) / (2 * len(x))), gradient.astype(student_maps.dtype)


def _attention(maps):  # [N, C, H, W] -> a [N, H, W], the maps over their largest, that times ||Q|| [N, 1, 1]
    x = maps.astype(np.float64)
    largest = np.abs(x).max(axis=(1, 2, 3), keepdims=True)
    largest = np.where(largest > 0, largest, 1)
    x = x / largest  # a does not change with the scale, and no square overflows
    Q = np.sum(x**2, axis=1)
    norm = np.sqrt(np.sum(Q**2, axis=(1, 2), keepdims=True))
    norm = np.where(norm > 0, norm, 1)
    return Q / norm, x, norm * largest[:, 0]
