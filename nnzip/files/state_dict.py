"""State dicts: the weights of a network as .npz or .safetensors files, its own or PyTorch's.

In PyTorch, either of these writes a file that `load_state_dict` reads as it is:

    np.savez("net.npz", **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
    safetensors.torch.save_file(model.state_dict(), "net.safetensors")

An nn.Sequential names its tensors as a Network does ("0.weight", "0.bias", "2.weight"). A model with names of its own
("conv1.weight", "fc1.bias") is matched layer by layer, see `match_names`. Numbers are read only once names, types and
shapes fit, so that no file can ask for more memory than the network has.
"""

import re
from collections import defaultdict

import numpy as np

from nnzip.checks import real32
from nnzip.files.tensor_files import Stored, errors_name, open_tensors, suffix_of, write_tensors
from nnzip.nn.network import check_network


def save_state_dict(network, path):
    """Write the network's parameters, as float32, under their own names; .npz or .safetensors as `path` ends.

    The file appears at `path` whole or not at all. Raises ValueError for another suffix and for NaN or infinity.

    >>> import tempfile
    >>> from nnzip.nn.network import lenet_5
    >>> saved, other = lenet_5(seed=0), lenet_5(seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state_dict(saved, f"{folder}/lenet.npz")
    ...     load_state_dict(other, f"{folder}/lenet.npz")
    >>> bool((saved.parameters()["5.weight"] == other.parameters()["5.weight"]).all())
    True
    """
    check_network(network)
    write_tensors(path, stored_parameters(network))


def stored_parameters(network):  # -> {name: Stored}
    """Return a network's parameters, as float32, as if they were in a file; ValueError for NaN or infinity."""
    parameters = network.parameters().items()
    arrays = {name: real32(array, name).astype(np.float32, order="C") for name, array in parameters}
    return {name: Stored(array.shape, "float32", array.view) for name, array in arrays.items()}


def load_state_dict(network, path):
    """Copy the tensors of a .npz or .safetensors file into the network, nnzip's own files or PyTorch's.

    float16 and float64 tensors are rounded to float32. Nothing in the network changes if anything is refused.

    Raises FileNotFoundError; ValueError for another suffix, a damaged file, and tensors that are no floats, hold NaN
    or infinity or do not fit the network: then the names and shapes of both are listed.
    """
    check_network(network)
    ordered = suffix_of(path) == ".npz"
    wanted = {name: array.shape for name, array in network.parameters().items()}
    with open_tensors(path) as stored, errors_name(path):
        names = list(stored) if ordered else sorted(stored, key=_by_number)  # the file's own order is alphabetical
        found = {name: stored[name].shape for name in names if stored[name].dtype != "metadata"}
        names = match_names(found, wanted, ordered=ordered)
        for name in names.values():
            if stored[name].dtype not in ("float16", "float32", "float64"):
                raise ValueError(f"{name} holds {stored[name].dtype}; float16, float32 and float64 are read")
        network.load_parameters({own: stored[name].read() for own, name in names.items()})


def _by_number(name):  # a key that sorts "fc2.bias" before "fc10.bias": [("fc", 2), (".bias", 0), ("", 0)]
    return [(text, int(number or 0)) for text, number in re.findall("([^0-9]*)([0-9]*)", name)]


def match_names(found, wanted, *, ordered):  # {name: shape}, {name: shape} -> {wanted name: found name}
    """Say which tensor of a file belongs to which of the network.

    Equal names are matched by name. Otherwise whole layers ("conv1" with its weight and bias) are matched: in
    order if the shapes fit in that order, or else by shape if no two layers have the same shapes.

    ordered : whether the file keeps the model's order. safetensors sorts names, so there the order of two layers of the
        same shapes is taken from their numbers ("fc2" before "fc10"), and with other names ("up", "down") is unknown.

    Raises ValueError if the shapes do not fit or leave a choice.

    >>> match_names({"fc.bias": (2,), "fc.weight": (2, 3)}, {"0.weight": (2, 3), "0.bias": (2,)}, ordered=False)
    {'0.weight': 'fc.weight', '0.bias': 'fc.bias'}
    """
    if found == wanted:
        return {name: name for name in wanted}
    theirs, ours, layers = _layers(found), _layers(wanted), {}
    prefix_of = {shapes: prefix for prefix, shapes in theirs.items()}
    numbered = {(re.sub("[0-9]+", "#", prefix), shapes) for prefix, shapes in theirs.items()}
    ordered = ordered or len(numbered) == len(prefix_of)  # names of like layers differ in numbers alone
    if ordered and list(theirs.values()) == list(ours.values()):
        layers = dict(zip(ours, theirs, strict=True))
    elif len(prefix_of) == len(theirs) == len(ours) and prefix_of.keys() == set(ours.values()):
        layers = {prefix: prefix_of[shapes] for prefix, shapes in ours.items()}
    if not layers or found.keys() == wanted.keys():  # other shapes under the same names are another network's
        raise ValueError(f"its tensors do not fit: it has {_listing(found)}; the network wants {_listing(wanted)}")
    return {name: layers[_split(name)[0]] + _split(name)[1] for name in wanted}


def _layers(shapes):  # {"fc.weight": (2, 3), "fc.bias": (2,)} -> {"fc.": {("weight", (2, 3)), ("bias", (2,))}}
    layers = defaultdict(frozenset)
    for name, shape in shapes.items():
        prefix, leaf = _split(name)
        layers[prefix] |= {(leaf, shape)}
    return layers


def _split(name):  # "block.0.weight" -> "block.0.", "weight"
    start = name.rfind(".") + 1
    return name[:start], name[start:]


def _listing(shapes, limit=40):
    shown = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:limit])
    return (shown or "nothing") + (f" and {len(shapes) - limit} more" if len(shapes) > limit else "")
