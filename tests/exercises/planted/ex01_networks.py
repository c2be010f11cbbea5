"""Bugs planted into the solutions of chapter 01: what it is, the text of the function, and what takes its place."""

BUGS = {
    "relu_backward": [
        ("positive from an epsilon on", "x > 0", "x > 1e-8"),
        ("float64", "grad_y * (x > 0)", "np.where(x > 0, grad_y, np.zeros(x.shape))"),
    ],
    "linear_backward": [
        ("one number for all biases", "grad_y.sum(axis=0)", "np.full(len(weight), grad_y.sum())"),
        ("float64", "grad_y @ weight", "grad_y @ weight.astype(np.float64)"),
    ],
    "numerical_gradient": [
        ("a step of its own", "value + epsilon", "value + 1e-6"),
        ("a sum over the images", "(2 * epsilon)", "(2 * epsilon) * len(x)"),
    ],
    "max_pool2d": [
        (
            "a window for what is left",
            "    windows =",
            "    x = np.pad(x, ((0, 0), (0, 0), (0, -H % size), (0, -W % size)), "
            "constant_values=-np.inf)\n"
            "    H_out, W_out = x.shape[2] // size, x.shape[3] // size\n"
            "    windows =",
        )
    ],
    "conv2d": [
        ("no padding", "stride, padding)", "stride, 0)"),
        (
            "one window less",
            "y.transpose(0, 3, 1, 2)",
            "y.transpose(0, 3, 1, 2)[:, :, : (x.shape[2] + 2 * padding - k) // stride or 1]",
        ),
    ],
    "sgd_momentum": [
        ("float64", "weight - rate * velocity, velocity", "weight - np.array([rate]) * velocity, velocity")
    ],
}
