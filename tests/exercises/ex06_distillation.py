"""Chapter 06: the exercises and what grades them."""

import math

import matplotlib.pyplot as plt
import numpy as np

from nnzip import distillation as reference
from nnzip.book.exercises import in_place_of
from nnzip.book.grading import Exercise, Wrong, brief, expect
from nnzip.data import load_mnist
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network
from nnzip.nn.training import SGD, cross_entropy, evaluate, fit
from nnzip.nn.zoo import trained

EXACT = 1e-12  # what float64 may leave of numbers around 1
SLOPE = 1e-8  # central differences with a step of 1e-5: rounding 1e-16 / 1e-5, and the step squared


def _log_softmax(row, T):
    z = [float(v) / T for v in row]
    total = max(z) + math.log(sum(math.exp(v - max(z)) for v in z))
    return [v - total for v in z]


def _kl(teacher, student, T):  # the mean over the rows, term by term
    total = 0.0
    for row_p, row_q in zip(teacher, student, strict=True):
        pairs = zip(_log_softmax(row_p, T), _log_softmax(row_q, T), strict=True)
        total += sum(math.exp(p) * (p - q) for p, q in pairs)
    return total / len(teacher)


def _loss(student, teacher, labels, T, alpha):
    hard = -sum(_log_softmax(row, 1)[label] for row, label in zip(student, labels, strict=True)) / len(labels)
    return alpha * T**2 * _kl(teacher, student, T) + (1 - alpha) * hard


def _slopes(function, x, step=1e-5):  # central differences
    slopes, x = np.empty(x.shape), x.copy()
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + step
        above = function(x)
        x[index] = value - step
        slopes[index] = (above - function(x)) / (2 * step)
        x[index] = value
    return slopes


