"""articles.findings: what the articles print, run and held to the record; what is right, held to other arithmetic."""

import importlib
import itertools
import math
import os
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from articles import formulas as printed
from articles.findings import EXAMPLE, FINDINGS, VERDICTS
from headings import headings

from nnzip import pruning
from nnzip.compression.quantization import quantize_weights
from nnzip.nn.layers import Linear
from nnzip.nn.network import Network
from nnzip.quantization import QuantParams, choose_qparams, dequantize, fake_quantize, qparams_from_range, quantize

BY_HEADING = {finding.heading: finding for finding in FINDINGS}
ROWS = {  # how many claims of each place are on record, read off the articles and not off the list
    "A0": "2.2 1, 3.1 1, 3.2.1 1, 3.2.2 2, 3.3 1, 4.1 1, 4.2 1, 4.3 1, 5.2 3, 7.3 1, 8.2 1",
    "A1": "2 2, 3.2 1, 4.1 1, 4.2 1, 5.2 1, 5.4 1, 7.2 1, 7.3 1, 8.2 1, 9 Q1 1, 9 Q2 1, 9 Q3 1",
    "A2": "1 1, 2.1 1, 2.2 1, 3.1 1, 3.2 1, 4.1 1, 4.2 2, 6 Q4 1",
    "A3": "2.6 1, 4.1 3, 4.2 4, 4.3 3, 5.2 3, 5.4 1, 7.3 1",
    "A4": "1 1, 2.2 1, 3.1.1 1, 3.1.2 1, 3.1.3 1, 3.2 1, 4.1 1, 4.2 1, 5 1, 6 1",
}
CORRECT = {
    "A0 3.2.1, 3.2.2: the steps", "A0 3.3: gains and costs", "A1 4.2: the error", "A1 7.2: the tools",
    "A1 8.2: the trends", "A2 3.2: the threshold", "A3 4.1: the levels", "A4 2.2: keeping the knowledge",
}  # fmt: skip
SEVERAL_THINGS = {  # neither wrong nor right: two readings, a use of the word that is published, or nothing shown
    "A0 2.2, 3.2.2: the Hadamard transform", "A0 3.1: what distillation learns", "A0 4.1, 4.2: the formula",
    "A0 5.2: the schedule", "A0 7.3: the papers",
    "A0 8.2: mixed-precision training", "A1 2: the order", "A1 2, 9 Q1, 9 Q3: is quantization compression?",
    "A1 3.2, 9 Q2: making up for the loss", "A2 1: more accurate?", "A2 2.1: three roundings", "A2 2.2: stability",
    "A2 3.1: the formula",
    "A2 4.2: stability by standard deviation", "A2 6 Q4: overfitting", "A3 4.1, 4.2: levels or codes",
    "A4 1, 5, 6: interpretability", "A4 3.1.3: quantizing the loss", "A4 3.2: distillation",
}  # fmt: skip
WORDS = {  # what cannot be run: steps, opinions, orders, charts, names of papers
    "A0 3.2.1, 3.2.2: the steps", "A0 3.3: gains and costs", "A0 7.3: the papers", "A1 2: the order",
    "A1 3.2, 9 Q2: making up for the loss", "A1 7.2: the tools", "A1 7.3: the papers", "A1 8.2: the trends",
    "A2 1: more accurate?", "A2 2.1: three roundings", "A2 6 Q4: overfitting", "A3 2.6: the chart", "A3 5.2: the API",
    "A3 7.3: the papers", "A4 1, 5, 6: interpretability", "A4 2.2: keeping the knowledge", "A4 3.2: distillation",
}  # fmt: skip
W = np.array(EXAMPLE)


def run(heading):
    return BY_HEADING[heading].what_happens()


