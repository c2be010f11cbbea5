"""Linear, Conv2d, ReLU, MaxPool2d and Flatten: forward and backward passes written by hand.

A layer has `forward(x) -> y`, `backward(grad_y) -> grad_x`, and two dicts of the same keys, `params` and `grads`
(empty for a layer without weights). `backward` belongs to the last `forward`: it fills `grads`, whose arrays are used
again by the next `backward`, and changes no weight.
Shapes are PyTorch's: Linear weight (out_features, in_features), Conv2d weight (out, in, kH, kW), images (N, C, H, W).

In memory a batch of feature maps lies as [H, C, W, N], the batch last; (N, C, H, W) is a transposed view of it. One
row of one channel is then a contiguous run of W * N numbers for the whole batch, which is what makes Conv2d fast.
"""

import numpy as np

from nnzip.checks import check_integer, check_ndim, check_not_empty


class Layer:
    """What all layers share: no parameters, and nothing remembered from the last forward pass."""

    def __init__(self):
        self.params = {}
        self.grads = {}
        self._seen = {}  # what backward needs of the last forward, and buffers worth reusing

    def __getstate__(self):  # copies and pickles carry the weights, not the last batch
        return {**self.__dict__, "grads": {}, "_seen": {}}

    def _recall(self, key):
        if key not in self._seen:
            raise ValueError(f"{type(self).__name__}.backward needs a forward pass first")
        return self._seen[key]

    def _buffer(self, key, shape, dtype):
        """Return an array that only this layer sees, the same one as long as the shape stays."""
        held = self._seen.get(key)
        if held is None or held.shape != shape or held.dtype != dtype:
            held = self._seen[key] = np.empty(shape, dtype)
        return held


class Linear(Layer):
    """y = x W^T + b.

    Parameters
    ----------
    in_features, out_features : int
    rng : numpy.random.Generator or seed, optional
        Draws the weights uniformly with variance 1 / in_features (LeCun et al. 1998, Efficient BackProp, eq. 16);
        biases start at 0.

    Notes
    -----
    In memory the weight lies as [in, out], of which (out, in) is a transposed view: BLAS multiplies that fastest.

    Examples
    --------
    >>> layer = Linear(3, 2)
    >>> layer.forward(np.ones((5, 3), np.float32)).shape
    (5, 2)
    """

    def __init__(self, in_features, out_features, *, rng=None):
        super().__init__()
        self.in_features = check_integer(in_features, "in_features", 1)
        self.out_features = check_integer(out_features, "out_features", 1)
        self.params["weight"] = np.asfortranarray(_uniform((out_features, in_features), in_features, rng))
        self.params["bias"] = np.zeros(out_features, np.float32)

    def forward(self, x):  # [N, in] -> [N, out]
        x = _float_input(x, self, 2)
        if x.shape[1] != self.in_features:
            raise ValueError(f"Linear takes x of shape (N, {self.in_features}), got {x.shape}")
        self._seen["x"] = x
        weight, bias = _as_dtype(self.params, x.dtype)
        y = x @ weight.T
        y += bias
        return y

    def backward(self, grad_y, *, input_gradient=True):  # [N, out] -> [N, in]
        x = self._recall("x")
        grad_y = _check_grad(grad_y, (len(x), self.out_features), self)
        grad_weight = self._buffer("grad_weight", (self.in_features, self.out_features), x.dtype)
        self.grads["weight"] = np.matmul(x.T, grad_y, out=grad_weight).T  # ([in, N] @ [N, out])^T
        self.grads["bias"] = grad_y.sum(axis=0)
        return grad_y @ _as_dtype(self.params, x.dtype)[0] if input_gradient else None

    def __repr__(self):
        return f"Linear({self.in_features}, {self.out_features})"