def _two(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong(
            f"got:      {brief(answer)}\nexpected: two values, the loss and its gradient at the student's array"
        )
    return answer


def _student_error(loss, *, rate):  # of a small network, one epoch on 2,000 images
    data, rng = load_mnist(), np.random.default_rng(0)
    student = Network([Flatten(), Linear(784, 64, rng=rng), ReLU(), Linear(64, 10, rng=rng)])
    part = data.train_images[:2000], data.train_labels[:2000]
    fit(student, part, epochs=1, batch_size=20, optimizer=SGD(rate), loss=loss, progress=False)
    error = evaluate(student, data.test_images, data.test_labels)
    return f"a student of 64 hidden units, one epoch on 2,000 images, errs on {error:.1%} of the test images"


def _teacher_logits():
    return trained("lenet_300_100").logits(load_mnist().train_images[:2000])


softmax = Exercise(
    reference.softmax,
    section="2. What a teacher says",
    difficulty=1,
    size="three lines",
    unlocks="the bars of chapter 06: what LeNet-300-100 says of three digits, at four temperatures of yours",
)


@softmax.check
def shares_of_the_sum(softmax):
    """Each exponential is divided by the sum of all."""
    likely = "exp(z) / sum exp(z), and nothing added to the sum, which is 8 here"
    expect(softmax(np.log([1.0, 2.0, 5.0])), [1 / 8, 2 / 8, 5 / 8], likely, tolerance=EXACT)


@softmax.check
def every_row_by_itself(softmax):
    """Every row sums to 1, of more rows than classes, of fewer, and of any number of axes."""
    likely = "sum along the last axis, with keepdims=True"
    square = np.array([[1.0, 3.0], [8.0, 2.0]])
    expect(softmax(np.log(square)), [[0.25, 0.75], [0.8, 0.2]], likely, tolerance=EXACT)
    weights = np.array([[1.0, 3.0], [2.0, 2.0], [9.0, 1.0]])
    expect(softmax(np.log(weights)), [[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]], likely, tolerance=EXACT)
    weights = np.array([[1.0, 3.0, 4.0], [2.0, 2.0, 6.0]])
    expect(softmax(np.log(weights)), [[1 / 8, 3 / 8, 1 / 2], [0.2, 0.2, 0.6]], likely, tolerance=EXACT)
    expect(softmax(np.log([square, square])), [[[0.25, 0.75], [0.8, 0.2]]] * 2, likely, tolerance=EXACT)


@softmax.check
def temperature(softmax):
    """The temperature divides the logits: above 1 the shares come closer, below 1 they part."""
    likely = "exp(z / T) / sum exp(z / T): T divides the logits, not the probabilities"
    expect(softmax(np.log([1.0, 4.0, 25.0]), temperature=2.0), [1 / 8, 2 / 8, 5 / 8], likely, tolerance=EXACT)
    expect(softmax(np.log([[1.0, 2.0]]), temperature=0.5), [[0.2, 0.8]], likely, tolerance=EXACT)


@softmax.check
def logits_of_ten_thousand(softmax):
    """exp(10,000) is no float, and the softmax exists all the same."""
    likely = "subtract the largest logit first: the factor e^-max cancels"
    expect(softmax(np.array([10_000.0, 10_000.0, 0.0])), [0.5, 0.5, 0], likely, tolerance=EXACT)
    expect(softmax(np.array([[1.0, 1.0, 0.5]]), temperature=1e-4), [[0.5, 0.5, 0]], likely, tolerance=EXACT)


@softmax.check
def logits_far_below_zero(softmax):
    """Logits far below zero do not make the sum 0, whatever the other rows hold."""
    z = np.array([[-10_000.0, -10_000.0], [10_000.0, 9_000.0], [0.0, -2_000.0]])
    likely = "the largest of each row, not of all rows: exp(-20,000) is 0, and 0 / 0 is no number"
    expect(softmax(z), [[0.5, 0.5], [1, 0], [1, 0]], likely, tolerance=EXACT)


@softmax.check
def one_class(softmax):
    """Of a single class the probability is 1."""
    expect(softmax(np.array([[3.0], [-7.0]]), temperature=5.0), [[1], [1]])


@softmax.check
def float32(softmax):
    """float32 logits give float32 probabilities."""
    expect(softmax(np.zeros((2, 4), np.float32)), np.full((2, 4), 0.25), dtype=np.float32)


@softmax.unlocked
def bars(softmax):
    temperatures, chosen = (1, 2, 4, 20), (583, 8326, 0)  # a 2, a 6 and a 7 of the test set
    images, network = load_mnist().test_images, trained("lenet_300_100")
    figure, axes = plt.subplots(len(chosen), 1 + len(temperatures), figsize=(11, 5.2), layout="constrained")
    for row, index in zip(axes, chosen, strict=True):
        row[0].imshow(images[index, 0], cmap="gray_r")
        row[0].axis("off")
        logits = network.forward(images[index : index + 1])
        for axis, T in zip(row[1:], temperatures, strict=True):
            axis.bar(range(10), softmax(logits, temperature=T)[0])
            axis.set(ylim=(0, 1.05), xticks=range(10), yticks=(0, 1))
    for axis, T in zip(axes[0][1:], temperatures, strict=True):
        axis.set_title(f"your softmax, T = {T}", fontsize=10)
    return figure


log_softmax = Exercise(
    reference.log_softmax,
    section="3. The loss",
    difficulty=1,
    size="three lines",
    task="Shapes, dtype and temperature are as in softmax.",
    unlocks="a small network trained for one epoch, its cross-entropy worked out by you",
)


@log_softmax.check
def logarithms_of_shares(log_softmax):
    """It is the logarithm of the softmax."""
    weights = np.array([[1.0, 3.0, 4.0], [2.0, 2.0, 6.0]])
    right = np.log([[1 / 8, 3 / 8, 1 / 2], [0.2, 0.2, 0.6]])
    likely = "z - log(sum exp(z)), the natural logarithm, the sum along the last axis with keepdims=True"
    expect(log_softmax(np.log(weights)), right, likely, tolerance=EXACT)
    expect(log_softmax(np.log(weights.T[:, :1])), [[0], [0], [0]], "of a single class it is log 1", tolerance=EXACT)


@log_softmax.check
def temperature_of_logarithms(log_softmax):
    """The temperature divides the logits, before the sum too."""
    z = np.log([[1.0, 9.0], [16.0, 4.0], [25.0, 25.0]])
    right = np.log([[1 / 4, 3 / 4], [2 / 3, 1 / 3], [1 / 2, 1 / 2]])
    likely = "divide by T first, everywhere: log softmax(z) / T is something else"
    expect(log_softmax(z, temperature=2.0), right, likely, tolerance=EXACT)


@log_softmax.check
def stays_finite(log_softmax):
    """A probability that would be rounded to 0 has a logarithm."""
    likely = "np.log(softmax(z)) is -inf where the softmax is 0: subtract the logarithm of the sum instead"
    expect(log_softmax(np.array([0.0, 1000.0])), [-1000, 0], likely, tolerance=1e-9)
    expect(log_softmax(np.array([[0.0, 30.0]]), temperature=0.01), [[-3000, 0]], likely, tolerance=1e-9)


@log_softmax.check
def ten_thousand(log_softmax):
    """exp(10,000) is no float, nor is the logarithm of exp(-10,000), in whatever row."""
    z = np.array([[10_000.0, 10_000.0], [-10_000.0, -10_000.0], [0.0, -10_000.0]])
    right = np.array([[-math.log(2), -math.log(2)], [-math.log(2), -math.log(2)], [0, -10_000]])
    expect(log_softmax(z), right, "subtract the largest logit of each row first", tolerance=1e-9)


@log_softmax.check
def small_differences(log_softmax):
    """It is exact to the last digits also where nothing is nearly 0."""
    z = np.random.default_rng(0).normal(size=(4, 2, 3))
    right = [[_log_softmax(row, 3.0) for row in rows] for rows in z]
    expect(log_softmax(z, temperature=3.0), right, "no small number added inside the logarithm", tolerance=EXACT)


@log_softmax.check
def log_float32(log_softmax):
    """float32 logits give float32 logarithms."""
    expect(log_softmax(np.zeros((1, 3), np.float32)), np.full((1, 3), -np.log(3)), tolerance=1e-6, dtype=np.float32)


@log_softmax.unlocked
def trained_by_labels(log_softmax):
    with in_place_of(reference.log_softmax, log_softmax):
        return f"With your log_softmax in the cross-entropy, {_student_error(cross_entropy, rate=0.02)}."


kl_divergence = Exercise(
    reference.kl_divergence,
    section="3. The loss",
    difficulty=2,
    size="eight lines",
    unlocks="a small network taught for one epoch by a teacher alone, with your divergence and its gradient",
)


@kl_divergence.check
def value_by_hand(kl_divergence):
    """For a teacher of (1/2, 1/2) and a student of (1/4, 3/4) the sum of p log(p / q) is log(4/3) / 2."""
    value, _ = _two(kl_divergence(np.zeros((1, 2)), np.log([[1.0, 3.0]])))
    expect(
        value,
        math.log(4 / 3) / 2,
        "sum of p log(p / q), natural logarithm, p the teacher's, no epsilon",
        tolerance=EXACT,
    )


@kl_divergence.check
def direction(kl_divergence):
    """KL(teacher || student) is not KL(student || teacher)."""
    value, _ = _two(kl_divergence(np.log([[1.0, 3.0]]), np.zeros((1, 2))))
    likely = "p log(p / q) with p the teacher: the other way round it is log(4/3) / 2 here"
    expect(value, math.log(1 / 2) / 4 + math.log(3 / 2) * 3 / 4, likely, tolerance=EXACT)


@kl_divergence.check
def mean_over_the_rows(kl_divergence):
    """The value is the mean over the rows: neither their sum, nor a mean over the classes too."""
    teacher, student = np.zeros((3, 2)), np.log([[1.0, 3.0], [2.0, 2.0], [5.0, 5.0]])
    value, _ = _two(kl_divergence(teacher, student))
    expect(value, math.log(4 / 3) / 6, "divide by the number of rows", tolerance=EXACT)


@kl_divergence.check
def agreement(kl_divergence):
    """When both say the same, value and gradient are 0, also if their logits differ by a constant."""
    z = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, 0.0]])
    got = kl_divergence(z, z + np.array([[4.0], [-1.0]]), temperature=2.0)
    expect(got, (0.0, np.zeros((2, 3))), "both are softened by the same temperature", tolerance=EXACT)