def same(got, recorded):  # whatever it is made of: numbers, arrays, tuples, dicts, exceptions
    if isinstance(recorded, type):
        return got is recorded
    if isinstance(recorded, dict):
        return got.keys() == recorded.keys() and all(same(got[key], recorded[key]) for key in recorded)
    if isinstance(recorded, tuple) and np.ndim(got) == 0:
        return False
    if isinstance(recorded, tuple | list):
        return len(got) == len(recorded) and all(map(same, got, recorded))
    return np.shape(got) == np.shape(recorded) and np.allclose(got, recorded, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- the list


def test_every_row_has_its_record_in_the_order_of_the_articles():
    counted, places = Counter(), []
    for finding in FINDINGS:
        article, _, sections = finding.where.partition(" ")
        counted.update((article, section) for section in sections.split(", "))
        first = sections.split(",")[0].replace(" ", ".").split(".")
        places.append((article, [int(part) if part.isdigit() else 99 for part in first]))
    rows = ((key, row.rpartition(" ")) for key in ROWS for row in ROWS[key].split(", "))
    assert counted == {(key, section): int(count) for key, (section, _, count) in rows}
    assert len(BY_HEADING) == len(FINDINGS) == 50 and places == sorted(places)


def test_the_verdicts_are_those_of_whoever_read_the_articles():
    assert set(BY_HEADING) >= CORRECT | SEVERAL_THINGS
    verdicts = dict.fromkeys(CORRECT, "right") | dict.fromkeys(SEVERAL_THINGS, "unclear")
    for finding in FINDINGS:
        assert finding.verdict == verdicts.get(finding.heading, "wrong"), finding.heading
    assert {finding.verdict for finding in FINDINGS} == set(VERDICTS)


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.heading)
def test_what_happens_is_what_is_recorded(finding):
    if finding.run.formula is None:
        assert finding.heading in WORDS or finding.run.fails
        return
    got = finding.what_happens()
    assert same(got, finding.run.gives), f"{finding.heading}: the record says {finding.run.gives}, it gives {got}"
    if finding.run.says is not None:  # a printed value beside a wrong verdict is one that does not come out
        assert not same(got, finding.run.says), finding.heading


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.heading)
def test_the_better_function_and_the_section_exist(finding):
    module, _, name = finding.better.function.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    assert finding.better.section in headings(finding.better.chapter.partition("_")[0])


def test_chapter_13_has_a_section_for_each_finding_in_order():
    found = [heading for heading in headings("13") if heading in BY_HEADING]
    assert found == [finding.heading for finding in FINDINGS]


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.heading)
def test_a_finding_shows_itself(finding):
    text = finding._repr_markdown_()
    assert all(part in text for part in (finding.claim, finding.truth, finding.better.function))
    assert " at 0x" not in text
    assert all(f"`{call}`: {error.__name__}" in text for call, error in finding.run.fails)
    assert len(finding.row) == 5 and not any("|" in cell.replace(r"\|", "") for cell in finding.row)
    assert f"(#{finding.heading.replace(' ', '-')})" in finding.row[0]
    assert finding.better.chapter.partition("_")[0] in finding.row[4]


def test_values_are_shown_briefly():
    shown = BY_HEADING["A1 4.1: the formula"]._repr_markdown_()
    assert "a1_4_1([0.12, -0.05, 0.2], 8)` gives [0, 0, 0]." in shown  # and no -0
    assert "The article says 2." in BY_HEADING["A3 4.2: the bit width"]._repr_markdown_()
    assert "gives ValueError" in BY_HEADING["A0 5.2: the images"]._repr_markdown_()


# ---------------------------------------------------------------- A0


def test_distillation_learns_outputs_since_parameters_are_not_unique():
    rng = np.random.default_rng(0)
    one, other = printed.a0_3_1_reordered(rng.normal(size=(7, 4)), rng.normal(size=(6, 4)), rng.normal(size=(3, 6)))
    np.testing.assert_allclose(one, other)
    assert one.shape == (7, 3) and np.abs(one).max() > 0


