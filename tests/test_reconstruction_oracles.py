"""GPTQ against the algorithm published for PyTorch."""

import numpy as np
import pytest

from nnzip import reconstruction
from nnzip.quantization import choose_qparams
from nnzip.reconstruction import gptq, input_hessian

pytestmark = pytest.mark.oracle


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
def test_gptq_is_the_published_algorithm(bits, block_size, monkeypatch):
    torch, rng = pytest.importorskip("torch"), np.random.default_rng(bits)
    monkeypatch.setattr(reconstruction, "BLOCK", block_size)
    weight, x = rng.normal(size=(20, 70)), rng.normal(size=(200, 5)) @ rng.normal(size=(5, 70))
    x += rng.normal(size=x.shape)
    h, grid = input_hessian(x), choose_qparams(weight, bits=bits, axis=0)
    scale = torch.from_numpy(grid.scale.astype(np.float64))
    expected = published(torch, torch.from_numpy(weight), torch.from_numpy(h), scale, grid.qmin, grid.qmax, block_size)
    got = gptq(weight, h, grid)
    assert np.allclose(got, expected.numpy(), rtol=1e-6, atol=0)  # the scales are float32, the codes equal
