"""Bugs planted into the solutions of chapter 09: what it is, the text of the function, and what takes its place."""

BUGS = {
    "binary_connect_step": [
        ("stops what is at the ends", "weight - rate * grad", "weight - rate * grad * (np.abs(weight) < 1)")
    ],
    "round_to_bfloat16": [
        ("NaN carries", "np.where(np.isnan(x), x, kept.view(np.float32))", "kept.view(np.float32)"),
        ("what is not finite is NaN", "np.where(np.isnan(x), x,", "np.where(~np.isfinite(x), np.float32(np.nan),"),
    ],
    "scaled_sgd_step": [("takes 65504 for infinity", "np.isfinite(g).all()", "(np.abs(g) < 65504).all()")],
}
