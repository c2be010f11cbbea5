"""Chapter 11: the exercises and what grades them."""

import itertools
import json
import math
import tempfile
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nnzip import jobs as running
from nnzip.book.exercises import in_place_of
from nnzip.book.grading import Exercise, Wrong, expect
from nnzip.compression import mixed_precision as reference
from nnzip.compression import search
from nnzip.compression.quantization import quantize_weights
from nnzip.data import load_mnist
from nnzip.nn.network import weights_of
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.quantization import fake_quantize, qparams_from_range

KINDS = {"layer": "layers, a scale a row", "row": "rows", "column": "columns"}


def _menus(kinds=KINDS):
    """Return a trained network, the data, and what each kind of its pieces may have."""
    network, data = trained("lenet_300_100"), load_mnist()
    hessian = reference.hessians(network, data.train_images[:250])
    return network, data, {kind: reference.menu(network, hessian, pieces=kind) for kind in kinds}


def _error(network, data):
    return evaluate(network, data.test_images, data.test_labels)


def _taken(choice, costs, sizes):
    """Return the size and the cost of a choice; `Wrong` if it is none."""
    array = np.asarray(choice) if choice is not None else np.array("")
    places = np.arange(len(costs))
    if (
        array.shape != places.shape
        or array.dtype.kind not in "iu"
        or not np.all((0 <= array) & (array < sizes.shape[1]))
    ):
        raise Wrong(
            f"got:      {choice!r}\nexpected: {len(costs)} whole numbers from 0 to {sizes.shape[1] - 1}\n"
            "likely:   return the number of the option that each piece gets, not its cost or size"
        )
    return int(sizes[places, array].sum()), costs[places, array].sum()


def _ways(costs, sizes):
    """Return every choice there is, with its size and its cost."""
    ways = np.array(list(itertools.product(range(costs.shape[1]), repeat=len(costs))))
    places = np.arange(len(costs))
    return ways, sizes[places, ways].sum(axis=1), costs[places, ways].sum(axis=1)


