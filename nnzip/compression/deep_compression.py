"""Deep Compression: prune and retrain gradually, let the weights share a few values, and save what is left.

    prune        after every hundred steps some more parameters go, those that matter least for the bits they would take
    share        each array's parameters get a few values, which go on learning with which one is whose
    distil       all the while the network learns from a teacher, on images moved by a pixel
    save         `nnzip.files.archive`: positions and values through an adaptive arithmetic coder

Han, Mao and Dally 2016 (arXiv:1510.00149) have the three steps prune, share, code. Here biases are treated as weights.
"""

import itertools
import sys

import numpy as np

from nnzip.checks import check_labels, door, number, real, whole
from nnzip.codebooks import assign, kmeans, look_up, sum_by_cluster
from nnzip.compression.pruning import remove_dead_units, remove_units, unit_norms
from nnzip.data import load_mnist
from nnzip.distillation import distillation_loss
from nnzip.nn.network import check_network
from nnzip.nn.training import Adam, cosine_decay, fit, shifted
from nnzip.nn.zoo import trained
from nnzip.pruning import global_masks, polynomial_schedule, saliency_mask

BATCH = 128
ROUND = 100  # steps between two prunings
RATES = 2e-3, 5e-4  # of Adam in the two stages, falling as a cosine in the end of the first and in the second
SETTLE = 0.25  # the last part of the pruning stage, in which nothing is pruned any more and the rate falls
PIXELS = 1  # how far the training images are moved at most
RECIPES = {  # chosen on the last 10,000 training images, with networks trained on the other 50,000
    "lenet_300_100": {"keep": 3900, "values": 6, "epochs": (45, 12)},
    "lenet_5": {"keep": 3300, "values": 6, "epochs": (36, 9), "units": {0: 8, 2: 20, 5: 128}},
}


def compress(name, *, seed=0, progress=True):
    """Compress a network of the zoo with its recipe, on all 60,000 training images; the LeNet-5 of the seed teaches."""
    data, teacher = load_mnist()[:2], trained("lenet_5", seed=seed)
    return deep_compression(trained(name, seed=seed), teacher, data, **RECIPES[name], seed=seed, progress=progress)


@door
def deep_compression(
    network, teacher, data, *, keep: whole(1), epochs, values: whole(1, 256), units=None, seed=0, progress=False
):
    """Return the network with few parameters of few values, to be saved by `nnzip.files.archive`, and what happened.

    teacher : Network of as many classes: the network itself, or a better one
    data : (images, labels), training images (N, C, H, W)
    keep : how many weights and biases are left, of all layers together
    epochs : (float, float), of pruning, and of training with shared values
    values : how many, different from zero, the parameters of each array may have
    units : {index of a layer: int}; first these layers are cut to their so many strongest units
    seed : of which images come when, and how they are moved

    Returns (Network, list of dicts), the network without units that nothing reads, and for each round the stage, kept,
    loss, train_error. Sources: Han et al. 2016; Zhu and Gupta 2017 (arXiv:1710.01878), eq. 1; Hinton et al. 2015
    (arXiv:1503.02531).

    >>> from nnzip.nn.network import lenet_300_100
    >>> images, labels = np.random.default_rng(0).random((20, 1, 28, 28)), np.arange(20) % 10
    >>> recipe = {"keep": 50_000, "values": 4, "epochs": (1, 1)}
    >>> network, history = deep_compression(lenet_300_100(), lenet_300_100(seed=1), (images, labels), **recipe)
    >>> len(np.unique(network.parameters()["1.weight"])), history[-1]["kept"] <= 50_000
    (5, True)
    """
    check_network(network)
    check_network(teacher)
    pruning, sharing = (number(0, np.inf, "[)")(count, "epochs") for count in epochs)
    lessons, student = Lessons(teacher, data, seed), strongest(network, units or {})
    history = prune(student, lessons, keep, pruning, progress)
    student = remove_dead_units(student)
    return student, history + share(student, lessons, values, sharing, progress)


def strongest(network, units):
    """Return a copy with so many units of each layer, those of the largest norm, chosen one layer after the other."""
    for i, count in units.items():
        norms = unit_norms(network)[i]
        network = remove_units(network, {i: saliency_mask(norms, 1 - count / len(norms))})
    return network.copy()


class Lessons:
    """Training images moved by a few pixels, with what the teacher says of each: computed once, then looked up."""

    def __init__(self, teacher, data, seed):
        self.images, self.rng = real(data[0], "images", ndim=4), np.random.default_rng(seed)
        self.labels = check_labels(data[1], len(self.images))
        self.shifts = np.array([*itertools.product(range(-PIXELS, PIXELS + 1), repeat=2)])  # rows down, columns right
        self.logits = np.stack([teacher.logits(shifted(self.images, *shift)) for shift in self.shifts])

    def rounds(self, epochs):
        return max(1, round(epochs * len(self.images) / (ROUND * BATCH)))

    def draw(self):  # -> images [n, C, H, W], labels [n], logits [n, classes]
        """Choose images for a round, and a shift for each."""
        chosen = self.rng.permutation(len(self.images))[: ROUND * BATCH]
        numbers = self.rng.integers(len(self.shifts), size=len(chosen))
        images = shifted(self.images[chosen], *self.shifts[numbers].T)
        return images, self.labels[chosen], self.logits[numbers, chosen]

    def teach(self, network, optimizer, masks, begin, end):
        """Train for a round, the part from `begin` to `end` of the rate's fall; return what `fit` says of it."""
        images, labels, soft = self.draw()

        def loss(logits, labels, rows):
            return distillation_loss(logits, soft[rows], labels, temperature=2.0, alpha=0.9)

        def schedule(part):
            return cosine_decay(begin + (end - begin) * part)

        recipe = {"epochs": 1, "batch_size": BATCH, "loss": loss, "schedule": schedule, "progress": False}
        return fit(network, (images, labels), optimizer=optimizer, masks=masks, **recipe)[0]


