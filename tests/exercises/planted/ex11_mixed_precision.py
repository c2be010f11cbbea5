"""Bugs planted into the solutions of chapter 11: what it is, the text of the function, and what takes its place."""

BUGS = {
    "average_bits": [("wraps in int32", "(np.asarray(a, np.int64) for a", "(np.asarray(a) for a")],
    "lagrangian": [
        ("fifty halvings", "range(120)", "range(50)"),
        ("an accuracy in costs", "for _ in range(120):", "while high - low > 1e-9 * max(1.0, high):"),
        (
            "fills up afterwards",
            "    return cheapest_at(costs, sizes, high)",
            "    choice = cheapest_at(costs, sizes, high)\n"
            "    for i in range(len(costs)):\n"
            "        room = budget - sizes[np.arange(len(sizes)), choice].sum() + sizes[i, choice[i]]\n"
            "        choice[i] = np.where(sizes[i] <= room, costs[i], np.inf).argmin()\n"
            "    return choice",
        ),
    ],
    "best_allocation": [
        ("a table as long as the budget", "budget = min(budget, int(sizes.max(axis=1).sum()))", "pass"),
        ("whole costs", "+ costs[i, k]", "+ int(costs[i, k])"),
    ],
    "pareto_front": [
        (
            "on the hull only",
            "return np.array(front, int)",
            "hull = []\n"
            "    for i in front:\n"
            "        while len(hull) > 1 and np.prod(points[hull[-1]] - points[hull[-2]]) and (\n"
            "            (points[hull[-1]] - points[hull[-2]])[0] * (points[i] - "
            "points[hull[-2]])[1]\n"
            "            <= (points[hull[-1]] - points[hull[-2]])[1] * (points[i] - "
            "points[hull[-2]])[0]\n"
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
    ],
    "jobs_left": [
        ("a torn line counts", "done = set()", 'done = set()\n    lines += [torn] if torn.endswith("}") else []'),
        ("the head may go on", "if lines and lines[0] != head:", "if lines and not lines[0].startswith(head[:-20]):"),
        ("the end of a line is not looked at", ' or not line.endswith("}")', ""),
        ("the beginning of a line is not looked at", "not line.startswith('{\"job\": ') or", ""),
        ("the result is not looked for", " or ', \"result\": ' not in line", ""),
        (
            "looks anywhere in the log",
            "if job not in done:",
            "if job not in log[: len(log) - len(torn)][len(head) :] and job not in done:",
        ),
        ("ends at the first brace", "split(', \"result\": ')[0]", 'split(\', "result": \')[0].split("}")[0]'),
        ("looks in a list", "done = set()", "done = type('L', (list,), {'add': list.append})()"),
    ],
}
