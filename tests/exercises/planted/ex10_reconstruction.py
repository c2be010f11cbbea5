"""Bugs planted into the solutions of chapter 10: what it is, the text of the function, and what takes its place."""

BUGS = {
    "input_hessian": [
        ("another default", "damping=0.01", "damping=0.1"),
        ("live inputs only", "len(hessian)", "np.count_nonzero(np.diag(hessian))"),
    ],
}
