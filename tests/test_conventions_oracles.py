"""nnzip.book.conventions against the toolkits themselves, bit for bit, on input full of ties."""

import warnings

import numpy as np
import pytest

from nnzip.book import conventions

pytestmark = pytest.mark.oracle

SCALES = (0.5, 0.1, 0.07, 0.0123, 3.0)
ZERO_POINTS = (0, 3, 128, 255)


def tie_heavy(scale):
    """Return float32 values of which half lie within an ulp or two of a tie of the grid."""
    rng = np.random.default_rng(0)
    ties = ((rng.integers(-300, 300, 5000) + 0.5) * np.float32(scale)).astype(np.float32)
    return np.concatenate([ties, rng.normal(0, 100 * scale, 5000).astype(np.float32)])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero_point", ZERO_POINTS)
def test_torch(scale, zero_point):
    torch = pytest.importorskip("torch")
    x = tie_heavy(scale)
    fake = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), scale, zero_point, 0, 255).numpy()
    ours = (conventions.torch_fake_quantize(x, scale, zero_point) - zero_point).astype(np.float32) * np.float32(scale)
    np.testing.assert_array_equal(ours, fake)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantize_per_tensor is deprecated
        codes = torch.quantize_per_tensor(torch.from_numpy(x), scale, zero_point, torch.quint8).int_repr().numpy()
    np.testing.assert_array_equal(conventions.torch_quantize_per_tensor(x, scale, zero_point), codes)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero_point", ZERO_POINTS)
def test_onnx_runtime(scale, zero_point):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    helper, float32, uint8 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["codes"])],
        "quantize",
        [helper.make_tensor_value_info("x", float32, [None])],
        [helper.make_tensor_value_info("codes", uint8, [None])],
        [helper.make_tensor("scale", float32, [], [scale]), helper.make_tensor("zero_point", uint8, [], [zero_point])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = tie_heavy(scale)
    codes = session.run(None, {"x": x})[0]
    np.testing.assert_array_equal(conventions.onnx_quantize_linear(x, scale, zero_point), codes)


def test_gguf():
    gguf = pytest.importorskip("gguf")
    blocks = np.random.default_rng(0).normal(size=(500, 32)).astype(np.float32)
    blocks[:, 0] = 127 * 0.25  # the largest of each block, so the scale is 0.25 and the halves below are ties
    blocks[:, 1:9] = (np.arange(8) + 0.5) * 0.25 * np.array([1, -1] * 4)
    packed = gguf.quants.quantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    codes = packed.reshape(500, 34)[:, 2:].view(np.int8)  # after the two bytes of the scale
    np.testing.assert_array_equal(conventions.gguf_q8_0(blocks, 0.25, 0), codes)
