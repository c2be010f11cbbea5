"""Training: the loss and its gradient, the optimizers by hand, what `fit` promises about order, masks and errors."""

import itertools
import math
from functools import partial

import numpy as np
import pytest

from nnzip.nn.layers import Linear, ReLU
from nnzip.nn.network import Network
from nnzip.nn.training import (
    SGD,
    Adam,
    cosine_decay,
    cross_entropy,
    evaluate,
    fit,
    linear_decay,
    random_shift,
    shifted,
    training_step,
)


def small_network(seed=0):
    rng = np.random.default_rng(seed)
    return Network([Linear(4, 6, rng=rng), ReLU(), Linear(6, 3, rng=rng)])


def separable(count=70):
    """Points of three classes, each around a corner of its own, and too far apart to meet."""
    rng = np.random.default_rng(1)
    labels = np.arange(count) % 3
    corners = np.array([[3, 0, 0, 1], [0, 3, 0, 1], [0, 0, 3, 1]], np.float32)
    return corners[labels] + rng.uniform(-0.5, 0.5, (count, 4)).astype(np.float32), labels


IMAGES, LABELS = separable()


def train(network, *, data=None, **options):
    """Fit with usual settings, any of which a test may replace."""
    usual = {"epochs": 3, "batch_size": 16, "optimizer": SGD(0.1), "progress": False}
    return fit(network, separable() if data is None else data, **(usual | options))


# ---------------------------------------------------------------- cross-entropy


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_gradient_of_the_loss_keeps_the_float_type(dtype):
    value, gradient = cross_entropy(np.ones((3, 2), dtype), np.array([0, 1, 0], np.uint8))
    assert isinstance(value, float) and gradient.dtype == dtype


# ---------------------------------------------------------------- optimizers, step by step


def path(step, steps=25):
    """Return the weights after each step down sum(c (w - 0.3)^2) / 2, where step(weight, gradient, t) -> weight."""
    weights = [np.array([1.0, -2.0, 0.5])]
    for t in range(1, steps + 1):
        weights.append(step(weights[-1], np.array([1.0, 3.0, 0.1]) * (weights[-1] - 0.3), t))
    return np.array(weights)


def path_of(optimizer, name="0.weight", factor=1.0):
    def step(weight, gradient, t):
        parameters = {name: weight.copy()}
        optimizer.step(parameters, {name: gradient}, factor=factor)
        return parameters[name]

    return path(step)


assert_same_path = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
PENALTIES = {"0.weight": {"l1": 0.02, "l2": 0.3}, "1.weight": {}, "0.bias": {"l1": 0.02, "l2": 0.3}}  # a bias goes free


def penalty(name, weight):
    return 0.02 * np.sign(weight) + 0.3 * weight if name == "0.weight" else 0


@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.01)], ids=["Adam", "SGD"])
def test_float16_parameters_move_as_float32_ones_do(optimizer):
    moved = {}
    for dtype in (np.float16, np.float32):
        optimizer.state.clear()
        parameters = {"0.bias": np.ones(3, dtype)}
        for _ in range(3):
            optimizer.step(parameters, {"0.bias": np.array([0, 1e-4, 100], np.float16)})
        moved[dtype] = parameters["0.bias"]
    assert moved[np.float16].dtype == np.float16
    np.testing.assert_allclose(moved[np.float16], moved[np.float32], rtol=2e-3)


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_its_formula(momentum, name):
    velocity = np.zeros(3)

    def step(weight, gradient, t):
        velocity[:] = momentum * velocity + gradient + penalty(name, weight)
        return weight - 0.05 * velocity

    assert_same_path(path_of(SGD(0.05, momentum=momentum, **PENALTIES[name]), name), path(step))


@pytest.mark.parametrize("name", PENALTIES)
def test_adam_is_algorithm_1_of_its_paper(name):
    m, v = np.zeros((2, 3))

    def step(weight, gradient, t):
        gradient = gradient + penalty(name, weight)
        m[:], v[:] = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        return weight - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)

    assert_same_path(path_of(Adam(0.05, **PENALTIES[name]), name), path(step))


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_the_factor_scales_the_rate(kind):
    assert_same_path(path_of(kind(0.08), factor=0.25), path_of(kind(0.02)))
    assert np.array_equal(path_of(kind(0.08), factor=0.0)[-1], [1.0, -2.0, 0.5])


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_step_changes_the_arrays_in_place_and_leaves_the_gradients(kind):
    weight, gradient = np.ones(3, np.float32), np.full(3, 2, np.float32)
    gradient.setflags(write=False)
    parameters = {"0.weight": weight}
    kind(0.1, l1=0.1, l2=0.1).step(parameters, {"0.weight": gradient})
    assert parameters["0.weight"] is weight and weight.dtype == np.float32 and (weight < 1).all()


