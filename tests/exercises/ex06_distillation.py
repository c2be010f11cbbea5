"""Chapter 06: the exercises and what grades them."""

import math

import numpy as np

from nnzip import distillation as reference
from nnzip.book.grading import any_floats, any_shape, exercise, expect, given
from nnzip.data import load_mnist
from nnzip.nn.layers import Flatten, Linear, ReLU
from nnzip.nn.network import Network
from nnzip.nn.training import SGD, evaluate, fit
from nnzip.nn.zoo import trained

EXACT = 1e-12  # what float64 may leave of numbers around 1


def _any_logits(rng, shape):
    """Logits of every size, their rows up to 2,000 apart."""
    z = rng.normal(scale=10 ** rng.uniform(-2, 2), size=shape)
    return z + rng.choice([0, 0, -1000, 1000], (*shape[:-1], 1))


def _exponents(*arrays, temperature=1.0):
    """Return the largest logit over the temperature: what is rounded before the largest is subtracted, or after."""
    return max(np.abs(z).max() for z in arrays[:2]) / temperature


def _any_temperature(rng):
    return float(rng.choice([0.5, 1.0, 2.0, 3.0, 20.0]))


@exercise(section="2. What a teacher says", difficulty=1, size="three lines")
def softmax(logits, *, temperature=1.0):  # [..., C] -> [..., C]
    """Return the probabilities exp(z / T) / sum exp(z / T) along the last axis, in the dtype of the logits.

    Logits of any size give probabilities, never NaN.

    >>> softmax(np.array([0.0, np.log(3.0)])).round(2).tolist()
    [0.25, 0.75]
    """
    return reference.softmax(logits, temperature=temperature)


softmax.case(
    "The temperature divides the logits, and every row sums to 1.",
    np.log([[1.0, 4.0, 25.0], [4.0, 4.0, 64.0]]),
    temperature=2.0,
    gives=[[1 / 8, 2 / 8, 5 / 8], [1 / 6, 1 / 6, 2 / 3]],
    tolerance=EXACT,
    likely="exp(z / T) / sum exp(z / T), the sum along the last axis with keepdims=True, nothing added to it",
)
softmax.case(
    "exp(10,000) is no float, and exp(-20,000) is 0, whatever the other rows hold.",
    np.array([[-10_000.0, -10_000.0], [10_000.0, 9_000.0], [0.0, -2_000.0]]),
    gives=[[0.5, 0.5], [1, 0], [1, 0]],
    tolerance=EXACT,
    likely="subtract the largest logit of each row first: the factor e^-max cancels",
)


@softmax.draw(
    "z - max, then divide by T, exp, divide by the sum; float32 stays float32", ulps=16, dtype=True, largest=_exponents
)
def any_classes(rng):
    """Logits of one to four axes, float32 or float64, one class or more, cold and hot."""
    logits = _any_logits(rng, (*any_shape(rng, axes=(0, 3)), int(rng.integers(1, 8))))
    return given(logits.astype(rng.choice(["float32", "float64"])), temperature=_any_temperature(rng))


@exercise(section="3. The loss", difficulty=1, size="three lines")
def log_softmax(logits, *, temperature=1.0):  # [..., C] -> [..., C]
    """Return the natural logarithm of the softmax of z / T along the last axis, in the dtype of the logits.

    It is finite where the probability would be rounded to 0.

    >>> log_softmax(np.array([0.0, 1000.0])).tolist()
    [-1000.0, 0.0]
    """
    return reference.log_softmax(logits, temperature=temperature)


log_softmax.case(
    "It is the logarithm of the softmax; the temperature divides the logits first, everywhere.",
    np.log([[1.0, 9.0], [16.0, 4.0], [25.0, 25.0]]),
    temperature=2.0,
    gives=np.log([[1 / 4, 3 / 4], [2 / 3, 1 / 3], [1 / 2, 1 / 2]]),
    tolerance=EXACT,
    likely="z - log(sum exp(z)) of z / T: log softmax(z) / T is something else",
)
log_softmax.case(
    "A probability that would be rounded to 0 has a logarithm.",
    np.array([[0.0, 30.0], [-10_000.0, -10_000.0]]),
    temperature=0.01,
    gives=[[-3000, 0], [-math.log(2), -math.log(2)]],
    tolerance=1e-9,
    likely="np.log(softmax(z)) is -inf where the softmax is 0: subtract the logarithm of the sum instead",
)


