"""Uniform quantization against ONNX (its reference and ONNX Runtime) and PyTorch: who rounds how, to the bit."""

import math
import warnings

import numpy as np
import pytest

from nnzip import calibration
from nnzip.quantization import (
    QuantParams,
    choose_qparams,
    dequantize,
    fake_quantize,
    qparams_from_range,
    quantize,
    sqnr_db,
)

pytestmark = pytest.mark.oracle

SCALES = [1.0, 0.25, 0.1, 1 / 3, 0.0123]
ONNX_TYPES = ["int8", "uint8", "int16", "uint16"]


def ties_and_noise(scale, low, high, n=3001):  # an odd number: vector code and its remainder loop
    """Half of the values lie as near to a tie between two codes as float32 can, the rest anywhere, some outside."""
    rng = np.random.default_rng(0)
    steps = rng.integers(low - 50, high + 50, n) + 0.5
    steps[::2] = rng.normal(0, (high - low) / 3, steps[::2].size)
    return (steps * np.float32(scale)).astype(np.float32)


# ONNX


def onnx_outputs(nodes, inputs, outputs, feeds, initializers=()):
    """Run a graph in onnx.reference and in ONNX Runtime; inputs and outputs: name -> ONNX type name."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from onnx.reference import ReferenceEvaluator

    helper = onnx.helper

    def infos(names):
        return [helper.make_tensor_value_info(n, getattr(onnx.TensorProto, t.upper()), None) for n, t in names.items()]

    graph = helper.make_graph(
        [helper.make_node(op, names, [out], **attributes) for op, names, out, attributes in nodes],
        "quantize",
        infos(inputs),
        infos(outputs),
        initializer=[helper.make_tensor(n, getattr(onnx.TensorProto, t), (), [v]) for n, t, v in initializers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, feeds)[0], session.run(None, feeds)[0]


def onnx_quantize(x, grid, **attributes):
    dtype = grid.dtype.name
    feeds = {"x": x, "scale": grid.scale, "zero_point": grid.zero_point.astype(grid.dtype)}
    node = ("QuantizeLinear", ["x", "scale", "zero_point"], "codes", attributes)
    return onnx_outputs([node], {"x": "float", "scale": "float", "zero_point": dtype}, {"codes": dtype}, feeds)


def onnx_dequantize(codes, grid, **attributes):
    dtype = grid.dtype.name
    feeds = {"codes": codes, "scale": grid.scale, "zero_point": grid.zero_point.astype(grid.dtype)}
    node = ("DequantizeLinear", ["codes", "scale", "zero_point"], "x", attributes)
    return onnx_outputs([node], {"codes": dtype, "scale": "float", "zero_point": dtype}, {"x": "float"}, feeds)


def assert_both_equal(outputs, expected):
    for output in outputs:
        assert output.dtype == expected.dtype
        np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero_point", [0, 3, 100])
@pytest.mark.parametrize("dtype", ONNX_TYPES)
def test_onnx_quantizes_and_dequantizes_a_tensor_to_the_same_bits(dtype, zero_point, scale):
    bits = np.dtype(dtype).itemsize * 8
    grid = QuantParams(scale, zero_point, bits=bits, signed=dtype.startswith("i"))
    x = ties_and_noise(scale, grid.qmin, grid.qmax)
    codes = quantize(x, grid)
    assert_both_equal(onnx_quantize(x, grid), codes)
    assert_both_equal(onnx_dequantize(codes, grid), dequantize(codes, grid))


@pytest.mark.parametrize("dtype", ONNX_TYPES)
@pytest.mark.parametrize(
    ("layout", "theirs", "shape", "others"),  # our option, ONNX's attributes, where each range is taken
    [
        ({"axis": 0}, {"axis": 0}, (5, 9, 5), (1, 2)),
        ({"axis": 1}, {"axis": 1}, (9, 5, 5), (0, 2)),
        ({"group_size": 6}, {"axis": 1, "block_size": 6}, (8, 4, 6), 2),
    ],
)
def test_onnx_quantizes_along_an_axis_and_in_blocks_to_the_same_bits(layout, theirs, shape, others, dtype):
    signed, bits = dtype.startswith("i"), np.dtype(dtype).itemsize * 8
    x = ties_and_noise(0.1, -100, 100, math.prod(shape)).reshape(shape)
    x = x * np.linspace(0.1, 10, shape[0], dtype=np.float32)[:, None, None]
    lo, hi = x.min(axis=others), x.max(axis=others)
    grid = qparams_from_range(lo, hi, bits=bits, symmetric=False, signed=signed, **layout)
    x = x.reshape(8, 24) if "group_size" in layout else x
    codes = quantize(x, grid)
    assert_both_equal(onnx_quantize(x, grid, **theirs), codes)
    assert_both_equal(onnx_dequantize(codes, grid, **theirs), dequantize(codes, grid))


@pytest.mark.parametrize("signed", [True, False])
def test_onnx_four_bits_there_and_back(signed):
    """Codes of 4 bits never leave the graph: quantize and dequantize in one."""
    grid = QuantParams(0.1, 3, bits=4, signed=signed)
    x = ties_and_noise(0.1, grid.qmin, grid.qmax)
    nodes = [
        ("QuantizeLinear", ["x", "scale", "zero_point"], "codes", {}),
        ("DequantizeLinear", ["codes", "scale", "zero_point"], "y", {}),
    ]
    constants = [("scale", "FLOAT", 0.1), ("zero_point", "INT4" if signed else "UINT4", 3)]
    outputs = onnx_outputs(nodes, {"x": "float"}, {"y": "float"}, {"x": x}, constants)
    assert_both_equal(outputs, fake_quantize(x, grid))


# PyTorch


@pytest.mark.parametrize("signed, zero_point", [(False, 0), (False, 128), (False, 255), (True, -128), (True, 7)])
def test_torch_fake_quantize_is_ours_for_power_of_two_scales(signed, zero_point):
    torch = pytest.importorskip("torch")
    scales = [2.0, 0.25, 2.0**-20]
    x = np.stack([ties_and_noise(scale, -300, 300) for scale in scales])
    grid = QuantParams(scales, [zero_point] * 3, bits=8, signed=signed, axis=0)
    given = (torch.tensor(np.array(array)) for array in (x, grid.scale, grid.zero_point))
    theirs = torch.fake_quantize_per_channel_affine(*given, 0, grid.qmin, grid.qmax).numpy()
    np.testing.assert_array_equal(theirs, fake_quantize(x, grid))


# hypothesis


def test_any_floats_give_finite_codes_and_values():
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as arrays

    floats = st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1e-45, 1.0]))
    values = arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=4), elements=floats)

    @hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @hypothesis.given(
        values,
        st.integers(2, 16),
        st.booleans(),
        st.sampled_from(["minmax", "percentile", "mse", "entropy"]),
        st.booleans(),
    )
    def check(x, bits, symmetric, method, per_channel):
        options = {"bits": bits, "method": method, "axis": 0 if per_channel else None}
        grid = choose_qparams(x, symmetric=symmetric, **options)
        codes = quantize(x, grid)
        decoded = dequantize(codes, grid)
        assert codes.min() >= grid.qmin and codes.max() <= grid.qmax
        assert np.all(np.isfinite(decoded))
        np.testing.assert_array_equal(quantize(decoded, grid), codes)
        assert not np.isnan(sqnr_db(x, decoded))
        zeros = x == 0
        assert not np.any(decoded[zeros])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "FRACTIONS", calibration.FRACTIONS[::16])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check()
