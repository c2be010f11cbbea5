"""nnzip.book.conventions: what each toolkit gives for numbers worked out by hand."""

import numpy as np
import pytest

from nnzip.book import conventions
from nnzip.quantization import QuantParams, quantize

# x / scale is -1.5, -0.5, 0.5, 1.5, 2.5, 3.5: all ties. The zero point is odd, so adding it first flips their parity.
TIES = np.array([-0.75, -0.25, 0.25, 0.75, 1.25, 1.75], np.float32)
BY_HAND = {
    "ONNX QuantizeLinear": [1, 3, 3, 5, 5, 7],  # -2, 0, 0, 2, 2, 4, then + 3
    "torch.fake_quantize": [1, 3, 3, 5, 5, 7],
    "torch.quantize_per_tensor": [2, 2, 4, 4, 6, 6],  # 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, each to even
    "TensorFlow Lite": [1, 2, 4, 5, 6, 7],  # -2, -1, 1, 2, 3, 4, then + 3
    "GGUF Q8_0": [-2, -1, 1, 2, 3, 4],
}


@pytest.mark.parametrize("name", conventions.CONVENTIONS)
def test_ties_go_where_the_toolkit_sends_them(name):
    assert conventions.CONVENTIONS[name](TIES, 0.5, 3).tolist() == BY_HAND[name]


@pytest.mark.parametrize("scale", [0.5, 0.1, 0.07, 0.0123, 3.0])
def test_nnzip_rounds_as_onnx_does(scale):
    steps = np.append(np.arange(-300, 300) + 0.5, np.random.default_rng(0).normal(0, 100, 1000))
    x = (steps * np.float32(scale)).astype(np.float32)
    codes = quantize(x, QuantParams(scale, zero_point=101, bits=8, signed=False))
    np.testing.assert_array_equal(codes, conventions.onnx_quantize_linear(x, scale, 101))


def test_a_reciprocal_rounds_another_way_where_the_quotient_is_a_tie():
    x = np.array([0.105], np.float32)  # 0.105 / 0.07 is 1.5 in float32, 0.105 * (1 / 0.07) is just below
    assert conventions.onnx_quantize_linear(x, 0.07, 0).item() == 2
    assert conventions.torch_fake_quantize(x, 0.07, 0).item() == 1
