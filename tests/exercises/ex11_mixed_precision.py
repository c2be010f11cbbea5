"""Chapter 11: the exercises and what grades them."""

import itertools
import json
import time

import numpy as np

from nnzip.book.grading import Exercise, Wrong, exercise, expect, given
from nnzip.book.unlocking import in_place_of
from nnzip.compression import mixed_precision, search
from nnzip.compression.quantization import quantize_weights
from nnzip.data import load_mnist
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained


def _ways(costs, sizes):
    """Every choice there is, with its size and its cost."""
    ways = np.array(list(itertools.product(range(costs.shape[1]), repeat=len(costs))))
    places = np.arange(len(costs))
    return ways, sizes[places, ways].sum(axis=1), costs[places, ways].sum(axis=1)


def _any_table(rng, pieces=None):
    """A small table of costs and sizes, options in any order, or as widths are: what is larger costs less."""
    shape = pieces or int(rng.integers(1, 5)), int(rng.integers(1, 5))
    sizes, costs = rng.integers(0, 12, shape), rng.integers(0, 40, shape) + rng.choice([0.0, 0.37]) * rng.random(shape)
    return (-np.sort(-costs, axis=1), np.sort(sizes, axis=1)) if rng.random() < 0.4 else (costs, sizes)


@exercise(section="7. Trap: what is counted", difficulty=1, size="three lines")
def average_bits(weights, bits, scales):  # int [P], int [P], int [P] -> float
    """Return how many bits a weight takes in all, over the P pieces of a network.

    A piece of n weights at b bits takes n b bits for its codes, 32 for each of its scales, and 4 that say its width,
    rounded up to whole bytes. Where b is 0 all weights are zero: there are no scales, only the 4 bits.

    weights : how many weights each piece has
    bits : the width of each, 0 to 16
    scales : how many scales each has where it has any

    >>> average_bits(np.array([300, 100]), np.array([3, 0]), np.array([1, 1]))  # 117 bytes and 1 byte
    2.36
    """
    pieces = zip(weights.tolist(), bits.tolist(), scales.tolist(), strict=True)
    return 8 * sum(mixed_precision.piece_bytes(n, b, scales=s) for n, b, s in pieces) / sum(weights.tolist())


average_bits.case(
    "Every piece is rounded up to whole bytes by itself: 38, 39 and 41 bits are 5, 5 and 6 bytes.",
    np.array([1, 1, 1]),
    np.array([2, 3, 5]),
    np.array([1, 1, 1]),
    gives=8 * 16 / 3,
    tolerance=1e-12,
    likely="round up before you add; the sum of all bytes over the sum of all weights",
)
average_bits.case(
    "A billion weights: 8 billion bits are more than an int32 holds.",
    np.array([10**9, 4], np.int32),
    np.array([8, 2], np.int32),
    np.array([1, 1], np.int32),
    gives=8 * (10**9 + 5 + 6) / (10**9 + 4),
    tolerance=1e-9,
    likely="int32 times int32 stays int32 and wraps: astype(np.int64) first",
)


@average_bits.draw(
    "where there are no bits there are no scales, but 4 bits for the width; no mean of the widths", ulps=8
)
def any_pieces(rng):
    """Pieces of every size and width, 0 bits among them, with no scale, one or many."""
    count = int(rng.integers(1, 9))
    bits = rng.choice([0, 1, 2, 3, 8, 16], count)
    return given(rng.integers(1, 10 ** int(rng.integers(1, 6)), count), bits, rng.integers(0, 50, count))


