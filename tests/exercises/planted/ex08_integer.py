"""Bugs planted into the solutions of chapter 08: what it is, the text of the function, and what takes its place."""

BUGS = {
    "folded_multiplier": [
        ("divides first", "(input_scale * weight_scale) / output_scale", "input_scale * (weight_scale / output_scale)")
    ],
    "fold_zero_point": [
        (
            "one channel of a filter",
            "weight.reshape(len(weight), -1)",
            "(weight if weight.ndim == 2 else weight[:, 0].reshape(len(weight), -1))",
        ),
        ("magnitudes", "weight.reshape(", "np.abs(weight).reshape("),
    ],
    "integer_linear": [
        (
            "adds the zero point before it rounds",
            "np.rint(acc.astype(np.float32) * multiplier) + output_zero_point",
            "np.rint(acc.astype(np.float32) * multiplier + output_zero_point)",
        )
    ],
    "integer_conv2d": [
        ("stride along rows only", "v : v + stride * columns : stride", "v : v + columns"),
        (
            "sums in float32",
            "np.zeros((len(x), rows, columns, O), np.int32)",
            "np.zeros((len(x), rows, columns, O), np.float32)",
        ),
        (
            "halves up",
            "np.rint(acc.astype(np.float32) * multiplier)",
            "np.floor(acc.astype(np.float32) * multiplier + 0.5)",
        ),
    ],
}
