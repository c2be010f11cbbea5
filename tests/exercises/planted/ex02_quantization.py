"""Bugs planted into the solutions of chapter 02: what it is, the text of the function, and what takes its place."""

BUGS = {
    "dequantize": [
        ("wraps in int8", "codes.astype(np.int32) - zero_point", "codes - zero_point.astype(codes.dtype)"),
        ("adds the zero point", "np.int32) - zero_point", "np.int32) + zero_point"),
        (
            "scales before it shifts",
            "steps.astype(np.float32) * scale",
            "(codes * scale - zero_point).astype(np.float32)",
        ),
        ("forgets the zero point", "np.int32) - zero_point", "np.int32)"),
        ("scales along the last axis", "along(qparams.scale, qparams.axis, codes.ndim)", "qparams.scale"),
        (
            "rows whatever the axis",
            "along(qparams.zero_point, qparams.axis, codes.ndim)",
            "along(qparams.zero_point, qparams.axis, codes.ndim)\n"
            "    if codes.ndim == 2 and qparams.scale.ndim and len(codes) == len(qparams.scale):\n"
            "        scale, zero_point = qparams.scale[:, None], qparams.zero_point[:, None]",
        ),
        ("float64 where float32 was asked", "steps.astype(np.float32) * scale", "steps * scale.astype(np.float64)"),
        ("divides by the scale", "np.float32) * scale", "np.float32) / scale"),
    ],
    "quantize": [
        (
            "casts before it clips",
            "np.clip(codes, qparams.qmin, qparams.qmax).astype(qparams.dtype)",
            "np.clip(codes.astype(np.int64).astype(qparams.dtype), qparams.qmin, qparams.qmax)",
        ),
        ("floors", "np.rint(x / scale)", "np.floor(x / scale)"),
        ("rounds halves up", "np.rint(x / scale)", "np.floor(x / scale + 0.5)"),
        ("cuts off", "np.rint(x / scale)", "np.trunc(x / scale)"),
        ("adds the zero point before it rounds", "np.rint(x / scale) + zero_point", "np.rint(x / scale + zero_point)"),
        (
            "clips before the zero point",
            "codes = np.rint(x / scale) + zero_point",
            "codes = np.clip(np.rint(x / scale), qparams.qmin, qparams.qmax) + zero_point",
        ),
        ("does not clip", "np.clip(codes, qparams.qmin, qparams.qmax)", "codes"),
        ("limits of 8 bits", "qparams.qmin, qparams.qmax", "*((-128, 127) if qparams.signed else (0, 255))"),
        ("always int8", "astype(qparams.dtype)", "astype(np.int8)"),
        ("subtracts the zero point", "+ zero_point", "- zero_point"),
        ("multiplies by a rounded reciprocal", "x / scale", "x * np.round(1 / scale, 1)"),
        ("halves away from zero", "np.rint(x / scale)", "np.sign(x) * np.floor(np.abs(x / scale) + 0.5)"),
        ("scales along the last axis", "along(qparams.scale, qparams.axis, x.ndim)", "qparams.scale"),
    ],
    "sqnr_db": [
        ("of amplitudes", "10 * np.log10", "20 * np.log10"),
        ("natural logarithm", "np.log10", "np.log"),
        ("noise over signal", "np.sum(x**2) / noise", "noise / np.sum(x**2)"),
        ("variance for power", "np.sum(x**2)", "np.sum((x - x.mean()) ** 2)"),
        ("squares in float32", "x.astype(np.float64), x_hat.astype(np.float64)", "x, x_hat"),
        ("sum over mean", "np.sum(x**2)", "np.mean(x**2)"),
        ("of the rounded array", "np.sum(x**2)", "np.sum(x_hat**2)"),
        ("no noise is zero", "else np.inf", "else 0.0"),
    ],
    "range_to_grid": [
        ("divides by 2^bits", "(2**bits - 1)", "2**bits"),
        ("zero point outside of the range", "lo, hi = min(lo, 0.0), max(hi, 0.0)", "pass"),
        (
            "zero point clipped instead",
            "lo, hi = min(lo, 0.0), max(hi, 0.0)",
            "return QuantParams((hi - lo) / (2**bits - 1) if hi > lo else 1.0, "
            "min(max(round(-lo / ((hi - lo) / (2**bits - 1) if hi > lo else 1.0)), 0), 2**bits - 1), bits, False)",
        ),
        ("zero point cut off", "round(-lo / scale)", "int(-lo / scale)"),
        ("zero point rounded up", "round(-lo / scale)", "int(np.ceil(-lo / scale))"),
        ("wrong sign", "round(-lo / scale)", "round(abs(hi) / scale)"),
        ("divides by zero", " if hi > lo else 1.0", ""),
        ("adds an epsilon", "(hi - lo) / (2**bits - 1)", "((hi - lo) / (2**bits - 1) + 1e-6)"),
        ("signed", "bits, False", "bits, True"),
        ("does not widen to zero above", "max(hi, 0.0)", "hi"),
    ],
    "symmetric_scales": [
        ("maximum, not magnitude", "np.abs(x)", "x"),
        ("divides by 2^(bits-1)", "(2 ** (bits - 1) - 1)", "2 ** (bits - 1)"),
        ("divides by 2^bits - 1", "(2 ** (bits - 1) - 1)", "(2**bits - 1)"),
        ("one scale for all", "rows.max(axis=1)", "np.full(len(rows), rows.max())"),
        (
            "rows whatever the axis",
            "np.moveaxis(np.abs(x), axis, 0).reshape(x.shape[axis], -1)",
            "np.abs(x).reshape(len(x), -1)",
        ),
        ("reshapes without moving the axis", "np.moveaxis(np.abs(x), axis, 0)", "np.abs(x)"),
        ("zero for a dead channel", ", 1).astype", ", 0).astype"),
        ("float64", ".astype(np.float32)", ""),
    ],
    "round_to_integer": [
        ("half_up adds a half", "return below + (x - below >= 0.5)", "return np.floor(x + 0.5)"),
        (
            "half_away rounds up below zero",
            "np.sign(x) * (np.floor(size) + (size - np.floor(size) >= 0.5))",
            "below + (x - below >= 0.5)",
        ),
        ("half_even is half_up", "np.rint(x)", "below + (x - below >= 0.5)"),
        ("tie goes down", "return below + (x - below >= 0.5)", "return below + (x - below > 0.5)"),
        ("stochastic with one draw", "random(x.shape)", "random()"),
        ("stochastic the wrong way", "random(x.shape) < x - below", "random(x.shape) > x - below"),
        ("stochastic as a coin", "< x - below)", "< 0.5)"),
        ("stochastic from zero", "return below + (np.random", "return np.trunc(x) + (np.random"),
    ],
}