@kl_divergence.check
def temperature_of_both(kl_divergence):
    """Both are softened, and T^2 is none of this function's business."""
    value, _ = _two(kl_divergence(np.zeros((1, 2)), np.log([[1.0, 9.0]]), temperature=2.0))
    expect(value, math.log(4 / 3) / 2, "divide both logits by T; no factor T^2 here", tolerance=EXACT)
    value, _ = _two(kl_divergence(np.log([[1.0, 9.0]]), np.zeros((1, 2)), temperature=2.0))
    right = math.log(1 / 2) / 4 + math.log(3 / 2) * 3 / 4
    expect(value, right, "the teacher's logits are divided by T, too", tolerance=EXACT)


@kl_divergence.check
def gradient_by_hand(kl_divergence):
    """The gradient is at the student's logits, (q - p) / (T N)."""
    _, gradient = _two(kl_divergence(np.zeros((1, 2)), np.log([[1.0, 3.0]])))
    expect(gradient, [[-0.25, 0.25]], "q - p: downhill is towards the teacher", tolerance=EXACT)
    _, gradient = _two(kl_divergence(np.zeros((1, 2)), np.log([[1.0, 81.0]]), temperature=4.0))
    expect(gradient, [[-0.0625, 0.0625]], "z / T has the slope 1 / T: (q - p) / T", tolerance=EXACT)