def test_the_step_that_divides_must_be_the_step_that_multiplies():
    assert run("A0 4.1, 4.2: the formula") == 0.25  # 0.5 / 0.1 = 5 steps, of half the length
    a, b, n = -1.0, 1.0, 3
    grid = qparams_from_range(a, b, bits=n, symmetric=False)
    assert float(grid.scale) == pytest.approx((b - a) / (2**n - 1))
    for x in np.linspace(-2, 2, 41):  # brute force: the nearest of all 2^n levels
        levels = [(code - int(grid.zero_point)) * float(grid.scale) for code in range(2**n)]
        best = min(abs(level - x) for level in levels)
        assert abs(float(fake_quantize(x, grid)) - x) == pytest.approx(best, abs=1e-6)
    x, s = np.linspace(a, b, 41), (b - a) / (2**n - 1)  # the other reading, r = q: the nearest of a, a + q, ..., b
    nearest = [min((a + s * k for k in range(2**n)), key=lambda level, value=value: abs(level - value)) for value in x]
    np.testing.assert_allclose(np.abs(printed.a0_4_2(x, a, s, s) - x), np.abs(nearest - x), atol=1e-12)


def test_the_worked_example_by_fractions():
    steps = (Fraction(1, 2) + 1) / Fraction(1, 10)
    assert steps == 15 and -1 + 15 * Fraction(1, 10) == Fraction(1, 2) == run("A0 4.3: the worked example")
    assert fake_quantize(0.5, QuantParams(scale=0.1, zero_point=0, bits=8, signed=True)) == 0.5


def test_half_precision_loses_small_updates():
    assert run("A0 8.2: mixed-precision training") == 1.0
    below = 1 - Fraction(1, 2**11)  # the next float16 under 1
    assert Fraction(1, 10_000) < (1 - below) / 2  # so 1 is nearer
    assert np.float32(1) - np.float32(1e-4) < 1


# ---------------------------------------------------------------- A1


def test_a_step_must_shrink_as_bits_are_added():
    weights = np.random.default_rng(0).normal(0, 0.05, 10_000)
    assert np.abs(weights).max() < 2**8 / 2 and not printed.a1_4_1(weights, 8).any()  # below half a step: all 0
    errors = [np.abs(weights - printed.a1_4_1(weights, b)).max() for b in (2, 4, 8)]
    assert errors == [np.abs(weights).max()] * 3
    right = [choose_qparams(weights, bits=b) for b in (2, 4, 8)]
    for grid, steps in zip(right, (1, 7, 127), strict=True):  # narrow: 2^(b-1) - 1 steps to the largest
        assert np.abs(weights - fake_quantize(weights, grid)).max() <= np.abs(weights).max() / steps / 2 * (1 + 1e-6)
    fixed = np.round(weights * 2**8) / 2**8  # the other formula that may be meant
    assert 0 < np.abs(weights - fixed).max() <= 2**-9


def test_the_error_is_half_a_step_at_most_and_a_twelfth_of_its_square_on_average():
    assert run("A1 4.2: the error") == pytest.approx(-0.03)
    grid = QuantParams(scale=0.125, zero_point=0, bits=8, signed=True)
    x = (np.arange(-4000, 4000) + 0.5) / 1000  # even, so that sums replace integrals; inside -16 .. 15.875
    errors = printed.a1_4_2(x, fake_quantize(x, grid).astype(float))
    assert max(map(abs, errors)) <= 0.125 / 2 and np.mean(np.square(errors)) == pytest.approx(0.125**2 / 12, rel=1e-3)


# ---------------------------------------------------------------- A2


def test_a_weight_is_unsure_where_its_spread_is_as_large_as_its_mean():
    sure = run("A2 2.2: stability")
    assert np.argsort(sure).tolist() == [1, 2, 0]  # the large weight with the large spread goes before the small one
    rng = np.random.default_rng(0)
    seen = rng.normal((1, 1, 0.1), (0.1, 2, 0.1), size=(200_000, 3))
    np.testing.assert_allclose(sure, np.abs(seen.mean(0)) / seen.std(0), rtol=0.03)


def test_a_grid_from_the_lowest_to_the_highest_has_no_level_at_0_and_one_with_a_zero_point_has():
    steps = Fraction(2, 255)  # of [-1, 1] at 8 bits
    nearest = min((abs(-1 + code * steps), -1 + code * steps) for code in range(256))
    assert round(float(nearest[0]), 4) == 0.0039
    grid = qparams_from_range(-1.0, 1.0, symmetric=False, signed=True)
    assert fake_quantize(0.0, grid) == 0