def prune(network, lessons, keep, epochs, progress=False):
    """Train the network in place while its parameters become fewer, to `keep` of them; return the history."""
    optimizer, history, masks, parameters = Adam(RATES[0]), [], None, network.parameters()
    rounds, total = lessons.rounds(epochs), sum(array.size for array in parameters.values())
    last = max(1, round(rounds * (1 - SETTLE)))
    goal = {"begin_step": 0, "end_step": last, "final_sparsity": 1 - keep / total}
    settled = np.maximum(np.arange(rounds + 1) - last, 0) / max(rounds - last, 1)  # the rate stays until then
    for i in range(rounds):
        record = lessons.teach(network, optimizer, masks, *settled[i : i + 2])
        masks = global_masks(saliency_per_bit(network, optimizer), polynomial_schedule(i + 1, **goal))
        for name, mask in masks.items():
            parameters[name] *= mask
        _note(history, "prune", record, masks, rounds, progress)
    return history


def saliency_per_bit(network, optimizer):
    """Return w^2 sqrt(v) / bits for every weight and bias: what is lost if it goes, by what it takes in the file.

    v, Adam's mean of the squared gradient, stands for the second derivative h of Optimal Brain Damage, w^2 h / 2 (LeCun
    et al. 1990); its root is less sure of it, since the network changes much while it is pruned.
    """
    parameters, state = network.parameters(), optimizer.state
    return {name: w**2 * np.sqrt(state[name][1]) / bits_each(w != 0) for name, w in parameters.items()}


def bits_each(mask, *, value_bits=2):  # bool [out, ...] -> float64 [out, ...]
    """Estimate the bits that a parameter takes: log2 1/p for its place, and those of its value.

    p = its row's sum x its column's sum / the sum of all, as if rows and columns were independent, the sums a little
    more than what is there; at most 1/2.

    >>> mask = np.zeros((4, 64), bool)
    >>> mask[0, :8] = mask[1, 0] = True
    >>> bits_each(mask)[[0, 1, 2], [0, 0, 63]].round(1).tolist()  # where there are many, few, none
    [3.0, 3.4, 7.3]
    """
    rows = mask.reshape(len(mask), -1)
    row, column = rows.sum(axis=1) + 0.5, rows.sum(axis=0) + 0.5
    p = np.minimum(np.outer(row, column) / (rows.sum() + 1), 0.5)
    return (value_bits - np.log2(p)).reshape(mask.shape)


def share(network, lessons, values, epochs, progress=False):
    """Train the network in place with few values for the parameters of each array; return the history."""
    masks = {name: array != 0 for name, array in network.parameters().items()}
    optimizer, history, rounds = SharedValues(RATES[1], network.parameters(), values), [], lessons.rounds(epochs)
    for i in range(rounds):
        record = lessons.teach(network, optimizer, masks, i / rounds, (i + 1) / rounds)
        _note(history, "share", record, masks, rounds, progress)
    return history


class SharedValues(Adam):
    """Adam for the parameters that are not zero, of which those of one array share few values.

    Each value moves by the sum of the gradients of those that share it (Han et al. 2016, section 3.3). Who shares what
    may change, other than there: each parameter has a free copy, which moves by the parameter's own gradient, and the
    parameter is the value nearest to it, in float16. The copies begin as the parameters are, the values by k-means.

    >>> parameters = {"0.weight": np.array([1.0, 1.5, 0.0, 3.0], np.float32)}
    >>> optimizer = SharedValues(0.25, parameters, 2)
    >>> parameters["0.weight"].tolist()
    [1.25, 1.25, 0.0, 3.0]
    >>> optimizer.step(parameters, {"0.weight": np.array([1.0, 1.0, 1.0, 0.0], np.float32)})
    >>> parameters["0.weight"].tolist()
    [1.0, 1.0, 0.0, 3.0]
    """

    def __init__(self, rate, parameters, values):
        super().__init__(rate)
        self.masks = {name: array != 0 for name, array in parameters.items() if np.any(array)}
        self.free = {name: parameters[name][mask] for name, mask in self.masks.items()}
        self.values = {name: kmeans(free, values) for name, free in self.free.items()}
        self.put(parameters)

    def step(self, parameters, gradients, *, factor=1.0):
        own = {name: gradients[name][mask] for name, mask in self.masks.items()}
        sums = {name: sum_by_cluster(own[name], self.codes[name], len(values)) for name, values in self.values.items()}
        super().step(self.free, own, factor=factor)
        named = ({f"values of {name}": array for name, array in arrays.items()} for arrays in (self.values, sums))
        super().step(*named, factor=factor)  # under names of their own, for Adam remembers arrays by name
        self.put(parameters)

    def put(self, parameters):
        """Give every parameter the value nearest to its copy."""
        for values in self.values.values():
            values.sort()
        self.codes = {name: assign(free, self.values[name]) for name, free in self.free.items()}
        for name, codes in self.codes.items():
            parameters[name][self.masks[name]] = look_up(codes, self.values[name].astype(np.float16))


def _note(history, stage, record, masks, rounds, progress):
    """Append what happened in a round; say so after every twentieth."""
    kept = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    history.append({"stage": stage, "kept": kept, **{key: record[key] for key in ("loss", "train_error")}})
    if progress and (len(history) % 20 == 0 or len(history) == rounds):
        error = f"loss {record['loss']:.4f}  train error {record['train_error']:6.2%}"
        print(f"{stage} {len(history):4}/{rounds}  {kept:6} parameters  {error}", file=sys.stderr, flush=True)
