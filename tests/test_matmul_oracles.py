"""nnzip.matmul against numkong, PyTorch and ONNX Runtime, bit for bit."""

import copy
import pickle
import time

import numpy as np
import pytest
from test_matmul import PAIRS, random_codes

from nnzip import matmul_native
from nnzip.matmul import int8_matmul, int8_matmul_by_definition, pack, requantize

pytestmark = pytest.mark.oracle

SHAPES = ((1, 1, 1), (1, 300, 7), (65, 784, 33), (33, 1030, 64), (300, 515, 130))


def run_node(kind, a, *, exact=True, **constants):
    """Return what ONNX Runtime computes; exact: on CPUs without VNNI too, where int8 weights saturate in pairs.

    What makes it exact turns constant int8 weights into uint8 ones, so all but a are constants here.
    """
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    a_info = onnx.helper.make_tensor_value_info("a", onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
    y_type = onnx.TensorProto.INT32 if kind == "MatMulInteger" else onnx.TensorProto.UINT8
    result = onnx.helper.make_tensor_value_info("y", y_type, None)
    weights = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    node = onnx.helper.make_node(kind, ["a", *constants], ["y"])
    graph = onnx.helper.make_graph([node], "product", [a_info], [result], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    options = runtime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", str(int(exact)))
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"a": a})[0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda matrix: pickle.loads(pickle.dumps(matrix))])
def test_a_matrix_that_numkong_has_packed_can_be_copied(copied):
    pytest.importorskip("numkong")
    rng = np.random.default_rng(0)
    a, b = random_codes(rng, (3, 200), np.int8), random_codes(rng, (200, 5), np.int8)
    packed = pack(b)
    expected = int8_matmul(a, packed, backend="numkong")
    np.testing.assert_array_equal(int8_matmul(a, copied(packed), backend="numkong"), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("a_dtype, b_dtype", PAIRS)
def test_numkong(a_dtype, b_dtype, shape):
    pytest.importorskip("numkong")
    M, K, N = shape
    rng = np.random.default_rng(M + K)
    a, b = random_codes(rng, (M, K), a_dtype), random_codes(rng, (K, N), b_dtype)
    for zeros in ({}, {"a_zero_point": random_codes(rng, M, a_dtype), "b_zero_point": random_codes(rng, N, b_dtype)}):
        expected = int8_matmul_by_definition(a, b, *zeros.values())
        for right in (b, np.asfortranarray(b), pack(b)):
            np.testing.assert_array_equal(int8_matmul(a, right, backend="numkong", **zeros), expected)


@pytest.mark.parametrize("a_dtype, b_dtype", PAIRS)
def test_numkong_all_extreme_and_threaded(a_dtype, b_dtype):
    pytest.importorskip("numkong")
    for K in (1, 63, 64, 65, 1025, 33_025):
        a = np.full((3, K), np.iinfo(a_dtype).min or 255, a_dtype)
        b = np.full((K, 5), np.iinfo(b_dtype).min or 255, b_dtype)
        result = int8_matmul(a, b, backend="numkong")
        np.testing.assert_array_equal(result, int8_matmul_by_definition(a, b))
    rng = np.random.default_rng(0)
    a, b = random_codes(rng, (511, 600), a_dtype), random_codes(rng, (600, 300), b_dtype)
    np.testing.assert_array_equal(int8_matmul(a, b, backend="numkong"), int8_matmul(a, b, backend="numpy"))


@pytest.mark.parametrize("few_rows", (True, False))
def test_auto_chooses_in_50_ms(few_rows):
    pytest.importorskip("numkong")
    matmul_native._numkong_is_faster.cache_clear()
    start = time.thread_time()  # without what a busy machine gives to others
    matmul_native._numkong_is_faster(few_rows)
    assert time.thread_time() - start < 0.05


@pytest.mark.parametrize("shape", ((32, 1032, 64), (65, 784, 40)))
def test_torch_int_mm(shape):
    torch = pytest.importorskip("torch")
    M, K, N = shape
    rng = np.random.default_rng(K)
    a, b = random_codes(rng, (M, K), np.int8), random_codes(rng, (K, N), np.int8)
    theirs = torch._int_mm(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_array_equal(int8_matmul(a, pack(b)), theirs)


@pytest.mark.parametrize("a_dtype, b_dtype", [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)])
@pytest.mark.parametrize("shape", SHAPES)
def test_onnx_runtime_matmul_integer(a_dtype, b_dtype, shape):
    M, K, N = shape
    rng = np.random.default_rng(K)
    a, b = random_codes(rng, (M, K), a_dtype), random_codes(rng, (K, N), b_dtype)
    a_zero, b_zero = random_codes(rng, (), a_dtype), random_codes(rng, N, b_dtype)
    theirs = run_node("MatMulInteger", a, b=b, a_zero_point=a_zero, b_zero_point=b_zero)
    np.testing.assert_array_equal(int8_matmul(a, b, a_zero_point=a_zero, b_zero_point=b_zero), theirs)


def test_onnx_runtime_saturates_in_pairs_or_not_at_all():
    """The trap: uint8 codes by int8 weights, as it runs by default. Without VNNI two products meet in 16 bits."""
    a, b = np.full((64, 784), 255, np.uint8), np.full((784, 30), 127, np.int8)
    right, saturated = 784 * 255 * 127, 784 // 2 * (2**15 - 1)
    assert np.all(run_node("MatMulInteger", a, b=b) == right)
    assert set(np.unique(run_node("MatMulInteger", a, exact=False, b=b))) <= {right, saturated}


@pytest.mark.parametrize("scales", ((0.1, 0.02, 0.1), (0.3, 0.1, 0.6), (0.07, 0.03, 0.21)))
def test_onnx_runtime_qlinear_matmul(scales):
    rng = np.random.default_rng(0)
    a, b = (
        random_codes(rng, (200, 3), np.uint8),
        rng.integers(-9, 10, (3, 300)).astype(np.int8),
    )  # small sums: many ties
    sx, sw, sy = map(np.float32, scales)
    grids = {"sx": sx, "zx": np.uint8(7), "b": b, "sw": sw, "zw": np.int8(0), "sy": sy, "zy": np.uint8(99)}
    acc = int8_matmul(a, b, a_zero_point=7)
    ours = requantize(acc, (sx * sw) / sy, 99, out_dtype=np.uint8)
    np.testing.assert_array_equal(ours, run_node("QLinearMatMul", a, **grids))