# ---------------------------------------------------------------- schedules


def test_schedules_start_at_1_and_pass_their_points():
    assert [linear_decay(progress) for progress in (0, 0.25, 1)] == [1, 0.75, 0]
    assert [cosine_decay(progress) for progress in (0, 1 / 3, 0.5, 2 / 3, 1)] == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_fit_hands_the_schedule_the_part_of_all_steps_that_is_done():
    seen = []

    def schedule(progress):
        seen.append(progress)
        return 1 - progress

    history = train(small_network(), epochs=2, batch_size=20, schedule=schedule, optimizer=SGD(0.5))
    assert seen == [step / 8 for step in range(8)]  # 70 images in batches of 20: four steps an epoch
    assert [record["rate"] for record in history] == [pytest.approx(0.5 * 5 / 8), pytest.approx(0.5 * 1 / 8)]


# ---------------------------------------------------------------- random shifts


def test_every_result_is_a_shifted_copy_with_zeros_and_every_shift_occurs():
    rng = np.random.default_rng(0)
    images = rng.uniform(0.1, 1, (400, 2, 4, 5)).astype(np.float32)
    before = images.copy()
    moved = random_shift(images, rng)
    assert moved.shape == images.shape and moved.dtype == np.float32 and np.array_equal(images, before)
    seen, shifts = set(), list(itertools.product(range(5), repeat=2))
    for image, result in zip(np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2))), moved, strict=True):
        found = [(d, r) for d, r in shifts if np.array_equal(image[:, d : d + 4, r : r + 5], result)]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == 25  # 400 draws miss a given one of 25 with a probability of 8e-8


# ---------------------------------------------------------------- fit


def test_fit_learns_a_separable_problem_without_an_error():
    history = train(small_network(), epochs=30)
    assert history[-1]["train_error"] == 0
    assert history[-1]["loss"] < history[0]["loss"] / 10


@pytest.mark.parametrize("kind", [lambda: SGD(0.1), lambda: Adam(0.01)], ids=["sgd", "adam"])
def test_the_seed_decides_the_result(kind):
    def weights(seed):
        network = small_network()
        train(network, optimizer=kind(), seed=seed, augment=noise)
        return network.parameters()

    one, same, other = weights(1), weights(1), weights(2)
    np.testing.assert_equal(one, same)
    assert not any(np.array_equal(one[name], other[name]) for name in one)


def noise(images, rng):
    return images + rng.normal(0, 0.01, images.shape).astype(images.dtype)


def test_the_history_tells_every_epoch():
    images, labels = separable()
    network = small_network()
    history = train(network, data=(images, labels, images[:30], labels[:30]), epochs=4)
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    assert all(record.keys() == {"epoch", "loss", "train_error", "test_error", "rate", "seconds"} for record in history)
    assert history[-1]["test_error"] == evaluate(network, images[:30], labels[:30])
    assert all(record["rate"] == 0.1 and type(record["train_error"]) is float for record in history)
    seconds = [record["seconds"] for record in history]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert train(network)[0]["test_error"] is None


class Recorder:
    """A loss that changes nothing (its gradient is zero) and remembers what it was given."""

    def __init__(self):
        self.batches = []

    def __call__(self, logits, labels, indices):
        self.batches.append((logits.copy(), labels.copy(), indices.copy()))
        return 1.5 * len(labels), np.zeros_like(logits)


def test_a_loss_gets_logits_labels_and_indices_of_the_same_images():
    network = Network([Linear(1, 3)])
    network.parameters()["0.weight"][...] = 1
    images = np.arange(70, dtype=np.float32)[:, None]  # each image is its own index, and so is its first logit
    labels = np.random.default_rng(0).integers(0, 3, 70)
    recorder = Recorder()
    train(network, data=(images, labels), loss=recorder, batch_size=32, epochs=2)
    assert [len(indices) for _, _, indices in recorder.batches] == [32, 32, 6] * 2
    for logits, batch_labels, indices in recorder.batches:
        assert np.array_equal(logits[:, 0], indices) and np.array_equal(batch_labels, labels[indices])
    first, second = (np.concatenate([batch[2] for batch in recorder.batches[start : start + 3]]) for start in (0, 3))
    assert sorted(first) == sorted(second) == list(range(70))  # every image once in an epoch, the small batch included
    assert not np.array_equal(first, second) and not np.array_equal(first, np.arange(70))


