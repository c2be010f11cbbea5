"""One solution of each exercise of chapter 11, without nnzip: what the planted bugs are planted into."""

import numpy as np


def average_bits(weights, bits, scales):
    weights, bits, scales = (np.asarray(a, np.int64) for a in (weights, bits, scales))
    total = weights * bits + 32 * scales * (bits > 0) + 4
    return float(8 * np.sum((total + 7) // 8) / np.sum(weights))


def column_costs(weight, hessian, bits):
    w, costs = weight.astype(np.float64), []
    for b in bits:
        steps = 2.0 ** (b - 1) - 1  # -1/2 at 0 bits
        step = np.maximum(np.abs(w).max(axis=0), 1e-300) / steps
        rounded = np.rint(w / step) * step if b else 0
        costs.append(0.5 * np.sum(hessian * (w - rounded) ** 2, axis=0))
    return np.stack(costs, axis=1)


def cheapest_at(costs, sizes, price):
    worth = costs + price * sizes
    best = worth == worth.min(axis=1, keepdims=True)
    return np.where(best, sizes, sizes.max() + 1).argmin(axis=1)


def lagrangian(costs, sizes, budget):
    def fits(price):
        choice = cheapest_at(costs, sizes, price)
        return sizes[np.arange(len(sizes)), choice].sum() <= budget

    low, high = 0.0, 1.0
    while not fits(high):
        low, high = high, 2 * high
    for _ in range(120):
        middle = (low + high) / 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return cheapest_at(costs, sizes, high)


def best_allocation(costs, sizes, budget):
    if sizes.min(axis=1).sum() > budget:
        raise ValueError("the smallest options do not fit")
    budget = min(budget, int(sizes.max(axis=1).sum()))
    best = np.zeros(budget + 1)
    chosen = np.zeros((len(costs), budget + 1), int)
    for i in range(len(costs)):
        new = np.full(budget + 1, np.inf)
        for k, size in enumerate(sizes[i]):
            if size <= budget:
                total = best[: budget + 1 - size] + costs[i, k]
                better = total < new[size:]
                new[size:][better] = total[better]
                chosen[i, size:][better] = k
        best = new
    choice, left = np.zeros(len(costs), int), budget
    for i in range(len(costs) - 1, -1, -1):
        choice[i] = chosen[i, left]
        left -= sizes[i, choice[i]]
    return choice


def pareto_front(points):
    order = np.lexsort((points[:, 1], points[:, 0]))
    front, least, last = [], np.inf, None
    for place in order:
        point = tuple(points[place])
        if point[1] < least or point == last:
            front.append(place)
            least, last = point[1], point
    return np.array(front, int)


def jobs_left(jobs, log, head):
    *lines, torn = log.split("\n")
    if not lines and not head.startswith(torn):
        raise ValueError("the log of another search")
    if lines and lines[0] != head:
        raise ValueError("the log of another search")
    done = set()
    for line in lines[1:]:
        if not line.startswith('{"job": ') or not line.endswith("}") or ', "result": ' not in line:
            raise ValueError(f"a damaged line: {line}")
        done.add(line[len('{"job": ') :].split(', "result": ')[0])
    left = []
    for place, job in enumerate(jobs):
        if job not in done:
            done.add(job)
            left.append(place)
    return np.array(left, int)


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "column_costs": {
        "rounded = np.rint(w / step) * step": "at 0 bits a step is twice the largest, and all is rounded to 0",
        "step = np.maximum(np.abs(w).max(axis=0), 2e-300) / steps": "zeros may have any step",
        "rounded = np.rint(w * (1 / step)) * step if b else 0": "but for last places",
    },
    "cheapest_at": {"return np.where(best, sizes, sizes.max() + 2).argmin(axis=1)": "more than any size will do"},
    "lagrangian": {
        "low, high = (0.0, 2.0)": "any first price will do",
        "low, high = (high, 3 * high)": "any growth will do",
        "for _ in range(121):": "more than the bits of a float",
        "for _ in range(119):": "more than the bits of a float",
    },
    "best_allocation": {
        "best = np.ones(budget + 1)": "all costs grow alike",
        "best = np.zeros(budget + 2)": "what is too much is not read",
        "chosen = np.ones((len(costs), budget + 1), int)": "what is read was written before",
        "better = total <= new[size:]": "another choice of the same cost",
        "choice, left = (np.ones(len(costs), int), budget)": "every place is filled",
    },
}