@exercise(
    section="5. Rows and columns", difficulty=2, size="ten lines", task="A column may be all zeros; no other bad input."
)
def column_costs(weight, hessian, bits):  # [out, in], [out, in], int [K] -> float64 [in, K]
    """Return what each column of a weight costs at each width, from second derivatives.

        cost[j, k] = 1/2 sum_i h[i, j] (w[i, j] - w_hat[i, j])^2

    w_hat is column j, rounded to the nearest of the 2^b - 1 numbers -m s, ..., 0, ..., m s with m = 2^(b-1) - 1 and
    b = bits[k]. Each column has its own s = max |w[:, j]| / m. At 0 bits w_hat is 0.

    weight, hessian : float arrays, the second derivatives h are not negative
    bits : the widths, each 0 or 2 to 8, in any order

    >>> w, h = np.array([[1.0], [0.25], [-0.75]]), np.array([[2.0], [4.0], [8.0]])
    >>> column_costs(w, h, np.array([0, 2]))  # rounded to 0, 0, 0 and to 1, 0, -1
    array([[3.375, 0.375]])
    """
    w, costs = weight.astype(np.float64), []
    for b in bits:
        m = 2 ** (int(b) - 1) - 1 if b else 0
        grid = np.abs(w).max(axis=0) * np.arange(-m, m + 1)[:, None] / max(m, 1)  # [values, in]
        nearest = np.min((w[None] - grid[:, None]) ** 2, axis=0)
        costs.append(0.5 * np.sum(hessian * nearest, axis=0))
    return np.stack(costs, axis=1)


column_costs.case(
    "At 2 bits the grid is -1, 0, 1 times the largest magnitude, here of a negative weight; at 0 bits all is 0.",
    np.array([[-1.0], [-0.25], [0.75]]),
    np.array([[2.0], [4.0], [8.0]]),
    np.array([0, 2]),
    gives=[[3.375, 0.375]],
    tolerance=1e-6,
    likely="1/2 (2 * 0 + 4 * 0.25^2 + 8 * 0.25^2): half, and each square times its own h",
)
column_costs.case(
    "A column of zeros costs nothing at any width, without a NaN.",
    np.array([[0.0, 2.0], [0.0, -2.0]]),
    np.ones((2, 2)),
    np.array([0, 2, 8]),
    gives=[[0, 0, 0], [4, 0, 0]],
    tolerance=1e-6,
    likely="a step of 0: 0 / 0; any other step will do for zeros",
)


@column_costs.draw(
    "m = 2^(b-1) - 1 steps each way of the column, along axis 0; the shape is [in, K]", ulps=1e6, tolerance=1e-12
)
def any_columns(rng):
    """Weights of any size, squares among them, columns of very different sizes, widths in any order."""
    shape = [3, 3] if rng.random() < 0.2 else rng.integers(1, 9, 2)
    weight = rng.normal(size=shape) * 10.0 ** rng.integers(-1, 2, shape[1])
    weight = weight.astype(rng.choice(["float32", "float64"]))
    return given(
        weight, rng.random(shape) * (rng.random(shape) < 0.8), rng.permutation([0, 2, 3, 4, 8])[: rng.integers(1, 6)]
    )


@exercise(section="3. The exchange", difficulty=1, size="three lines")
def cheapest_at(costs, sizes, price):  # [P, K], int [P, K] -> int [P]
    """Return for each of P pieces the option with the least cost + price * size; of equally good ones the smallest.

    costs, sizes : of P pieces with K options each, in any order
    price : float >= 0, of a unit of size

    >>> costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    >>> cheapest_at(costs, sizes, 2.75)  # 11.75, 9.5, 9.25 and 7.75, 9, 8.25
    array([2, 0])
    """
    worth = costs + price * sizes
    return np.array([min(range(len(w)), key=lambda k: (w[k], s[k])) for w, s in zip(worth, sizes, strict=True)])


cheapest_at.case(
    "Of options that are equally good it is the smallest, wherever it stands.",
    np.array([[4.0, 2.0, 1.0], [5.0, 5.0, 0.0]]),
    np.array([[1, 2, 3], [3, 1, 9]]),
    1.0,
    gives=[2 - 1, 1],
    likely="4 + 1, 2 + 2 and 1 + 3: two are 4, the smaller has size 2; argmin alone gives the first",
)