@kl_divergence.check
def gradient_against_differences(kl_divergence):
    """The gradient is what value does when a logit is moved."""
    rng = np.random.default_rng(1)
    teacher, student = rng.normal(scale=2, size=(4, 3)), rng.normal(scale=2, size=(4, 3))
    for T in (1.0, 3.0, 0.5):
        value, gradient = _two(kl_divergence(teacher, student, temperature=T))
        expect(value, _kl(teacher, student, T), tolerance=EXACT)
        right = _slopes(lambda z, T=T: _kl(teacher, z, T), student)
        expect(gradient, right, "(q - p) / (T N): a mean of the rows has a gradient over N", tolerance=SLOPE)


@kl_divergence.check
def sure_ones(kl_divergence):
    """A probability of 0 is no reason for NaN: a sure teacher, or a sure student that is wrong."""
    likely = "logarithms straight from the logits; where p is 0, 0 * log 0 counts as 0"
    teacher, student = np.array([[2000.0, 0.0]]), np.zeros((1, 2))
    expect(kl_divergence(teacher, student), (math.log(2), np.array([[-0.5, 0.5]])), likely, tolerance=EXACT)
    right = 1000 - math.log(2), np.array([[0.5, -0.5]])
    expect(kl_divergence(student, teacher), right, "no clipping of q: log q is -2000 here", tolerance=1e-9)


@kl_divergence.check
def gradient_float32(kl_divergence):
    """The gradient has the dtype of the student's logits."""
    _, gradient = _two(kl_divergence(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)))
    expect(gradient, np.zeros((2, 2)), dtype=np.float32)


@kl_divergence.unlocked
def taught_by_divergence(kl_divergence):
    soft, T = _teacher_logits(), 4.0

    def loss(logits, labels, indices):
        value, gradient = kl_divergence(soft[indices], logits, temperature=T)
        return T**2 * value, np.float32(T**2) * gradient

    return f"With T^2 = 16 times your kl_divergence and not one label, {_student_error(loss, rate=0.01)}."


distillation_loss = Exercise(
    reference.distillation_loss,
    section="3. The loss",
    difficulty=2,
    size="twelve lines",
    unlocks="a small network distilled for one epoch with your loss, and the same one without its teacher",
)


