"""A call of every public function that checks, exercises and notebooks rely on: {module: {name: call}}.

What is called here stays where it is and keeps its positional signature. The calls are valid ones; tests/test_doors.py
spoils one argument of each at a time.
"""

import numpy as np

from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network
from nnzip.quantization import QuantParams

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


SCHEDULE = {"begin_step": 0, "end_step": 10, "initial_sparsity": 0.0, "final_sparsity": 0.5}
GRID = QuantParams(np.full(4, 0.5, np.float32), np.zeros(4, np.int32), 4, signed=True, axis=0)
HESSIAN = X.T @ X + np.eye(8)
MULTIPLIER = np.float32(0.01)
ACC = RNG.integers(-1000, 1000, (5, 4)).astype(np.int32)


RNG_NET = np.random.default_rng(0)
NETWORK = Network(
    [
        Conv2d(1, 3, 5, stride=2, rng=RNG_NET),  # [N, 3, 12, 12]
        MaxPool2d(2),
        Flatten(),
        Linear(108, 16, rng=RNG_NET),
        ReLU(),
        Linear(16, 10, rng=RNG_NET),
    ]
)
DATA = IMAGES, LABELS


def call(*args, **kwargs):
    return args, kwargs


CALLS = {
    "quantization": {
        "quantize": call(W, GRID),
        "dequantize": call(CODES, GRID),
        "fake_quantize": call(W, GRID),
        "round_to_integer": call(W, "half_even"),
        "choose_qparams": call(W, bits=4, symmetric=True, axis=0, method="mse"),
        "qparams_from_range": call(-1.0, 1.0, bits=8, symmetric=False),
        "mse": call(W, W + 0.1),
        "sqnr_db": call(W, W + 0.1),
    },
    "matmul": {
        "int8_matmul_by_definition": call(CODES, CODES.T, 1, 2),
        "matmul_as": call(CODES, CODES.T, np.int32),
        "int8_matmul": call(CODES, CODES.T, a_zero_point=1, b_zero_point=-2, backend="numpy"),
        "pack": call(CODES.T),
        "exact_depth": call(np.int8, CODES.T),
    },
    "requantization": {
        "requantize": call(ACC, MULTIPLIER, 3, out_dtype=np.uint8),
        "requantize_fixed_point": call(ACC, 2**30, 5, 3, out_dtype=np.uint8),
        "fixed_point_multiplier": call(0.01),
    },
    "hadamard": {
        "hadamard_matrix": call(12),
        "hadamard_transform": call(W, axis=-1),
        "transform_by_definition": call(W),
        "transform_by_butterfly": call(W),
        "random_signs": call(8, seed=0),
        "rotate": call(W, np.array([1, -1] * 4)),
        "unrotate": call(W, np.array([1, -1] * 4)),
        "incoherence": call(W),
        "factors": call(784),
        "largest_block": call(92),
        "additions": call(1024),
    },
    "pruning": {
        "threshold_mask": call(W, 0.5),
        "saliency_mask": call(W, 0.5),
        "magnitude_mask": call(W, 0.5),
        "global_masks": call([W, BIAS], 0.5),
        "global_magnitude_masks": call({"a": W, "b": BIAS}, 0.5),
        "n_m_mask": call(W, 2, 4),
        "block_mask": call(W, 0.5, block_size=(2, 4)),
        "magnitude": call(W),
        "taylor": call(W, W),
        "activation": call(W, X),
        "stability": call(W, X, RNG.normal(size=(3, 20, 4))),
        "obd": call(W, W**2),
        "gauss_newton_diag": call(X, RNG.normal(size=(3, 20, 4))),
        "polynomial_schedule": call(5, **SCHEDULE),
        "linear_schedule": call(5, **SCHEDULE),
    },
    "distillation": {
        "softmax": call(LOGITS, temperature=2.0),
        "log_softmax": call(LOGITS, temperature=2.0),
        "kl_divergence": call(LOGITS, LOGITS + 1, temperature=2.0),
        "distillation_loss": call(LOGITS, LOGITS + 1, TARGETS, temperature=4.0, alpha=0.5),
        "hint_loss": call(LOGITS, LOGITS + 1),
        "attention_loss": call(RNG.random((2, 3, 4, 4)), RNG.random((2, 5, 4, 4))),
    },
    "codebooks": {
        "assign": call(W, np.array([-1.0, 0.0, 1.0])),
        "look_up": call(np.array([0, 1, 1]), np.array([-1.0, 0.0])),
        "sum_by_cluster": call(W, np.zeros(W.shape, int), 2),
        "kmeans": call(W, 4),
        "lloyd_by_definition": call(W, np.array([-1.0, 1.0])),
        "optimal_codebook": call(W, 3),
        "power_of_two_codebook": call(W, bits=4),
        "binary": call(W, axis=0),
        "ternary": call(W, axis=0),
    },
    "coding": {
        "entropy": call(BYTES),
        "pack_bits": call(BYTES, 4),
        "unpack_bits": call(bytes(100), 4, 200),
        "huffman_lengths": call(np.array([5, 2, 1])),
        "canonical_codes": call(np.array([1, 2, 2])),
        "huffman_encode": call(BYTES),
        "encode": call(BYTES, alphabet=15),
        "relative_index": call(MASK, bits=3),
    },
    "reconstruction": {
        "input_hessian": call(X, damping=0.01),
        "damped": call(HESSIAN, 0.01),
        "output_error": call(W, W + 0.1, HESSIAN),
        "obd_prune": call(W, HESSIAN, 0.5),
        "obs_prune": call(W, HESSIAN, 0.5),
        "obs_saliency": call(W, HESSIAN),
        "refit": call(W, ~MASK, HESSIAN),
        "gptq": call(W, HESSIAN, GRID),
        "gptq_by_definition": call(W, HESSIAN, GRID),
        "fit_scales": call(W, HESSIAN, GRID),
        "adaround": call(W, HESSIAN, GRID, iterations=5),
        "best_rounding": call(W, HESSIAN, GRID),
    },
    "equalization": {
        "smoothquant_scales": call(X, W, alpha=0.5),
        "equalize": call(W, BIAS, W.T),
        "bias_correction": call(BIAS, X[:, :4], X[:, :4] + 0.1),
    },
    "nn.layers": {
        "conv2d_by_definition": call(IMAGES, NETWORK.layers[0].params["weight"], np.zeros(3), stride=2),
    },
    "nn.network": {
        "weights_of": call(NETWORK),
        "lenet_300_100": call(seed=0),
        "lenet_5": call(seed=0),
    },
    "nn.training": {
        "cross_entropy": call(LOGITS, TARGETS),
        "evaluate": call(NETWORK, IMAGES, LABELS),
        "cosine_decay": call(0.5),
        "linear_decay": call(0.5),
        "random_shift": call(IMAGES, np.random.default_rng(0)),
        "gradient_check": call(Linear(8, 4, rng=0), X),
    },
    "nn.zoo": {"trained": call("lenet_300_100", seed=0)},
    "compression.quantization": {
        "quantize_weights": call(NETWORK, bits=4),
        "quantize_activations": call(NETWORK, IMAGES, bits=8),
        "activation_qparams": call(NETWORK, IMAGES, bits=8),
        "round_weights_in_training": call(NETWORK, bits=4),
        "export_rounded": call(NETWORK),
    },
    "compression.hadamard": {
        "rotate_network": call(NETWORK, seed=0),
        "unrotate_network": call(NETWORK),
    },
    "compression.pruning": {
        "prune_network": call(NETWORK, 0.5, criterion="taylor", scope="network", data=DATA),
        "pruning_masks": call(NETWORK, 0.5, criterion="obd", data=DATA),
        "apply_masks": call(NETWORK, {}),
        "masks_of": call(NETWORK),
        "sparsity_of": call(NETWORK),
        "saliencies": call(NETWORK, "activation", data=DATA),
        "hessian_diagonals": call(NETWORK, IMAGES),
        "lottery_ticket": call(NETWORK, NETWORK, 0.5),
        "strongest_units": call(NETWORK, 0.5),
        "mask_units": call(NETWORK, {3: np.arange(16) % 2 == 0}),
        "remove_units": call(NETWORK, {3: np.arange(16) % 2 == 0}),
        "remove_dead_units": call(NETWORK),
    },
    "compression.distillation": {"repair": call(NETWORK, NETWORK, DATA, bits=4, epochs=1)},
    "compression.integer": {"integer_network": call(NETWORK, IMAGES)},
    "compression.qat": {
        "straight_through": call(W, GRID, W),
        "learned_step": call(W, 0.5, bits=4, signed=True),
        "learned_step_gradients": call(W, 0.5, W, bits=4, signed=True),
        "start_step": call(W, bits=4, signed=True),
        "rounded_in_training": call(NETWORK, IMAGES, weight_bits=4, activation_bits=4),
        "train_quantized": call(NETWORK, DATA, weight_bits=4, rate=0.01, epochs=1),
    },
    "compression.low_precision": {"round_to_float": call(W.astype(np.float32), "bfloat16")},
    "compression.reconstruction": {
        "reconstruct_weights": call(NETWORK, IMAGES, bits=4),
        "reconstruct_pruned": call(NETWORK, IMAGES, 0.5),
        "equalize_network": call(NETWORK),
        "smooth_network": call(NETWORK, IMAGES),
        "correct_biases": call(NETWORK, NETWORK, IMAGES),
    },
    "compression.mixed_precision": {
        "mixed_precision": call(NETWORK, IMAGES, bits=4),
        "sensitivities": call(NETWORK, IMAGES, [(4, 0.0), (8, 0.0)]),
    },
    "compression.search": {"pareto_front": call(np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0]]))},
}