log_softmax.draw(
    "the largest of each row is subtracted, nothing added in the logarithm", ulps=16, dtype=True, largest=_exponents
)(any_classes)


@exercise(section="3. The loss", difficulty=2, size="eight lines", parts=("value", "gradient"))
def kl_divergence(teacher_logits, student_logits, *, temperature=1.0):  # [N, C], [N, C] -> float, [N, C]
    """Return KL(teacher || student), the mean over the rows of sum p log(p / q), and its gradient.

    p and q are the softmax of both logits at this temperature. The gradient is at the student's logits and has their
    dtype. A probability of 0 is no reason for NaN.

    >>> value, gradient = kl_divergence(np.zeros((1, 2)), np.log([[1.0, 3.0]]))
    >>> print(round(float(value), 4), gradient.round(4).tolist())
    0.1438 [[-0.25, 0.25]]
    """
    return reference.kl_divergence(teacher_logits, student_logits, temperature=temperature)


kl_divergence.case(
    "For a teacher of (1/2, 1/2) and a student of (1/4, 3/4) the sum of p log(p / q) is log(4/3) / 2.",
    np.zeros((1, 2)),
    np.log([[1.0, 3.0]]),
    gives=(math.log(4 / 3) / 2, [[-0.25, 0.25]]),
    tolerance=EXACT,
    likely="natural logarithm, p the teacher's, no epsilon; the gradient q - p: downhill is towards the teacher",
)
kl_divergence.case(
    "KL(teacher || student) is not KL(student || teacher).",
    np.log([[1.0, 3.0]]),
    np.zeros((1, 2)),
    gives=(math.log(1 / 2) / 4 + math.log(3 / 2) * 3 / 4, [[0.25, -0.25]]),
    tolerance=EXACT,
    likely="p log(p / q) with p the teacher",
)
kl_divergence.case(
    "A probability of 0 is no reason for NaN.",
    np.array([[2000.0, 0.0]]),
    np.zeros((1, 2)),
    gives=(math.log(2), [[-0.5, 0.5]]),
    tolerance=EXACT,
    likely="logarithms straight from the logits; where p is 0, 0 * log 0 counts as 0",
)
kl_divergence.case(
    "Both are softened, and z / T has the slope 1 / T.",
    np.zeros((2, 2)),
    np.log([[1.0, 81.0], [2.0, 2.0]]),
    temperature=4.0,
    gives=(math.log(4 / 3) / 4, [[-1 / 32, 1 / 32], [0, 0]]),
    tolerance=EXACT,
    likely="(q - p) / (T N): means over the rows; T^2 is none of this function's business",
)


@kl_divergence.draw(
    "the largest of each row is subtracted; the gradient has the student's dtype", ulps=1000, tolerance=1e-10
)
def any_pair(rng):
    """A teacher and a student of any sizes, their rows far apart, cold and hot, some saying the same."""
    shape = tuple(map(int, rng.integers(1, 7, 2)))
    teacher = _any_logits(rng, shape)
    student = teacher + rng.normal(size=(shape[0], 1)) if rng.random() < 0.2 else _any_logits(rng, shape)
    return given(teacher, student, temperature=_any_temperature(rng))


@kl_divergence.check
def the_students_dtype(kl_divergence):
    """The gradient of a float32 student is float32, whoever teaches."""
    _, gradient = kl_divergence(np.zeros((1, 2)), np.zeros((1, 2), np.float32))
    expect(gradient, [[0, 0]], dtype=np.float32)


@exercise(section="3. The loss", difficulty=2, size="twelve lines", parts=("value", "gradient"))
def distillation_loss(student_logits, teacher_logits, labels, *, temperature=4.0, alpha=0.5):
    """Return alpha T^2 KL(teacher || student) + (1 - alpha) CE(student, labels), and its gradient.

    Both parts are means over the rows. The divergence is at the temperature T, the cross-entropy with the labels at 1.
    The gradient is at the student's logits, [N, C], and has their dtype.

    >>> value, gradient = distillation_loss(np.zeros((1, 2)), np.log([[1.0, 3.0]]), np.array([1]), temperature=1.0)
    >>> print(round(float(value), 4), gradient.round(4).tolist())
    0.412 [[0.375, -0.375]]
    """
    return reference.distillation_loss(student_logits, teacher_logits, labels, temperature=temperature, alpha=alpha)


