"""Deep Compression: leave out units and weights, let the others share a few values, save what is left (chapter 12).

    narrow       once the network has learned, the weakest units of each layer go, some after every epoch
    prune        after each epoch within the limit some parameters go, those that matter least for the bits they take
    share        each array's parameters get a few values, which go on learning with which one is whose
    save         `nnzip.files.archive`: positions and values through an adaptive arithmetic coder

How far to go is asked of a sixth of the training images, held out. All the while a teacher teaches, on images moved by
a pixel. Prune, share and save are Han, Mao and Dally 2016 (arXiv:1510.00149); here biases are treated as weights.
"""

import itertools
import sys

import numpy as np

from nnzip.checks import check_labels, door, number, real, whole
from nnzip.codebooks import assign, kmeans, look_up, sum_by_cluster
from nnzip.compression.pruning import remove_dead_units, remove_units, strongest_units
from nnzip.data import load_mnist
from nnzip.distillation import distillation_loss
from nnzip.nn.network import check_network
from nnzip.nn.training import Adam, cosine_decay, evaluate, fit, shifted
from nnzip.nn.zoo import BUILD, trained
from nnzip.pruning import global_masks

BATCH = 128
RATES = 2e-3, 5e-4  # of Adam: until values are shared, and then, falling as a cosine
WINDOW = 800  # steps that a running average of the parameters reaches back
PARTS = {"narrow": 0.5, "prune": 0.75, "share": 1.0}  # of the tolerance, used up at most by the end of a stage
PACE = 0.1  # the part that goes after an epoch: of the units, and of the parameters, of these less near the limit
RECIPES = {  # epochs: how long the float networks learn, and what ten minutes allow
    "lenet_300_100": {"tolerance": 0.008, "epochs": (20, 80, 15)},
    "lenet_5": {"tolerance": 0.003, "epochs": (5, 80, 15)},
}


def compress(name, *, seed=0, progress=True):
    """Compress a network of the zoo, from its first weights on, since a trained one has seen what is held out."""
    teacher, data = trained("lenet_5", seed=seed), load_mnist()[:2]
    return deep_compression(BUILD[name](seed=seed), teacher, data, **RECIPES[name], seed=seed, progress=progress)


@door
def deep_compression(
    network, teacher, data, *, tolerance: number(0, 1, "(]"), epochs, values: whole(1, 127) = 10, shift: whole(0) = 1,
    seed=0, progress=False,
):  # fmt: skip
    """Return the network with as few parameters as the tolerance allows, of few values, and what happened.

    network : one that has not seen the images that are held out, the last sixth, or their error says nothing
    teacher : a trained Network of as many classes
    data : (images, labels), training images (N, C, H, W) in no order
    tolerance : how far the held-out error may end above the least on the way, the float network's or one still lower
    epochs : (int, int, int), of learning, of pruning at most, and of sharing
    values : how many, different from zero, the parameters of each array may have; filters, used at many places, twice
        as many
    shift : by how many pixels images are moved at most

    Returns (Network, list of dicts), the network without dead units; for each look at the held-out images stage, kept,
    units, held_out_error, limit: the float network's first, and last, as "chosen", with why it stopped. Where no
    network of shared values is within the limit, it is the last one tried.

    >>> from nnzip.nn.network import lenet_300_100
    >>> data = np.random.default_rng(0).random((20, 1, 28, 28)), np.arange(20) % 10
    >>> recipe = {"tolerance": 1.0, "epochs": (1, 1, 1)}
    >>> network, history = deep_compression(lenet_300_100(), lenet_300_100(seed=1), data, **recipe)
    >>> history[-1]["kept"] < 266_610, history[-1]["why"]
    (True, 'all epochs of pruning are used')
    """
    check_network(network)
    learning, pruning, sharing = (whole(1)(count, "epochs") for count in epochs)
    lessons = Lessons(teacher, data, tolerance, shift=shift, seed=seed, progress=progress)
    states, why = prune(narrow(network, lessons, learning), lessons, pruning)
    for state in states[::-2]:
        student = share(state, lessons, values, sharing)
        error, limit = lessons.judge("share", student)
        if error <= limit:
            break
        why = "with shared values the error was above the limit"
    lessons.note("chosen", student, held_out_error=error, limit=limit, why=why)
    return student, lessons.history


def share(network, lessons, values, epochs):
    """Return a copy without dead units whose parameters share few values."""
    student = remove_dead_units(network)
    optimizer = SharedValues(RATES[1], student.parameters(), values)
    lessons.teach(student, optimizer, epochs, schedule=cosine_decay)
    return student