def _tables(count, *, pieces=4, options=3):
    """Yield small tables of whole numbers, options in any order, and some budgets for each."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        sizes, costs = rng.integers(0, 12, (pieces, options)), rng.integers(0, 40, (pieces, options)).astype(float)
        if seed % 2:  # as widths are: what is larger costs less
            sizes, costs = np.sort(sizes, axis=1), -np.sort(-costs, axis=1)
        least, most = int(sizes.min(axis=1).sum()), int(sizes.max(axis=1).sum())
        yield costs, sizes, [least, *map(int, rng.integers(least, most + 1, 3)), most + 5]


# ---------------------------------------------------------------- bits a weight


def average_bits(weights, bits, scales):  # int [P], int [P], int [P] -> float
    """Return how many bits a weight takes in all, over the P pieces of a network.

    A piece of n weights at b bits takes n b bits for its codes, 32 for each of its scales, and 4 that say its width,
    rounded up to whole bytes. Where b is 0 all weights are zero: there are no scales, only the 4 bits.

    Parameters
    ----------
    weights : how many weights each piece has
    bits : the width of each, 0 to 16
    scales : how many scales each has where it has any

    Examples
    --------
    >>> average_bits(np.array([300, 100]), np.array([3, 0]), np.array([1, 1]))  # 117 bytes and 1 byte
    2.36
    """
    pieces = zip(weights.tolist(), bits.tolist(), scales.tolist(), strict=True)
    return 8 * sum(reference.piece_bytes(n, b, scales=s) for n, b, s in pieces) / sum(weights.tolist())


counted = Exercise(
    average_bits,
    section="7. Trap: what is counted",
    difficulty=1,
    size="three lines",
    unlocks="what layers, rows and columns of mixed widths really take, and what they err",
)


@counted.check
def one_piece(average_bits):
    """One piece: codes, scale and width in whole bytes, over its weights."""
    likely = "304 * 3 + 32 + 4 = 948 bits are 119 bytes"
    expect(average_bits(np.array([304]), np.array([3]), np.array([1])), 119 * 8 / 304, likely, tolerance=1e-12)


@counted.check
def large_pieces_count_more(average_bits):
    """A large piece counts more than a small one: it is no mean of the widths."""
    got = average_bits(np.array([100_000, 100]), np.array([2, 8]), np.array([1, 1]))
    right = 2 + 6 * 100 / 100_100
    expect(got, right, "the sum of all bytes over the sum of all weights; mean(bits) is 5", tolerance=0.01)


@counted.check
def scales_count(average_bits):
    """Every scale takes 32 bits: 400 rows of 10 weights have 400 of them."""
    got = average_bits(np.array([4000]), np.array([4]), np.array([400]))
    expect(got, 8 * 3601 / 4000, "16,000 bits of codes, 12,800 of scales, 4 for the width", tolerance=1e-12)


@counted.check
def no_bits_no_scale(average_bits):
    """A piece of 0 bits has no scales, but still 4 bits for its width: a byte."""
    got = average_bits(np.array([300, 300]), np.array([0, 4]), np.array([1, 1]))
    expect(
        got, 8 * (1 + 155) / 600, "its weights are zero: nothing to scale, and they count as weights", tolerance=1e-12
    )
    expect(average_bits(np.array([16]), np.array([0]), np.array([3])), 0.5, "one byte", tolerance=1e-12)


@counted.check
def whole_bytes_each(average_bits):
    """Every piece is rounded up to whole bytes by itself."""
    got = average_bits(np.array([1, 1, 1]), np.array([2, 3, 5]), np.array([1, 1, 1]))
    likely = "38, 39 and 41 bits are 5, 5 and 6 bytes: round up, and before you add"
    expect(got, 8 * 16 / 3, likely, tolerance=1e-12)
    expect(average_bits(np.array([4, 4]), np.array([1, 3]), np.array([0, 0])), 3.0, "8 bits are one byte, 16 two")


@counted.check
def many_weights(average_bits):
    """A billion weights: 8 billion bits are more than an int32 holds."""
    weights, bits = np.array([10**9, 4], np.int32), np.array([8, 2], np.int32)
    got = average_bits(weights, bits, np.array([1, 1], np.int32))
    right = 8 * (10**9 + 5 + 6) / (10**9 + 4)
    expect(got, right, "int32 times int32 stays int32 and wraps: astype(np.int64) first", tolerance=1e-9)


@counted.unlocked
def counts(average_bits):
    network, data, menus = _menus()
    shapes = [w.reshape(len(w), -1).shape for w in weights_of(network).values()]
    pieces = {  # weights and scales of each
        "layer": [(out * inputs, out) for out, inputs in shapes],
        "row": [(inputs, 1) for out, inputs in shapes for _ in range(out)],
        "column": [(out, 1) for out, inputs in shapes for _ in range(inputs)],
    }
    lines = [
        "LeNet-300-100 within the bytes of one width for all weights, counted by your function, 10,000 test images:"
    ]
    for bits in (2, 3, 4):
        weights, scales = np.array(pieces["layer"]).T
        said = average_bits(weights, np.full(len(weights), bits), scales)
        error = _error(quantize_weights(network, bits=bits), data)
        lines.append(f"  {bits} bits for all                {said:.3f} bits a weight, {error:.2%} error")
        budget = reference.uniform_bytes(network, bits) - sum(4 * out for out, _ in shapes)
        for kind, offered in menus.items():
            choice = reference.allocate(offered.costs, offered.sizes, budget)
            widths = np.array(reference.BITS[1:] if kind == "layer" else reference.BITS)[choice]
            weights, scales = np.array(pieces[kind]).T
            said, error = average_bits(weights, widths, scales), _error(offered.served(network, choice), data)
            lines.append(f"    mixed {KINDS[kind]:<21} {said:.3f} bits a weight, {error:.2%} error")
    return "\n".join(lines)


# ---------------------------------------------------------------- what a width costs


def column_costs(weight, hessian, bits):  # [out, in], [out, in], int [K] -> float64 [in, K]
    """Return what each column of a weight costs at each width, from second derivatives.

        cost[j, k] = 1/2 sum_i h[i, j] (w[i, j] - w_hat[i, j])^2

    w_hat is column j, rounded to the nearest of the 2^b - 1 numbers -m s, ..., 0, ..., m s with m = 2^(b-1) - 1 and
    b = bits[k]. Each column has its own s = max |w[:, j]| / m. At 0 bits w_hat is 0.

    Parameters
    ----------
    weight, hessian : float arrays, the second derivatives h are not negative
    bits : the widths, each 0 or 2 to 8, in any order

    Examples
    --------
    >>> w, h = np.array([[1.0], [0.25], [-0.75]]), np.array([[2.0], [4.0], [8.0]])
    >>> column_costs(w, h, np.array([0, 2]))  # rounded to 0, 0, 0 and to 1, 0, -1
    array([[3.375, 0.375]])
    """
    w, largest = weight.astype(np.float64), np.abs(weight).max(axis=0).astype(np.float64)
    rounded = [
        fake_quantize(w, qparams_from_range(-largest, largest, bits=int(b), axis=1)) if b else 0 * w for b in bits
    ]
    return np.stack([0.5 * np.sum(hessian * (w - w_hat) ** 2, axis=0) for w_hat in rounded], axis=1)


priced = Exercise(
    column_costs,
    section="5. Rows and columns",
    difficulty=2,
    size="ten lines",
    task="A column may be all zeros; no other bad input.",
    unlocks="a network of mixed widths by your costs: where second derivatives help, and where they mislead",
)


def _cost_by_hand(w, h, b):
    """The cost of one column in exact fractions, by trying every number of the grid."""
    w, h = [Fraction(float(v)) for v in w], [Fraction(float(v)) for v in h]
    largest, m = max(map(abs, w)), 2 ** (b - 1) - 1 if b else 0
    grid = [largest * i / m for i in range(-m, m + 1)] if m else [Fraction(0)]
    return float(sum(hi * min((wi - g) ** 2 for g in grid) for wi, hi in zip(w, h, strict=True)) / 2)


@priced.check
def by_hand(column_costs):
    """At 2 bits the grid is -1, 0, 1 times the largest magnitude."""
    w, h = np.array([[1.0], [0.25], [-0.75]]), np.array([[2.0], [4.0], [8.0]])
    likely = "1/2 (2 * 0 + 4 * 0.25^2 + 8 * 0.25^2): half, and each square times its own h"
    expect(column_costs(w, h, np.array([2])), [[0.375]], likely, tolerance=1e-6)


@priced.check
def nothing_left(column_costs):
    """At 0 bits everything is rounded to 0."""
    w, h = np.array([[1.0, 3.0], [2.0, 0.5]]), np.array([[4.0, 1.0], [1.0, 8.0]])
    likely = "1/2 sum h w^2; the formula of the step has no value at 0 bits"
    expect(column_costs(w, h, np.array([0])), [[4.0], [5.5]], likely, tolerance=1e-6)


@priced.check
def three_bits(column_costs):
    """At 3 bits the grid is -3, -2, ..., 3 thirds of the largest magnitude."""
    w, h = np.array([[3.0], [1.6], [-2.4]]), np.ones((3, 1))
    likely = "1.6 goes to 2 and -2.4 to -2: m = 3 steps each way, to the nearest"
    expect(column_costs(w, h, np.array([3])), [[0.16]], likely, tolerance=1e-6)


@priced.check
def a_grid_for_each_column(column_costs):
    """Each column has its own step: the second is a hundred times the first, and its costs 10^4 times."""
    one = np.array([0.5, -0.3, 0.1, 0.2])
    w, h = np.stack([one, 100 * one], axis=1), np.ones((4, 2))
    cost = _cost_by_hand(one, h[:, 0], 3)
    likely = "the largest magnitude of the column, along axis 0: not of the row, not of the whole weight"
    expect(column_costs(w, h, np.array([3])) / np.array([[1.0], [1e4]]), [[cost], [cost]], likely, tolerance=1e-6)


@priced.check
def the_largest_is_negative(column_costs):
    """It is the magnitude that counts: this column has no positive number."""
    w, h = np.array([[-1.0], [-0.4], [0.0]]), np.ones((3, 1))
    right = [[_cost_by_hand(w[:, 0], h[:, 0], b) for b in (2, 3)]]
    expect(column_costs(w, h, np.array([2, 3])), right, "max(abs(w))", tolerance=1e-6)


@priced.check
def columns_by_widths(column_costs):
    """A row of answers for each column, a column for each width, in the order of the widths."""
    rng = np.random.default_rng(0)
    w, h = rng.normal(size=(5, 3)), rng.random((5, 3))
    right = [[_cost_by_hand(w[:, j], h[:, j], b) for b in (4, 0, 2, 3)] for j in range(3)]
    expect(column_costs(w, h, np.array([4, 0, 2, 3])), right, "the shape is [in, K]", tolerance=1e-5)


@priced.check
def where_it_matters(column_costs):
    """An error costs nothing where the second derivative is 0, and nothing where the weight is on the grid."""
    w = np.array([[1.0, 1.0], [0.4, 0.4], [-1.0, 0.0]])
    h = np.array([[7.0, 0.0], [0.0, 3.0], [9.0, 0.0]])
    likely = "0.4 is rounded to 0: 1/2 * 3 * 0.16 in the second column; h is neither squared nor a mean"
    expect(column_costs(w, h, np.array([2])), [[0.0], [0.24]], likely, tolerance=1e-6)


@priced.check
def zeros(column_costs):
    """A column of zeros costs nothing at any width, without a NaN."""
    w, h = np.array([[0.0, 2.0], [0.0, -2.0]]), np.ones((2, 2))
    likely = "a step of 0: 0 / 0; any other step will do for zeros"
    expect(column_costs(w, h, np.array([0, 2, 8])), [[0, 0, 0], [4, 0, 0]], likely, tolerance=1e-6)


@priced.check
def every_width(column_costs):
    """All widths, against exact fractions with every number of the grid tried; float32 as in a network."""
    rng, widths = np.random.default_rng(1), np.arange(2, 9)
    w, h = rng.normal(size=(8, 2)).astype(np.float32), rng.random((8, 2)).astype(np.float32)
    right = np.array([[_cost_by_hand(w[:, j], h[:, j], b) for b in widths] for j in range(2)])
    got = np.asarray(column_costs(w, h, widths))
    if got.shape == right.shape:  # a step in float32 moves a cost by parts in 10^5
        expect(
            got / right,
            np.ones_like(right),
            "costs over the right ones; m = 2^(b-1) - 1 steps each way",
            tolerance=1e-3,
        )
    expect(got, right, "the shape is [in, K]", tolerance=1e-3)


@priced.unlocked
def costs_at_work(column_costs):
    network, data = trained("lenet_300_100"), load_mnist()
    hessian = reference.hessians(network, data.train_images[:250])
    shapes = {name: w.reshape(len(w), -1) for name, w in weights_of(network).items()}
    budgets = {bits: reference.uniform_bytes(network, bits) for bits in (2, 3, 4)}
    biases = sum(4 * len(w) for w in shapes.values())
    sizes = [[reference.piece_bytes(len(w), b) for b in reference.BITS] for w in shapes.values() for _ in w[0]]
    lines = ["LeNet-300-100, a width for each column within the bytes of one for all, 10,000 test images:"]
    for title, of in (("your costs", hessian), ("with every h 1", {k: np.ones_like(h) for k, h in hessian.items()})):
        costs = [column_costs(w, of[name].reshape(w.shape), np.array(reference.BITS)) for name, w in shapes.items()]
        found = []
        for budget in budgets.values():
            choice = reference.allocate(np.concatenate(costs), sizes, budget - biases)
            found.append(_error(_rounded(network, choice), data))
        lines.append(f"  {title:<16} " + ", ".join(f"{b} bits {e:.2%}" for b, e in zip(budgets, found, strict=True)))
    found = [f"{bits} bits {_error(quantize_weights(network, bits=bits), data):.2%}" for bits in budgets]
    return "\n".join([*lines, f"  {'one width':<16} " + ", ".join(found)])


def _rounded(network, choice):
    """Return a copy whose columns have the chosen widths, on grids up to their largest weight."""
    rounded, start = network.copy(), 0
    for w in weights_of(rounded).values():
        for j, k in enumerate(choice[start : start + w.shape[1]]):
            largest, bits = np.abs(w[:, j]).max(), reference.BITS[k]
            w[:, j] = fake_quantize(w[:, j], qparams_from_range(-largest, largest, bits=bits)) if bits else 0
        start += w.shape[1]
    return rounded


# ---------------------------------------------------------------- a price for bytes


def cheapest_at(costs, sizes, price):  # [P, K], int [P, K] -> int [P]
    """Return for each piece the option with the least cost + price * size.

    Of options that are equally good it is the smallest.

    Parameters
    ----------
    costs, sizes : of P pieces with K options each, in any order
    price : float >= 0, of a unit of size

    Examples
    --------
    >>> costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    >>> cheapest_at(costs, sizes, 2.75)  # 11.75, 9.5, 9.25 and 7.75, 9, 8.25
    array([2, 0])
    """
    worth = costs + price * sizes
    return np.array([min(range(len(w)), key=lambda k: (w[k], s[k])) for w, s in zip(worth, sizes, strict=True)])


one_price = Exercise(
    cheapest_at,
    section="3. The exchange",
    difficulty=1,
    size="three lines",
    unlocks="the curve of loss against bytes that your prices trace, for layers, rows and columns",
)


@one_price.check
def cost_and_price(cheapest_at):
    """At 2.75 a byte the first piece is best served by 3 bytes, the second by 1."""
    costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    expect(cheapest_at(costs, sizes, 2.75), [2, 0], "11.75, 9.5, 9.25 and 7.75, 9, 8.25: the least of each row")


@one_price.check
def for_nothing(cheapest_at):
    """At price 0 only the costs count."""
    costs, sizes = np.array([[3.0, 1.0, 2.0], [0.0, 7.0, -1.0]]), np.array([[1, 9, 5], [2, 1, 8]])
    expect(cheapest_at(costs, sizes, 0.0), [1, 2], "costs may be negative")


@one_price.check
def very_dear(cheapest_at):
    """At a very high price only the sizes count, wherever the smallest is."""
    costs, sizes = np.array([[3.0, 1.0, 2.0], [0.0, 7.0, 1.0]]), np.array([[5, 9, 1], [2, 1, 8]])
    expect(cheapest_at(costs, sizes, 1e6), [2, 1], "the price times the size of the same option")


@one_price.check
def ties(cheapest_at):
    """Of equally good options the smallest, whether it comes first or last."""
    costs = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [4.0, 4.0, 9.0]])
    sizes = np.array([[3, 2, 1], [1, 2, 3], [7, 6, 5]])
    likely = "argmin gives the first of equals; among the options of least worth look for the least size"
    expect(cheapest_at(costs, sizes, 1.0), [2, 0, 1], likely)
    expect(cheapest_at(costs, sizes, 0.0), [0, 2, 1], likely)


@one_price.check
def one_option(cheapest_at):
    """A piece may have one option only, and all of its options may take nothing."""
    expect(cheapest_at(np.array([[3.0], [4.0]]), np.array([[5], [6]]), 2.0), [0, 0])
    expect(cheapest_at(np.array([[3.0, 2.0]]), np.array([[0, 0]]), 2.0), [1])


@one_price.check
def many_pieces(cheapest_at):
    """Five hundred pieces of seven options, each tried."""
    rng = np.random.default_rng(0)
    costs, sizes = rng.integers(0, 50, (500, 7)).astype(float), rng.integers(0, 50, (500, 7))
    for price in (0.25, 1.0, 4.0):
        rows = zip(costs.tolist(), sizes.tolist(), strict=True)
        right = [
            min(zip([c + price * s for c, s in zip(*row, strict=True)], row[1], range(7), strict=True)) for row in rows
        ]
        got = cheapest_at(costs, sizes, price)
        if np.shape(got) != (500,):
            expect(got, [k for _, _, k in right], "one option for each piece")
        got_worth = [(c[k] + price * s[k], s[k]) for c, s, k in zip(costs, sizes, got, strict=True)]
        likely = "cost + price * size, then the size, of what you chose: the least, then the smallest"
        expect(np.array(got_worth), np.array([pair[:2] for pair in right]), likely)


@one_price.unlocked
def traces(cheapest_at):
    network, _, menus = _menus()
    weights = sum(w.size for w in weights_of(network).values())
    biases = sum(4 * len(w) for w in weights_of(network).values())
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for kind, offered in menus.items():
        places, traced = np.arange(len(offered.costs)), []
        for price in np.geomspace(1e-12, 1e2, 120):
            choice = cheapest_at(offered.costs, offered.sizes, float(price))
            traced.append((offered.sizes[places, choice].sum() + biases, offered.costs[places, choice].sum()))
        size, cost = np.array(traced).T
        axes.plot(8 * size / weights, cost, ".-", label=KINDS[kind], markersize=4)
    axes.set(yscale="log", xlabel="bits a weight, everything counted", ylabel="predicted loss: sum of the costs")
    axes.set_title("LeNet-300-100: each point is one price, put to all pieces by your function")
    axes.legend()
    return figure


# ---------------------------------------------------------------- the price that fits a budget


def lagrangian(costs, sizes, budget):  # [P, K], int [P, K] -> int [P]
    """Return the option of each piece at the lowest price at which the sum of sizes is at most the budget.

    At a price p every piece has the option of least cost + p * size; of equally good ones the smallest. The higher the
    price the smaller the sum of sizes. At price 0, if that fits, bytes cost nothing.

    Parameters
    ----------
    costs, sizes : of P pieces with K options each, in any order
    budget : int, at least what the smallest options take

    Examples
    --------
    >>> costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    >>> lagrangian(costs, sizes, 5)
    array([2, 0])
    """
    return reference.allocate(costs, sizes, budget)


bisected = Exercise(
    lagrangian,
    section="3. The exchange",
    difficulty=2,
    size="fifteen lines",
    task="Graded by sizes and costs, against all choices there are. With cheapest_at of your own it is a bisection.",
    unlocks="mixed_precision of the book, its bytes given out by your function",
)


def _hull(costs, sizes):
    """Return the corners of (size, cost) that some price chooses, from the smallest size to the least cost."""
    _, size, cost = _ways(costs, sizes)
    points, least = [], math.inf
    for point in sorted(zip(size.tolist(), map(Fraction, cost.tolist()), strict=True)):
        if point[1] >= least:
            continue
        least = point[1]
        while len(points) > 1 and _turn(points[-2], points[-1], point) <= 0:
            points.pop()
        points.append(point)
    return points


def _turn(a, b, c):  # > 0: b lies below the line from a to c
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _is_priced(lagrangian, costs, sizes, budget, corners):
    size, cost = _taken(lagrangian(costs, sizes, budget), costs, sizes)
    fitting = [corner for corner in corners if corner[0] <= budget][-1]
    got = f"got:      size {size}, cost {cost:g}"
    if size > budget:
        raise Wrong(
            f"{got}\nexpected: a size of at most {budget}\nlikely:   the price at which it fits, the upper of the two"
        )
    right = f"expected: size {fitting[0]}, cost {float(fitting[1]):g}"
    if Fraction(cost) > fitting[1]:
        raise Wrong(f"{got}\n{right}\nlikely:   a lower price fits too: halve the interval until it is very small")
    point = (size, Fraction(cost))
    edges = itertools.pairwise(corners)
    if point not in corners and not any(a[0] < size < b[0] and _turn(a, point, b) == 0 for a, b in edges):
        raise Wrong(
            f"{got}\n{right}\nlikely:   no price leads to this choice: one price for all pieces, of equal options the "
            "smallest, and nothing filled up afterwards"
        )


@bisected.check
def one_price_for_both(lagrangian):
    """One price for both pieces: the lowest at which they fit. What they then leave of the budget stays."""
    costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    likely = "above a price of 2.5 they take 4 bytes, below it 6: of these two 4 fits; no price gives 5"
    expect(lagrangian(costs, sizes, 5), [2, 0], likely)


@bisected.check
def all_fits(lagrangian):
    """Where the cheapest options fit they are the answer, at price 0, and of equal ones the smallest."""
    costs, sizes = np.array([[5.0, 1.0, 1.0], [2.0, 3.0, 9.0]]), np.array([[1, 8, 6], [4, 2, 1]])
    expect(lagrangian(costs, sizes, 10), [2, 0], "just fits: at most the budget, not less than it")
    expect(lagrangian(costs, sizes, 10**9), [2, 0], "price 0: of the two that cost 1 the smaller")


@bisected.check
def the_smallest_only(lagrangian):
    """A budget for the smallest options and nothing more."""
    costs, sizes = np.array([[9.0, 4.0, 1.0], [0.0, 3.5, 90.0]]), np.array([[2, 3, 7], [5, 4, 1]])
    expect(lagrangian(costs, sizes, 3), [0, 2], "the price must be high enough: double it until it fits")


@bisected.check
def against_all_ways(lagrangian):
    """Four pieces of three options: of all 81 choices that of the lowest price that fits."""
    for costs, sizes, budgets in _tables(16):
        corners = _hull(costs, sizes)
        for budget in budgets:
            _is_priced(lagrangian, costs, sizes, budget, corners)


@bisected.check
def more_options(lagrangian):
    """Three pieces of six options, most of which no price chooses."""
    for costs, sizes, budgets in _tables(6, pieces=3, options=6):
        corners = _hull(costs, sizes)
        for budget in budgets:
            _is_priced(lagrangian, costs, sizes, budget, corners)


@bisected.check
def costs_of_any_size(lagrangian):
    """Losses are small numbers and squared errors may be large ones: the price has no unit."""
    costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 2.0, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    for unit in (2.0**-70, 2.0**60):
        for budget, right in ((2, [0, 0]), (3, [1, 0]), (5, [2, 1]), (6, [2, 2])):
            likely = (
                f"costs in units of {unit:.0e}: no fixed first price, no fixed accuracy; go on until it is relative"
            )
            expect(lagrangian(costs * unit, sizes, budget), right, likely)


@bisected.check
def pieces_of_a_network(lagrangian):
    """Eight hundred pieces; the budget is what a price of 2 takes, which is then the best for it by theory."""
    rng = np.random.default_rng(5)
    sizes = np.sort(rng.integers(1, 400, (800, 6)), axis=1)
    costs = rng.exponential(300.0, (800, 1)) * np.exp(-sizes / 80)
    worth = costs + 2.0 * sizes
    choice = worth.argmin(axis=1)
    budget, right = _taken(choice, costs, sizes)
    size, cost = _taken(lagrangian(costs, sizes, budget), costs, sizes)
    likely = "the cost over the right one: too high a price, the interval was not halved often enough"
    if size > budget:
        raise Wrong(f"got:      a size of {size}\nexpected: at most {budget}")
    expect(cost / right, 1.0, likely, tolerance=1e-9)


@bisected.unlocked
def gives_out(lagrangian):
    network, data = trained("lenet_300_100"), load_mnist()
    images = data.train_images[:500]
    lines = ["LeNet-300-100, mixed_precision with your function in place of allocate, 10,000 test images:"]
    with in_place_of(reference.allocate, lambda costs, sizes, budget: lagrangian(costs, np.asarray(sizes), budget)):
        for bits in (2, 3, 4):
            mixed = reference.mixed_precision(network, images, bits=bits)
            one = _error(quantize_weights(network, bits=bits), data)
            size, error = reference.uniform_bytes(network, bits), _error(mixed, data)
            lines.append(f"  {size:>7,} bytes: {error:.2%} error, {bits} bits for all {one:.2%}")
    return "\n".join([*lines, f"  float: {_error(network, data):.2%}"])


# ---------------------------------------------------------------- the best of all


def best_allocation(costs, sizes, budget):  # [P, K], int [P, K] -> int [P]
    """Return the option of each piece so that the sum of costs is the least whose sizes fit the budget.

        best[i, s] = min over k of best[i - 1, s - sizes[i, k]] + costs[i, k]      the first i pieces, in s or less

    Parameters
    ----------
    costs, sizes : of P pieces with K options each, in any order; sizes are >= 0
    budget : int, of the sum of sizes

    Raises ValueError if the smallest options do not fit.

    Examples
    --------
    >>> costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    >>> best_allocation(costs, sizes, 5)
    array([1, 2])
    """
    return reference.allocate(costs, sizes, budget, method="dynamic")


programmed = Exercise(
    best_allocation,
    section="3. The exchange",
    difficulty=3,
    size="twenty lines",
    task="Graded by cost, also where a budget is too small (ValueError), or larger than everything takes.",
    unlocks="the best widths for the layers of a network, beside those that a price finds",
)


def _is_best(best_allocation, costs, sizes, budget, likely):
    size, cost = _taken(best_allocation(costs, sizes, budget), costs, sizes)
    if size > budget:
        raise Wrong(f"got:      a size of {size}\nexpected: at most {budget}\nlikely:   {likely}")
    ways, taken, cost_of = _ways(costs, sizes)
    cost_of = np.where(taken <= budget, cost_of, np.inf)
    best = cost_of.argmin()
    if abs(cost - cost_of[best]) > 1e-9:
        raise Wrong(
            f"got:      size {size}, cost {cost:g}\nexpected: size {taken[best]}, cost {cost_of[best]:g}, "
            f"such as options {ways[best].tolist()}\nlikely:   {likely}"
        )


@programmed.check
def where_a_price_fails(best_allocation):
    """No price for a byte leads to this choice, and it is the best for 5."""
    costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    expect(
        best_allocation(costs, sizes, 5),
        [1, 2],
        "4 + 0 in 2 + 3 bytes; (2, 1) costs 1 + 3.5. Note each size's option, then go back from the last piece",
    )


@programmed.check
def one_piece_alone(best_allocation):
    """One piece gets the cheapest option that fits, whatever their order."""
    costs, sizes = np.array([[4.0, 1.0, 2.0, 3.0]]), np.array([[3, 9, 6, 2]])
    for budget, right in ((2, 3), (5, 3), (6, 2), (8, 2), (9, 1)):
        expect(
            best_allocation(costs, sizes, budget), [right], "an option may be used if its size is at most the budget"
        )
    expect(
        best_allocation(np.array([[7.0]]), np.array([[0]]), 0), [0], "a budget of 0, and an option that takes nothing"
    )


@programmed.check
def all_ways_tried(best_allocation):
    """Four pieces of three options, against all 81 ways."""
    for costs, sizes, budgets in _tables(16):
        for budget in budgets:
            _is_best(
                best_allocation, costs, sizes, budget, "every option of every piece, in every size up to the budget"
            )


@programmed.check
def what_cannot_be_filled(best_allocation):
    """Sizes are multiples of 5 and the budget is not: some of it stays unused."""
    rng = np.random.default_rng(2)
    sizes, costs = 5 * rng.integers(0, 4, (3, 4)), rng.integers(0, 30, (3, 4)).astype(float)
    likely = "best[s] is for s or less: begin with zeros, for no pieces cost nothing in any size"
    for budget in (13, 22, 31):
        _is_best(best_allocation, costs, sizes, max(budget, int(sizes.min(axis=1).sum())), likely)


@programmed.check
def costs_with_fractions(best_allocation):
    """Costs are real numbers, and may be below zero."""
    rng = np.random.default_rng(3)
    sizes, costs = rng.integers(0, 9, (4, 4)), rng.normal(size=(4, 4))
    for budget in (int(sizes.min(axis=1).sum()), 12, 18):
        _is_best(
            best_allocation,
            costs,
            sizes,
            budget,
            "a table of costs in float64; each piece once, from the table of those before",
        )
    _is_best(best_allocation, 1e12 * (costs + 5), sizes, 12, "a table of costs begun with inf, not with 1e9")


@programmed.check
def nothing_fits(best_allocation):
    """If even the smallest options do not fit, that is an error."""
    costs, sizes = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[3, 4], [9, 5]])
    expect(best_allocation(costs, sizes, 8), [0, 1], "3 and 5 fit just so")
    best_allocation.must_raise(["ValueError"], costs, sizes, 7, likely="no choice takes less than 8: check at the door")


@programmed.check
def room_for_all(best_allocation):
    """A budget larger than everything takes: there is no table that long."""
    costs, sizes = np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([[3, 4], [9, 5]])
    likely = "the largest options take 13 together: a budget beyond that is as good as 13"
    expect(best_allocation(costs, sizes, 10**15), [1, 0], likely)


@programmed.check
def thirty_pieces(best_allocation):
    """4^30 ways, but every byte saves as much as any other: the best fills the budget to the last byte."""
    rng = np.random.default_rng(4)
    sizes = np.sort(rng.integers(0, 200, (30, 4)), axis=1)
    sizes[:, 0] = 0
    costs = 1000.0 - sizes
    for seed in range(2):
        budget = int(sizes[np.arange(30), np.random.default_rng(seed).integers(0, 4, 30)].sum())
        size, cost = _taken(best_allocation(costs, sizes, budget), costs, sizes)
        likely = "the best for every size, for all pieces so far: what looks best piece by piece does not fill it"
        expect(np.array([size, cost]), [budget, 30_000 - budget], f"size and cost; {likely}")


@programmed.unlocked
def beside_a_price(best_allocation):
    network, data, menus = _menus(kinds=["layer"])
    costs, sizes = menus["layer"].costs, menus["layer"].sizes
    lines = ["LeNet-300-100, a width for each layer, scales counted, 10,000 test images:"]
    for bits in (3, 4, 5):
        budget = int(sizes[:, reference.BITS[1:].index(bits)].sum())
        lines.append(f"  {budget:,} bytes, as {bits} bits for all")
        for name, function in (("your best", best_allocation), ("by a price", reference.allocate)):
            choice = function(costs, sizes, budget)
            size, cost = _taken(choice, costs, sizes)
            widths = ", ".join(str(reference.BITS[1:][k]) for k in choice)
            error = _error(menus["layer"].served(network, choice), data)
            lines.append(f"    {name:<10}  {widths} bits: {size:,} bytes, predicted loss {cost:.4f}, {error:.2%} error")
    return "\n".join(lines)


# ---------------------------------------------------------------- what nobody beats


fronts = Exercise(
    search.pareto_front,
    section="8. Search",
    difficulty=2,
    size="eight lines",
    task="A float array comes. Equal points go back as they come. 4,000 points are too many for a loop over all pairs.",
    unlocks="the front of 46,656 ways to prune and round LeNet-300-100",
)


def _front(points):
    """The places of what nobody beats, from every pair."""
    points = [tuple(p) for p in points.tolist()]
    unbeaten = [i for i, p in enumerate(points) if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)]
    return sorted(unbeaten, key=lambda i: (points[i][0], i))


@fronts.check
def five_points(pareto_front):
    """A point is beaten if another is as good in both and better in one; less is better."""
    points = np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 2.0], [0.0, 9.0], [4.0, 5.0]])
    expect(pareto_front(points), [3, 1, 0], "(1, 2) beats (2, 2); give places, not points, by their first coordinate")


@fronts.check
def equal_in_one(pareto_front):
    """Of points that are equal in one coordinate the better in the other beats the rest."""
    expect(pareto_front(np.array([[2.0, 3.0], [2.0, 1.0], [2.0, 2.0]])), [1], "the first coordinate is the same")
    expect(pareto_front(np.array([[3.0, 5.0], [1.0, 5.0], [2.0, 5.0]])), [1], "the second is: < and not <=")


@fronts.check
def equal_points(pareto_front):
    """Equal points do not beat each other: all of them are on the front, or none."""
    expect(pareto_front(np.array([[1.0, 1.0]] * 3)), [0, 1, 2], "better in one is needed, and none is")
    points = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 2.0], [2.0, 1.0], [2.0, 1.0]])
    expect(pareto_front(points), [1, 3, 2, 0], "both (0, 2), neither (2, 1)")


@fronts.check
def one_best(pareto_front):
    """One point alone, and one that beats all."""
    expect(pareto_front(np.array([[5.0, -5.0]])), [0])
    expect(pareto_front(np.array([[1.0, 1.0], [0.0, 1.0], [-2.0, -3.0], [1.0, 0.0]])), [2], "numbers may be negative")


@fronts.check
def very_close(pareto_front):
    """A little better is better: losses may differ in the tenth digit."""
    points = np.array([[1.0, 1.0], [1.0 + 1e-10, 1.0 - 1e-10], [1.0 + 2e-10, 1.0]])
    expect(pareto_front(points), [0, 1], "compare the numbers as they are, without a tolerance")


@fronts.check
def every_pair(pareto_front):
    """Random points with many ties, against every pair."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        points = rng.integers(0, 4 + 3 * seed, (20, 2)).astype(float)
        points = -points if seed % 3 == 0 else points
        expect(pareto_front(points), _front(points), "sort by both coordinates, then keep the least second one so far")