@cheapest_at.draw("the least of each row; at price 0 bytes cost nothing")
def any_price(rng):
    """Tables of any size with many ties, and prices of 0 or more."""
    shape = tuple(rng.integers(1, 8, 2))
    costs, sizes = rng.integers(0, 6, shape).astype(float), rng.integers(0, 6, shape)
    distinct = np.argsort(np.argsort(rng.random(shape), axis=1), axis=1)  # of one size two options never tie
    return given(costs, 10 * sizes + distinct, float(rng.choice([0, 0.0, 0.5, 1, 2])))


def _taken(choice, costs, sizes):
    """The size and the cost of a choice; `Wrong` if it is none."""
    array, places = np.asarray(choice if choice is not None else ""), np.arange(len(costs))
    if array.shape != places.shape or array.dtype.kind not in "iu" or np.any((array < 0) | (array >= sizes.shape[1])):
        raise Wrong(
            f"got:      {choice!r}\nexpected: {len(costs)} whole numbers from 0 to {sizes.shape[1] - 1}\n"
            "likely:   return the number of the option that each piece gets, not its cost or size"
        )
    return int(sizes[places, array].sum()), float(costs[places, array].sum())


@exercise(
    section="3. The exchange",
    difficulty=2,
    size="fifteen lines",
    task="Graded by sizes and costs, against all choices there are. With cheapest_at of your own it is a bisection.",
)
def lagrangian(costs, sizes, budget):  # [P, K], int [P, K] -> int [P]
    """Return the option of each piece at the lowest price at which the sum of sizes is at most the budget.

    At a price p every piece has the option of least cost + p * size; of equally good ones the smallest. The higher the
    price the smaller the sum of sizes. At price 0, if that fits, bytes cost nothing.

    costs, sizes : of P pieces with K options each, in any order
    budget : int, at least what the smallest options take

    >>> costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    >>> lagrangian(costs, sizes, 5)
    array([2, 0])
    """
    return mixed_precision.allocate(costs, sizes, budget)


def _at_the_lowest_price(costs, sizes, budget):
    """The size and cost of every piece's best at the lowest price that fits: a price is where two options tie, or 0."""
    prices = [0.0]
    for cost, size in zip(costs, sizes, strict=True):
        for i, k in itertools.permutations(range(len(cost)), 2):
            if size[i] > size[k] and cost[k] > cost[i]:
                prices.append((cost[k] - cost[i]) / (size[i] - size[k]))
    for price in sorted(prices):
        worth = costs + price * sizes
        best = worth <= worth.min(axis=1, keepdims=True) + 1e-12 * np.abs(worth).max()
        choice = np.where(best, sizes, sizes.max() + 1).argmin(axis=1)
        if (taken := _taken(choice, costs, sizes))[0] <= budget:
            return taken
    raise AssertionError("the smallest options fit")


lagrangian.case(
    "The lowest price that fits 5 bytes is 2.5 to 3 a byte: 3 bytes for the first, 1 for the second.",
    np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]),
    np.array([[1, 2, 3], [1, 2, 3]]),
    5,
    gives=[2, 0],
    likely="raise the price until the sum of sizes fits, then halve the interval between too low and high enough",
)


@lagrangian.check
def lowest_price(lagrangian, rng):
    """Small tables, any budget: size and cost of the choice at the lowest price that fits, found from all prices."""
    for _ in range(30):
        costs, sizes = _any_table(rng)
        costs = (costs + 0.37 * rng.random(costs.shape)) * 10 ** float(rng.choice([-15, 0, 6]))
        least, most = int(sizes.min(axis=1).sum()), int(sizes.max(axis=1).sum())
        budget = int(rng.choice([least, rng.integers(least, most + 1), most + 5]))
        right = _at_the_lowest_price(costs, sizes, budget)
        likely = "size and cost of what you chose; at price 0, if that fits, the cheapest option of each piece"
        expect(_taken(lagrangian(costs, sizes, budget), costs, sizes), right, likely, tolerance=1e-9 * costs.max())


