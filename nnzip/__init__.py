"""nnzip: a book you can run, on how neural networks are made small, in NumPy alone."""

__version__ = "0.1.0"
