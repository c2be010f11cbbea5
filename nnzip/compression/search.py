"""Search by evolution or at random: bits and sparsity of every layer, widths of the layers (chapter 11).

A genome is a list of whole numbers, the i-th in range(choices[i]); neighbouring numbers should mean neighbouring
things. What a genome is worth is a function of it alone, so each generation goes through one `run(function, genomes)`,
like `map`. With run=partial(nnzip.jobs.run_jobs, executor=..., log=...) others compute it too, and a search that was
killed goes on where it was, to the same end.
"""

import functools
import itertools
import math

import numpy as np

from nnzip.checks import door, one_of, reals, whole
from nnzip.coding import encode
from nnzip.data.mnist import raw_mnist, scale
from nnzip.distillation import kl_divergence
from nnzip.nn.layers import Flatten, Linear, ReLU
from nnzip.nn.network import Network, weights_of
from nnzip.nn.training import SGD, cosine_decay, evaluate, fit
from nnzip.nn.zoo import trained
from nnzip.pruning import magnitude_mask
from nnzip.quantization import choose_qparams, dequantize, quantize

BITS = (2, 3, 4, 5, 6, 8)
SPARSITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
WIDTHS = (0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 48, 64, 96)  # of a hidden layer; 0: there is none
TRIES = 10_000  # to find a genome that is new and allowed


@door
def pareto_front(points: reals(2)):  # [N, 2] -> int [F]
    """Return the places of the points that no other beats, being as good in both and better in one; less is better.

    Sorted by the first coordinate. Points that are equal are all there, or none.

    >>> pareto_front([(3, 1), (1, 2), (2, 2), (0, 9)]).tolist()
    [3, 1, 0]
    """
    if points.shape[1] != 2:
        raise ValueError(f"points must have shape (N, 2), got {points.shape}")
    values, where = np.unique(points, axis=0, return_inverse=True)  # sorted by the first, then by the second
    least_before = np.minimum.accumulate(np.append(np.inf, values[:-1, 1]))
    front = np.flatnonzero((values[:, 1] < least_before)[where.ravel()])
    return front[np.argsort(points[front, 0], kind="stable")]


def best_parents(found, objectives, population):  # records -> int [at least population or all, genes]
    """Return the genomes that nobody beats; then those that nobody beats without them; until they are enough."""
    points = np.array([[record[key] for key in (objectives[0], objectives[-1])] for record in found], float)
    left, chosen = np.arange(len(found)), []
    while len(chosen) < population and len(left):
        front = pareto_front(points[left])
        chosen += left[front].tolist()
        left = np.delete(left, front)
    return np.array([found[i]["genome"] for i in chosen])


def child_of(mother, father, choices, rng):  # int [genes] three times -> int [genes]
    """Return a genome that has every gene from one of two parents, some moved by a step or two: on average one."""
    child = np.where(rng.random(len(choices)) < 0.5, mother, father)
    steps = rng.choice([-2, -1, 1, 2], len(choices)) * (rng.random(len(choices)) < 1 / len(choices))
    return np.clip(child + steps, 0, np.subtract(choices, 1))


@door
def evolve(function, choices, *, objectives, evaluations, population: whole(1) = 20, allowed=None, seed=0, run=map):
    """Search by evolution: the best so far (`best_parents`) are the parents of the next generation (`child_of`).

    The first generation is drawn at random, and no genome comes twice. Deb et al. 2002, NSGA-II, without its crowding
    distance.

    function : genome -> dict of numbers
    choices : list of int, how many values each gene has
    objectives : names of one or two numbers of that dict, to be made small
    evaluations, population : how many genomes are looked at in all, and in a generation
    allowed : genome -> bool, optional; others are never looked at
    run : (function, genomes) -> results, such as `map`, or `run_jobs` with an executor or a log

    Returns a list of dicts, in the order in which they were found: the genome, and what the function says of it.

    >>> found = evolve(lambda g: {"a": abs(g[0] - 7) + abs(g[1] - 3)}, [50, 50], objectives=["a"], evaluations=150)
    >>> min(found, key=lambda record: record["a"])["genome"]
    [7, 3]
    """
    if not isinstance(objectives, tuple | list) or len(objectives) not in (1, 2):
        raise ValueError(f"objectives must be one or two names, got {objectives!r}")
    most = math.prod(whole(1)(count, "choices") for count in choices)
    whole(1, most)(evaluations, f"evaluations (of the {most} genomes that there are)")
    rng, seen, found = np.random.default_rng(seed), set(), []
    while len(found) < evaluations:
        parents = best_parents(found, objectives, population) if found else None
        count = min(population, evaluations - len(found))
        genomes = [_new_genome(choices, parents, allowed, seen, rng) for _ in range(count)]
        found += [{"genome": g, **result} for g, result in zip(genomes, run(function, genomes), strict=True)]
    return found


def random_search(function, choices, *, evaluations, **options):
    """Look at so many genomes drawn at random, none twice: an evolution that ends with its first generation."""
    options |= {"objectives": ("any",), "population": evaluations}
    return evolve(function, choices, evaluations=evaluations, **options)


WAYS = {"evolution": evolve, "random": random_search}