@distillation_loss.check
def labels_alone(distillation_loss):
    """At alpha = 0 it is the cross-entropy with the labels, the mean over the batch."""
    student, teacher = np.log([[1.0, 3.0], [1.0, 1.0], [4.0, 1.0]]), np.array([[9.0, 0.0], [0.0, 5.0], [1.0, 2.0]])
    right = -(math.log(1 / 4) + math.log(1 / 2) + math.log(4 / 5)) / 3
    likely = "alpha is the teacher's share, the labels' is 1 - alpha; they are learnt at T = 1; the student comes first"
    value, _ = _two(distillation_loss(student[:1], teacher[:1], np.array([0]), temperature=4.0, alpha=0.0))
    expect(value, math.log(4), likely, tolerance=EXACT)
    value, gradient = _two(distillation_loss(student, teacher, np.array([0, 1, 0]), temperature=4.0, alpha=0.0))
    expect(value, right, "the mean of -log q[label] over the batch", tolerance=EXACT)
    likely = "(q - one_hot) / N"
    expect(gradient, np.array([[-0.75, 0.75], [0.5, -0.5], [-0.2, 0.2]]) / 3, likely, tolerance=EXACT)


@distillation_loss.check
def teacher_alone(distillation_loss):
    """At alpha = 1 and T = 1 it is KL(teacher || student), and the labels do not count."""
    student, teacher = np.zeros((1, 2)), np.log([[1.0, 3.0]])
    right = math.log(1 / 2) / 4 + math.log(3 / 2) * 3 / 4
    likely = "student_logits come first here, and the teacher's p weighs the logarithms: KL(teacher || student)"
    for label in (0, 1):
        value, gradient = _two(distillation_loss(student, teacher, np.array([label]), temperature=1.0, alpha=1.0))
        expect(value, right, likely, tolerance=EXACT)
        expect(gradient, [[0.25, -0.25]], "q - p", tolerance=EXACT)


@distillation_loss.check
def t_squared(distillation_loss):
    """The teacher's part is multiplied by T^2, so that its gradient has a factor T left."""
    student, teacher = np.zeros((1, 2)), np.log([[1.0, 9.0]])  # at T = 2: a quarter and three
    right = 4 * (math.log(1 / 2) / 4 + math.log(3 / 2) * 3 / 4)
    value, gradient = _two(distillation_loss(student, teacher, np.array([0]), temperature=2.0, alpha=1.0))
    expect(value, right, "T^2 KL, both softened by T", tolerance=EXACT)
    expect(gradient, [[0.5, -0.5]], "T^2 (q - p) / T", tolerance=EXACT)


@distillation_loss.check
def both_parts(distillation_loss):
    """alpha is the teacher's share, 1 - alpha the labels'."""
    student, teacher = np.zeros((1, 2)), np.log([[1.0, 3.0]])
    kl, hard = math.log(1 / 2) / 4 + math.log(3 / 2) * 3 / 4, math.log(2)
    value, gradient = _two(distillation_loss(student, teacher, np.array([0]), temperature=1.0, alpha=0.75))
    expect(value, 0.75 * kl + 0.25 * hard, "alpha T^2 KL + (1 - alpha) CE", tolerance=EXACT)
    expect(gradient, [[0.1875 - 0.125, 0.125 - 0.1875]], tolerance=EXACT)


@distillation_loss.check
def means_over_the_batch(distillation_loss):
    """A batch given twice has the same loss, and each of its rows half the gradient."""
    rng = np.random.default_rng(2)
    student, teacher, labels = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), np.array([3, 0, 3])
    value, gradient = _two(distillation_loss(student, teacher, labels, temperature=2.0, alpha=0.5))
    twice = [np.concatenate([array, array]) for array in (student, teacher, labels)]
    got = distillation_loss(*twice, temperature=2.0, alpha=0.5)
    expect(got, (value, np.concatenate([gradient, gradient]) / 2), "means, not sums, in both parts", tolerance=EXACT)


