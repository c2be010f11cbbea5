"""Search over discrete choices, by evolution or at random: bits and sparsity of every layer, widths of the layers.

A genome is a list of whole numbers, the i-th in range(choices[i]); neighbouring numbers should mean neighbouring
things. What a genome is worth is a function of it alone, so generations are mapped over any executor, and results that
a log has are not computed again: a search that was killed goes on where it was, to the same end.
"""

import functools
import itertools
import math
import sys
import time

import numpy as np

from nnzip.checks import check_choice, check_integer, check_ndim, real_array
from nnzip.coding import encode
from nnzip.compression.mixed_precision import through
from nnzip.data.mnist import raw_mnist, scale
from nnzip.distillation import kl_divergence
from nnzip.jobs import run_jobs
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
WAYS = ("evolution", "random")


def pareto_front(points):  # [N, 2] -> int [F]
    """Return the places of the points that no other beats, being as good in both and better in one; less is better.

    Sorted by the first coordinate. Points that are equal are all there, or none.

    Examples
    --------
    >>> pareto_front([(3, 1), (1, 2), (2, 2), (0, 9)]).tolist()
    [3, 1, 0]
    """
    points = real_array(points, "points", ndim=2)
    if points.shape[1] != 2:
        raise ValueError(f"points must have shape (N, 2), got {points.shape}")
    values, where = np.unique(points, axis=0, return_inverse=True)  # sorted by the first, then by the second
    least_before = np.minimum.accumulate(np.append(np.inf, values[:-1, 1]))
    front = np.flatnonzero((values[:, 1] < least_before)[where.ravel()])
    return front[np.argsort(points[front, 0], kind="stable")]


def evolve(
    function,
    choices,
    *,
    objectives,
    evaluations,
    population=20,
    allowed=None,
    seed=0,
    executor=None,
    log=None,
    settings=None,
    progress=True,
):
    """Search by evolution: the best so far are the parents of the next generation.

    The first generation is drawn at random. Then each child takes every gene from one of two parents, and moves some
    genes by a step or two, one in the mean. The parents are those of all found so far that nobody beats; without them,
    those that nobody beats then; and so on, until they are `population` (Deb et al. 2002, NSGA-II,
    without its crowding distance). No genome comes twice.

    Parameters
    ----------
    function : genome -> dict of numbers; picklable where processes run it
    choices : list of int, how many values each gene has
    objectives : names of one or two numbers of that dict, to be made small
    evaluations : int, how many genomes are looked at in all; population : int, how many in a generation
    allowed : genome -> bool, optional; others are never looked at
    seed : int, of what is drawn
    executor, log, settings : as in `run_jobs`; several searches may share a log
    progress : bool, a line for each generation, to standard error

    Returns
    -------
    list of dicts, in the order in which they were found: the genome, and what the function says of it

    Examples
    --------
    >>> found = evolve(lambda g: {"miss": abs(g[0] - 7) + abs(g[1] - 3)}, [50, 50], objectives=["miss"],
    ...     evaluations=300, progress=False)
    >>> min(found, key=lambda record: record["miss"])["genome"]
    [7, 3]
    """
    rng, found, draw = np.random.default_rng(check_integer(seed, "seed", 0)), [], _Draw(choices, allowed, evaluations)
    check_integer(population, "population", 1)
    if not isinstance(objectives, tuple | list) or len(objectives) not in (1, 2):
        raise ValueError(f"objectives must be one or two names, got {objectives!r}")
    while len(found) < evaluations:
        count, start = min(population, evaluations - len(found)), time.perf_counter()
        parents = _parents(found, objectives, population) if found else None
        genomes = [draw.new(rng, parents) for _ in range(count)]
        options = {"executor": executor, "log": log, "settings": settings, "progress": False}
        results = run_jobs(function, genomes, **options)
        found += _records(genomes, results, objectives)
        if progress:
            left = (time.perf_counter() - start) / count * (evaluations - len(found))
            best = "  ".join(f"{key} {min(record[key] for record in found):.4g}" for key in objectives)
            print(f"{len(found)}/{evaluations}  least {best}  {left:.0f} s left", file=sys.stderr, flush=True)
    return found


