"""GPTQ against the algorithm published for PyTorch, AdaRound's gradient against autograd, OBS against SciPy."""

import numpy as np
import pytest

from nnzip import reconstruction
from nnzip.quantization import choose_qparams
from nnzip.reconstruction import adaround_loss, gptq, input_hessian, obs_prune

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def layer(seed, out, n, samples):
    rng = np.random.default_rng(seed)
    weight, causes = rng.normal(size=(out, n)), rng.normal(size=(samples, 5)) @ rng.normal(size=(5, n))
    return weight, causes + rng.normal(size=(samples, n))


def published(torch, weight, hessian, scale, qmin, qmax, block_size):
    """Frantar et al. 2023, Algorithm 1: errors go to the rest of a block at once, to the rest of a row in one go."""
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    left, rounded = weight.clone(), torch.empty_like(weight)
    for start in range(0, weight.shape[1], block_size):
        end = min(start + block_size, weight.shape[1])
        errors = torch.empty_like(left[:, start:end])
        for k in range(start, end):
            rounded[:, k] = torch.clamp(torch.round(left[:, k] / scale), qmin, qmax) * scale
            errors[:, k - start] = (left[:, k] - rounded[:, k]) / upper[k, k]
            left[:, k:end] -= torch.outer(errors[:, k - start], upper[k, k:end])
        left[:, end:] -= errors @ upper[start:end, end:]
    return rounded


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("block_size", [16, 50])
def test_gptq_is_the_published_algorithm(torch, bits, block_size, monkeypatch):
    monkeypatch.setattr(reconstruction, "BLOCK", block_size)
    weight, x = layer(bits, 20, 70, 200)
    h, grid = input_hessian(x), choose_qparams(weight, bits=bits, axis=0)
    scale = torch.from_numpy(grid.scale.astype(np.float64))
    expected = published(torch, torch.from_numpy(weight), torch.from_numpy(h), scale, grid.qmin, grid.qmax, block_size)
    got = gptq(weight, h, grid)
    assert np.allclose(got, expected.numpy(), rtol=1e-6, atol=0)  # the scales are float32, the codes equal


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_the_gradient_of_adaround_is_autograds(torch, strength):
    rng = np.random.default_rng(0)
    weight, x = layer(0, 4, 9, 30)
    scale, v, beta = np.full((4, 1), 0.4), rng.uniform(-4, 4, weight.shape), 6.5
    h = input_hessian(x, damping=0)
    w, inputs, variable = torch.from_numpy(weight), torch.from_numpy(x), torch.from_numpy(v).requires_grad_()
    soft = torch.clamp(torch.sigmoid(variable) * 1.2 - 0.1, 0, 1)  # eq. 23
    rounded = 0.4 * torch.clamp(torch.floor(w / 0.4) + soft, -3, 3)  # eq. 22
    change = torch.mean(torch.sum((inputs @ (rounded - w).T) ** 2, dim=1))  # eq. 21
    unit = 0.4**2 * np.mean(np.diag(h))
    loss = change / unit + strength * torch.sum(1 - torch.abs(2 * soft - 1) ** beta)  # eq. 24
    loss.backward()
    ends = np.full(weight.shape, -3.0), np.full(weight.shape, 3.0)
    value, grad = adaround_loss(v, weight / scale, np.ones_like(v), h / np.mean(np.diag(h)), *ends, strength, beta)
    assert np.isclose(value, loss.item()) and np.allclose(grad, variable.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_the_surgeons_weights_are_those_of_bounded_least_squares():
    optimize = pytest.importorskip("scipy.optimize")
    weight, x = layer(1, 3, 8, 60)
    for row, got in zip(weight, obs_prune(weight, input_hessian(x, damping=0), 0.5), strict=True):
        free = np.where(got == 0, 1e-12, 1e6)  # no room where it is pruned
        expected = optimize.lsq_linear(x, x @ row, bounds=(-free, free), tol=1e-14).x
        assert np.allclose(got, expected, atol=1e-5)
