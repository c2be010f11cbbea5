"""MNIST, embedded: 70,000 handwritten digits with their labels, and no download."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.data.idx import load_idx

FILE = Path(__file__).with_name("mnist.npz")
SOURCES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


class Mnist(NamedTuple):
    """What `load_mnist` returns."""

    train_images: np.ndarray  # [60000, 1, 28, 28] float32 in [0, 1]
    train_labels: np.ndarray  # [60000] int64 in 0..9
    test_images: np.ndarray  # [10000, 1, 28, 28] float32 in [0, 1]
    test_labels: np.ndarray  # [10000] int64 in 0..9


def load_mnist():
    """Return MNIST: images as raw / 255 and never standardized, so that rint(255 * image) is the raw pixel.

    The arrays are new at every call (220 MB): what one caller changes, no other sees. The raw pixels, a quarter
    of that, stay in memory, and only the first call decompresses them.

    Returns
    -------
    Mnist
        train_images (60000, 1, 28, 28) float32, train_labels (60000,) int64,
        test_images (10000, 1, 28, 28) float32, test_labels (10000,) int64

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998;
    nnzip/data/LICENSE says whose data it is.

    Examples
    --------
    >>> data = load_mnist()
    >>> data.train_images.shape, data.train_images.dtype, data.train_labels[:5].tolist()
    ((60000, 1, 28, 28), dtype('float32'), [5, 0, 4, 1, 9])
    """
    raw = raw_mnist()
    return Mnist(
        scale(raw["train_images"]),
        raw["train_labels"].astype(np.int64),
        scale(raw["test_images"]),
        raw["test_labels"].astype(np.int64),
    )


def scale(pixels):  # [N, 28, 28] uint8 -> [N, 1, 28, 28] float32
    return pixels[:, None] / np.float32(255)


@cache
def raw_mnist():  # shared by all callers, so never handed out as it is
    with np.load(FILE, allow_pickle=False) as npz:
        return {name: npz[name] for name in SOURCES}


def build_mnist(folder, path):
    """Make mnist.npz again from the four gzipped IDX files of the original; the same files give the same bytes.

    Raises FileNotFoundError where one of the four is missing, ValueError where one is damaged.
    """
    arrays = {name: load_idx(Path(folder) / file) for name, file in SOURCES.items()}
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)
