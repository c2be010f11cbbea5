"""nnzip.book.conventions against PyTorch and GGUF, bit for bit, on input full of ties.

ONNX Runtime's is `quantize` (test_conventions.py), which is held to it in test_quantization_oracles.py.
"""

import warnings

import numpy as np
import pytest
from test_quantization_oracles import ties_and_noise

from nnzip.book import conventions

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("scale", (0.5, 0.1, 0.07, 0.0123, 3.0))
@pytest.mark.parametrize("zero_point", (0, 3, 128, 255))
def test_torch(scale, zero_point):
    torch = pytest.importorskip("torch")
    x = ties_and_noise(scale, -300, 300)
    fake = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), scale, zero_point, 0, 255).numpy()
    ours = (conventions.torch_fake_quantize(x, scale, zero_point) - zero_point).astype(np.float32) * np.float32(scale)
    np.testing.assert_array_equal(ours, fake)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantize_per_tensor is deprecated
        codes = torch.quantize_per_tensor(torch.from_numpy(x), scale, zero_point, torch.quint8).int_repr().numpy()
    np.testing.assert_array_equal(conventions.torch_quantize_per_tensor(x, scale, zero_point), codes)


def test_gguf():
    gguf = pytest.importorskip("gguf")
    blocks = np.random.default_rng(0).normal(size=(500, 32)).astype(np.float32)
    blocks[:, 0] = 127 * 0.25  # the largest of each block, so the scale is 0.25 and the halves below are ties
    blocks[:, 1:9] = (np.arange(8) + 0.5) * 0.25 * np.array([1, -1] * 4)
    packed = gguf.quants.quantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    codes = packed.reshape(500, 34)[:, 2:].view(np.int8)  # after the two bytes of the scale
    np.testing.assert_array_equal(conventions.gguf_q8_0(blocks, 0.25, 0), codes)
