"""Bugs planted into the solutions of chapter 05: what it is, the text of the function, and what takes its place."""

BUGS = {
    "threshold_mask": [("compares squares with the threshold", "np.abs(w)", "w**2")],
    "masked_sgd_step": [("float64", "+ grad)", "+ grad.astype(np.float64))")],
}
