"""The committed networks: there, whole, and as good as they are said to be; and the way to make them again."""

import numpy as np
import pytest

from nnzip.data import Mnist
from nnzip.nn import zoo
from nnzip.nn.network import lenet_300_100
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import BUILD, RECIPES, SEEDS, save, train, trained

# LeCun et al. 1998 has 3.05 % for 784-300-100-10 and 0.95 % for LeNet-5, Han et al. 2015 1.64 % and 0.80 %
WORST = {"lenet_300_100": 0.016, "lenet_5": 0.008}


@pytest.fixture
def short_recipe(monkeypatch, digits):
    """Let the zoo train for one epoch on 500 images."""
    monkeypatch.setattr(zoo, "RECIPES", {name: {**recipe, "epochs": 1} for name, recipe in RECIPES.items()})
    monkeypatch.setattr(
        zoo, "load_mnist", lambda: Mnist(*(array[:500] for array in digits[:2]), *(array[:100] for array in digits[2:]))
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", BUILD)
def test_a_committed_network_is_there_in_float32(name, seed):
    for array in trained(name, seed=seed).parameters().values():  # names and shapes: `load_parameters` asks for them
        assert array.dtype == np.float32 and array.any()


@pytest.mark.parametrize(  # the other two convolutional ones: test_nn_oracles.py
    ("name", "seed"), [("lenet_300_100", 0), ("lenet_300_100", 1), ("lenet_300_100", 2), ("lenet_5", 0)]
)
def test_a_committed_network_errs_no_more_than_those_of_the_papers(name, seed, test_set):
    assert evaluate(trained(name, seed=seed), *test_set) <= WORST[name]


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("lenet", {}, ValueError, "name must be one of lenet_300_100, lenet_5, got 'lenet'"),
        ("lenet_5", {"seed": 3}, ValueError, "seed must be one of 0, 1, 2, got 3"),
    ],
)
def test_networks_that_are_not_there_are_refused(name, options, error, message):
    with pytest.raises(error, match=message):
        trained(name, **options)


@pytest.mark.parametrize("name", BUILD)
def test_the_recipe_and_the_seed_are_followed(name, short_recipe, monkeypatch):
    calls = []
    monkeypatch.setattr(zoo, "fit", lambda network, data, **options: calls.append(options))
    network = train(name, seed=5, progress=False)
    np.testing.assert_equal(network.parameters(), BUILD[name](seed=5).parameters())
    [options] = calls
    assert (options["seed"], options["epochs"], options["progress"]) == (5, 1, False)
    optimizer = options["optimizer"]
    assert (optimizer.rate, optimizer.l2) == (RECIPES[name]["rate"], RECIPES[name]["l2"])


def test_the_same_network_is_trained_again_and_shows_how_far_it_is(short_recipe, digits, capsys):
    start, network = lenet_300_100(seed=7), train("lenet_300_100", seed=7, progress=False)
    assert evaluate(network, *digits[2:]) < evaluate(start, *digits[2:])
    assert capsys.readouterr().err == ""
    again = train("lenet_300_100", seed=7, progress=True)
    np.testing.assert_equal(network.parameters(), again.parameters())
    assert "epoch   1/1" in capsys.readouterr().err


def test_what_save_writes_trained_loads(tmp_path, monkeypatch):
    network = lenet_300_100(seed=9)
    path = save(network, "lenet_300_100", seed=2, folder=tmp_path)
    assert path == tmp_path / "lenet_300_100_seed2.npz"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    monkeypatch.setattr(zoo, "FOLDER", path.parent)
    np.testing.assert_equal(trained("lenet_300_100", seed=2).parameters(), network.parameters())