def random_search(
    function, choices, *, evaluations, allowed=None, seed=0, executor=None, log=None, settings=None, progress=True
):
    """Look at so many genomes drawn at random, none twice: what any search must beat. Arguments as in `evolve`."""
    rng, draw = np.random.default_rng(check_integer(seed, "seed", 0)), _Draw(choices, allowed, evaluations)
    genomes = [draw.new(rng) for _ in range(evaluations)]
    results = run_jobs(function, genomes, executor=executor, log=log, settings=settings, progress=progress)
    return _records(genomes, results)


def _records(genomes, results, objectives=()):  # -> list of dicts
    for result in results:
        if not isinstance(result, dict) or not all(isinstance(result.get(key), int | float) for key in objectives):
            raise TypeError(f"the function must return a dict, with numbers for {objectives}, got {result!r:.80}")
    return [{"genome": genome, **result} for genome, result in zip(genomes, results, strict=True)]


def _parents(found, objectives, population):  # -> int [at least population or all, genes]
    values = np.array([[record[key] for key in objectives] for record in found], float)
    points = np.column_stack([values, np.zeros((len(values), 2 - values.shape[1]))])  # one objective: the other equal
    left, chosen = np.arange(len(found)), []
    while len(chosen) < population and len(left):
        front = pareto_front(points[left])
        chosen += left[front].tolist()
        left = np.delete(left, front)
    return np.array([found[i]["genome"] for i in chosen])


class _Draw:
    """Draws genomes that are allowed and that it has not drawn before."""

    def __init__(self, choices, allowed, evaluations):
        self.choices = np.array([check_integer(count, "choices", 1) for count in choices])
        check_ndim(self.choices, "choices", 1)
        most = math.prod(self.choices.tolist())
        check_integer(evaluations, f"evaluations (of the {most} genomes that there are)", 1, most)
        self.allowed, self.seen = allowed or (lambda genome: True), set()

    def new(self, rng, parents=None):  # -> list of int
        for attempt in range(TRIES):
            genome = rng.integers(self.choices)
            if parents is not None and attempt < TRIES // 2:  # where all children are known, anybody will do
                genome = self.child(rng, *parents[rng.integers(len(parents), size=2)])
            key = tuple(genome.tolist())
            if key not in self.seen and self.allowed(list(key)):
                self.seen.add(key)
                return list(key)
        raise ValueError(f"no new genome is allowed after {len(self.seen)}: ask for fewer evaluations")

    def child(self, rng, mother, father):
        genes = len(self.choices)
        child = np.where(rng.random(genes) < 0.5, mother, father)
        steps = rng.choice([-2, -1, 1, 2], genes) * (rng.random(genes) < 1 / genes)
        return np.clip(child + steps, 0, self.choices - 1)


# ---------------------------------------------------------------- bits and sparsity of every layer


def search_bits(name, *, evaluations, way="evolution", network_seed=0, images=1000, seed=0, population=20, **options):
    """Search for each layer's bits and sparsity: little divergence from the float network, few bytes.

    Parameters
    ----------
    name, network_seed : of a network of the zoo
    evaluations, seed, population, executor, log, progress : as in `evolve`
    way : "evolution" or "random", as a baseline with as many evaluations
    images : int, how many training images a candidate is measured on

    Returns
    -------
    list of dicts as of `evolve`, with what `measure_bits` says
    """
    settings = {"name": name, "network_seed": network_seed, "images": check_integer(images, "images", 1, 60_000)}
    choices = [len(BITS), len(SPARSITIES)] * len(weights_of(trained(name, seed=network_seed)))
    function = functools.partial(measure_bits, **settings)
    return _search(way, function, choices, ("loss", "bytes"), evaluations, population, seed, settings, options)