def test_rounding_down_is_half_a_step_off_and_the_printed_range_is_no_range():
    assert set(run("A2 3.1: the formula")) == {-128.0}  # 2 / 255 * 127 is below 1
    x = np.linspace(-1, 1, 256 * 64 + 1)[:-1]
    exact = (x + 1) / 2 * 255 - 128  # where each falls on -128 .. 127
    down = printed.a2_3_1(x, -1, 2, 255, -128)  # repaired but for the floor
    nearest = [min(range(-128, 128), key=lambda code, v=v: abs(code - v)) for v in exact[::64]]
    assert np.mean(exact - down) == pytest.approx(0.5, abs=0.01)
    assert np.mean(exact[::64] - nearest) == pytest.approx(0, abs=0.01)
    grid = qparams_from_range(-1.0, 1.0, symmetric=False, signed=True)  # on nnzip's grid 0 is a code, so -1 is shifted
    back = dequantize(quantize(x, grid), grid)
    assert np.abs(back - x).max() <= float(grid.scale) * 0.5 + 2e-3 and abs(np.mean(back - x)) < float(grid.scale) / 100


def test_subtracting_the_minimum_makes_nothing_an_integer():
    shifted = run("A2 4.1: quantizing in PyTorch")["conv1.weight"]
    assert shifted.min() == 0 and shifted.max() == pytest.approx(2 / 3) and len(np.unique(shifted)) == 5
    assert not all(float(value).is_integer() for value in shifted)
    weight = Network([Linear(784, 10)])
    rounded = quantize_weights(weight, bits=8, per_channel=False).parameters()["0.weight"]
    steps = rounded / (np.abs(weight.parameters()["0.weight"]).max() / 127)
    assert np.abs(steps - np.rint(steps)).max() < 1e-3 and len(np.unique(rounded)) <= 255


def test_a_spread_below_a_hundredth_does_not_occur_and_says_nothing():
    for inputs in (9, 32 * 9, 64 * 25):  # PyTorch draws from +-1 / sqrt(inputs): variance 1 / (3 inputs)
        assert Fraction(1, 3 * inputs) > Fraction(1, 100) ** 2
    row = {"0.weight": np.ones((1, 4))}
    assert not printed.a2_4_2_small_spread(row)["0.weight"].any()  # and yet the output is all theirs
    seen = pruning.stability(row["0.weight"], np.ones((2, 4)), np.ones((1, 2, 1)))
    np.testing.assert_allclose(seen, np.ones((1, 4)))  # w^2 times the mean of (x dz/dy)^2, all 1


# ---------------------------------------------------------------- A3


def test_the_levels_by_fractions():
    for bits in (1, 2, 3, 8):
        wanted = [-1 + Fraction(2 * k, 2**bits - 1) for k in range(2**bits)]
        np.testing.assert_allclose(printed.a3_4_1_levels(-1, 1, bits), [float(level) for level in wanted], atol=1e-15)
    assert Fraction(0) not in [-1 + Fraction(2 * k, 3) for k in range(4)]
    levels = {float(v) for v in dequantize(np.arange(4), qparams_from_range(-1.0, 1.0, bits=2, symmetric=False))}
    assert len(levels) == 4 and 0.0 in levels  # nnzip shifts them until 0 is one


def test_the_threshold_from_the_harmonic_numbers():
    left, right = run("A3 4.2: the threshold")
    assert left == pytest.approx(float(sum(Fraction(1, i) for i in range(1, 10)) / 9)) and round(left, 3) == 0.314
    assert round(right, 3) == 0.244 and math.exp(9 * right) == pytest.approx(9)
    for scale in (1e-3, 1.0, 1e3):  # a rule for weights must follow their scale, as ranking does
        assert pruning.magnitude_mask(scale * W, 4 / 9).tolist() == (W != 0).tolist()