class Conv2d(Layer):
    """Cross-correlation of images with square filters, as `conv2d_by_definition` says it.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride : int
    padding : int
        Rows and columns of zeros on each side.
    rng : numpy.random.Generator or seed, optional
        Draws the weights uniformly with variance 1 / (in_channels * kernel_size ** 2); biases start at 0.

    Notes
    -----
    im2col (Chellapilla et al. 2006) copies every pixel k * k times. In the memory order [H, C, W, N] copying it k times
    is enough: the windows of one output row are k consecutive rows of that copy, a view that BLAS multiplies as it is.

    Examples
    --------
    >>> layer = Conv2d(1, 20, 5)
    >>> layer.forward(np.ones((8, 1, 28, 28), np.float32)).shape
    (8, 20, 24, 24)
    """

    def __init__(self, in_channels, out_channels, kernel_size, *, stride=1, padding=0, rng=None):
        super().__init__()
        self.in_channels = check_integer(in_channels, "in_channels", 1)
        self.out_channels = check_integer(out_channels, "out_channels", 1)
        self.kernel_size = k = check_integer(kernel_size, "kernel_size", 1)
        self.stride = check_integer(stride, "stride", 1)
        self.padding = check_integer(padding, "padding", 0)
        self.params["weight"] = _uniform((out_channels, in_channels, k, k), in_channels * k * k, rng)
        self.params["bias"] = np.zeros(out_channels, np.float32)

    def forward(self, x):  # [N, C, H, W] -> [N, O, H', W']
        x = _float_input(x, self, 4)
        N, C, H, W = x.shape
        k, s, p = self.kernel_size, self.stride, self.padding
        if C != self.in_channels or min(H, W) + 2 * p < k:
            raise ValueError(
                f"{self} takes x of shape (N, {self.in_channels}, H, W), H and W >= {k - 2 * p}, got {x.shape}"
            )
        H_out, W_out = (H + 2 * p - k) // s + 1, (W + 2 * p - k) // s + 1
        rows = self._buffer("rows", (H + 2 * p, C, k, W_out, N), x.dtype)
        padded = self._padded(x.transpose(2, 1, 3, 0))  # [H + 2p, C, W + 2p, N]
        for j in range(k):
            rows[:, :, j] = padded[:, :, j : j + s * W_out : s]
        windows = _row_windows(rows.reshape(H + 2 * p, C * k, W_out * N), H_out, k, s)  # [H', k C k, W' N]
        self._seen.update(x_shape=x.shape, windows=windows)
        weight, bias = _as_dtype(self.params, x.dtype)
        matrix = weight.transpose(0, 2, 1, 3).reshape(self.out_channels, k * C * k)  # [O, C, k, k] -> [O, k C k]
        y = matrix @ windows  # [H', O, W' N]
        y += bias[:, None]
        return y.reshape(H_out, self.out_channels, W_out, N).transpose(3, 1, 0, 2)

    def backward(self, grad_y, *, input_gradient=True):  # [N, O, H', W'] -> [N, C, H, W]
        windows, (N, C, H, W) = self._recall("windows"), self._recall("x_shape")
        k, O = self.kernel_size, self.out_channels
        H_out, W_out = len(windows), windows.shape[2] // N
        grad_y = _check_grad(grad_y, (N, O, H_out, W_out), self)
        grad = np.ascontiguousarray(grad_y.transpose(2, 1, 3, 0)).reshape(H_out, O, W_out * N)
        grad_matrix = (windows @ grad.transpose(0, 2, 1)).sum(axis=0)  # [H', k C k, O] -> [k C k, O]
        self.grads["weight"] = np.ascontiguousarray(grad_matrix.reshape(k, C, k, O).transpose(3, 1, 0, 2))
        self.grads["bias"] = grad.sum(axis=(0, 2))
        return self._input_gradient(grad.reshape(H_out, O, W_out, N), H, W) if input_gradient else None

    def _input_gradient(self, grad, H, W):  # [H', O, W', N] -> [N, C, H, W]
        """Collect, for each row of the input, what the output rows it took part in send back to it."""
        H_out, _, W_out, N = grad.shape
        C, k, s, p = self.in_channels, self.kernel_size, self.stride, self.padding
        weight = _as_dtype(self.params, grad.dtype)[0]
        kernel = np.ascontiguousarray(weight[:, :, ::-1].transpose(1, 3, 2, 0))  # [C, v, u from last to first, O]
        grad_rows = np.zeros((H, C * k, W_out * N), grad.dtype)
        for row in range(p, p + H):  # of the padded input
            first, last = max(0, (row - k) // s + 1), min(H_out - 1, row // s)  # the output rows it took part in
            if first <= last:
                u = k - 1 - (row - s * first)
                taps = kernel[:, :, u::s][:, :, : last - first + 1].reshape(C * k, -1)  # [C k, rows O]
                np.matmul(taps, grad[first : last + 1].reshape(-1, W_out * N), out=grad_rows[row - p])
        grad_rows = grad_rows.reshape(H, C, k, W_out, N)
        grad_x = np.zeros((H, C, W + 2 * p, N), grad.dtype)
        for j in range(k):
            grad_x[:, :, j : j + s * W_out : s] += grad_rows[:, :, j]
        return grad_x[:, :, p : p + W].transpose(3, 1, 0, 2)

    def _padded(self, x):  # [H, C, W, N] -> [H + 2p, C, W + 2p, N]
        p = self.padding
        return np.pad(x, ((p, p), (0, 0), (p, p), (0, 0))) if p else x

    def __repr__(self):
        extra = f", stride={self.stride}" * (self.stride != 1) + f", padding={self.padding}" * (self.padding != 0)
        return f"Conv2d({self.in_channels}, {self.out_channels}, {self.kernel_size}{extra})"


def conv2d_by_definition(x, weight, bias, *, stride=1, padding=0):  # [N, C, H, W], [O, C, k, k], [O] -> [N, O, H', W']
    """Return the convolution as its definition reads: one window, one output column of the batch, at a time.

    y[n, o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] * x[n, c, s i + u - p, s j + v - p], with x zero
    outside the image (Goodfellow, Bengio and Courville 2016, Deep Learning, eq. 9.6).
    """
    k, s, p = weight.shape[-1], stride, padding
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    H_out, W_out = (x.shape[2] - k) // s + 1, (x.shape[3] - k) // s + 1
    y = np.empty((len(x), len(weight), H_out, W_out), x.dtype)
    for i in range(H_out):
        for j in range(W_out):
            window = x[:, :, s * i : s * i + k, s * j : s * j + k]  # [N, C, k, k]
            y[:, :, i, j] = np.einsum("nckl,ockl->no", window, weight) + bias
    return y


class ReLU(Layer):
    """y = max(x, 0); at 0 the gradient is 0.

    Examples
    --------
    >>> ReLU().forward(np.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    """

    def forward(self, x):
        y = np.maximum(_float_input(x, self, None), 0)
        self._seen["y"] = y
        return y

    def backward(self, grad_y, *, input_gradient=True):
        y = self._recall("y")
        return _check_grad(grad_y, y.shape, self) * (y > 0)

    def __repr__(self):
        return "ReLU()"


class MaxPool2d(Layer):
    """The largest of each size x size window; stride = size, what does not fill a window is left out (floor).

    The first maximum of a window, row by row, takes the gradient.

    Examples
    --------
    >>> MaxPool2d(2).forward(np.arange(25.0).reshape(1, 1, 5, 5)).tolist()
    [[[[6.0, 8.0], [16.0, 18.0]]]]
    """

    def __init__(self, size):
        super().__init__()
        self.size = check_integer(size, "size", 1)

    def forward(self, x):  # [N, C, H, W] -> [N, C, H // size, W // size]
        x = _float_input(x, self, 4)
        if min(x.shape[2:]) < self.size:
            raise ValueError(f"{self} takes x of shape (N, C, H, W), H and W >= {self.size}, got {x.shape}")
        columns = _phases(x, self.size, 3)  # the maximum along each row of a window ...
        row_max = _running_maximum(columns)
        rows = _phases(row_max, self.size, 2)  # ... then along the column of those
        y = _running_maximum(rows)
        self._seen.update(x=x, row_max=row_max, y=y)
        return y

    def backward(self, grad_y, *, input_gradient=True):
        x, row_max, y = self._recall("x"), self._recall("row_max"), self._recall("y")
        grad_y = _check_grad(grad_y, y.shape, self)
        k = self.size
        grad_x = np.zeros_like(x) if x.shape[2] % k or x.shape[3] % k else np.empty_like(x)
        for i in range(y.shape[2]):  # a row of windows at a time: it stays in the cache
            out, rows = np.s_[:, :, i : i + 1], np.s_[:, :, k * i : k * (i + 1)]
            grad_row_max = np.empty_like(row_max[rows])
            _route_to_first_maximum(grad_y[out], row_max[rows], y[out], k, 2, out=grad_row_max)
            _route_to_first_maximum(grad_row_max, x[rows], row_max[rows], k, 3, out=grad_x[rows])
        return grad_x

    def __repr__(self):
        return f"MaxPool2d({self.size})"


class Flatten(Layer):
    """(N, C, H, W) -> (N, C * H * W), the way back in `backward`.

    Examples
    --------
    >>> Flatten().forward(np.zeros((8, 50, 4, 4))).shape
    (8, 800)
    """

    def forward(self, x):
        x = _float_input(x, self, None)
        self._seen["x"] = x
        return x.reshape(len(x), -1)

    def backward(self, grad_y, *, input_gradient=True):
        x = self._recall("x")
        grad_y = _check_grad(grad_y, (len(x), x[0].size), self)
        grad_x = np.empty_like(x, dtype=grad_y.dtype)  # in the memory order of x: the layer before goes on in it
        grad_x[...] = grad_y.reshape(x.shape)
        return grad_x

    def __repr__(self):
        return "Flatten()"


def windows(x, layer):  # [N, C, H, W] -> [N, H' W', C k k]
    """Return what each place of a convolution's output is computed from, in the order of a row of its weight."""
    k, s, p = layer.kernel_size, layer.stride, layer.padding
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    view = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::s, ::s]  # [N, C, H', W', k, k]
    N, C, H, W = view.shape[:4]
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(N, H * W, C * k * k)