distillation_loss.case(
    "At alpha = 0 it is the cross-entropy with the labels, the mean over the batch, learnt at T = 1.",
    np.log([[1.0, 3.0], [1.0, 1.0]]),
    np.array([[9.0, 0.0], [0.0, 5.0]]),
    np.array([0, 1]),
    temperature=4.0,
    alpha=0.0,
    gives=((math.log(4) + math.log(2)) / 2, [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]]),
    tolerance=EXACT,
    likely="alpha is the teacher's share, the labels' is 1 - alpha; the student comes first",
)
distillation_loss.case(
    "At alpha = 1 it is T^2 times the divergence, and the gradient T (q - p) / N.",
    np.log([[1.0, 81.0]]),
    np.zeros((1, 2)),
    np.array([0]),
    temperature=4.0,
    alpha=1.0,
    gives=(16 * math.log(4 / 3) / 2, [[-1, 1]]),
    tolerance=1e-11,
    likely="T^2 times (q - p) / (T N)",
)
distillation_loss.case(
    "Without being told, T is 4 and alpha one half; logits of 10,000 give a loss, not NaN.",
    np.array([[10_000.0, 0.0]]),
    np.array([[0.0, 10_000.0]]),
    np.array([1], np.uint8),
    gives=(0.5 * 16 * 2_500 + 0.5 * 10_000, [[0.5 * 4 + 0.5, -0.5 * 4 - 0.5]]),
    tolerance=1e-8,
    likely="logarithms straight from the logits, the largest of each row subtracted",
)


@distillation_loss.draw("alpha T (q_T - p_T) / N + (1 - alpha) (q_1 - one_hot) / N", ulps=1000, tolerance=1e-10)
def any_lesson(rng):
    """Batches of any size, rows far apart, any temperature and share."""
    shape = tuple(map(int, rng.integers(1, 7, 2)))
    options = {"temperature": _any_temperature(rng), "alpha": float(rng.choice([0.0, 0.25, 0.9, 1.0]))}
    return given(_any_logits(rng, shape), _any_logits(rng, shape), rng.integers(shape[1], size=shape[0]), **options)


@distillation_loss.check
def the_dtype_of_the_student(distillation_loss):
    """The gradient of a float32 student is float32, whoever teaches."""
    _, gradient = distillation_loss(np.zeros((1, 2), np.float32), np.zeros((1, 2)), np.array([0]), temperature=2.0)
    expect(gradient, [[-0.25, 0.25]], dtype=np.float32, tolerance=1e-7)


@distillation_loss.unlocked("a small network distilled for one epoch with your loss, and the same without its teacher")
def distilled(distillation_loss):
    data, lines = load_mnist(), []
    part, soft = (
        (data.train_images[:2000], data.train_labels[:2000]),
        trained("lenet_300_100").logits(data.train_images[:2000]),
    )
    for alpha, rate in ((0.0, 0.02), (0.9, 0.01)):  # each the best of five

        def loss(logits, labels, indices, alpha=alpha):
            return distillation_loss(logits, soft[indices], labels, temperature=4.0, alpha=alpha)

        rng = np.random.default_rng(0)
        student = Network([Flatten(), Linear(784, 64, rng=rng), ReLU(), Linear(64, 10, rng=rng)])
        fit(student, part, epochs=1, batch_size=20, optimizer=SGD(rate), loss=loss, progress=False)
        error = evaluate(student, data.test_images, data.test_labels)
        lines.append(f"  alpha = {alpha}, rate {rate}: test error {error:.1%}")
    return "\n".join(["64 hidden units, one epoch of 2,000 images with your loss:", *lines])


