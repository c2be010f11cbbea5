"""k-means against scikit-learn's, from the same start, and in ten tries against the optimum."""

import warnings

import numpy as np
import pytest

from nnzip.codebooks import assign, kmeans, lloyd_by_definition, look_up, optimal_codebook
from nnzip.nn.zoo import trained

pytestmark = pytest.mark.oracle


def sklearn_kmeans(x, start, iterations):
    cluster = pytest.importorskip("sklearn.cluster")
    fit = cluster.KMeans(len(start), init=start.reshape(-1, 1), n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
    with warnings.catch_warnings():  # of an iteration that has not converged
        warnings.simplefilter("ignore")
        fit.fit(np.ravel(x).reshape(-1, 1))
    order = np.argsort(fit.cluster_centers_[:, 0])
    return fit.cluster_centers_[order, 0], np.argsort(order)[fit.labels_], fit.inertia_


@pytest.mark.parametrize("iterations", [1, 3, 300])
@pytest.mark.parametrize("k", [2, 4, 16])
@pytest.mark.parametrize("init", ["density", "k-means++"])  # none of them leaves a cluster empty, which sklearn moves
def test_scikit_learn_gets_the_same_values_from_the_same_start(init, k, iterations):
    x = np.random.default_rng(k).normal(size=4000)
    start = kmeans(x, k, init=init, iterations=0).astype(np.float64)
    theirs, labels, inertia = sklearn_kmeans(x, start, iterations)
    ours = kmeans(x, k, init=init, iterations=iterations)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert np.mean(assign(x, ours) == labels) > 0.999  # its labels are those before the last move
    assert np.sum((x - look_up(assign(x, ours), ours)) ** 2) <= inertia * (1 + 1e-6)
    np.testing.assert_allclose(lloyd_by_definition(x, start), sklearn_kmeans(x, start, 1)[0], atol=1e-12)


@pytest.mark.parametrize("k", [2, 4, 16])
def test_scikit_learn_does_not_beat_the_optimum_in_ten_tries(k):
    cluster = pytest.importorskip("sklearn.cluster")
    weight = trained("lenet_300_100").parameters()["3.weight"]
    best = cluster.KMeans(k, n_init=10, random_state=0).fit(weight.reshape(-1, 1).astype(np.float64)).inertia_
    codebook = optimal_codebook(weight, k)
    error = np.sum((weight - look_up(assign(weight, codebook), codebook)).astype(np.float64) ** 2)
    assert error <= best * (1 + 1e-6) and error >= 0.9 * best