@lagrangian.unlocked("mixed_precision of the book, its bytes given out by your function")
def gives_out(lagrangian):
    network, data = trained("lenet_300_100"), load_mnist()
    images, test = data.train_images[:500], data[2:]
    lines = ["LeNet-300-100, mixed_precision with your function in place of allocate, 10,000 test images:"]
    with in_place_of(
        mixed_precision.allocate, lambda costs, sizes, budget: lagrangian(costs, np.asarray(sizes), budget)
    ):
        for bits in (2, 3, 4):
            mixed = mixed_precision.mixed_precision(network, images, bits=bits)
            one = evaluate(quantize_weights(network, bits=bits), *test)
            size, error = mixed_precision.uniform_bytes(network, bits), evaluate(mixed, *test)
            lines.append(f"  {size:>7,} bytes: {error:.2%} error, {bits} bits for all {one:.2%}")
    return "\n".join([*lines, f"  float: {evaluate(network, *test):.2%}"])


@exercise(
    section="3. The exchange",
    difficulty=3,
    size="twenty lines",
    task="Graded by cost, also where a budget is too small (ValueError), or larger than everything takes.",
)
def best_allocation(costs, sizes, budget):  # [P, K], int [P, K] -> int [P]
    """Return the option of each piece so that the sum of costs is the least whose sizes fit the budget.

        best[i, s] = min over k of best[i - 1, s - sizes[i, k]] + costs[i, k]      the first i pieces, in s or less

    costs, sizes : of P pieces with K options each, in any order; sizes are >= 0
    budget : int, of the sum of sizes

    Raises ValueError if the smallest options do not fit.

    >>> costs, sizes = np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]), np.array([[1, 2, 3], [1, 2, 3]])
    >>> best_allocation(costs, sizes, 5)
    array([1, 2])
    """
    return mixed_precision.allocate(costs, sizes, budget, method="dynamic")


best_allocation.case(
    "No price for a byte leads to this choice, and it is the best for 5.",
    np.array([[9.0, 4.0, 1.0], [5.0, 3.5, 0.0]]),
    np.array([[1, 2, 3], [1, 2, 3]]),
    5,
    gives=[1, 2],
    likely="4 + 0 in 2 + 3 bytes; (2, 1) costs 1 + 3.5. Note each size's option, then go back from the last piece",
)
best_allocation.case(
    "A budget larger than everything takes: there is no table that long.",
    np.array([[3.0, 1.0], [0.0, 2.0]]),
    np.array([[3, 4], [9, 5]]),
    10**15,
    gives=[1, 0],
    likely="the largest options take 13 together: a budget beyond that is as good as 13",
)
best_allocation.refuses(
    "If even the smallest options do not fit, that is an error.",
    np.array([[1.0, 0.0], [1.0, 0.0]]),
    np.array([[3, 4], [9, 5]]),
    7,
    likely="no choice takes less than 8: check first",
)


@best_allocation.check
def all_ways_tried(best_allocation, rng):
    """Small tables, some of their sizes multiples of 5, against all ways there are."""
    for _ in range(30):
        costs, sizes = _any_table(rng)
        sizes, costs = sizes * int(rng.choice([1, 5])), (costs - rng.choice([0, 20])) * float(rng.choice([1, 1e12]))
        ways, taken, cost_of = _ways(costs, sizes)
        budget = int(rng.integers(taken.min(), taken.max() + 3))
        size, cost = _taken(best_allocation(costs, sizes, budget), costs, sizes)
        best = np.where(taken <= budget, cost_of, np.inf).argmin()
        if size > budget or cost > cost_of[best] + 1e-9 * np.abs(costs).max():
            raise Wrong(
                f"got:      size {size}, cost {cost:g}\nexpected: size {taken[best]}, cost {cost_of[best]:g}, such as "
                f"options {ways[best].tolist()}\nlikely:   every option of every piece, in every size up to the "
                "budget; best[s] is for s or less: begin with zeros, and a new table with inf"
            )