@exercise(
    section="10. What lies between: hints and attention", difficulty=1, size="three lines", parts=("value", "gradient")
)
def hint_loss(student_features, teacher_features):  # [N, ...] twice -> float, [N, ...]
    """Return the mean over the images of ||student - teacher||^2 / 2, and its gradient at the student's features.

    The gradient has the dtype of the student's features.

    >>> value, gradient = hint_loss(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))
    >>> float(value), gradient.tolist()
    (2.0, [[0.0, -2.0]])
    """
    return reference.hint_loss(student_features, teacher_features)


hint_loss.case(
    "The features are summed, the batch is averaged, in both results.",
    np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]]),
    np.array([[0.0, 0.0, 0.0], [3.0, 1.0, 0.0]]),
    gives=((1 + 4 + 9 + 1) / 4, [[0.5, 0.0, 1.0], [-1.5, -0.5, 0.0]]),
    tolerance=EXACT,
    likely="half the squared distance, no root, divided by the number of images and not of features",
)


@hint_loss.draw("N is the first axis; the gradient is (s - t) / N", ulps=64)
def any_features(rng):
    """Features of one to three axes an image, of any size, some the same."""
    student = any_floats(rng, any_shape(rng, axes=(2, 4)), dtype=np.float64)
    return given(student, student.copy() if rng.random() < 0.1 else any_floats(rng, student.shape, dtype=np.float64))


@hint_loss.check
def hints_float32(hint_loss):
    """The gradient has the dtype of the student's features."""
    _, gradient = hint_loss(np.ones((1, 2), np.float32), np.zeros((1, 2)))
    expect(gradient, [[1, 1]], dtype=np.float32)


@exercise(
    section="10. What lies between: hints and attention",
    difficulty=3,
    size="fifteen lines",
    parts=("value", "gradient"),
)
def attention_loss(student_maps, teacher_maps):  # [N, C, H, W], [N, C', H, W] -> float, [N, C, H, W]
    """Return half the squared distance of two attention maps, the mean over the images, and its gradient.

        Q = the sum over the channels of x^2      a = Q / ||Q||, or 0 where Q is 0      L = sum (a_s - a_t)^2 / (2 N)

    The norm is over the places of an image. The gradient is at the student's maps and has their dtype.

    >>> value, gradient = attention_loss(np.array([[[[1.0, 0.0]]]]), np.array([[[[0.0, 3.0]]]]))
    >>> float(value), gradient.shape
    (1.0, (1, 1, 1, 2))
    """
    return reference.attention_loss(student_maps, teacher_maps)


attention_loss.case(
    "Q = (3, 4) has the norm 5, so a = (0.6, 0.8); against (1, 0) that is half of 0.16 + 0.64.",
    np.sqrt([[[[3.0, 4.0]]]]),
    np.array([[[[-2.0, 0.0]]]]),
    gives=(0.4, [[[[-0.256 * math.sqrt(3), 0.384]]]]),
    tolerance=EXACT,
    likely="dL/dQ = (e - (sum e a) a) / ||Q|| with e = (a_s - a_t) / N, and dQ/dx = 2 x",
)
attention_loss.case(
    "Maps that are all zero look nowhere: a = 0, and no gradient.",
    np.zeros((1, 2, 2, 3)),
    np.arange(6.0).reshape(1, 1, 2, 3),
    gives=(0.5, np.zeros((1, 2, 2, 3))),
    tolerance=EXACT,
    likely="0 / 0: take the norm as 1 where it is 0, with nothing added to it elsewhere",
)


@attention_loss.draw("every image has its own norm, over its places; then the mean over the images", ulps=2000)
def any_maps(rng):
    """Maps of any size and scale, with few channels or many, some images all zero."""
    N, C, others, H, W = map(int, rng.integers(1, 5, 5))
    student = rng.normal(size=(N, C, H, W)) * 10 ** rng.uniform(-3, 3)
    return given(student * (rng.random((N, 1, 1, 1)) < 0.9), rng.normal(size=(N, others, H, W)))


@attention_loss.check
def attention_float32(attention_loss):
    """The gradient has the dtype of the student's maps."""
    _, gradient = attention_loss(np.ones((1, 2, 1, 2), np.float32), np.ones((1, 3, 1, 2)))
    expect(gradient, np.zeros((1, 2, 1, 2)), tolerance=1e-6, dtype=np.float32)