def test_the_loss_of_an_epoch_is_the_mean_over_its_images():
    history = train(small_network(), loss=Recorder(), batch_size=32)
    assert history[0]["loss"] == pytest.approx(1.5 * (32 * 32 + 32 * 32 + 6 * 6) / 70)


def test_one_step_of_fit_is_forward_loss_backward_and_the_optimizer():
    images, labels = separable()
    network, by_hand = small_network(), small_network()
    train(network, epochs=1, batch_size=70)
    _, gradient = cross_entropy(by_hand.forward(images), labels)
    by_hand.backward(gradient)
    for name, array in network.parameters().items():  # the order of the images differs, so the last bits may
        expected = by_hand.parameters()[name] - 0.1 * by_hand.gradients()[name]
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- masks

OPTIMIZERS = {
    "plain_sgd": lambda: SGD(0.1, momentum=0.0),
    "sgd_penalties": lambda: SGD(0.1, l1=1e-3, l2=1e-2),
    "adam_penalties": lambda: Adam(0.01, l1=1e-3, l2=1e-2),
}


def random_masks(network):
    rng = np.random.default_rng(2)
    return {name: rng.random(array.shape) < 0.5 for name, array in network.parameters().items() if "weight" in name}


@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "warm"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_masks_hold_before_every_step_and_after_the_last_and_so_does_momentum(kind, warm):
    network, optimizer = small_network(), OPTIMIZERS[kind]()
    if warm:  # a training without masks fills the momentum of every weight
        train(network, optimizer=optimizer)
    masks = random_masks(network)
    steps = []

    def watching(logits, labels, indices):
        steps.append(all(not network.parameters()[name][~mask].any() for name, mask in masks.items()))
        return cross_entropy(logits, labels)

    train(network, optimizer=optimizer, loss=watching, masks=masks)
    assert len(steps) == 15 and all(steps)
    for name, mask in masks.items():
        assert not network.parameters()[name][~mask].any()
        assert (network.parameters()[name][mask] != 0).mean() > 0.9  # l1 may bring a few to zero
        for remembered in optimizer.state[name]:
            assert not remembered[~mask].any() and remembered[mask].any()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_one_step_keeps_masked_weights_at_zero_whatever_the_optimizer_remembers(kind):
    network, optimizer = small_network(), OPTIMIZERS[kind]()
    train(network, optimizer=optimizer)
    masks = random_masks(network)
    training_step(network, IMAGES, LABELS, np.arange(len(LABELS)), optimizer, masks=masks)
    assert not any(network.parameters()[name][~mask].any() for name, mask in masks.items())


def test_kept_weights_train_as_if_the_others_were_not_there():
    images, labels = separable()
    network, without = Network([Linear(4, 3, rng=np.random.default_rng(0))]), Network([Linear(3, 3)])
    without.load_parameters({"0.weight": network.parameters()["0.weight"][:, :3], "0.bias": np.zeros(3)})
    mask = np.ones((3, 4), bool)
    mask[:, 3] = False
    train(network, masks={"0.weight": mask})
    train(without, data=(images[:, :3], labels))
    for name, part in (("0.weight", (slice(None), slice(3))), ("0.bias", ...)):
        np.testing.assert_allclose(network.parameters()[name][part], without.parameters()[name], rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- refusals of fit and evaluate


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ((IMAGES, LABELS + 1), {}, ValueError, r"labels must be from 0 to 2, got 1 to 3"),
        ((IMAGES, LABELS[:-1]), {}, ValueError, r"labels must have shape \(70,\), one for each row, got \(69,\)"),
        ((np.where(IMAGES > 3, np.nan, IMAGES), LABELS), {}, ValueError, "images must be finite, got nan"),
        ((IMAGES[:, :3], LABELS), {}, ValueError, r"takes x of shape \(N, 4\), got \(1, 3\)"),
        ((IMAGES, LABELS, IMAGES, LABELS - 1), {}, ValueError, r"labels must be from 0 to 2, got -1 to 1"),
        ((IMAGES, LABELS, IMAGES[:5] * np.inf, LABELS[:5]), {}, ValueError, "test images must be finite"),
        ((IMAGES, LABELS, IMAGES), {}, ValueError, "data must be images and labels, .* got 3 arrays"),
        (None, {"masks": {"1.weight": np.ones((6, 4), bool)}}, KeyError, "1.weight"),
        (None, {"masks": {"0.weight": np.ones((6, 4))}}, TypeError, "the mask of 0.weight must be bool, got float64"),
        (None, {"masks": {"0.weight": np.ones((4, 6), bool)}}, ValueError, "mask of 0.weight .* the same shape"),
    ],
)
def test_fit_refuses_what_cannot_be_trained_and_changes_nothing(data, options, error, message):
    network = small_network()
    with pytest.raises(error, match=message):
        train(network, data=data, **options)
    np.testing.assert_equal(network.parameters(), small_network().parameters())