def _new_genome(choices, parents, allowed, seen, rng):  # -> list of int
    """Draw a genome that is allowed and not in `seen`, at random or from parents, and add it there."""
    for attempt in range(TRIES):
        genome = rng.integers(choices)
        if parents is not None and attempt < TRIES // 2:  # where all children are known, anybody will do
            genome = child_of(*parents[rng.integers(len(parents), size=2)], choices, rng)
        genome = genome.tolist()
        if tuple(genome) not in seen and (allowed is None or allowed(genome)):
            seen.add(tuple(genome))
            return genome
    raise ValueError(f"no new genome is allowed after {len(seen)}: ask for fewer evaluations")


@door
def search_bits(name, *, way: one_of(*WAYS) = "evolution", network_seed=0, images: whole(1, 60_000) = 1000, **options):
    """Search for each layer's bits and sparsity: little divergence from the float network, few bytes.

    name, network_seed : of a network of the zoo
    images : how many training images a candidate is measured on
    options : evaluations, population, seed, run, as in `evolve`; so is what comes back, with what `measure_bits` says
    """
    choices = [len(BITS), len(SPARSITIES)] * len(weights_of(trained(name, seed=network_seed)))
    function = functools.partial(measure_bits, name=name, network_seed=network_seed, images=images)
    return WAYS[way](function, choices, objectives=["loss", "bytes"], **options)


def measure_bits(genome, *, name, network_seed, images):
    """Return what a genome is worth: {"loss", "bytes", "train_error", "test_error"}; no search looks at the errors.

    loss : KL divergence of the rounded network from the float one on training images, in nats
    bytes : of the codes through `nnzip.coding.encode`, zeros and all; scales, biases: 4 bytes each
    """
    network = trained(name, seed=network_seed)
    pixels, labels = part_of_mnist("train", 0, images)
    said, total = network.logits(pixels), 0
    for weight, (bits, sparsity) in zip(weights_of(network).values(), genes_of(genome), strict=True):
        weight[...], size = coded(weight, bits, sparsity)
        total += size + 4 * len(weight)
    logits, test = network.logits(pixels), part_of_mnist("test", 0)
    errors = {"train_error": float(np.mean(logits.argmax(axis=1) != labels)), "test_error": evaluate(network, *test)}
    return {"loss": kl_divergence(said, logits)[0], "bytes": total, **errors}


def coded(weight, bits, sparsity):  # [out, ...] -> float32 [out, ...], int
    """Return a pruned and rounded weight, and its bytes: the codes as `nnzip.coding.encode` writes them, the scales."""
    pruned = weight * magnitude_mask(weight, sparsity)
    grid = choose_qparams(pruned, bits=bits, axis=0)
    codes = quantize(pruned, grid)
    data = encode(codes.astype(np.int16) - grid.qmin, alphabet=2**bits - 1)
    return dequantize(codes, grid), len(data) + 4 * len(weight)


def genes_of(genome):
    """Return the bits and the sparsity of every layer: [(bits, sparsity), ...]."""
    return [(BITS[b], SPARSITIES[s]) for b, s in zip(genome[::2], genome[1::2], strict=True)]


@door
def search_widths(*, parameters: whole(1), way: one_of(*WAYS) = "evolution", recipe=None, **options):
    """Search for the widths of an MLP with at most so many weights and biases that errs least after a short training.

    recipe : dict, of `measure_widths`: images, epochs, rate, seed
    options : evaluations, population, seed, run, as in `evolve`; so is what comes back, with what `measure_widths` says
    """
    options = {"population": 10, "allowed": functools.partial(fits, parameters=parameters)} | options
    function = functools.partial(measure_widths, **recipe or {})
    return WAYS[way](function, [len(WIDTHS)] * 3, objectives=["error"], **options)


def fits(genome, parameters):
    """Tell whether the MLP has at most so many parameters, and layers of width 0 come last: one genome a network."""
    widths = [WIDTHS[gene] for gene in genome]
    in_order = all(b == 0 or a > 0 for a, b in itertools.pairwise(widths))
    return in_order and parameters_of(widths) <= parameters


@door
def measure_widths(genome, *, images: whole(1, 55_000) = 10_000, epochs=1, rate=0.1, seed=0):
    """Train an MLP of these widths on the first training images; return its error on the last 5,000, its parameters."""
    widths = [WIDTHS[gene] for gene in genome]
    network, data, held_out = mlp(widths, seed=seed), part_of_mnist("train", 0, images), part_of_mnist("train", -5000)
    fit(network, data, epochs=epochs, batch_size=100, optimizer=SGD(rate), schedule=cosine_decay, seed=seed)
    return {"error": evaluate(network, *held_out), "parameters": parameters_of(widths)}


def mlp(widths, *, seed=0):
    """Return an untrained MLP for MNIST with hidden layers of these widths, those of width 0 left out."""
    rng, layers = np.random.default_rng(seed), [Flatten()]
    for inputs, outputs in itertools.pairwise([784, *filter(None, widths), 10]):
        layers += [Linear(inputs, outputs, rng=rng), ReLU()]
    return Network(layers[:-1])


def parameters_of(widths):
    """Return how many weights and biases `mlp` has."""
    sizes = [784, *filter(None, widths), 10]
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


@functools.cache
def part_of_mnist(name, start, stop=None):  # -> images [N, 1, 28, 28], labels [N]
    """Return some of the images of "train" or "test", and their labels; loaded once."""
    raw = raw_mnist()
    return scale(raw[f"{name}_images"][start:stop]), raw[f"{name}_labels"][start:stop].astype(np.int64)
