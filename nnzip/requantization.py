"""From int32 sums back to 8-bit codes: a multiplier, a rounding, a zero point, a clip (chapter 03).

    codes = clip(round(acc * m) + zero_point, qmin, qmax)          m = scale_a * scale_b / scale_y

`requantize` multiplies by m as a float32, as ONNX Runtime does. `requantize_fixed_point` needs no float at all: m is
an integer and a shift, m = m0 * 2^-31 * 2^-shift (Jacob et al. 2018, arXiv:1712.05877, section 2.2, equations 5 and 6),
as in gemmlowp and TensorFlow Lite. The two differ where a product is near a tie.
"""

import numpy as np

from nnzip.checks import check_array, integers, real, whole

INT32 = np.iinfo(np.int32)
SHIFTS = (-30, 31)  # those of TensorFlow Lite: multipliers from 2^-32 to below 2^30


def requantize(acc, multiplier, zero_point, *, out_dtype):  # int32 [..., N] -> codes [..., N]
    """Return the codes of int32 sums by a float32 multiplier, in ONNX Runtime's arithmetic and order.

        codes = clip(rint(float32(acc) * float32(multiplier)) + zero_point, qmin, qmax)

    acc : int32 sums of any shape; beyond 2^24 they are rounded to float32, as ONNX Runtime does
    multiplier : positive; one number, (N,) for each column, or any shape that broadcasts to that of acc
    zero_point : an integer that out_dtype holds
    out_dtype : int8, uint8, int16 or uint16, whose extremes are qmin and qmax

    >>> acc = np.array([-1000, -3, -1, 1, 3, 5, 1000], np.int32)
    >>> requantize(acc, 0.5, 10, out_dtype=np.uint8)
    array([  0,   8,  10,  10,  12,  12, 255], dtype=uint8)
    """
    acc, codes, zero_point = _sums(acc, zero_point, out_dtype)
    with np.errstate(over="ignore"):  # a multiplier too large for float32 is refused, a product is clipped
        factor = real(multiplier, "multiplier").astype(np.float32)
        if not (factor.min() > 0 and factor.max() < np.inf):
            raise ValueError(f"multiplier must be positive and finite as a float32, got {multiplier}")
        steps = acc.astype(np.float32)
        steps *= factor
    np.rint(steps, out=steps)
    steps += np.float32(zero_point)
    return np.clip(steps, codes.min, codes.max, out=steps).astype(codes.dtype)


def requantize_fixed_point(acc, m0, shift, zero_point, *, out_dtype, double_rounding=True):  # int32 [..., N] -> codes
    """Return the codes of int32 sums by an integer multiplier and a shift, bit for bit those of gemmlowp.

        double rounding:  high = floor(acc * m0 / 2^31 + 1/2)                    ties go up
                          steps = high / 2^shift, rounded, ties away from zero
        single rounding:  steps = floor(acc * m0 / 2^(31 + shift) + 1/2)         ties go up
        codes = clip(steps + zero_point, qmin, qmax)

    Double rounding is TensorFlow Lite's default, and gemmlowp's SaturatingRoundingDoublingHighMul followed by
    RoundingDivideByPOT; a negative shift first multiplies acc by 2^-shift, where it saturates at int32. Single rounding
    is TFLITE_SINGLE_ROUNDING, and nearer to the real product.

    m0 : integers from 2^30 to 2^31 - 1; one, (N,) for each column, or any shape that broadcasts to that of acc
    shift : integers from -30 to 31, of such a shape; TensorFlow Lite's has the other sign
    zero_point : an integer that out_dtype holds; acc, out_dtype as in `requantize`

    >>> acc = np.array([-7, -6, -5, -3, -2, -1, 1, 2, 3, 5, 6, 7], np.int32)
    >>> m0, shift = fixed_point_multiplier(0.25)
    >>> requantize_fixed_point(acc, m0, shift, 0, out_dtype=np.int8)  # 0.25: high is 1, steps are 1
    array([-2, -2, -1, -1, -1,  0,  1,  1,  1,  2,  2,  2], dtype=int8)
    >>> requantize_fixed_point(acc, m0, shift, 0, out_dtype=np.int8, double_rounding=False)
    array([-2, -1, -1, -1,  0,  0,  0,  1,  1,  1,  2,  2], dtype=int8)
    """
    acc, codes, zero_point = _sums(acc, zero_point, out_dtype)
    m0, shift = integers(m0, "m0", 2**30, INT32.max), integers(shift, "shift", *SHIFTS)
    m0, shift = (np.broadcast_to(given.astype(np.int64), acc.shape) for given in (m0, shift))
    if double_rounding:
        left, right = np.maximum(-shift, 0), np.maximum(shift, 0)
        sums = np.clip(acc.astype(np.int64) << left, INT32.min, INT32.max)
        high = (sums * m0 + 2**30) >> 31  # gemmlowp's truncated division and signed nudge come to this floor
        rest = (1 << right) - 1  # the bits that go
        steps = (high >> right) + ((high & rest) > (rest >> 1) + (high < 0))  # ties away from zero
    else:
        steps = (acc * m0 + (1 << (30 + shift))) >> (31 + shift)  # below 2^62 + 2^61 in magnitude
    return np.clip(steps + zero_point, codes.min, codes.max).astype(codes.dtype)


def fixed_point_multiplier(m):  # [...] -> int32 [...], [...]
    """Return m as (m0, shift): m = m0 * 2^-31 * 2^-shift, with m0 from 2^30 to 2^31 - 1, rounded to the nearest.

    m holds positive numbers from 2^-32 to below 2^30: one, which gives two ints, or an array, which gives two int32
    arrays. TensorFlow Lite's QuantizeMultiplier turns smaller ones into 0.

    >>> fixed_point_multiplier(0.75)
    (1610612736, 0)
    >>> fixed_point_multiplier(np.nextafter(1.0, 0.0))  # would be 2^31, which no int32 holds
    (1073741824, -1)
    """
    values = real(m, "m").astype(np.float64)
    fraction, exponent = np.frexp(values)  # in [1/2, 1)
    m0 = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    carry = m0 == 2**31
    m0, shift = m0 >> carry, -(exponent + carry)
    if values.min() <= 0 or shift.min() < SHIFTS[0] or shift.max() > SHIFTS[1]:
        raise ValueError(f"m must be from 2^{-1 - SHIFTS[1]} to below 2^{-SHIFTS[0]}, got {m}")
    return (m0.astype(np.int32), shift.astype(np.int32)) if values.ndim else (int(m0), int(shift))


def _sums(acc, zero_point, out_dtype):  # -> acc, the iinfo of out_dtype, zero_point
    acc, dtype = np.asarray(acc), np.dtype(out_dtype)
    if acc.dtype != np.int32:
        raise TypeError(f"acc must be int32, got {acc.dtype}")
    check_array(acc, "acc")
    if dtype not in (np.int8, np.uint8, np.int16, np.uint16):
        raise ValueError(f"out_dtype must be int8, uint8, int16 or uint16, got {dtype}")
    codes = np.iinfo(dtype)
    return acc, codes, whole(codes.min, codes.max)(zero_point, "zero_point")
