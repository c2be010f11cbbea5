"""Distilling networks: the right logits meet the right images, the teacher stays, masks and grids hold to the end."""

import copy

import numpy as np
import pytest
from layer_cases import tiny_cnn

from nnzip.compression.distillation import distill, repair
from nnzip.compression.pruning import prune_network
from nnzip.compression.quantization import export_rounded, round_weights_in_training
from nnzip.distillation import distillation_loss, kl_divergence
from nnzip.nn.layers import Flatten, Linear, ReLU
from nnzip.nn.network import Network
from nnzip.nn.training import SGD, fit

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(60, 2, 9, 8)).astype(np.float32)
LABELS = RNG.integers(0, 3, 60)
DATA = IMAGES, LABELS


def small(seed=1):
    rng = np.random.default_rng(seed)
    return Network([Flatten(), Linear(144, 6, rng=rng), ReLU(), Linear(6, 3, rng=rng)])


def recipe(**changed):
    return {"epochs": 4, "batch_size": 16, "optimizer": SGD(0.05), "progress": False} | changed


def divergence(student, teacher):
    return kl_divergence(teacher.logits(IMAGES), student.logits(IMAGES))[0]


# ---------------------------------------------------------------- distill


def test_the_student_comes_to_say_what_the_teacher_says_and_the_teacher_stays():
    student, teacher = small(), tiny_cnn()
    before, start = copy.deepcopy(teacher.parameters()), divergence(student, teacher)
    history = distill(student, teacher, DATA, **recipe(epochs=60), alpha=1, temperature=2)
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]
    assert divergence(student, teacher) < 0.2 * start
    np.testing.assert_equal(teacher.parameters(), before)


def test_every_image_meets_its_own_logits():
    # a whole-set batch: its first loss is the distillation loss of the untrained student, computed here image by image
    student, teacher = small(), tiny_cnn()
    rows = [
        distillation_loss(student.forward(x[None]), teacher.forward(x[None]), [y], temperature=3, alpha=0.7)[0]
        for x, y in zip(IMAGES, LABELS, strict=True)
    ]
    history = distill(student, teacher, DATA, **recipe(epochs=1, batch_size=60), temperature=3, alpha=0.7)
    assert history[0]["loss"] == pytest.approx(np.mean(rows), rel=1e-5)


def test_alpha_0_is_training_by_the_labels_alone():
    distilled, plain = small(), small()
    distill(distilled, tiny_cnn(), DATA, **recipe(), alpha=0)
    fit(plain, DATA, **recipe())
    for name, array in plain.parameters().items():
        np.testing.assert_allclose(distilled.parameters()[name], array, rtol=1e-4, atol=1e-6)


def test_alpha_1_never_asks_the_labels():
    one, other = small(), small()
    for student, labels in ((one, LABELS), (other, LABELS[::-1].copy())):
        distill(student, tiny_cnn(), (IMAGES, labels), **recipe(), alpha=1)
    np.testing.assert_equal(one.parameters(), other.parameters())


class Recorder(Network):
    """A network that keeps every batch it was given."""

    def forward(self, x):
        self.__dict__.setdefault("seen", []).append(np.array(x))
        return super().forward(x)


def test_with_augmentation_both_look_at_the_same_images():
    student, teacher = Recorder(small().layers), Recorder(tiny_cnn().layers)
    distill(
        student, teacher, DATA, **recipe(epochs=2), augment=lambda x, rng: x + rng.normal(size=x.shape).astype("f4")
    )
    assert len(teacher.seen) == 8 and len(student.seen) == 9  # fit asks the student once for the number of classes
    assert all(np.array_equal(a, b) for a, b in zip(student.seen[1:], teacher.seen, strict=True))


def test_without_augmentation_the_teacher_sees_each_image_once():
    teacher = Recorder(tiny_cnn().layers)
    distill(small(), teacher, DATA, **recipe())
    assert np.array_equal(np.concatenate(teacher.seen), IMAGES)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"teacher": Linear(2, 3)}, TypeError, "network must be a Network, got Linear"),
        ({"teacher": Network([Flatten(), Linear(144, 4)])}, ValueError, r"must have the same shape, got \(16, 4\) and"),
        ({"teacher": Network([Flatten(), Linear(10, 3)])}, ValueError, r"Linear takes x of shape \(N, 10\)"),
    ],
)
def test_what_cannot_be_trained_is_refused(changed, error, message):
    with pytest.raises(error, match=message):
        distill(**({"student": small(), "teacher": tiny_cnn(), "data": DATA} | recipe() | changed))


def test_nobody_is_its_own_teacher():
    network = small()
    with pytest.raises(ValueError, match="student and teacher must be two networks"):
        distill(network, network, DATA, **recipe())


# ---------------------------------------------------------------- repair


def assert_on_a_grid(weight, bits):
    """Each row is whole multiples of a step, of at most 2^(bits-1) - 1 in size."""
    for row in weight.reshape(len(weight), -1):
        values = np.unique(np.abs(np.append(row, 0)))
        steps = values / np.diff(values).min(initial=np.inf)
        assert np.abs(steps - np.rint(steps)).max() < 1e-3 and steps.max() < 2 ** (bits - 1)


@pytest.mark.parametrize(("sparsity", "bits"), [(0, 2), (0, 3), (0.9, None), (0.5, 2), (1, None), (1, 2)])
def test_a_repaired_network_keeps_zeros_and_grids_and_is_closer_to_its_teacher(sparsity, bits):
    network = tiny_cnn()
    damaged = prune_network(network, sparsity)
    repaired = repair(damaged, network, DATA, bits=bits, epochs=10, batch_size=16, rate=0.02, alpha=1, progress=False)
    assert [type(layer) for layer in repaired.layers] == [type(layer) for layer in network.layers]
    for name, weight in repaired.parameters().items():
        if name.endswith("weight"):
            assert not weight[damaged.parameters()[name] == 0].any()
            if bits:
                assert_on_a_grid(weight, bits)
    if bits:
        damaged = export_rounded(round_weights_in_training(damaged, bits=bits))
    assert divergence(repaired, network) < 0.9 * divergence(damaged, network)


def test_the_seed_decides():
    options = {"bits": 2, "epochs": 2, "batch_size": 16, "progress": False}
    one, same, other = (repair(small(), tiny_cnn(), DATA, seed=seed, **options) for seed in (0, 0, 1))
    np.testing.assert_equal(one.parameters(), same.parameters())
    assert any(not np.array_equal(array, other.parameters()[name]) for name, array in one.parameters().items())
