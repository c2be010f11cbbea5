"""Bugs planted into the solutions of chapter 06: what it is, the text of the function, and what takes its place."""

BUGS = {
    "kl_divergence": [
        ("logarithms of probabilities", "np.sum(p * (log_p - log_q))", "np.sum(p * np.log(p / q))"),
    ],
    "distillation_loss": [
        (
            "other defaults",
            "    N, rows =",
            "    temperature = 2.0 if temperature == 4.0 and alpha == 0.5 else temperature\n    N, rows =",
        ),
        ("float64", "(1 - alpha) * hard_gradient", "(1 - alpha) * hard_gradient.astype(np.float64)"),
    ],
}