def test_the_sign_of_a_condition_prunes_nothing():
    for theta in (-2, 0.049, 0.5, 7):
        np.testing.assert_array_equal(printed.a3_4_2_prune(W, theta), W)


def test_the_printed_width_is_never_positive_and_a_width_must_hold_the_levels():
    assert run("A3 4.2: the bit width") == 0
    assert all(printed.a3_4_2_width(0, span) <= 0 for span in np.geomspace(1e-6, 1e6, 49))
    for span in (Fraction(n, 10) for n in range(10, 700)):  # in steps, also where the step does not divide it
        codes = {math.floor(x * span / 1000 + Fraction(1, 2)) for x in range(1001)}  # ties up
        if span % 1 != Fraction(1, 2):
            wanted = next(bits for bits in range(20) if 2**bits >= len(codes))
            assert math.ceil(math.log2(round(span) + 1)) == wanted
    assert math.ceil(math.log2(round(Fraction(32, 10)) + 1)) == 2 and math.ceil(math.log2(2 / Fraction(2, 3) + 1)) == 2


def test_the_nine_weights_counted():
    assert Counter(W.ravel().tolist()) == {-1: 2, 0: 4, 1: 3}
    got = run("A3 4.3: sorting").tolist()
    assert all(a <= b for a, b in itertools.pairwise(got)) and Counter(got) == Counter(W.ravel().tolist())


def test_no_threshold_gives_the_printed_matrix():
    wanted = np.array(BY_HEADING["A3 4.3: pruning the matrix"].run.says)
    for theta in np.linspace(-2, 2, 401):
        for kept in (W >= theta, W > theta, W <= theta, W < theta, np.abs(W) > theta, np.abs(W) >= theta):
            assert not np.array_equal(W * kept, wanted)
    assert run("A3 4.3: pruning the matrix").tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    np.testing.assert_array_equal(W * pruning.threshold_mask(W, 0.049), W)


def test_the_codes_of_the_matrix_by_fractions():
    codes = run("A3 4.3: quantizing the matrix")
    for weight, code in zip(W.ravel(), codes.ravel(), strict=True):
        exact = Fraction(int(weight) + 1, 2) * 3
        assert abs(Fraction(int(code)) - exact) <= Fraction(1, 2)
    assert -1 + 2 * Fraction(2, 3) == Fraction(1, 3)  # what the code 2 of a weight 0 comes back as
    np.testing.assert_array_equal(fake_quantize(W, choose_qparams(W, bits=2)), W)


def test_the_numpy_code_fails_and_repaired_removes_the_largest():
    assert run("A3 5.2: pruning in NumPy") is IndexError and int(0.049 * 9) == 0
    flat = W.ravel().copy()
    order = np.argsort(flat)
    flat[order[int(0.5 * 9) :]] = 0  # flat, and half of them
    assert flat.max() <= 0 and np.count_nonzero(flat == -1) == 2  # every 1 is gone, both -1 are there
    assert W[pruning.magnitude_mask(W, 4 / 9)].tolist() == [1, -1, 1, -1, 1]


def test_the_numpy_quantizer_by_hand():
    got = run("A3 5.2, 5.4: quantizing in NumPy")  # the program hands it the pruned matrix, as printed
    pruned = np.array(BY_HEADING["A3 4.3: pruning the matrix"].run.says)
    of_all = printed.a3_5_2_quantize(W, 2)
    for weights, codes in ((pruned, got), (W, of_all)):
        assert all({1: 5, 0: 3, -1: -1}[int(w)] == q for w, q in zip(weights.ravel(), codes.ravel(), strict=True))
    assert [code * 2 - 1 for code in (3, 2, 0)] == [5, 3, -1]  # as printed, (b - a) = 2 and a = -1
    assert [code * Fraction(2, 3) - 1 for code in (3, 2, 0)] == [1, Fraction(1, 3), -1]  # with the division
    with np.errstate(invalid="ignore"):
        assert np.isnan(printed.a3_5_2_quantize(0 * W, 2)).all()  # what its own cut leaves, all zeros: 0 / 0