@distillation_loss.check
def against_differences(distillation_loss):
    """The gradient is what the loss does when one of the student's logits is moved."""
    rng = np.random.default_rng(3)
    student, teacher = rng.normal(scale=2, size=(5, 3)), rng.normal(scale=2, size=(5, 3))
    labels = np.array([2, 0, 1, 1, 2])
    for T, alpha in [(1.0, 0.5), (4.0, 0.9), (0.5, 0.25), (3.0, 1.0)]:
        value, gradient = _two(distillation_loss(student, teacher, labels, temperature=T, alpha=alpha))
        expect(value, _loss(student, teacher, labels, T, alpha), tolerance=1e-11)
        right = _slopes(lambda z, T=T, a=alpha: _loss(z, teacher, labels, T, a), student)
        likely = "alpha T (q_T - p_T) / N + (1 - alpha) (q_1 - one_hot) / N"
        expect(gradient, right, likely, tolerance=SLOPE)


@distillation_loss.check
def defaults(distillation_loss):
    """Without being told, T is 4 and alpha one half."""
    student, teacher = np.array([[1.0, 0.0, -1.0]]), np.array([[0.0, 3.0, 1.0]])
    value, _ = _two(distillation_loss(student, teacher, np.array([1])))
    expect(value, _loss(student, teacher, [1], 4.0, 0.5), "temperature=4.0, alpha=0.5", tolerance=1e-11)


@distillation_loss.check
def large_logits(distillation_loss):
    """Logits of 10,000 give a loss, not NaN."""
    student, teacher = np.array([[10_000.0, 0.0]]), np.array([[0.0, 10_000.0]])
    got = distillation_loss(student, teacher, np.array([1]), temperature=2.0, alpha=0.5)
    right = 0.5 * 4 * 5_000 + 0.5 * 10_000, np.array([[0.5 * 2 + 0.5, -0.5 * 2 - 0.5]])
    expect(got, right, "logarithms straight from the logits, the largest of each row subtracted", tolerance=1e-8)


@distillation_loss.check
def loss_float32(distillation_loss):
    """The gradient has the dtype of the student's logits."""
    z = np.zeros((1, 2), np.float32)
    _, gradient = _two(distillation_loss(z, z, np.array([0]), temperature=2.0, alpha=0.5))
    expect(gradient, [[-0.25, 0.25]], tolerance=1e-7, dtype=np.float32)


@distillation_loss.unlocked
def distilled(distillation_loss):
    soft, lines = _teacher_logits(), []
    for alpha, rate in ((0.0, 0.02), (0.9, 0.01)):  # each the best of five

        def loss(logits, labels, indices, alpha=alpha):
            return distillation_loss(logits, soft[indices], labels, temperature=4.0, alpha=alpha)

        lines.append(f"With your distillation_loss at alpha = {alpha}, rate {rate}, {_student_error(loss, rate=rate)}.")
    return "\n".join(lines)


hint_loss = Exercise(
    reference.hint_loss,
    section="10. What lies between: hints and attention",
    difficulty=1,
    size="three lines",
    unlocks="a small network taught to say its teacher's logits themselves, with your loss",
)


@hint_loss.check
def half_the_square(hint_loss):
    """Half the squared distance, and the difference as its gradient."""
    got = hint_loss(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))
    expect(got, (2.0, np.array([[0.0, -2.0]])), "||s - t||^2 / 2, no root; the gradient is s - t")


@hint_loss.check
def mean_over_the_batch(hint_loss):
    """The features are summed, the batch is averaged."""
    student = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    teacher = np.array([[0.0, 0.0, 0.0], [3.0, 1.0, 0.0]])
    right = (1 + 4 + 9 + 1) / 4, np.array([[0.5, 0.0, 1.0], [-1.5, -0.5, 0.0]])
    expect(hint_loss(student, teacher), right, "divide by the number of images, not of features, in both results")


@hint_loss.check
def feature_maps(hint_loss):
    """The features of an image may have any shape."""
    student, teacher = np.ones((3, 2, 1, 4)), np.zeros((3, 2, 1, 4))
    expect(hint_loss(student, teacher), (4.0, np.full((3, 2, 1, 4), 1 / 3)), "N is the first axis", tolerance=EXACT)


@hint_loss.check
def hints_against_differences(hint_loss):
    """The gradient is what the loss does when a feature of the student's is moved."""
    rng = np.random.default_rng(4)
    student, teacher = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))

    def plain(s):
        return sum((a - b) ** 2 for a, b in zip(s.ravel().tolist(), teacher.ravel().tolist(), strict=True)) / 4

    right = plain(student), _slopes(plain, student)
    expect(hint_loss(student, teacher), right, "the gradient of the mean, at the student", tolerance=1e-9)


