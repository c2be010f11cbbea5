"""Prune every layer of a network to one sparsity: the smallest weights become zero, the biases stay."""

from nnzip.nn.network import check_network
from nnzip.pruning import magnitude_mask


def prune_network(network, sparsity):
    """Return a copy whose weight arrays each have the fraction `sparsity` of their smallest entries set to zero.

    Examples
    --------
    >>> from nnzip.nn.network import lenet_300_100
    >>> weight = prune_network(lenet_300_100(), 0.9).parameters()["5.weight"]
    >>> int((weight == 0).sum()), weight.size
    (900, 1000)
    """
    check_network(network)
    pruned = network.copy()
    for name, weight in pruned.parameters().items():
        if name.endswith("weight"):
            weight *= magnitude_mask(weight, sparsity)
    return pruned