# ---------------------------------------------------------------- A4


def test_the_largest_code_does_not_fit():
    assert run("A4 3.1.1, 3.1.2: the formula") == 256 and np.array([256]).astype(np.uint8).item() == 0
    grid = QuantParams(scale=1 / 255, zero_point=0, bits=8, signed=False)
    for k in range(0, 101):
        x = Fraction(k, 100)
        distance = min(abs(Fraction(code, 255) - x) for code in range(256))
        assert abs(Fraction(int(quantize(float(x), grid)), 255) - x) - distance < Fraction(1, 10**6)


def test_a_quantized_loss_has_no_slope():
    losses = np.random.default_rng(0).random(200)
    inside = losses[np.abs((losses * 256) % 1 - 0.5) > 1e-3]  # away from the jumps
    assert len(inside) > 150 and all(printed.a4_3_1_slope(loss, 8) == 0 for loss in inside)


def test_the_five_numbers_by_fractions():
    numbers = [Fraction(k, 10) for k in range(1, 6)]
    codes = [math.floor(x / Fraction(1, 2) * 256 + Fraction(1, 2)) for x in numbers]
    normalized, got, back = run("A4 4.1: five numbers")
    assert got == codes == [51, 102, 154, 205, 256]
    np.testing.assert_allclose(normalized, [float(2 * x) for x in numbers])
    assert all(abs(b - float(2 * x)) <= 1 / 512 for b, x in zip(back, numbers, strict=True))  # twice the number
    values = [float(x) for x in numbers]
    grid = choose_qparams(values, symmetric=False)
    assert np.abs(fake_quantize(values, grid) - values).max() <= 0.5 / 255 / 2 * (1 + 1e-4)


# ---------------------------------------------------------------- other people's code


def test_the_toolkit_of_tensorflow_publishes_no_such_name():  # version 0.8.1, its modules; Keras is run below
    toolkit = {"clustering", "experimental", "quantization", "sparsity", "version"}
    ((imported, _),) = BY_HEADING["A0 5.2: quantizing it"].run.fails
    assert imported.startswith("from tensorflow_model_optimization import ") and imported.split()[-1] not in toolkit


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    os.environ["KERAS_BACKEND"] = "torch"  # before the import: there is no TensorFlow here
    os.environ["KERAS_HOME"] = str(
        tmp_path_factory.mktemp("keras")
    )  # where it writes its settings, not the user's home
    pytest.importorskip("torch")
    return pytest.importorskip("keras")


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_keras_refuses_images_that_are_not_flat_and_takes_flat_ones(keras):
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)])
    model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = np.ones((32, 28, 28), np.float32), np.zeros(32, int)
    calls = [lambda: model.fit(images, labels, verbose=0)]
    assert [raised(call) for call in calls] == [error for _, error in BY_HEADING["A0 5.2: the images"].run.fails]
    model.fit(images.reshape(32, 784), labels, verbose=0)


@pytest.mark.oracle
def test_keras_has_no_such_names_and_others_one_letter_away(keras):
    fails = BY_HEADING["A1 5.2, 5.4: quantizing the CNN"].run.fails
    for call, error in fails:
        *path, name = call.removeprefix("tf.keras.").split(".")
        module = getattr(keras, path[0]) if path else keras
        assert raised(lambda module=module, name=name: getattr(module, name)) is error
    assert hasattr(keras.quantizers, "QuantizationConfig") and hasattr(keras.Model, "quantize")


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_keras_quantizes_the_dense_layers_and_no_convolution(keras):
    layers = keras.layers
    cnn = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Flatten(), layers.Dense(10, activation="softmax")),
        ]
    )
    sizes = {layer.name: layer.count_params() for layer in cnn.layers}
    assert sum(sizes.values()) == 34_826  # articles.networks.cnn_32_64
    before = [layer.get_weights() for layer in cnn.layers]
    images = np.random.default_rng(0).random((64, 28, 28, 1)).astype(np.float32)
    floats = cnn.predict(images, verbose=0)
    cnn.quantize("int8")
    kernels = [layer.kernel for layer in cnn.layers if hasattr(layer, "kernel")]
    assert [keras.backend.standardize_dtype(kernel.dtype) for kernel in kernels] == ["float32", "float32", "int8"]
    for i in (0, 2):  # to the bit
        np.testing.assert_array_equal(cnn.layers[i].get_weights()[0], before[i][0])
    codes, weight = keras.ops.convert_to_numpy(kernels[-1]).astype(int), before[-1][0]
    assert codes.size == 16_000 and abs(codes).max(axis=0).min() == 127  # symmetric, one step for each of ten outputs
    steps = np.abs(weight).max(axis=0) / 127
    np.testing.assert_allclose(codes * steps, weight, atol=0.51 * steps.max())
    assert np.abs(cnn.predict(images, verbose=0) - floats).max() < 0.02