@hint_loss.check
def same_features(hint_loss):
    """Where both agree, value and gradient are 0."""
    x = np.array([[1.0, -2.0], [0.5, 0.0], [3.0, 4.0]])
    expect(hint_loss(x, x), (0.0, np.zeros((3, 2))))


@hint_loss.check
def hints_float32(hint_loss):
    """The gradient has the dtype of the student's features."""
    _, gradient = _two(hint_loss(np.ones((1, 2), np.float32), np.zeros((1, 2))))
    expect(gradient, [[1, 1]], dtype=np.float32)


@hint_loss.unlocked
def says_the_same(hint_loss):
    soft = _teacher_logits()

    def loss(logits, labels, indices):
        return hint_loss(logits, soft[indices])

    return f"Taught by your hint_loss to say the teacher's logits, {_student_error(loss, rate=0.002)}."


attention_loss = Exercise(
    reference.attention_loss,
    section="10. What lies between: hints and attention",
    difficulty=3,
    size="fifteen lines",
    unlocks="a small convolution that learns with your loss to look where LeNet-5 looks",
)


def _map_of(maps):  # [C][H][W] -> flat list of H * W
    flat = [sum(float(v) ** 2 for v in place) for place in maps.reshape(len(maps), -1).T]
    norm = math.sqrt(sum(q * q for q in flat))
    return [q / norm for q in flat] if norm else flat


def _attention_loss(student, teacher):
    pairs = [(_map_of(s), _map_of(t)) for s, t in zip(student, teacher, strict=True)]
    return sum((a - b) ** 2 for s, t in pairs for a, b in zip(s, t, strict=True)) / (2 * len(student))


@attention_loss.check
def other_places(attention_loss):
    """Who looks where the other does not has a loss of 1."""
    student, teacher = np.array([[[[1.0, 0.0]]]]), np.array([[[[0.0, 3.0]], [[0.0, 4.0]]]])
    value, gradient = _two(attention_loss(student, teacher))
    expect(value, 1.0, "a has norm 1, and half of 1^2 + 1^2 is 1; sum the squares over the channels", tolerance=EXACT)
    expect(gradient, [[[[0, 0]]]], "a cannot be larger than 1 there, and 0^2 has no slope", tolerance=EXACT)


@attention_loss.check
def value_of_two_places(attention_loss):
    """Q = (3, 4) has the norm 5, so a = (0.6, 0.8); against (1, 0) that is half of 0.16 + 0.64."""
    student, teacher = np.sqrt([[[[3.0, 4.0]]]]), np.array([[[[-2.0, 0.0]]]])
    value, _ = _two(attention_loss(student, teacher))
    expect(value, 0.4, "a = Q / ||Q||, the L2 norm of Q, and half the squared distance", tolerance=EXACT)


@attention_loss.check
def channels_and_signs(attention_loss):
    """Squares are summed over the channels, however many, and signs do not count."""
    student = np.array([[[[1.0], [2.0], [0.0]], [[-1.0], [0.0], [1.0]]]])  # Q = 2, 4, 1
    teacher = np.array([[[[0.0], [0.0], [-1.0]], [[1.0], [2.0], [0.0]], [[1.0], [0.0], [0.0]]]])  # Q = 2, 4, 1
    expect(attention_loss(student, teacher), (0.0, np.zeros((1, 2, 3, 1))), "sum of squares, axis 1", tolerance=EXACT)


@attention_loss.check
def every_image_by_itself(attention_loss):
    """Every image has its own norm, and the loss is the mean over the images."""
    student, teacher = np.zeros((3, 1, 1, 2)), np.zeros((3, 1, 1, 2))
    student[:, 0, 0] = [[1, 0], [5, 0], [0, 9]]
    teacher[:, 0, 0] = [[0, 2], [7, 0], [0, 1]]
    value, _ = _two(attention_loss(student, teacher))
    expect(value, 1 / 3, "norms over the last two axes; then divide by the images", tolerance=EXACT)