def test_a_loss_of_nan_is_a_divergence_too():
    with pytest.raises(ValueError, match="the loss is nan: the training diverged"):
        train(small_network(), loss=lambda logits, labels, indices: (math.nan, np.zeros_like(logits)))


def test_the_error_is_the_fraction_of_images_that_are_not_at_their_label():
    network = Network([Linear(3, 3)])
    network.load_parameters({"0.weight": np.eye(3), "0.bias": np.zeros(3)})
    assert evaluate(network, np.eye(3), [0, 1, 2]) == 0
    assert evaluate(network, np.eye(3), [0, 2, 2]) == pytest.approx(1 / 3)
    assert evaluate(network, np.eye(3, dtype=np.float32), np.array([1, 2, 0], np.uint8)) == 1
    with pytest.raises(ValueError, match="labels must have shape"):
        evaluate(small_network(), IMAGES, LABELS[:-1])


# ---------------------------------------------------------------- progress


def test_progress_prints_a_line_an_epoch_to_standard_error(capsys):
    train(small_network(), data=(IMAGES, LABELS, IMAGES, LABELS), progress=True, schedule=linear_decay)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 3
    for epoch, line in enumerate(lines, start=1):
        assert line.startswith(f"epoch   {epoch}/3  loss ")
        assert all(word in line for word in ("train error", "test error", "rate", "s left"))
    assert "   0 s left" in lines[-1]
    train(small_network(), progress=True)
    assert "test error" not in capsys.readouterr().err
    fit(small_network(), separable(), epochs=1, batch_size=16, optimizer=SGD(0.1))
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- careless use


@pytest.mark.parametrize("optimizer", [SGD(1e6), SGD(1e300), Adam(1e38), SGD(0.1, l2=1e38)])
def test_a_training_that_overflows_ends_in_one_error_without_warnings(optimizer):
    with pytest.raises(ValueError, match=r"the training diverged, try a smaller rate than \d"):
        train(small_network(), optimizer=optimizer, epochs=50, batch_size=8)


def test_a_step_before_backward_says_so():
    network = small_network()
    with pytest.raises(ValueError, match=r"no gradient for 0\.bias, 0\.weight, .*: run backward first"):
        SGD(0.1).step(network.parameters(), network.gradients())


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(0.1)])
def test_a_gradient_is_never_broadcast(optimizer):
    with pytest.raises(ValueError, match="must have the same shape"):
        optimizer.step({"0.weight": np.ones((2, 2))}, {"0.weight": np.ones(2)})


def test_an_optimizer_that_has_trained_another_network_begins_anew():
    rng, sgd = np.random.default_rng(0), SGD(0.1, momentum=0.9)
    for out in (3, 4):
        weight, gradient = rng.normal(size=(out, 2)), rng.normal(size=(out, 2))
        expected = weight - 0.1 * gradient
        sgd.step({"0.weight": weight}, {"0.weight": gradient})
        np.testing.assert_allclose(weight, expected)


def test_images_that_are_no_four_dimensional_array_are_not_shifted():
    assert shifted([[[[1.0, 2.0]]]], 0, 1).tolist() == [[[[0.0, 1.0]]]]
    with pytest.raises(ValueError, match="images must have 4 dimensions"):
        shifted(np.zeros((2, 2)), 0, 1)