@best_allocation.check
def thirty_pieces(best_allocation, rng):
    """4^30 ways, but every byte saves as much as any other: the best fills the budget to the last byte."""
    sizes = np.sort(rng.integers(0, 200, (30, 4)), axis=1)
    sizes[:, 0] = 0
    costs = 1000.0 - sizes
    budget = int(sizes[np.arange(30), rng.integers(0, 4, 30)].sum())
    likely = "the best for every size, for all pieces so far: what looks best piece by piece does not fill it"
    right = (budget, 30_000.0 - budget)
    expect(_taken(best_allocation(costs, sizes, budget), costs, sizes), right, f"size and cost; {likely}")


pareto_front = Exercise(
    search.pareto_front,
    section="8. Search",
    difficulty=2,
    size="eight lines",
    task="A float array comes. Equal points go back as they come. 4,000 points are too many for a loop over all pairs.",
)

pareto_front.case(
    "A point is beaten if another is as good in both and better in one; less is better.",
    np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 2.0], [0.0, 9.0], [4.0, 5.0]]),
    gives=[3, 1, 0],
    likely="(1, 2) beats (2, 2); give places, not points, by their first coordinate",
)
pareto_front.case(
    "Equal points do not beat each other: all of them are on the front, or none.",
    np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 2.0], [2.0, 1.0], [2.0, 1.0]]),
    gives=[1, 3, 2, 0],
    likely="both (0, 2), neither (2, 1): better in one is needed",
)


@pareto_front.draw("sort by both coordinates, then keep the least second one so far; no tolerance")
def any_points(rng):
    """One point or many, with many ties, numbers below zero, and points that differ in the tenth digit."""
    count, most = int(rng.choice([1, 5, 30, 300])), int(rng.choice([2, 6, 1000]))
    points = rng.integers(-most, most, (count, 2)) * rng.choice([1.0, 1e-10]) + rng.choice([0.0, 1.0])
    return given(points)


@pareto_front.check
def thousands(pareto_front):
    """4,000 points on the front take some ten times as long as 500, and not a hundred times."""
    taken = []
    for count in (500, 500, 4000):
        order = np.random.default_rng(0).permutation(count)
        points = np.stack([order, count - order], axis=1).astype(float)
        begin = time.perf_counter()
        pareto_front(points)
        taken.append(time.perf_counter() - begin)
    if taken[2] > max(0.2, 25 * min(taken[:2])):
        raise Wrong(
            f"took:     {min(taken[:2]):.3f} s for 500 points, {taken[2]:.2f} s for 4,000\n"
            "likely:   a loop over all 16 million pairs: sort the points once"
        )


@exercise(
    section="8. Search",
    difficulty=2,
    size="fifteen lines",
    task="No json is needed (and none may be imported): str has split, startswith, partition and the like.",
    forbidden=("json", "loads"),
)
def jobs_left(jobs, log, head):  # list of str, str, str -> int [L]
    """Return the places of the jobs that are still to be done, each different job once, in their order.

    The first line of a log is its head, which says what search it is of. Each other is a job that is done:

        {"job": [3, 1], "result": {"loss": 0.25}}

    The search may have been killed in the middle of writing. So a line counts only if its line end is there too; what
    follows the last line end is ignored.

    jobs : texts such as "[3, 1]", written as in the log; a job may come more than once
    log : the text of the file, perhaps empty
    head : the first line that the log must have, without its line end

    Raises ValueError if the log has another head (or the beginning of another, where it was killed so soon), or a line
    with its line end that is not of the form above.

    >>> lines = ["bits", '{"job": [3, 1], "result": {"loss": 0.25}}', '{"job": [0, 2], "res']
    >>> jobs_left(["[3, 1]", "[0, 2]", "[0, 2]"], chr(10).join(lines), "bits")
    array([1])
    """
    *lines, torn = log.split("\n")
    if lines[:1] != [head] and (lines or not head.startswith(torn)):
        raise ValueError("the log of another search")
    try:
        entries = [json.loads(line) for line in lines[1:]]
        done = {json.dumps(entry["job"]) for entry in entries if entry["result"]}
    except (ValueError, KeyError) as error:
        raise ValueError("a damaged line") from error
    first = {job: place for place, job in reversed(list(enumerate(jobs)))}
    return np.array(sorted(place for job, place in first.items() if job not in done), int)