@attention_loss.check
def scale_does_not_count(attention_loss):
    """Where a layer looks does not depend on how large its numbers are."""
    rng = np.random.default_rng(5)
    student, teacher = rng.normal(size=(2, 3, 2, 4)), rng.normal(size=(2, 2, 2, 4))
    right = _attention_loss(student, teacher)
    for scale in (1.0, 1000.0, 1e-5):
        value, _ = _two(attention_loss(student * scale, teacher))
        expect(value, right, "divide by the norm, with nothing added to it", tolerance=1e-11)


@attention_loss.check
def gradient_of_two_places(attention_loss):
    """The gradient at these maps, by hand: dL/dQ = (-0.64, 0.48) / 5, times 2 x."""
    student, teacher = np.sqrt([[[[3.0, 4.0]]]]), np.array([[[[-2.0, 0.0]]]])
    _, gradient = _two(attention_loss(student, teacher))
    likely = "e = a_s - a_t = (-0.4, 0.8); less its part along a, which the norm takes out; / ||Q||; times 2 x"
    expect(gradient, [[[[-0.256 * math.sqrt(3), 0.384]]]], likely, tolerance=EXACT)


@attention_loss.check
def maps_of_zeros(attention_loss):
    """Maps that are all zero look nowhere: a = 0, and no gradient."""
    zeros, some = np.zeros((1, 2, 2, 3)), np.arange(6.0).reshape(1, 1, 2, 3)
    expect(attention_loss(zeros, some), (0.5, zeros), "0 / 0: take the norm as 1 where it is 0", tolerance=EXACT)
    expect(attention_loss(zeros, zeros[:, :1]), (0.0, zeros))
    value, gradient = _two(attention_loss(some, zeros))
    expect(value, 0.5, tolerance=EXACT)
    expect(gradient, np.zeros(some.shape), "||a||^2 is 1, however the maps are moved", tolerance=EXACT)


@attention_loss.check
def attention_against_differences(attention_loss):
    """The gradient is what the loss does when a number in the student's maps is moved."""
    rng = np.random.default_rng(6)
    student, teacher = rng.normal(size=(2, 3, 2, 4)), rng.normal(size=(2, 2, 2, 4))
    right = _slopes(lambda s: _attention_loss(s, teacher), student)
    value, gradient = _two(attention_loss(student, teacher))
    expect(value, _attention_loss(student, teacher), tolerance=EXACT)
    likely = "dL/dQ = (e - (sum e a) a) / ||Q|| with e = (a_s - a_t) / N, and dQ/dx = 2 x"
    expect(gradient, right, likely, tolerance=SLOPE)
    _, gradient = _two(attention_loss(10 * student, teacher))
    expect(gradient, right / 10, "the gradient falls as the maps grow", tolerance=SLOPE)


@attention_loss.check
def attention_float32(attention_loss):
    """The gradient has the dtype of the student's maps."""
    x = np.ones((1, 2, 1, 2), np.float32)
    _, gradient = _two(attention_loss(x, x))
    expect(gradient, np.zeros(x.shape), tolerance=1e-6, dtype=np.float32)


@attention_loss.unlocked
def looks_there(attention_loss):
    images, maps = load_mnist().train_images[:500], load_mnist().train_images[:500]
    for layer in trained("lenet_5").layers[:2]:
        maps = layer.forward(maps)  # in the end [N, 20, 12, 12]
    student = Network([Conv2d(1, 4, 5, rng=np.random.default_rng(0)), MaxPool2d(2)])
    optimizer, lines = SGD(0.5), []
    for step in range(61):
        chosen = slice(50 * (step % 10), 50 * (step % 10) + 50)
        value, gradient = attention_loss(student.forward(images[chosen]), maps[chosen])
        student.backward(gradient)
        optimizer.step(student.parameters(), student.gradients())
        if step % 20 == 0:
            lines.append(f"after {step} steps your attention_loss is {value:.4f}")
    return "\n".join(["Four filters learn to look where the twenty of LeNet-5 look:", *lines])
