"""Who rounds how: the arithmetic by which well-known toolkits turn a float into an integer code, each in one line.

Each function takes float32 values, a scale and a zero point and returns codes as floats, of uint8 (GGUF: of int8,
without a zero point). The oracle tests hold them to their toolkits bit for bit, but for TensorFlow Lite, whose line is
read from the source of its reference kernel.
"""

import numpy as np

from nnzip.quantization import round_to_integer


def onnx_quantize_linear(x, scale, zero_point):
    """ONNX QuantizeLinear and ONNX Runtime: divide, round half to even, then add."""
    return np.clip(np.rint(x / np.float32(scale)) + zero_point, 0, 255)


def torch_fake_quantize(x, scale, zero_point):
    """torch.fake_quantize_per_tensor_affine: multiply by the reciprocal, round half to even, then add."""
    return np.clip(np.rint(x * (np.float32(1) / np.float32(scale))) + zero_point, 0, 255)


def torch_quantize_per_tensor(x, scale, zero_point):
    """torch.quantize_per_tensor: add the zero point first, then round, once: a tie goes by the parity of the sum."""
    steps = x * np.float64(np.float32(1) / np.float32(scale)) + zero_point  # one fused multiply-add, rounded once
    return np.clip(np.rint(steps.astype(np.float32)), 0, 255)


def tflite_quantize(x, scale, zero_point):
    """TensorFlow Lite's reference kernel: divide, round half away from zero (C's `round`), then add."""
    return np.clip(round_to_integer(x / np.float32(scale), "half_away") + zero_point, 0, 255)


def gguf_q8_0(x, scale, zero_point):
    """GGUF Q8_0 (llama.cpp): multiply by the reciprocal, round half away from zero; symmetric, no zero point."""
    return round_to_integer(x * (np.float32(1) / np.float32(scale)), "half_away")


CONVENTIONS = {
    "ONNX QuantizeLinear": onnx_quantize_linear,
    "torch.fake_quantize": torch_fake_quantize,
    "torch.quantize_per_tensor": torch_quantize_per_tensor,
    "TensorFlow Lite": tflite_quantize,
    "GGUF Q8_0": gguf_q8_0,
}
