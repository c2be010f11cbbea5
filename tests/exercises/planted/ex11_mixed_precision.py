"""Bugs planted into the solutions of chapter 11: what it is, the text of the function, and what takes its place."""

BUGS = {
    "average_bits": [
        ("the mean of the widths", "float(8 * np.sum((total + 7) // 8) / np.sum(weights))", "float(np.mean(bits))"),
        (
            "the codes alone",
            "total = weights * bits + np.where(bits > 0, 32 * scales, 0) + 4",
            "total = weights * bits",
        ),
        ("no scales", "np.where(bits > 0, 32 * scales, 0)", "0"),
        ("one scale a piece", "32 * scales", "32"),
        ("scales of 16 bits", "32 * scales", "16 * scales"),
        ("scales where all is zero", "np.where(bits > 0, 32 * scales, 0)", "32 * scales"),
        ("no width", ", 0) + 4", ", 0)"),
        ("no width where all is zero", "32 * scales, 0) + 4", "32 * scales + 4, 0)"),
        ("rounds down", "(total + 7) // 8", "total // 8"),
        ("a byte too many", "(total + 7) // 8", "total // 8 + 1"),
        ("rounds the sum", "np.sum((total + 7) // 8)", "((np.sum(total) + 7) // 8)"),
        ("parts of bytes", "8 * np.sum((total + 7) // 8)", "np.sum(total)"),
        ("bytes, not bits", "float(8 * ", "float("),
        ("wraps in int32", "(np.asarray(a, np.int64) for a", "(np.asarray(a) for a"),
        ("zero weights do not count", "/ np.sum(weights)", "/ max(np.sum(weights[bits > 0]), 1)"),
        (
            "the mean over the pieces",
            "8 * np.sum((total + 7) // 8) / np.sum(weights)",
            "np.mean(8 * ((total + 7) // 8) / weights)",
        ),
    ],
    "column_costs": [
        ("no half", "0.5 * np.sum(", "np.sum("),
        ("no square", "(w - rounded) ** 2", "np.abs(w - rounded)"),
        ("the second derivatives are left out", "hessian * (w", "(w"),
        ("the second derivatives squared", "hessian * (w", "hessian**2 * (w"),
        ("the mean", "0.5 * np.sum(", "0.5 * np.mean("),
        ("rows", "rounded) ** 2, axis=0)", "rounded) ** 2, axis=1)"),
        ("a step for all", "np.abs(weight).max(axis=0)", "np.full(weight.shape[1], np.abs(weight).max())"),
        ("the largest, not its magnitude", "np.abs(weight).max(axis=0)", "weight.max(axis=0)"),
        ("2^(b-1) steps", "(2.0 ** (b - 1) - 1)", "(2.0 ** (b - 1))"),
        ("2^b - 1 steps", "(2.0 ** (b - 1) - 1)", "(2.0**b - 1)"),
        ("rounds down", "np.rint(w / step)", "np.floor(w / step)"),
        ("rounds toward zero", "np.rint(w / step)", "np.trunc(w / step)"),
        ("zeros are NaN", "np.where(largest > 0, largest, 1)", "largest"),
        ("one bit for none", "if b > 0:", "b = max(b, 2)\n        if b > 0:"),
        ("0 bits cost nothing", "rounded = np.zeros_like(w)", "rounded = w"),
        ("widths by columns", "np.stack(costs, axis=1)", "np.stack(costs, axis=0)"),
        ("widths in ascending order", "for b in bits:", "for b in np.sort(bits):"),
    ],
    "cheapest_at": [
        ("no price", "costs + price * sizes", "costs + 0 * sizes"),
        ("sizes alone", "costs + price * sizes", "sizes + 0 * costs"),
        ("the price is for costs", "costs + price * sizes", "price * costs + sizes"),
        ("minus the price", "costs + price * sizes", "costs - price * sizes"),
        ("the dearest", "worth.min(axis=1, keepdims=True)", "worth.max(axis=1, keepdims=True)"),
        ("the first of equals", "np.where(best, sizes, sizes.max() + 1).argmin(axis=1)", "worth.argmin(axis=1)"),
        (
            "the last of equals",
            "np.where(best, sizes, sizes.max() + 1).argmin(axis=1)",
            "worth.shape[1] - 1 - worth[:, ::-1].argmin(axis=1)",
        ),
        (
            "the largest of equals",
            "np.where(best, sizes, sizes.max() + 1).argmin(",
            "np.where(best, sizes, -1).argmax(",
        ),
        ("the best of all pieces", "worth.min(axis=1, keepdims=True)", "worth.min()"),
        (
            "one option for all",
            "worth = costs + price * sizes",
            "worth = np.broadcast_to((costs + price * sizes).sum(axis=0), costs.shape)",
        ),
        ("axis 0", "return np.where(best, sizes, sizes.max() + 1).argmin(axis=1)", "return worth.argmin(axis=0)"),
        (
            "the worth, not the option",
            "return np.where(best, sizes, sizes.max() + 1).argmin(axis=1)",
            "return worth.min(axis=1)",
        ),
        ("whole prices", "price * sizes", "int(price) * sizes"),
    ],
    "lagrangian": [
        ("less than the budget", ".sum() <= budget", ".sum() < max(budget, sizes.min(axis=1).sum() + 1)"),
        ("does not fit", "return cheapest_at(costs, sizes, high)", "return cheapest_at(costs, sizes, low)"),
        ("the middle", "return cheapest_at(costs, sizes, high)", "return cheapest_at(costs, sizes, middle)"),
        ("halves the wrong way", "if fits(middle):", "if not fits(middle):"),
        ("few halvings", "range(120)", "range(5)"),
        ("no halving", "range(120)", "range(0)"),
        ("fifty halvings", "range(120)", "range(50)"),
        ("a price of at most a thousand", "while not fits(high):\n        low, high = high, 2 * high", "high = 1000.0"),
        ("an accuracy in costs", "for _ in range(120):", "while high - low > 1e-9 * max(1.0, high):"),
        (
            "one choice for all pieces",
            "    if fits(0.0):",
            "    costs = np.broadcast_to(costs.mean(axis=0), costs.shape)\n    if fits(0.0):",
        ),
        ("the budget is each piece's", ".sum() <= budget", ".max() <= budget"),
        (
            "the first of equals",
            "if fits(0.0):\n        return cheapest_at(costs, sizes, 0.0)\n",
            "if fits(0.0):\n        return costs.argmin(axis=1)\n",
        ),
        (
            "the best in its equal part",
            "if fits(0.0):",
            "share = np.where(sizes <= budget / len(sizes), costs, np.inf)\n"
            "    if fits(0.0) or True:\n        return share.argmin(axis=1)\n    if fits(0.0):",
        ),
        (
            "fills up afterwards",
            "    return cheapest_at(costs, sizes, high)",
            "    choice = cheapest_at(costs, sizes, high)\n"
            "    for i in range(len(costs)):\n"
            "        room = budget - sizes[np.arange(len(sizes)), choice].sum() + sizes[i, choice[i]]\n"
            "        choice[i] = np.where(sizes[i] <= room, costs[i], np.inf).argmin()\n"
            "    return choice",
        ),
        (
            "cheapest first, until the budget is spent",
            "    if fits(0.0):",
            "    choice, left = sizes.argmin(axis=1), budget - sizes.min(axis=1).sum()\n"
            "    for i in range(len(costs)):\n"
            "        room = left + sizes[i, choice[i]]\n"
            "        choice[i] = np.where(sizes[i] <= room, costs[i], np.inf).argmin()\n"
            "        left = room - sizes[i, choice[i]]\n"
            "    return choice\n"
            "    if fits(0.0):",
        ),
    ],
    "best_allocation": [
        ("does not say that nothing fits", "if sizes.min(axis=1).sum() > budget:", "if False:"),
        ("refuses what just fits", "sizes.min(axis=1).sum() > budget", "sizes.min(axis=1).sum() >= budget"),
        ("a table as long as the budget", "budget = min(budget, int(sizes.max(axis=1).sum()))", "pass"),
        ("less than the budget", "if size <= budget:", "if size < budget:"),
        ("exactly the budget", "best = np.zeros(budget + 1)", "best = np.append(0.0, np.full(budget, np.inf))"),
        (
            "uses a piece twice",
            "total = best[: budget + 1 - size] + costs[i, k]",
            "total = np.minimum(best, new)[: budget + 1 - size] + costs[i, k]",
        ),
        (
            "the cost of this piece alone",
            "total = best[: budget + 1 - size] + costs[i, k]",
            "total = 0 * best[: budget + 1 - size] + costs[i, k]",
        ),
        ("begins with a thousand", "new = np.full(budget + 1, np.inf)", "new = np.full(budget + 1, 1e3)"),
        ("begins with zero", "new = np.full(budget + 1, np.inf)", "new = np.zeros(budget + 1)"),
        ("the dearest", "better = total < new[size:]", "better = (total > new[size:]) | (new[size:] == np.inf)"),
        ("the last option that fits", "better = total < new[size:]", "better = total < np.inf"),
        ("does not go back", "left -= sizes[i, choice[i]]", "pass"),
        ("goes back by one", "left -= sizes[i, choice[i]]", "left -= choice[i]"),
        ("forward, not backward", "for i in range(len(costs) - 1, -1, -1):", "for i in range(len(costs)):"),
        ("whole costs", "+ costs[i, k]", "+ int(costs[i, k])"),
        (
            "one option at a time, by cost for size",
            "    best = np.zeros(budget + 1)",
            "    choice = sizes.argmin(axis=1)\n"
            "    while True:\n"
            "        gains = []\n"
            "        room = budget - sizes[np.arange(len(sizes)), choice].sum()\n"
            "        for i, k in np.ndindex(*sizes.shape):\n"
            "            more, less = sizes[i, k] - sizes[i, choice[i]], costs[i, choice[i]] - costs[i, k]\n"
            "            if more <= room and less > 0:\n"
            "                gains.append((less / max(more, 1e-9), i, k))\n"
            "        if not gains:\n"
            "            return choice\n"
            "        _, i, k = max(gains)\n"
            "        choice[i] = k\n"
            "    best = np.zeros(budget + 1)",
        ),
    ],
    "pareto_front": [
        (
            "by the first coordinate alone",
            "np.lexsort((points[:, 1], points[:, 0]))",
            "np.argsort(points[:, 0], kind='stable')",
        ),
        (
            "sorted by the second",
            "np.lexsort((points[:, 1], points[:, 0]))",
            "np.lexsort((points[:, 0], points[:, 1]))",
        ),
        ("equal points once", "if point[1] < least or point == last:", "if point[1] < least:"),
        ("as good is good enough", "if point[1] < least or point == last:", "if point[1] <= least:"),
        (
            "more is better",
            "np.lexsort((points[:, 1], points[:, 0]))",
            "np.lexsort((points[:, 1], points[:, 0]))[::-1]",
        ),
        ("points, not places", "return np.array(front, int)", "return points[front]"),
        ("in the order in which they come", "return np.array(front, int)", "return np.sort(front)"),
        ("no point below zero", "np.inf, None", "np.inf, None\n    points = np.abs(points)"),
        ("float32", "order = ", "points = points.astype(np.float32)\n    order = "),
        ("a tolerance", "point[1] < least or", "point[1] < least - 1e-9 or"),
        (
            "the best of each coordinate",
            "for place in order:",
            "for place in sorted(set(points.argmin(axis=0).tolist()), key=lambda i: points[i, 0]):",
        ),
        (
            "on the hull only",
            "return np.array(front, int)",
            "hull = []\n"
            "    for i in front:\n"
            "        while len(hull) > 1 and np.prod(points[hull[-1]] - points[hull[-2]]) and (\n"
            "            (points[hull[-1]] - points[hull[-2]])[0] * (points[i] - points[hull[-2]])[1]\n"
            "            <= (points[hull[-1]] - points[hull[-2]])[1] * (points[i] - points[hull[-2]])[0]\n"
            "        ):\n"
            "            hull.pop()\n"
            "        hull.append(i)\n"
            "    return np.array(hull, int)",
        ),
        (
            "every pair in Python",
            "return np.array(front, int)",
            "every = [tuple(p) for p in points.tolist()]\n"
            "    return np.array([i for i in order if not any([q != every[i] and q[0] <= every[i][0] "
            "and q[1] <= every[i][1] for q in every])], int)",
        ),
        (
            "better in both is needed",
            "return np.array(front, int)",
            "return np.array([i for i in order if not np.any(np.all(points < points[i], axis=1))], int)",
        ),
        (
            "better in one is enough",
            "return np.array(front, int)",
            "return np.array([i for i in front if not np.any(points[:, 0] < points[i, 0])], int)",
        ),
    ],
    "jobs_left": [
        ("a torn line counts", "done = set()", 'done = set()\n    lines += [torn] if torn.endswith("}") else []'),
        ("a torn line is damaged", "for line in lines[1:]:", "for line in lines[1:] + ([torn] if torn else []):"),
        ("the last line is always torn", "for line in lines[1:]:", "for line in lines[1:-1]:"),
        ("does not look at the head", "if lines and lines[0] != head:", "if False:"),
        (
            "the head may go on",
            "if lines and lines[0] != head:",
            "if lines and not lines[0].startswith(head[:-20]):",
        ),
        ("no other file is noticed without a line end", "if not lines and not head.startswith(torn):", "if False:"),
        ("a torn head is another's", "if not lines and not head.startswith(torn):", "if torn and not lines:"),
        ("an empty log is another's", "if lines and lines[0] != head:", "if lines[:1] != [head]:"),
        ("damaged lines are passed over", 'raise ValueError(f"a damaged line: {line}")', "continue"),
        ("the end of a line is not looked at", ' or not line.endswith("}")', ""),
        ("the beginning of a line is not looked at", """not line.startswith('{"job": ') or""", ""),
        ("the result is not looked for", """ or ', "result": ' not in line""", ""),
        ("equal jobs each", "            done.add(job)\n            left", "            left"),
        (
            "looks anywhere in the log",
            "if job not in done:",
            "if job not in log[: len(log) - len(torn)][len(head) :] and job not in done:",
        ),
        ("what is done", "if job not in done:", "if job in done and not done.discard(job):"),
        ("jobs, not places", "return np.array(left, int)", "return [jobs[place] for place in left]"),
        ("ends at the first brace", """split(', "result": ')[0]""", """split(', "result": ')[0].split("}")[0]"""),
        (
            "lists only",
            "done.add(line[len('{\"job\": ') :].split(', \"result\": ')[0])",
            "done.add(line[line.find('[') : line.find(']') + 1])",
        ),
        ("looks in a list", "done = set()", "done = type('L', (list,), {'add': list.append})()"),
        ("counts the lines", "if job not in done:", "if place >= len(lines) - 1:"),
    ],
}