@fronts.check
def thousands(pareto_front):
    """4,000 points on the front take some ten times as long as 500, and not a hundred times."""
    taken = []
    for count in (500, 500, 4000):
        order = np.random.default_rng(0).permutation(count)
        points = np.stack([order, count - order], axis=1).astype(float)
        begin = time.perf_counter()
        got = pareto_front(points)
        taken.append(time.perf_counter() - begin)
        expect(got, np.argsort(order), "none of these points beats another")
    if taken[2] > max(0.2, 25 * min(taken[:2])):
        raise Wrong(
            f"took:     {min(taken[:2]):.3f} s for 500 points, {taken[2]:.2f} s for 4,000\n"
            "likely:   a loop over all 16 million pairs: sort the points once"
        )


@fronts.unlocked
def cloud(pareto_front):
    network, data = trained("lenet_300_100"), load_mnist()
    options = list(itertools.product(search.BITS, search.SPARSITIES))
    costs = reference.sensitivities(network, data.train_images[:100], options)
    size = [[search.coded(weight, *pair)[1] for pair in options] for weight in weights_of(network).values()]
    loss = sum(np.ix_(*costs)).ravel()
    kilobytes = (sum(np.ix_(*map(np.array, size))).ravel() + 4 * 410) / 1000  # 410 biases
    front = pareto_front(np.stack([kilobytes, loss], axis=1))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(kilobytes, loss, ".", markersize=1, color="0.6", label=f"{len(loss):,} choices of bits and sparsity")
    axes.plot(kilobytes[front], loss[front], ".-", color="C3", label=f"your front: {len(front)} that nobody beats")
    axes.set(yscale="log", xlabel="kilobytes, coded", ylabel="sum of the layers' losses (nats)")
    axes.set_title("LeNet-300-100: each layer's loss and bytes measured alone, then added")
    axes.legend()
    return figure


