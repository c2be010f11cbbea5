"""Real data, embedded: MNIST, and a reader for any other set in the same file format (IDX)."""

from nnzip.data.mnist import Mnist, load_idx, load_mnist

__all__ = ["Mnist", "load_idx", "load_mnist"]