@pytest.mark.oracle
def test_pytorch_fails_where_the_record_says():
    torch = pytest.importorskip("torch")

    def digits():  # A2 4.1 and 4.2 use it without importing it
        return torchvision.datasets.MNIST  # noqa: F821

    def first_batch():
        maps = torch.nn.Sequential(
            *(torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
            *(torch.nn.Conv2d(32, 64, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()),
        )(torch.zeros(2, 1, 28, 28))
        assert maps.shape == (2, 64 * 5 * 5)
        return torch.nn.Linear(64 * 6 * 6, 10)(maps)

    state = torch.nn.Conv2d(1, 32, 3).state_dict()
    small, large = torch.nn.Linear(10, 10), torch.nn.Linear(10, 20)
    quantizing = [digits, first_batch, lambda: torch.min(state.values()), lambda: state["weight"].item()]
    distilling = [
        lambda: torch.optim.Adam(small.state_dict().parameters()),
        lambda: small.load_state_dict(large.state_dict()),
    ]
    for heading, calls in (
        ("A2 4.1: quantizing in PyTorch", quantizing),
        ("A4 4.2: distilling in PyTorch", distilling),
    ):
        assert [raised(call) for call in calls] == [error for _, error in BY_HEADING[heading].run.fails]
    assert state["weight"].numel() == 288


@pytest.mark.oracle
def test_the_repaired_pytorch_code_does_what_the_record_says():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(1, 32, 3), torch.nn.Conv2d(32, 64, 3), torch.nn.Linear(64 * 5 * 5, 10)
    state = {f"{i}.{name}": array for i, layer in enumerate(layers) for name, array in layer.state_dict().items()}
    lowest = min(array.min() for array in state.values())
    shifted = {name: torch.clamp(array - lowest, 0, 255) for name, array in state.items()}
    ours = printed.a2_4_1_clamp({name: array.numpy() for name, array in state.items()})
    for name, array in shifted.items():
        np.testing.assert_array_equal(array.numpy(), ours[name])
    assert 0.6 < max(float(array.max()) for array in shifted.values()) < 2 / 3
    assert all(float(array.std()) >= 0.01 for array in state.values())  # so nothing is pruned
    one = state["0.weight"][0, 0, 0, 0].item()
    assert raised(lambda: torch.clamp(one, 0, 255)) is TypeError  # one by one, no better


@pytest.mark.oracle
def test_a_bias_of_ten_numbers_can_be_narrow_and_no_weight_is():
    torch = pytest.importorskip("torch")
    narrow = []
    for seed in range(400):
        torch.manual_seed(seed)
        layers = torch.nn.Conv2d(1, 32, 3, 1), torch.nn.Conv2d(32, 64, 3, 1), torch.nn.Linear(64 * 5 * 5, 10)
        arrays = {f"{i}.{name}": a for i, layer in enumerate(layers) for name, a in layer.state_dict().items()}
        narrow += [name for name, array in arrays.items() if array.std() < 0.01]
    assert narrow == ["2.bias"] * 13


def raised(call):
    with pytest.raises(Exception) as caught:  # which one is what the test is about
        call()
    return caught.type
