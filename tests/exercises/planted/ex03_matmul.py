"""Bugs planted into the solutions of chapter 03: what it is, the text of the function, and what takes its place."""

BUGS = {
    "exact_depth": [
        ("the plain sum for uint8 inputs", "np.maximum(positive, negative)", "np.abs(positive - negative)")
    ],
    "fast_int8_matmul": [
        ("a block of one row too many", "depth, K = 256", "depth, K = 259"),
        ("integer products", "depth, K = 256, a.shape[1]", "return a.astype(np.int32) @ b.astype(np.int32)"),
    ],
    "fixed_point_multiplier": [("carries too soon", "m0 == 2**31", "m0 >= 2**31 - 1")],
    "requantize_fixed_point": [
        (
            "second rounding to even",
            "np.sign(high) * ((np.abs(high) + half) >> right)",
            "np.rint(high / (1 << right)).astype(np.int64)",
        )
    ],
}
