"""A call of every public function that DESIGNed checks, exercises and notebooks rely on: {module: {name: call}}.

What is called here stays where it is and keeps its positional signature. The calls are valid ones; tests/test_doors.py
spoils one argument of each at a time.
"""

import numpy as np

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 8))
X = RNG.normal(size=(20, 8))
BIAS = RNG.normal(size=4)
IMAGES = RNG.random((12, 1, 28, 28), np.float32)
LABELS = RNG.integers(0, 10, 12)
CODES = RNG.integers(-7, 8, (4, 8)).astype(np.int8)
BYTES = RNG.integers(0, 15, 200).astype(np.uint8)
MASK = np.arange(32).reshape(4, 8) % 3 == 0
LOGITS, TARGETS = RNG.normal(size=(6, 10)), RNG.integers(0, 10, 6)


def grid(**options):
    from nnzip.quantization import choose_qparams

    return choose_qparams(W, bits=4, axis=0, **options)


def network():
    from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
    from nnzip.nn.network import Network

    rng = np.random.default_rng(0)
    layers = [Conv2d(1, 3, 5, stride=2, rng=rng), MaxPool2d(2), Flatten()]
    return Network([*layers, Linear(108, 16, rng=rng), ReLU(), Linear(16, 10, rng=rng)])


def hessian():
    from nnzip.reconstruction import input_hessian

    return input_hessian(X)


def spread():  # keyword arguments of a schedule
    return {"begin_step": 0, "end_step": 10, "initial_sparsity": 0.0, "final_sparsity": 0.5}


TRAINING = {"epochs": 1, "batch_size": 6, "progress": False}