def measure_bits(genome, *, name, network_seed, images):
    """Return what a genome is worth: {"loss", "bytes", "train_error", "test_error"}; no search looks at the errors.

    loss : KL divergence of the rounded network from the float one on training images, in nats
    bytes : of the codes through `nnzip.coding.encode`, zeros and all; scales, biases: 4 bytes each
    """
    network = trained(name, seed=network_seed)
    pixels, labels, test = _few(images)
    said, total = through(network.layers, pixels), 0
    for weight, (bits, sparsity) in zip(weights_of(network).values(), genes_of(genome), strict=True):
        weight[...], size = coded(weight, bits, sparsity)
        total += size + 4 * len(weight)
    logits = through(network.layers, pixels)
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


# ---------------------------------------------------------------- widths of the layers


def search_widths(*, parameters, evaluations, way="evolution", seed=0, population=10, recipe=None, **options):
    """Search for the widths of an MLP with at most so many parameters that errs least after a short training.

    Parameters
    ----------
    parameters : int, the most weights and biases that a network may have
    evaluations, seed, population, executor, log, progress : as in `evolve`
    way : "evolution" or "random"
    recipe : dict, of `measure_widths`

    Returns
    -------
    list of dicts as of `evolve`, with what `measure_widths` says
    """
    settings = {"images": 10_000, "epochs": 1, "rate": 0.1, "seed": 0} | (recipe or {})
    check_integer(parameters, "parameters", 1)
    check_integer(settings["images"], "images", 1, 55_000)  # the last 5,000 are held out
    function = functools.partial(measure_widths, **settings)

    options = {"allowed": functools.partial(fits, parameters=parameters), **options}
    return _search(way, function, [len(WIDTHS)] * 3, ("error",), evaluations, population, seed, settings, options)


def fits(genome, parameters):
    """Tell whether the MLP has at most so many parameters; layers that are not there must come last, so that each
    network has one genome.
    """
    widths = [WIDTHS[gene] for gene in genome]
    in_order = all(b == 0 or a > 0 for a, b in itertools.pairwise(widths))
    return in_order and parameters_of(widths) <= parameters


def measure_widths(genome, *, images, epochs, rate, seed):
    """Train an MLP of these widths on the first training images; return its error on the last 5,000, its parameters."""
    pixels, labels, _ = _few(images)
    held_out = scale(raw_mnist()["train_images"][-5000:]), raw_mnist()["train_labels"][-5000:].astype(np.int64)
    network = mlp([WIDTHS[gene] for gene in genome], seed=seed)
    recipe = {"batch_size": 100, "optimizer": SGD(rate), "schedule": cosine_decay}
    fit(network, (pixels, labels), epochs=epochs, **recipe, seed=seed, progress=False)
    return {"error": evaluate(network, *held_out), "parameters": parameters_of([WIDTHS[gene] for gene in genome])}


def mlp(widths, *, seed=0):
    """Return an untrained MLP for MNIST with hidden layers of these widths, those of width 0 left out."""
    rng, sizes = np.random.default_rng(seed), [784, *filter(None, widths), 10]
    pairs = [(Linear(a, b, rng=rng), ReLU()) for a, b in itertools.pairwise(sizes)]
    return Network([Flatten(), *[layer for pair in pairs for layer in pair][:-1]])


def parameters_of(widths):
    """Return how many weights and biases `mlp` has.

    Examples
    --------
    >>> parameters_of([300, 100])
    266610
    """
    sizes = [784, *filter(None, widths), 10]
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


def _search(way, function, choices, objectives, evaluations, population, seed, settings, options):
    options = {"evaluations": evaluations, "seed": seed, "settings": settings, **options}
    if check_choice(way, "way", WAYS) == "random":
        return random_search(function, choices, **options)
    return evolve(function, choices, objectives=objectives, population=population, **options)


@functools.cache
def _few(images):  # -> training images [images, 1, 28, 28], their labels, (test images, labels)
    raw = raw_mnist()
    train, test = (
        (scale(raw[f"{part}_images"][:n]), raw[f"{part}_labels"][:n].astype(np.int64))
        for part, n in (("train", images), ("test", None))
    )
    return *train, test