# ---------------------------------------------------------------- killed and started again


def jobs_left(jobs, log, head):  # list of str, str, str -> int [L]
    """Return the places of the jobs that are still to be done, each different job once, in their order.

    The first line of a log is its head, which says what search it is of. Each other is a job that is done:

        {"job": [3, 1], "result": {"loss": 0.25}}

    The search may have been killed in the middle of writing. So a line counts only if its line end is there too; what
    follows the last line end is ignored.

    Parameters
    ----------
    jobs : texts such as "[3, 1]", written as in the log; a job may come more than once
    log : the text of the file, perhaps empty
    head : the first line that the log must have, without its line end

    Raises ValueError if the log has another head (or the beginning of another, where it was killed so soon), or a line
    with its line end that is not of the form above.

    Examples
    --------
    >>> lines = ["bits", '{"job": [3, 1], "result": {"loss": 0.25}}', '{"job": [0, 2], "res']
    >>> jobs_left(["[3, 1]", "[0, 2]", "[0, 2]"], chr(10).join(lines), "bits")
    array([1])
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.jsonl")
        path.write_bytes(log.encode())
        with running._opened(path, head.encode()) as (done, _):
            first = {job: place for place, job in reversed(list(enumerate(jobs)))}
            return np.array(sorted(place for job, place in first.items() if job not in done), int)


resumed = Exercise(
    jobs_left,
    section="9. Killed, and on a cluster",
    difficulty=2,
    size="fifteen lines",
    task="No json is needed (and none may be imported): str has split, startswith, partition and the like.",
    unlocks="a search over bits that is killed three times, and goes on by your function",
)
HEAD = '{"function": "measure_bits", "settings": {"images": 100}}'
JOBS = ["[0, 2]", "[3, 1]", "[12, 0]", "[1, 2]"]


def _line(job, loss=0.25):
    return f'{{"job": {job}, "result": {{"loss": {loss}}}}}\n'


@resumed.check
def two_are_done(jobs_left):
    """What the log has is not left; the rest is, by its place among the jobs."""
    log = HEAD + "\n" + _line("[3, 1]") + _line("[0, 2]")
    expect(jobs_left(JOBS, log, HEAD), [2, 3], "the order in the log need not be that of the jobs")


@resumed.check
def before_and_after(jobs_left):
    """With no log, or a head alone, everything is left; in the end nothing."""
    for log in ("", HEAD + "\n"):
        expect(jobs_left(JOBS, log, HEAD), [0, 1, 2, 3], "an empty text is a log that has not begun")
    expect(jobs_left(JOBS, HEAD + "\n" + "".join(map(_line, JOBS)), HEAD), np.zeros(0), "an empty array")


@resumed.check
def torn(jobs_left):
    """Killed at any moment: after every byte of the log a line counts if its end was written."""
    whole = "bits\n" + _line("[12, 0]") + _line("[1, 2]")
    for length in range(len(whole) + 1):
        log = whole[:length]
        done = {"[12, 0]", "[1, 2]"} if length == len(whole) else {"[12, 0]"} if log.count("\n") == 2 else set()
        likely = (
            'what follows the last "\\n" is half of a line or of a number, even if it looks whole: loss 0.2 of 0.25'
        )
        expect(jobs_left(JOBS, log, "bits"), [i for i, job in enumerate(JOBS) if job not in done], likely)


@resumed.check
def whole_jobs_are_compared(jobs_left):
    """A job is another's only if all of it is the same: [1, 2] is not [11, 2], and a result is no job."""
    log = HEAD + "\n" + _line("[11, 2]") + _line("[1, 20]", "[0, 2]")
    expect(jobs_left(JOBS, log, HEAD), [0, 1, 2, 3], "look for the job between its words, not anywhere in the log")
    expect(jobs_left(["1", "11"], HEAD + "\n" + _line("11"), HEAD), [0], "a job may be a number")
    jobs = ['{"bits": 2}', '{"bits": 3}']
    expect(jobs_left(jobs, HEAD + "\n" + _line(jobs[0]), HEAD), [1], "or a dict: braces and commas do not end it")


