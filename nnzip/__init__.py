"""A book you can run: how neural networks are made small, in NumPy alone. The functions to start with, by chapter."""

from nnzip.codebooks import kmeans
from nnzip.coding import decode, encode
from nnzip.distillation import distillation_loss
from nnzip.hadamard import hadamard_transform, rotate
from nnzip.matmul import int8_matmul
from nnzip.pruning import magnitude_mask
from nnzip.quantization import choose_qparams, dequantize, quantize
from nnzip.reconstruction import gptq
from nnzip.requantization import requantize

__version__ = "0.1.0"
__all__ = [  # noqa: RUF022  in the chapters' order
    "choose_qparams",
    "quantize",
    "dequantize",
    "int8_matmul",
    "requantize",
    "hadamard_transform",
    "rotate",
    "magnitude_mask",
    "distillation_loss",
    "kmeans",
    "gptq",
    "encode",
    "decode",
]
