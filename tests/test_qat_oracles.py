"""Straight-through and learned-step gradients against PyTorch, bfloat16 against ml_dtypes and PyTorch, bit by bit."""

import numpy as np
import pytest

from nnzip.compression.low_precision import round_to_float
from nnzip.compression.qat import learned_step, learned_step_gradients, straight_through
from nnzip.quantization import choose_qparams, fake_quantize

pytestmark = pytest.mark.oracle
GRIDS = [(bits, signed) for bits in (2, 3, 4, 8) for signed in (True, False)]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def numbers(shape=(40, 50), seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape).astype(np.float32) for _ in range(2))


def codes_of(bits, signed):
    return (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_straight_through_is_pytorch_fake_quantize(symmetric, bits, torch):
    x, r = numbers()
    grid = choose_qparams(0.5 * x, bits=bits, symmetric=symmetric)  # so that some are clipped
    t = torch.tensor(x, requires_grad=True)
    y = torch.fake_quantize_per_tensor_affine(t, float(grid.scale), int(grid.zero_point), grid.qmin, grid.qmax)
    y.backward(torch.tensor(r))
    near_tie = np.abs(x / grid.scale % 1 - 0.5) < 1e-4  # PyTorch multiplies by the reciprocal of the scale
    got = straight_through(x, grid, r)
    assert np.array_equal(got[~near_tie], t.grad.numpy()[~near_tie]) and 0 < np.mean(got == 0) < 0.98
    np.testing.assert_allclose(fake_quantize(x, grid)[~near_tie], y.detach().numpy()[~near_tie], atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4])
def test_straight_through_per_channel_is_pytorch_fake_quantize(bits, torch):
    x, r = numbers()
    grid = choose_qparams(0.5 * x, bits=bits, axis=0)
    t, scale = torch.tensor(x, requires_grad=True), torch.tensor(grid.scale.copy())
    zero = torch.zeros(len(x), dtype=torch.int32)
    torch.fake_quantize_per_channel_affine(t, scale, zero, 0, grid.qmin, grid.qmax).backward(torch.tensor(r))
    near_tie = np.abs(x / grid.scale[:, None] % 1 - 0.5) < 1e-4
    assert np.array_equal(straight_through(x, grid, r)[~near_tie], t.grad.numpy()[~near_tie])


def lsq_by_autograd(torch, x, step, low, high):
    """Return the quantizer as the appendix of the paper writes it: round and gradient scale by detached differences."""
    v = torch.clamp(x / step, low, high)
    return ((torch.round(v) - v).detach() + v) * step


@pytest.mark.parametrize(("bits", "signed"), GRIDS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_learned_step_is_what_autograd_makes_of_the_paper(per_channel, bits, signed, torch):
    x, r = (array.astype(np.float64) for array in numbers((6, 9, 5)))
    step = np.linspace(0.2, 1.3, 6) if per_channel else np.array(0.37)
    t = torch.tensor(x, requires_grad=True)
    s = torch.tensor(step, requires_grad=True)
    y = lsq_by_autograd(torch, t, s[:, None, None] if per_channel else s, *codes_of(bits, signed))
    y.backward(torch.tensor(r))
    np.testing.assert_allclose(learned_step(x, step, bits=bits, signed=signed), y.detach().numpy(), rtol=1e-12)
    grad_x, grad_step = learned_step_gradients(x, step, r, bits=bits, signed=signed)
    np.testing.assert_allclose(grad_x, t.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(grad_step, s.grad.numpy(), rtol=1e-9)


def bit_patterns():
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    ties = (bits[:50_000] & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    return np.concatenate([bits, ties, ties + np.uint32(1), ties - np.uint32(1)]).view(np.float32)


def same(a, b):
    return np.array_equal(a.view(np.uint32)[~np.isnan(a)], b.view(np.uint32)[~np.isnan(a)]) and np.array_equal(
        np.isnan(a), np.isnan(b)
    )


def test_bfloat16_is_that_of_ml_dtypes():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = bit_patterns()
    with np.errstate(invalid="ignore", over="ignore"):
        assert same(round_to_float(x, "bfloat16"), x.astype(bfloat16).astype(np.float32))


@pytest.mark.parametrize("format", ["bfloat16", "float16"])
def test_both_formats_are_those_of_pytorch(format, torch):
    x = bit_patterns()
    theirs = torch.tensor(x).to(getattr(torch, format)).to(torch.float32).numpy()
    assert same(round_to_float(x, format), theirs)
