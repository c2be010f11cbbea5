"""Searches: the Pareto front by its definition, every genome allowed and new, the same end however often killed."""

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nnzip.coding import entropy
from nnzip.compression import search
from nnzip.compression.quantization import quantize_weights
from nnzip.distillation import kl_divergence
from nnzip.jobs import run_jobs
from nnzip.nn.layers import Linear
from nnzip.nn.network import weights_of
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained

CHOICES = [6, 1, 9, 4]


def bowl(genome):  # two aims against each other
    near, far = np.array([4, 0, 7, 1]), np.array([0, 0, 2, 3])
    return {"a": float(np.sum((near - genome) ** 2)), "b": float(np.sum((far - genome) ** 2)), "sum": sum(genome)}


WAYS = {
    "evolution": functools.partial(search.evolve, objectives=["a", "b"], population=7),
    "one objective": functools.partial(search.evolve, objectives=["a"], population=7),
    "random": search.random_search,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_genome_is_in_range_and_new(way):
    found = WAYS[way](bowl, CHOICES, evaluations=60, seed=3)
    genomes = [tuple(record["genome"]) for record in found]
    assert len(found) == len(set(genomes)) == 60
    for record in found:
        assert all(0 <= gene < count for gene, count in zip(record["genome"], CHOICES, strict=True))
        assert {key: record[key] for key in ("a", "b", "sum")} == bowl(record["genome"])


@pytest.mark.parametrize("way", WAYS)
def test_a_seed_says_all_and_everything_is_found_when_all_is_asked_for(way):
    runs = [WAYS[way](bowl, CHOICES, evaluations=30, seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    found = WAYS[way](bowl, [2, 1, 3, 2], evaluations=12)
    assert len({tuple(record["genome"]) for record in found}) == 12
    with pytest.raises(ValueError, match="of the 12 genomes"):
        WAYS[way](bowl, [2, 1, 3, 2], evaluations=13)


def test_a_search_for_widths_does_not_train_on_what_is_held_out():
    for images in (0, -1, 55_001):
        with pytest.raises(ValueError, match="images must be from 1 to 55000"):
            search.search_widths(parameters=9000, evaluations=1, recipe={"images": images})


@pytest.mark.parametrize("objectives", ["ab", [], ["a", "b", "a"], None])
def test_objectives_are_one_name_or_two(objectives):
    with pytest.raises(ValueError, match="objectives must be one or two names"):
        search.evolve(bowl, CHOICES, objectives=objectives, evaluations=2)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_looked_at_that_is_not_allowed(way):
    looked = []

    def seen(genome):
        looked.append(genome)
        return bowl(genome)

    found = WAYS[way](seen, CHOICES, evaluations=20, allowed=lambda genome: sum(genome) % 2 == 1)
    assert len(looked) == 20 and all(sum(genome) % 2 == 1 for genome in looked)
    assert [record["genome"] for record in found] == looked
    with pytest.raises(ValueError, match="no new genome is allowed after 1"):
        WAYS[way](bowl, CHOICES, evaluations=9, allowed=lambda genome: not any(genome))


def test_evolution_finds_more_than_chance():
    choices, best = [12] * 6, {"evolution": [], "random": []}

    def far(genome):
        return {"a": sum(abs(gene - 5) for gene in genome)}

    for seed in range(8):
        runs = {"evolution": search.evolve(far, choices, objectives=["a"], evaluations=200, seed=seed)}
        runs["random"] = search.random_search(far, choices, evaluations=200, seed=seed)
        for way, found in runs.items():
            best[way].append(min(record["a"] for record in found))
    assert np.mean(best["evolution"]) < 0.5 * np.mean(best["random"])


def test_parents_are_the_fronts_one_after_the_other():
    points = [(0, 5), (1, 1), (5, 0), (1, 2), (2, 2), (6, 6)]  # fronts: 0 1 2; then 3; then 4; then 5
    found = [{"genome": [i], "a": a, "b": b} for i, (a, b) in enumerate(points)]
    for count, expected in ((1, 3), (3, 3), (4, 4), (5, 5), (9, 6)):
        parents = search.best_parents(found, ["a", "b"], count)
        assert sorted(parents.ravel().tolist()) == list(range(expected))
    assert search.best_parents(found, ["b"], 2).ravel().tolist() == [2, 1]


def test_children_are_made_of_their_parents_and_steps():
    rng = np.random.default_rng(0)
    children = np.array([search.child_of(np.full(5, 2), np.full(5, 8), [10] * 5, rng) for _ in range(4000)])
    assert set(np.unique(children)) == {0, 1, 2, 3, 4, 6, 7, 8, 9}
    inherited = np.isin(children, (2, 8))
    assert 0.17 < 1 - inherited.mean() < 0.23  # one gene of five moves
    assert 0.47 < (children < 5).mean() < 0.53


def logged(log, executor=None):
    return functools.partial(run_jobs, log=log, executor=executor)


@pytest.mark.parametrize("way", WAYS)
def test_a_search_killed_at_any_moment_ends_the_same(way, tmp_path):
    search_for = functools.partial(WAYS[way], choices=CHOICES, evaluations=25, seed=5)
    whole = search_for(bowl, run=logged(tmp_path / "whole.jsonl"))
    data, log, calls = (tmp_path / "whole.jsonl").read_bytes(), tmp_path / "cut.jsonl", []
    assert whole == search_for(bowl)

    @functools.wraps(bowl)
    def counted(genome):
        calls.append(genome)
        return bowl(genome)

    for kept in (0, 5, len(data) // 3, len(data) // 2, len(data) - 4, len(data)):
        log.write_bytes(data[:kept])
        calls.clear()
        assert search_for(counted, run=logged(log)) == whole
        assert len(calls) == 25 - max(0, data[:kept].count(b"\n") - 1)  # the first line is the head
        assert len(log.read_bytes().splitlines()) == 26
    with ThreadPoolExecutor(3) as executor:
        log.write_bytes(data[: len(data) // 2])
        assert search_for(bowl, run=logged(log, executor)) == search_for(bowl, run=executor.map) == whole


def test_bits_are_measured_as_the_library_does(digits, test_set):
    network = trained("lenet_300_100", seed=1)
    found = search.measure_bits([2, 0, 2, 0, 2, 0], name="lenet_300_100", network_seed=1, images=200)
    rounded = quantize_weights(network, bits=search.BITS[2])
    images = digits.train_images[:200]
    assert found["loss"] == pytest.approx(kl_divergence(network.forward(images), rounded.forward(images))[0], rel=1e-4)
    assert found["test_error"] == evaluate(rounded, *test_set)
    assert found["train_error"] == evaluate(rounded, images, digits.train_labels[:200])


def test_bytes_are_near_the_entropy_and_fall_with_every_zero():
    network, sizes = trained("lenet_300_100"), []
    for sparsity in (0, 2, 5):
        genome = [1, sparsity, 3, sparsity, 5, sparsity]
        assert search.genes_of(genome) == [(search.BITS[b], search.SPARSITIES[sparsity]) for b in (1, 3, 5)]
        sizes.append(search.measure_bits(genome, name="lenet_300_100", network_seed=0, images=10)["bytes"])
    assert np.all(np.diff(sizes) < 0)
    least = 0
    for weight, bits in zip(weights_of(network).values(), (3, 5, 8), strict=True):
        codes = np.rint(weight / np.abs(weight).max(axis=1, keepdims=True) * (2 ** (bits - 1) - 1))
        least += entropy(codes) * weight.size / 8 + 8 * len(weight)
    assert least <= sizes[0] <= 1.03 * least


def test_an_mlp_has_the_layers_and_parameters_asked_for():
    for widths in ([0, 0, 0], [8, 0, 0], [16, 8, 0], [12, 4, 96]):
        network = search.mlp(widths)
        assert search.parameters_of(widths) == sum(array.size for array in network.parameters().values())
        linears = [layer for layer in network.layers if isinstance(layer, Linear)]
        assert [layer.params["weight"].shape[0] for layer in linears] == [w for w in widths if w] + [10]
        assert network.forward(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)


def test_layers_that_are_not_there_come_last():
    for genome in itertools.product((0, 1, 5), repeat=3):
        ends = "".join("0" if gene == 0 else "1" for gene in genome).rstrip("0")
        assert search.fits(list(genome), 10**6) == ("0" not in ends)


@pytest.mark.parametrize("way", search.WAYS)
def test_widths_keep_to_the_parameters_and_learn(way):
    recipe = {"images": 1000, "epochs": 3}
    found = search.search_widths(parameters=12_000, evaluations=11, way=way, recipe=recipe, seed=2)
    assert len(found) == 11
    for record in found:
        widths = [search.WIDTHS[gene] for gene in record["genome"]]
        assert record["parameters"] == search.parameters_of(widths) <= 12_000
        assert widths == [w for w in widths if w] + [0] * widths.count(0)
    assert min(record["error"] for record in found) < 0.5
    again = search.measure_widths(found[0]["genome"], rate=0.1, seed=0, **recipe)
    assert again == {key: found[0][key] for key in again}


def test_bits_are_searched_over_every_layer():
    found = search.search_bits("lenet_300_100", evaluations=2, images=20, seed=4)
    assert [len(record["genome"]) for record in found] == [6] * 2
    with pytest.raises(ValueError, match="way must be one of evolution, random"):
        search.search_bits("lenet_300_100", evaluations=2, way="chance")
