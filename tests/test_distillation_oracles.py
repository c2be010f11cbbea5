"""The distillation losses against PyTorch: kl_div and cross_entropy for the values, autograd for the gradients."""

import numpy as np
import pytest

from nnzip.distillation import attention_loss, distillation_loss, kl_divergence

pytestmark = pytest.mark.oracle

EXACT = {"rtol": 1e-9, "atol": 1e-11}  # float64 on both sides: only the order of the sums differs


@pytest.fixture(autouse=True)
def torch():
    return pytest.importorskip("torch")


STUDENT, TEACHER = np.random.default_rng(0).normal(size=(2, 7, 5))
LABELS = np.random.default_rng(1).integers(0, 5, 7)


def hold(ours, torch, array, function):
    """Compare value and gradient with PyTorch's at the same array."""
    x = torch.tensor(array, requires_grad=True)
    theirs = function(x)
    theirs.backward()
    np.testing.assert_allclose(ours[0], theirs.item(), **EXACT)
    np.testing.assert_allclose(ours[1], x.grad.numpy(), **EXACT)


def their_kl(torch, student, teacher, temperature):
    p, log_q = (f(z / temperature, dim=1) for f, z in ((torch.softmax, teacher), (torch.log_softmax, student)))
    return torch.nn.functional.kl_div(log_q, p, reduction="batchmean")


@pytest.mark.parametrize("scale", [0.1, 5, 300])
@pytest.mark.parametrize("temperature", [0.5, 1, 4, 20])
def test_kl_divergence(temperature, scale, torch):
    student, teacher = scale * STUDENT, scale * TEACHER
    ours = kl_divergence(teacher, student, temperature=temperature)
    hold(ours, torch, student, lambda x: their_kl(torch, x, torch.tensor(teacher), temperature))


@pytest.mark.parametrize("scale", [0.1, 5, 1e4])
@pytest.mark.parametrize("temperature", [0.5, 1, 4, 20])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_distillation_loss(alpha, temperature, scale, torch):
    student, teacher = scale * STUDENT, scale * TEACHER

    def theirs(x):
        soft = temperature**2 * their_kl(torch, x, torch.tensor(teacher), temperature)
        return alpha * soft + (1 - alpha) * torch.nn.functional.cross_entropy(x, torch.tensor(LABELS))

    hold(distillation_loss(student, teacher, LABELS, temperature=temperature, alpha=alpha), torch, student, theirs)


@pytest.mark.parametrize(("channels", "teachers"), [(1, 1), (3, 5), (5, 3)])
def test_attention_loss(channels, teachers, torch):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(4, channels, 3, 2)), rng.normal(size=(4, teachers, 3, 2))

    def attention(x):  # as in the authors' code: the mean over channels is the same after the normalization
        return torch.nn.functional.normalize(x.pow(2).mean(1).flatten(1))

    def theirs(x):
        return 0.5 * (attention(x) - attention(torch.tensor(teacher))).pow(2).sum(1).mean()

    hold(attention_loss(student, teacher), torch, student, theirs)