@resumed.check
def each_once(jobs_left):
    """Equal jobs are done once, in the first one's place; the log may say one twice, and have other searches' jobs."""
    jobs = ["[5]", "[4]", "[5]", "[3]", "[4]", "[3]"]
    expect(jobs_left(jobs, "", HEAD), [0, 1, 3], "an evolution may ask again for what it asked before")
    log = HEAD + "\n" + _line("[4]") + _line("[4]", 0.5) + _line("[99]")
    expect(jobs_left(jobs, log, HEAD), [0, 3], "of [5] and [3] the first places")


@resumed.check
def another_search(jobs_left):
    """The log of another search is refused: its results were measured on 1,000 images and not 100."""
    other = HEAD.replace("100", "1000")
    likely = "compare the whole first line with the head, before any job is believed"
    for log in (other + "\n" + _line("[3, 1]"), other + "\n", _line("[3, 1]"), "\n"):
        jobs_left.must_raise(["ValueError"], JOBS, log, HEAD, likely=likely)
    jobs_left.must_raise(
        ["ValueError"], JOBS, "notes of mine", HEAD, likely="no head was cut off here: it is another file"
    )


@resumed.check
def damaged(jobs_left):
    """A line that has its end and is no job with a result means that something else wrote there."""
    for bad in (
        '{"job": [3, 1], "res',
        '{"job": [3, 1]}',
        "",
        _line("[3, 1]").strip()[:-2],
        _line("[3, 1]").strip()[1:],
        "done",
    ):
        log = HEAD + "\n" + _line("[0, 2]") + bad + "\n" + _line("[1, 2]")
        likely = 'each line between two "\\n" begins with {"job": , has , "result": in it and ends with }'
        jobs_left.must_raise(["ValueError"], JOBS, log, HEAD, likely=likely)


