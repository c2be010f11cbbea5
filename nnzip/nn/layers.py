"""Linear, Conv2d, ReLU, MaxPool2d and Flatten: forward and backward passes written by hand (chapter 01).

A layer has `forward(x) -> y`, `backward(grad_y) -> grad_x`, and two dicts of the same keys, `params` and `grads`
(empty for a layer without weights). `backward` belongs to the last `forward`: it fills `grads` and changes no weight.
Shapes are PyTorch's: Linear weight (out_features, in_features), Conv2d weight (out, in, kH, kW), images (N, C, H, W).

The functions `*_by_definition` say what Conv2d and MaxPool2d compute; the layers compute the same faster. For that a
batch of feature maps lies in memory as [H, C, W, N], the batch last, and (N, C, H, W) is a transposed view of it: one
row of one channel is then a contiguous run of W * N numbers for the whole batch.
"""

import numpy as np

from nnzip.checks import check_array, door, whole


class Seen(dict):
    """What backward needs of the last forward."""

    def __missing__(self, name):
        raise ValueError(f"backward needs a forward pass first: there is no {name}")


class Layer:
    """What all layers share: no parameters, and nothing remembered from the last forward pass."""

    def __init__(self):
        self.params, self.grads, self.seen = {}, {}, Seen()

    def __getstate__(self):  # copies and pickles carry the weights, not the last batch
        return {**self.__dict__, "grads": {}, "seen": Seen()}

    def __repr__(self):
        sizes = [str(value) for value in vars(self).values() if isinstance(value, int)]
        return f"{type(self).__name__}({', '.join(sizes)})"


class Linear(Layer):
    """y = x W^T + b.

    Weights are drawn by `rng`, a generator or a seed, uniformly with variance 1 / in_features (LeCun et al. 1998,
    Efficient BackProp, eq. 16); biases start at 0. In memory the weight lies as [in, out], of which (out, in) is a
    transposed view: BLAS multiplies that fastest.

    >>> layer = Linear(3, 2)
    >>> layer.forward(np.ones((5, 3), np.float32)).shape
    (5, 2)
    """

    @door
    def __init__(self, in_features: whole(1), out_features: whole(1), *, rng=None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.params["weight"] = np.asfortranarray(_uniform((out_features, in_features), in_features, rng))
        self.params["bias"] = np.zeros(out_features, np.float32)

    def forward(self, x):  # [N, in] -> [N, out]
        self.seen["x"] = x = _input(self, x, 2, self.in_features)
        y = x @ self.params["weight"].T
        y += self.params["bias"]
        return y

    def backward(self, grad_y, *, input_gradient=True):  # [N, out] -> [N, in]
        x = self.seen["x"]
        grad_y = _gradient(self, grad_y, (len(x), self.out_features))
        self.grads["weight"] = (x.T @ grad_y).T  # ([in, N] @ [N, out])^T
        self.grads["bias"] = grad_y.sum(axis=0)
        return grad_y @ self.params["weight"] if input_gradient else None


class ReLU(Layer):
    """y = max(x, 0); at 0 the gradient is 0."""

    def forward(self, x):
        self.seen["y"] = y = np.maximum(_input(self, x), 0)
        return y

    def backward(self, grad_y, *, input_gradient=True):
        y = self.seen["y"]
        return _gradient(self, grad_y, y.shape) * (y > 0)


class Flatten(Layer):
    """(N, C, H, W) -> (N, C * H * W), the way back in `backward`."""

    def forward(self, x):
        self.seen["x"] = x = _input(self, x)
        return x.reshape(len(x), -1)

    def backward(self, grad_y, *, input_gradient=True):
        x = self.seen["x"]
        grad_y = _gradient(self, grad_y, (len(x), x[0].size))
        return np.full_like(x, grad_y.reshape(x.shape), dtype=grad_y.dtype)  # in x's memory order, as the layer before


# Convolution and max pooling, as their definitions read


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
            y[:, :, i, j] = np.einsum("ncuv,ocuv->no", window, weight) + bias
    return y


def conv2d_backward_by_definition(x, weight, grad_y, *, stride=1, padding=0):
    """Return (grad_x, grad_weight, grad_bias): a linear layer's, with the windows as its input.

    Shapes: [N, C, H, W], [O, C, k, k], [N, O, H', W'] -> those of x, of weight, and [O].
    """
    k, how = weight.shape[-1], {"stride": stride, "padding": padding}
    rows = windows(x, k, **how)  # [N, H' W', C k k]
    grad = grad_y.reshape(*grad_y.shape[:2], -1).transpose(0, 2, 1)  # [N, H' W', O]
    grad_weight = np.tensordot(grad, rows, axes=((0, 1), (0, 1)))  # [O, C k k], summed over images and places
    grad_rows = grad @ weight.reshape(len(weight), -1)  # [N, H' W', C k k]
    return col2im(grad_rows, x.shape, k, **how), grad_weight.reshape(weight.shape), grad.sum(axis=(0, 1))


def max_pool2d_backward_by_definition(x, grad_y, size):  # [N, C, H, W], [N, C, H', W'] -> [N, C, H, W]
    """Return the gradient at x: each window hands its own to its largest pixel, the first of several equal ones."""
    N, C, H_out, W_out = grad_y.shape
    rows = windows(x, size, stride=size).reshape(N, H_out * W_out, C, size * size)
    first = rows.argmax(axis=-1)  # [N, H' W', C]
    grad_rows = np.zeros_like(rows)
    grad = grad_y.reshape(N, C, -1).transpose(0, 2, 1)
    np.put_along_axis(grad_rows, first[..., None], grad[..., None], axis=-1)
    return col2im(grad_rows, x.shape, size, stride=size)


def windows(x, kernel_size, *, stride=1, padding=0):  # [N, C, H, W] -> [N, H' W', C k k]
    """Return what each place of the output is computed from (im2col), in the order of a row of the weight."""
    k, s, p = kernel_size, stride, padding
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    view = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::s, ::s]  # [N, C, H', W', k, k]
    N, C, H_out, W_out = view.shape[:4]
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(N, H_out * W_out, C * k * k)


