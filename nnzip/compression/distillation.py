"""Train a network by a teacher: a small student, or the same network again after pruning or rounding has damaged it."""

import numpy as np

from nnzip.checks import check_integer, real_array
from nnzip.compression.pruning import masks_of
from nnzip.compression.quantization import export_rounded, round_weights_in_training
from nnzip.distillation import distillation_loss
from nnzip.nn.network import check_network
from nnzip.nn.training import SGD, cosine_decay, fit


def logits_of(network, images, *, batch_size=250):  # [N, ...] -> [N, classes]
    """Return the network's logits for many images, computed a batch at a time.

    Examples
    --------
    >>> from nnzip.nn.network import lenet_300_100
    >>> logits_of(lenet_300_100(), np.zeros((3, 1, 28, 28), np.float32)).shape
    (3, 10)
    """
    check_network(network)
    images = real_array(images, "images")
    starts = range(0, len(images), check_integer(batch_size, "batch_size", 1))
    return np.concatenate([network.forward(images[i : i + batch_size]) for i in starts])


def distill(student, teacher, data, *, epochs, temperature=4.0, alpha=0.9, augment=None, **options):
    """Train the student in place on the teacher's probabilities and the labels; return the history.

    The teacher sees every training image once, before the training, and its logits are looked up from then on. With
    `augment` it sees each augmented batch instead, as it is: teacher and student must look at the same image (Beyer et
    al. 2022, arXiv:2106.05237), and a forward pass of the teacher in every step is the price.

    Parameters
    ----------
    student : Network, also one with rounded weights or inputs
    teacher : Network of as many classes, which is not changed
    data, epochs, augment : as in `fit`
    temperature, alpha : as in `distillation_loss`; alpha 0 trains on the labels alone
    options : the rest of `fit`'s: batch_size, optimizer, schedule, masks, seed, progress

    Returns
    -------
    list of dicts, as `fit`; the loss is the distillation loss

    Raises ValueError or TypeError for what `fit` and `distillation_loss` refuse. Source: Hinton et al. 2015, section 2.

    Examples
    --------
    >>> from nnzip.nn.layers import Flatten, Linear
    >>> from nnzip.nn.network import Network
    >>> from nnzip.nn.training import SGD
    >>> from nnzip.nn.zoo import trained
    >>> images, labels = np.zeros((8, 1, 28, 28), np.float32), np.zeros(8, int)
    >>> student = Network([Flatten(), Linear(784, 10)])
    >>> recipe = {"epochs": 3, "batch_size": 8, "optimizer": SGD(0.1), "progress": False}
    >>> history = distill(student, trained("lenet_300_100"), (images, labels), **recipe)
    >>> history[2]["loss"] < history[0]["loss"]
    True
    """
    check_network(student)
    check_network(teacher)
    if teacher is student:
        raise ValueError("student and teacher must be two networks, got one twice")
    table = logits_of(teacher, data[0]) if augment is None else None
    seen = []  # the teacher's logits of the augmented batch that comes next

    def augment_for_both(images, rng):
        images = augment(images, rng)
        seen[:] = [logits_of(teacher, images)]
        return images

    def loss(logits, labels, indices):
        soft = table[indices] if augment is None else seen[0]
        return distillation_loss(logits, soft, labels, temperature=temperature, alpha=alpha)

    return fit(student, data, epochs=epochs, loss=loss, augment=augment and augment_for_both, **options)


def repair(network, teacher, data, *, bits=None, epochs, rate=0.05, batch_size=128, **options):
    """Return the network retrained with rounded weights and its zeros kept; the network that is given is not changed.

    It may be pruned: weights that are zero stay zero. With `bits` the rest are rounded in every forward pass, per
    channel (`RoundedWeight`). The teacher may be the network before it was damaged (Mishra and Marr 2018,
    arXiv:1711.05852), or a better one.

    Parameters
    ----------
    network, teacher : Network
    data, epochs, batch_size : as in `fit`
    bits : 2 to 16, of the weights; None leaves them float
    rate : float, of SGD with momentum 0.9, falling as a cosine
    options : the rest of `distill`'s: temperature, alpha (0: by the labels alone), augment, seed, progress

    Returns
    -------
    Network whose weights are on their grids, and zero where they were

    Raises ValueError or TypeError for what `distill` and `round_weights_in_training` refuse.
    """
    check_network(network)
    masks = {name: mask for name, mask in masks_of(network).items() if not mask.all()}
    student = network.copy() if bits is None else round_weights_in_training(network, bits=bits)
    recipe = {"batch_size": batch_size, "optimizer": SGD(rate), "schedule": cosine_decay}
    distill(student, teacher, data, epochs=epochs, masks=masks, **recipe, **options)
    return export_rounded(student)