@resumed.check
def a_long_search(jobs_left):
    """12,000 jobs and as many lines take some ten times as long as 1,200, not a hundred times."""
    taken = []
    for count in (1200, 1200, 12_000):
        jobs = [f"[{i}, {i % 7}]" for i in range(count)]
        log = HEAD + "\n" + "".join(map(_line, reversed(jobs[:-5]))) + _line(jobs[-1]).strip()
        begin = time.perf_counter()
        got = jobs_left(jobs, log, HEAD)
        taken.append(time.perf_counter() - begin)
        expect(got, np.arange(count - 5, count))
    if taken[2] > max(0.4, 30 * min(taken[:2])):
        raise Wrong(
            f"took:     {min(taken[:2]):.3f} s for 1,200 jobs, {taken[2]:.2f} s for 12,000\n"
            "likely:   each job is looked for in a list or in the whole text: a set finds it at once"
        )


@resumed.unlocked
def goes_on(jobs_left):
    settings = {"name": "lenet_300_100", "network_seed": 0, "images": 100}
    measure, counted = partial(search.measure_bits, **settings), []
    genomes = np.random.default_rng(0).integers(0, 6, (10, 6)).tolist()
    asked, head = [json.dumps(g) for g in genomes], json.dumps({"settings": settings})
    log, lines = "", ["A search over bits and sparsities of LeNet-300-100, ten genomes, killed three times:"]
    for kept in (0.35, 0.6, 0.8, 1):
        left = jobs_left(asked, log, head).tolist()
        log = log[: log.rfind("\n") + 1] or head + "\n"
        before, whole = len(counted), log
        for place in left[: round(kept * len(asked)) - (len(asked) - len(left))]:
            counted.append(place)
            whole += f'{{"job": {asked[place]}, "result": {json.dumps(measure(genomes[place]))}}}\n'
        log = whole if kept == 1 else whole[:-7]
        end = "" if kept == 1 else f", killed in the middle of a line, after {len(log):,} bytes"
        lines.append(f"  your function says {len(left)} left; measured {len(counted) - before}{end}")
    twice = len(counted) - len(set(counted))
    lines.append(f"  {len(set(counted))} of {len(asked)} measured; {twice} of them twice: those whose line was torn")
    results = [json.loads(line)["result"] for line in log.splitlines()[1:]]
    best = min(results, key=lambda r: r["loss"])
    return "\n".join(
        [*lines, f"  least loss {best['loss']:.4f}: {best['bytes']:,} bytes, {best['test_error']:.2%} test error"]
    )