def rows_of(layer, x):  # -> [N, in], or of a Conv2d [N, places, in]
    """Return what a Linear or Conv2d multiplies its weights by."""
    if isinstance(layer, Linear):
        return x
    return windows(x, layer.kernel_size, stride=layer.stride, padding=layer.padding)


def col2im(rows, shape, kernel_size, *, stride=1, padding=0):  # [N, H' W', C k k] -> [N, C, H, W], the shape
    """Add each window back to the pixels that it was taken from; where windows overlap, pixels get several parts."""
    (N, C, H, W), k, s, p = shape, kernel_size, stride, padding
    H_out, W_out = (H + 2 * p - k) // s + 1, (W + 2 * p - k) // s + 1
    rows = rows.reshape(N, H_out, W_out, C, k, k).transpose(0, 3, 1, 2, 4, 5)  # [N, C, H', W', k, k]
    x = np.zeros((N, C, H + 2 * p, W + 2 * p), rows.dtype)
    for u in range(k):
        for v in range(k):
            x[:, :, u : u + s * H_out : s, v : v + s * W_out : s] += rows[..., u, v]
    return x[:, :, p : p + H, p : p + W]


# The same, fast


class Conv2d(Layer):
    """Cross-correlation of images with square filters, as `conv2d_by_definition` says it.

    `padding` counts the rows and columns of zeros on each side. Weights are drawn as Linear's, with variance
    1 / (in_channels * kernel_size ** 2); biases start at 0.

    im2col (Chellapilla et al. 2006) copies every pixel k * k times. In the memory order [H, C, W, N] copying it k times
    is enough: the windows of one output row are k consecutive rows of that copy, a view that BLAS multiplies as it is.
    The copy's memory is used again by the next batch of the same shape.

    >>> layer = Conv2d(1, 20, 5)
    >>> layer.forward(np.ones((8, 1, 28, 28), np.float32)).shape
    (8, 20, 24, 24)
    """

    @door
    def __init__(
        self,
        in_channels: whole(1),
        out_channels: whole(1),
        kernel_size: whole(1),
        *,
        stride: whole(1) = 1,
        padding: whole(0) = 0,
        rng=None,
    ):
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding = stride, padding
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.params["weight"] = _uniform(shape, in_channels * kernel_size**2, rng)
        self.params["bias"] = np.zeros(out_channels, np.float32)

    def forward(self, x):  # [N, C, H, W] -> [N, O, H', W']
        y = self.products(x)
        y += self.params["bias"][:, None, None]
        return y

    def products(self, x):  # [N, C, H, W] -> [N, O, H', W'], a view of new memory
        """Return what `forward` returns, before the bias is added."""
        k, s, p = self.kernel_size, self.stride, self.padding
        x = _input(self, x, 4, self.in_channels, k - 2 * p)
        N, C, H, W = x.shape
        H_out, W_out = (H + 2 * p - k) // s + 1, (W + 2 * p - k) // s + 1
        shape, rows = (H + 2 * p, C, k, W_out, N), self.seen.pop("rows", None)  # taken, so that no other thread has it
        if rows is None or rows.shape != shape or rows.dtype != x.dtype:
            rows = np.empty(shape, x.dtype)
        padded = np.ascontiguousarray(x.transpose(2, 1, 3, 0))
        if p:
            padded = np.pad(padded, ((p, p), (0, 0), (p, p), (0, 0)))  # [H + 2p, C, W + 2p, N]
        for v in range(k):
            rows[:, :, v] = padded[:, :, v : v + s * W_out : s]
        view = np.lib.stride_tricks.sliding_window_view(rows, k, axis=0)[::s]  # [H', C, v, W', N, u], nothing copied
        windows = np.moveaxis(view, -1, 1).reshape(H_out, k * C * k, W_out * N)
        weight = self.params["weight"]
        y = weight.transpose(0, 2, 1, 3).reshape(len(weight), -1) @ windows  # [O, k C k] @ [H', k C k, W' N]
        self.seen.update(x_shape=x.shape, rows=rows, windows=windows)
        return y.reshape(H_out, len(weight), W_out, N).transpose(3, 1, 0, 2)

    def backward(self, grad_y, *, input_gradient=True):  # [N, O, H', W'] -> [N, C, H, W]
        windows, (N, C, H, W) = self.seen["windows"], self.seen["x_shape"]
        k, O = self.kernel_size, self.out_channels
        H_out, W_out = len(windows), windows.shape[2] // N
        grad_y = _gradient(self, grad_y, (N, O, H_out, W_out))
        grad = np.ascontiguousarray(grad_y.transpose(2, 1, 3, 0)).reshape(H_out, O, W_out * N)
        grad_matrix = (windows @ grad.transpose(0, 2, 1)).sum(axis=0)  # [H', k C k, O] -> [k C k, O]
        self.grads["weight"] = np.ascontiguousarray(grad_matrix.reshape(k, C, k, O).transpose(3, 1, 0, 2))
        self.grads["bias"] = grad.sum(axis=(0, 2))
        return self._input_gradient(grad.reshape(H_out, O, W_out, N), H, W) if input_gradient else None

    def _input_gradient(self, grad, H, W):  # [H', O, W', N] -> [N, C, H, W]
        """Collect, for each row of the input, what the output rows it took part in send back to it."""
        H_out, _, W_out, N = grad.shape
        C, k, s, p = self.in_channels, self.kernel_size, self.stride, self.padding
        weight = self.params["weight"]
        kernel = np.ascontiguousarray(weight[:, :, ::-1].transpose(1, 3, 2, 0))  # [C, v, u from last to first, O]
        grad_x = np.zeros((H, C, W + 2 * p, N), grad.dtype)
        for row in range(p, p + H):  # of the padded input
            took = range(max(0, (row - k) // s + 1), min(H_out, row // s + 1))  # the output rows it took part in
            u = row - s * took.start  # the row of the filter that the first of them saw it with
            taps = kernel[:, :, k - 1 - u :: s][:, :, : len(took)].reshape(C * k, -1)  # [C k, rows O]
            parts = (taps @ grad[took.start : took.stop].reshape(-1, W_out * N)).reshape(C, k, W_out, N)
            for v in range(k):
                grad_x[row - p, :, v : v + s * W_out : s] += parts[:, v]
        return grad_x[:, :, p : p + W].transpose(3, 1, 0, 2)

    def __repr__(self):
        extra = f", stride={self.stride}" * (self.stride != 1) + f", padding={self.padding}" * (self.padding != 0)
        return f"Conv2d({self.in_channels}, {self.out_channels}, {self.kernel_size}{extra})"


class MaxPool2d(Layer):
    """The largest of each size x size window; stride = size, what does not fill a window is left out (floor).

    >>> MaxPool2d(2).forward(np.arange(25.0).reshape(1, 1, 5, 5)).tolist()
    [[[[6.0, 8.0], [16.0, 18.0]]]]
    """

    @door
    def __init__(self, size: whole(1)):
        super().__init__()
        self.size = size

    def forward(self, x):  # [N, C, H, W] -> [N, C, H // size, W // size]
        self.seen["x"] = x = _input(self, x, 4, side=self.size)
        first, *others = self._places(x)
        self.seen["y"] = y = first.copy(order="K")
        for pixels in others:
            np.maximum(y, pixels, out=y)
        return y

    def backward(self, grad_y, *, input_gradient=True):
        x, y = self.seen["x"], self.seen["y"]
        grad_y, grad_x = _gradient(self, grad_y, y.shape), np.empty_like(x)
        H, W = (self.size * n for n in y.shape[2:])
        grad_x[:, :, H:], grad_x[:, :, :, W:] = 0, 0  # in no window
        pixels, grads = self._places(x), self._places(grad_x)
        for i in range(y.shape[2]):  # a row of windows at a time: it stays in the cache
            left, row = grad_y[:, :, i], np.s_[:, :, i]
            for pixel, grad in zip(pixels[:-1], grads[:-1], strict=True):
                np.multiply(left, pixel[row] == y[row], out=grad[row])
                left = left - grad[row]  # who gets it leaves nothing to those behind
            grads[-1][row] = left
        return grad_x

    def _places(self, x):
        """Return the size * size views that hold the first pixel of every window, the second, ..., row by row."""
        k, H, W = self.size, *(n // self.size * self.size for n in x.shape[2:])
        return [x[:, :, u:H:k, v:W:k] for u in range(k) for v in range(k)]


# What every layer asks first


def _uniform(shape, fan_in, rng):
    """Draw float32 weights from U(-a, a), a = sqrt(3 / fan_in), so that their variance is 1 / fan_in."""
    limit = np.sqrt(3 / fan_in)
    return np.random.default_rng(rng).uniform(-limit, limit, shape).astype(np.float32)


def _input(layer, x, ndim=None, count=None, side=1):
    """Return x as a float array of so many dimensions, features or channels, and pixels a side (or more)."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{layer} takes a float array, got dtype {x.dtype}")
    check_array(x, f"the input of {layer}", ndim)
    if count not in (None, *x.shape[1:2]) or (ndim == 4 and min(x.shape[2:]) < side):
        wanted = f"(N, {count})" if ndim == 2 else f"(N, {count or 'C'}, H, W), H and W >= {side}"
        raise ValueError(f"{type(layer).__name__} takes x of shape {wanted}, got {x.shape}")
    return x


def _gradient(layer, grad_y, shape):
    grad_y = np.asarray(grad_y)
    if grad_y.shape != shape:
        raise ValueError(f"the gradient at {layer} must have the output's shape {shape}, got {grad_y.shape}")
    return grad_y
