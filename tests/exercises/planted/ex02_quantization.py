"""Bugs planted into the solutions of chapter 02: what it is, the text of the function, and what takes its place."""

BUGS = {
    "sqnr_db": [("no noise is zero", "else np.inf", "else 0.0")],
    "range_to_grid": [
        ("zero point outside of the range", "lo, hi = min(lo, 0.0), max(hi, 0.0)", "pass"),
        ("zero point cut off", "round(-lo / scale)", "int(-lo / scale)"),
        ("zero point rounded up", "round(-lo / scale)", "int(np.ceil(-lo / scale))"),
        ("does not widen to zero above", "max(hi, 0.0)", "hi"),
    ],
    "round_to_integer": [("half_up adds a half", "return below + (x - below >= 0.5)", "return np.floor(x + 0.5)")],
}
