"""Bugs planted into the solutions of chapter 10: what it is, the text of the function, and what takes its place."""

BUGS = {
    "input_hessian": [
        ("another default", "damping=0.01", "damping=0.1"),
        ("live inputs only", "len(hessian)", "np.count_nonzero(np.diag(hessian))"),
    ],
    "bias_correction": [
        (
            "float32 means",
            "mean = np.moveaxis(shift, 1, 0).reshape(len(bias), -1).mean(axis=1)",
            "axes = (0, *range(2, y.ndim))\n    mean = y_hat.mean(axis=axes) - y.mean(axis=axes)",
        )
    ],
}