HEAD = '{"function": "measure_bits", "settings": {"images": 100}}'
JOBS = ["[0, 2]", "[3, 1]", "[12, 0]", "[1, 2]"]


def _line(job, loss=0.25):
    return f'{{"job": {job}, "result": {{"loss": {loss}}}}}\n'


jobs_left.case(
    "What the log has is not left; the rest is, by its place among the jobs.",
    JOBS,
    HEAD + "\n" + _line("[3, 1]") + _line("[0, 2]") + _line("[99]"),
    HEAD,
    gives=[2, 3],
    likely="the order in the log need not be that of the jobs",
)
jobs_left.case(
    "A line without its end does not count, even if it looks whole.",
    JOBS,
    HEAD + "\n" + _line("[3, 1]") + _line("[0, 2]").strip(),
    HEAD,
    gives=[0, 2, 3],
)
jobs_left.case(
    "A job is another's only if all of it is the same: [1, 2] is not [11, 2], and a result is no job.",
    [*JOBS, '{"bits": 2}', '{"bits": 3}'],
    HEAD + "\n" + _line("[11, 2]") + _line("[1, 20]", "[0, 2]") + _line('{"bits": 2}'),
    HEAD,
    gives=[0, 1, 2, 3, 5],
    likely="look for the job between its words, not anywhere in the log",
)
jobs_left.refuses(
    "The log of another search is refused: its results were measured on 1,000 images and not 100.",
    JOBS,
    HEAD.replace("100", "1000") + "\n" + _line("[3, 1]"),
    HEAD,
    likely="compare the whole first line with the head, before any job is believed",
)
for _log in ("\n", _line("[3, 1]"), "notes of mine"):
    jobs_left.refuses("A log without its head is refused, also where no line is whole.", JOBS, _log, HEAD)
for _bad in ('{"job": [3, 1], "res', '{"job": [3, 1]}', "", _line("[3, 1]")[1:-1], _line("[3, 1]")[:-3], "done"):
    jobs_left.refuses(
        "A line that has its end and is no job with a result means that something else wrote there.",
        JOBS,
        HEAD + "\n" + _line("[0, 2]") + _bad + "\n" + _line("[1, 2]"),
        HEAD,
        likely='each line between two "\\n" begins with {"job": , has , "result": in it and ends with }',
    )


@jobs_left.draw('what follows the last "\\n" is half of a line, even if it looks whole; each job once')
def killed_at_any_moment(rng):
    """Jobs that come more than once, and a log cut off after any of its bytes, or just after a line, or empty."""
    jobs = [JOBS[i] for i in rng.integers(len(JOBS), size=rng.integers(1, 8))]
    whole = "bits\n" + "".join(_line(JOBS[i]) for i in rng.integers(len(JOBS), size=rng.integers(4)))
    ends = [i + k for i, letter in enumerate(whole) if letter == "\n" for k in (0, 1)]
    return given(jobs, whole[: int(rng.choice([0, *ends, *(rng.integers(len(whole)) for _ in range(4))]))], "bits")


@jobs_left.check
def a_long_search(jobs_left):
    """12,000 jobs and as many lines take some ten times as long as 1,200, not a hundred times."""
    taken = []
    for count in (1200, 1200, 12_000):
        jobs = [f"[{i}, {i % 7}]" for i in range(count)]
        log = HEAD + "\n" + "".join(map(_line, reversed(jobs[:-5]))) + _line(jobs[-1]).strip()
        begin = time.perf_counter()
        jobs_left(jobs, log, HEAD)
        taken.append(time.perf_counter() - begin)
    if taken[2] > max(0.4, 30 * min(taken[:2])):
        raise Wrong(
            f"took:     {min(taken[:2]):.3f} s for 1,200 jobs, {taken[2]:.2f} s for 12,000\n"
            "likely:   each job is looked for in a list or in the whole text: a set finds it at once"
        )
