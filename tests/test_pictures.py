"""Pictures of chapters say what the arrays say: numbers in them are read back and held against the library."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from pictures import archive as archive_pictures
from pictures import distillation, hadamard, integer, pruning, qat, quantization

from nnzip.compression.integer import integer_network
from nnzip.files import archive
from nnzip.hadamard import random_signs, rotate
from nnzip.nn.network import lenet_5
from nnzip.quantization import QuantParams, choose_qparams, fake_quantize


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts_of(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_the_number_line_has_every_code_and_where_each_number_goes():
    grid, x = QuantParams(0.25, 0, 3, True, narrow=True), np.array([-0.9, 0.04, 0.61])
    [axis] = quantization.number_line(x, grid).axes
    assert {str(code) for code in range(-3, 4)} <= set(texts_of(axis.figure))
    ends = [note.xy[0] for note in axis.texts if getattr(note, "arrow_patch", None)]
    np.testing.assert_allclose(ends, fake_quantize(x, grid))


def test_the_squares_are_the_rounded_weights_and_their_errors():
    weight = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    grids = {f"{bits} bits": choose_qparams(weight, bits=bits) for bits in (4, 2)}
    figure = quantization.weights_in_bits(weight, grids)
    shown = [
        np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images and axis.images[0].axes == axis
    ]
    rounded = [fake_quantize(weight, grid) for grid in grids.values()]
    for right in (weight, *rounded, *(r - weight for r in rounded)):
        assert any(image.shape == right.shape and np.array_equal(image, right) for image in shown)


def test_the_rotated_vector_is_on_a_finer_grid():
    x = np.array([0.1, -0.2, 4.0, 0.3])
    turned = rotate(x, random_signs(4, seed=0))
    left, right = hadamard.spread_out(x, turned, bits=4).axes
    assert f"{4 / 7:.2f}" in left.get_title("left") and f"{np.abs(turned).max() / 7:.2f}" in right.get_title("left")
    np.testing.assert_allclose([bar.get_height() for bar in right.patches], turned)


def test_the_masks_have_a_square_for_each_weight():
    mask = np.array([[True, False, True], [False, False, True]])
    [axis] = pruning.masks({"single weights": (mask, "3 values")}).axes
    kept = {(p.get_y(), p.get_x()) for p in axis.patches if p.get_facecolor()[:3] != (1, 1, 1)}
    assert kept == {(1 - row, column) for row, column in np.argwhere(mask).tolist()}


def test_the_path_of_an_image_shows_what_the_network_computes():
    images = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)
    network = integer_network(lenet_5(), images)
    codes = network.quantize_input(images[:1])
    said = "\n".join(texts_of(integer.path_of_an_image(network, codes)))
    for out in network.trace(codes):
        assert f"{' x '.join(map(str, out.shape[1:]))}\n{out.dtype}\n{out.min()} to {out.max()}" in said


def test_the_bar_is_as_long_as_the_file(tmp_path):
    size = archive.save(lenet_5(), tmp_path / "a.nnz")
    [axis] = archive_pictures.file_as_bar(archive.describe(tmp_path / "a.nnz")).axes
    assert axis.get_xlim()[1] == size == sum(bar.get_width() for bar in axis.patches)


def test_boxes_and_arrows_are_drawn():
    assert any("KL" in text for text in texts_of(distillation.teacher_and_student()))
    assert any("clipped" in text for text in texts_of(qat.straight_through_node()))
