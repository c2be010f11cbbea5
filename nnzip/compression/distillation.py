"""Train a network by a teacher: a small student, or a network that pruning or rounding has damaged (chapter 06)."""

from nnzip.compression.pruning import masks_of
from nnzip.compression.quantization import export_rounded, round_weights_in_training
from nnzip.distillation import distillation_loss
from nnzip.nn.network import check_network
from nnzip.nn.training import SGD, cosine_decay, fit


def distill(student, teacher, data, *, epochs, temperature=4.0, alpha=0.9, augment=None, **options):
    """Train the student in place on the teacher's probabilities and the labels; return the history, as `fit`.

    The teacher sees every training image once, before the training, and its logits are looked up from then on. With
    `augment` it sees each augmented batch instead, as it is: teacher and student must look at the same image (Beyer et
    al. 2022, arXiv:2106.05237), and a forward pass of the teacher in every step is the price.

    student : Network, also one with rounded weights or inputs; the teacher has as many classes and is not changed
    temperature, alpha : as in `distillation_loss`; alpha 0 trains on the labels alone (Hinton et al. 2015, section 2)
    options : the rest of `fit`'s: batch_size, optimizer, schedule, masks, seed, progress

    >>> import numpy as np
    >>> from nnzip.nn.network import lenet_300_100
    >>> from nnzip.nn.zoo import trained
    >>> blank = np.zeros((8, 1, 28, 28), np.float32), np.zeros(8, int)
    >>> recipe = {"epochs": 3, "batch_size": 8, "optimizer": SGD(0.1)}
    >>> history = distill(lenet_300_100(), trained("lenet_300_100"), blank, **recipe)
    >>> history[2]["loss"] < history[0]["loss"]
    True
    """
    check_network(student)
    check_network(teacher)
    if teacher is student:
        raise ValueError("student and teacher must be two networks, got one twice")
    table = teacher.logits(data[0]) if augment is None else None
    seen = []  # the teacher's logits of the augmented batch that comes next

    def augment_for_both(images, rng):
        images = augment(images, rng)
        seen[:] = [teacher.logits(images)]
        return images

    def loss(logits, labels, indices):
        soft = table[indices] if augment is None else seen[0]
        return distillation_loss(logits, soft, labels, temperature=temperature, alpha=alpha)

    return fit(student, data, epochs=epochs, loss=loss, augment=augment and augment_for_both, **options)


def repair(network, teacher, data, *, bits=None, rate=0.05, batch_size=128, **options):
    """Return the network retrained with rounded weights and its zeros kept; the network that is given is not changed.

    It may be pruned: weights that are zero stay zero. With `bits`, 2 to 16, the rest are rounded in every forward pass,
    as by `round_weights_in_training`. The teacher may be the network before it was damaged (Mishra and Marr 2018,
    arXiv:1711.05852), or a better one.

    rate : of SGD with momentum 0.9, falling as a cosine
    options : the rest of `distill`'s: epochs, temperature, alpha (0: by the labels alone), augment, seed, progress
    """
    masks = {name: mask for name, mask in masks_of(network).items() if not mask.all()}
    student = network.copy() if bits is None else round_weights_in_training(network, bits=bits)
    recipe = {"batch_size": batch_size, "optimizer": SGD(rate), "schedule": cosine_decay, "masks": masks}
    distill(student, teacher, data, **recipe, **options)
    return export_rounded(student)