class Lessons:
    """Images moved by a few pixels, with what the teacher says of each; held-out images; and the history."""

    def __init__(self, teacher, data, tolerance=1.0, *, shift=1, seed=0, progress=False):
        images, self.tolerance, self.progress = real(data[0], "images", ndim=4), tolerance, progress
        labels, last = check_labels(data[1], len(images)), len(images) * 5 // 6
        self.images, self.labels = images[:last], labels[:last]
        self.shifts = np.array([*itertools.product(range(-shift, shift + 1), repeat=2)])  # rows down, columns right
        ways = {(0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift)}  # as they are, and to each side
        self.held_out = [(shifted(images[last:], *way), labels[last:]) for way in ways]
        self.logits = np.stack([teacher.logits(shifted(self.images, *shift)) for shift in self.shifts])
        self.rng, self.history, self.least = np.random.default_rng(seed), [], 1.0

    def move(self, images, rng):
        self.moved = rng.integers(len(self.shifts), size=len(images))
        return shifted(images, *self.shifts[self.moved].T)

    def loss(self, logits, labels, rows):  # of images that were moved before
        return distillation_loss(logits, self.logits[self.moved, rows], labels, temperature=2.0, alpha=0.9)

    def teach(self, network, optimizer, epochs=1, **options):
        recipe = {"batch_size": BATCH, "loss": self.loss, "augment": self.move, "seed": self.rng}
        fit(network, (self.images, self.labels), epochs=epochs, optimizer=optimizer, **recipe, **options)

    def judge(self, stage, network):
        """Return the mean error on the held-out images, as they are and moved to each side, and the stage's limit."""
        error = float(np.mean([evaluate(network, *moved) for moved in self.held_out]))
        self.least = min(self.least, error)
        self.note(stage, network, held_out_error=error, limit=self.least + PARTS[stage] * self.tolerance)
        return error, self.history[-1]["limit"]

    def note(self, stage, network, **facts):
        kept = sum(int(np.count_nonzero(array)) for array in network.parameters().values())
        units = [len(layer.params["bias"]) for layer in network.layers if layer.params]
        self.history.append({"stage": stage, "kept": kept, "units": units, **facts})
        if self.progress:
            told = (f"{key} {round(fact, 4) if isinstance(fact, float) else fact}" for key, fact in facts.items())
            print(f"{stage} {kept} of {units} units,", *told, file=sys.stderr, flush=True)


class Averaging(Adam):
    """Adam, and a running average of each parameter: about where it would settle (Polyak and Juditsky 1992)."""

    remembers = ("mean", "square", "average")

    def update(self, weight, gradient, mean, square, average, *, rate, t):
        super().update(weight, gradient, mean, square, rate=rate, t=t)
        average += (weight - average) / min(t, WINDOW)

    def settled(self, network):
        network = network.copy()
        network.load_parameters({name: average for name, (_, _, average) in self.state.items()})
        return network


def narrow(network, lessons, epochs):
    """Teach a copy, then leave out some of each layer's units, again and again, while the error allows it."""
    smaller = network.copy()
    while True:
        optimizer = Averaging(RATES[0])
        lessons.teach(smaller, optimizer, epochs)
        error, limit = lessons.judge("narrow", optimizer.settled(smaller))
        if error > limit:
            return network
        network, epochs, kept = smaller, 1, strongest_units(smaller, PACE)
        if all(units.all() for units in kept.values()):  # they are too few
            return network
        smaller = remove_units(network, kept)


def prune(network, lessons, epochs):
    """Train in place with ever fewer parameters; return the start, averages within the limit, and why it ended."""
    optimizer, masks, above, states = Averaging(RATES[0]), None, 0, [network.copy()]
    kept = total = sum(array.size for array in network.parameters().values())
    for _ in range(epochs):
        lessons.teach(network, optimizer, masks=masks)
        state = optimizer.settled(network)
        error, limit = lessons.judge("prune", state)
        above = above + 1 if error > limit else 0
        if above == 2:
            return states, "the error was above the limit of pruning twice in a row"
        if not above:
            states.append(state)
            kept *= 1 - PACE * min(max(2 * (limit - error) / lessons.tolerance, 0.2), 1)
            masks = global_masks(saliency_per_bit(network, optimizer), 1 - max(kept, 1) / total)
    return states, "all epochs of pruning are used"


def saliency_per_bit(network, optimizer):
    """Return w^2 sqrt(v) / bits for every weight and bias: what is lost if it goes, by what it takes in the file.

    v, Adam's mean of the squared gradient, stands for h in Optimal Brain Damage's w^2 h / 2 (LeCun et al. 1990); its
    root is less sure of it, since the network changes much while it is pruned.
    """
    parameters, state = network.parameters(), optimizer.state
    return {name: w**2 * np.sqrt(state[name][1]) / bits_each(w != 0) for name, w in parameters.items()}


def bits_each(mask, *, value_bits=2):  # bool [out, ...] -> float64 [out, ...]
    """Estimate the bits that a parameter takes: those of its value, and log2 1/p for its place.

    p = its row's sum x its column's sum / all, as if these were independent; each a little more than what is there.
    """
    rows = mask.reshape(len(mask), -1)
    row, column = rows.sum(axis=1) + 0.5, rows.sum(axis=0) + 0.5
    p = np.minimum(np.outer(row, column) / (rows.sum() + 1), 0.5)
    return (value_bits - np.log2(p)).reshape(mask.shape)


class SharedValues(Adam):
    """Adam for the parameters that are not zero, of which those of one array share few values.

    Each value moves by the sum of the gradients of those that share it (Han et al. 2016, section 3.3). Other than there
    they may take another one: it is the nearest, in float16, to a free copy, which moves by a parameter's own gradient.
    """

    def __init__(self, rate, parameters, values):
        super().__init__(rate)
        self.masks = {name: array != 0 for name, array in parameters.items() if np.any(array)}
        self.free = {name: parameters[name][mask] for name, mask in self.masks.items()}
        counts = {name: 2 * values if parameters[name].ndim == 4 else values for name in self.masks}  # more for filters
        self.values = {name: kmeans(free, counts[name]) for name, free in self.free.items()}
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
