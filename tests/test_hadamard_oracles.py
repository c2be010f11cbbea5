"""Hadamard matrices against SciPy's."""

import numpy as np
import pytest

from nnzip.hadamard import hadamard_matrix, hadamard_transform, transform_by_butterfly

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("k", range(12))
def test_scipy_has_the_same_matrix_for_every_power_of_two(k):
    linalg = pytest.importorskip("scipy.linalg")
    assert np.array_equal(hadamard_matrix(2**k), linalg.hadamard(2**k))


@pytest.mark.parametrize("n", [2, 64, 1024, 4096])
def test_both_fast_transforms_are_the_product_with_scipys_matrix(n):
    linalg = pytest.importorskip("scipy.linalg")
    x = np.random.default_rng(n).normal(size=(3, n))
    expected = x @ linalg.hadamard(n) / np.sqrt(n)
    np.testing.assert_allclose(hadamard_transform(x), expected, atol=1e-12)
    np.testing.assert_allclose(hadamard_transform(x, inverse=True), expected, atol=1e-12)
    np.testing.assert_allclose(transform_by_butterfly(x), expected, atol=1e-12)