def _uniform(shape, fan_in, rng):
    """Draw float32 weights from U(-a, a), a = sqrt(3 / fan_in), so that their variance is 1 / fan_in."""
    limit = np.sqrt(3 / fan_in)
    return np.random.default_rng(rng).uniform(-limit, limit, shape).astype(np.float32)


def _float_input(x, layer, ndim):
    x = np.asarray(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{layer} takes a float array, got dtype {x.dtype}")
    check_ndim(x, f"the input of {layer}", ndim)
    check_not_empty(x, f"the input of {layer}")
    return x


def _check_grad(grad_y, shape, layer):
    grad_y = np.asarray(grad_y)
    if grad_y.dtype.kind != "f":
        raise TypeError(f"the gradient at {layer} must be a float array, got dtype {grad_y.dtype}")
    if grad_y.shape != shape:
        raise ValueError(f"the gradient at {layer} must have the output's shape {shape}, got {grad_y.shape}")
    return grad_y


def _as_dtype(params, dtype):
    """Return weight and bias in the input's float type, so that the layer keeps it."""
    return params["weight"].astype(dtype, copy=False), params["bias"].astype(dtype, copy=False)


def _row_windows(rows, count, k, stride):  # [H, R, M] -> [count, k R, M]
    """View k consecutive rows as one matrix, every `stride` rows: windows[i] = rows[i s : i s + k], nothing copied."""
    H, R, M = rows.shape
    step_h, step_r, step_m = rows.strides
    return np.lib.stride_tricks.as_strided(rows, (count, k * R, M), (stride * step_h, step_r, step_m), writeable=False)


def _phases(x, size, axis):
    """Return the `size` slices that together make the windows along an axis: x[0::size], x[1::size], ..."""
    whole = x.shape[axis] // size * size
    return [x[(slice(None),) * axis + (slice(start, whole, size),)] for start in range(size)]


def _running_maximum(slices):
    y = slices[0].copy() if len(slices) == 1 else np.maximum(slices[0], slices[1])
    for part in slices[2:]:
        np.maximum(y, part, out=y)
    return y


def _route_to_first_maximum(grad_y, x, y, size, axis, *, out):
    """Hand each window's gradient to its first maximum along the axis; the last slice takes what is left."""
    *slices, _ = _phases(x, size, axis)
    *grads, left = _phases(out, size, axis)
    if not slices:
        left[...] = grad_y
    for part, grad_part in zip(slices, grads, strict=True):
        np.multiply(grad_y, part == y, out=grad_part)
        grad_y = np.subtract(grad_y, grad_part, out=left)
