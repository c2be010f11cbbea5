"""A student's function inside the book: in the place of nnzip's own, and a figure of the book drawn with it."""

import contextlib
import sys
from pathlib import Path

from nnzip.book.plots import error_curves
from nnzip.book.records import read_records, select
from nnzip.book.report import SIGNATURES
from nnzip.book.study import error_grid
from nnzip.book.techniques import FLOAT
from nnzip.data import load_mnist
from nnzip.nn.zoo import trained

FIGURES = Path(__file__).resolve().parents[2] / "figures"
BITS, ZEROS = (2, 3, 4, 6, 8, FLOAT), (0, 0.5, 0.7, 0.8, 0.9, 0.95)
CAPTION = "Dashed: the float network; grey: what 10,000 test images cannot tell from it; dotted: guessing"


@contextlib.contextmanager
def in_place_of(reference, function):
    """Put a function in the place of nnzip's own, in every module that uses it, for the length of a block."""
    places = [
        (module, name)
        for key, module in list(sys.modules.items())
        if key.split(".")[0] == "nnzip"
        for name, value in list(vars(module).items())
        if value is reference
    ]
    for module, name in places:
        setattr(module, name, function)
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, reference)


def signature_of(reference, function, *, technique, stem):
    """Return the two columns of a chapter's figure, of the MLP, seed 0: with a student's function, and with the book's.

    Both are drawn at the same points.
    """
    network, data = trained("lenet_300_100"), load_mnist()
    look = {"sparsity": 0.0, "bits": 4, **SIGNATURES[stem]}
    with in_place_of(reference, function):
        left = error_grid(network, data, technique=technique, bits=BITS, sparsities=(look["sparsity"],))
        right = error_grid(network, data, technique=technique, bits=(look["bits"],), sparsities=ZEROS)
        right += error_grid(network, data, technique=technique, bits=(FLOAT,), sparsities=(0,))  # the dashed line
    own = [{**record, "network": "lenet_300_100", "seed": 0, "technique": "yours"} for record in left + right]
    book = select(read_records(FIGURES / f"{stem}.csv"), network="lenet_300_100", seed=0, technique=technique)
    points = {(record["bits"], record["sparsity"]) for record in own}
    book = [record for record in book if (record["bits"], record["sparsity"]) in points]
    look["titles"] = "Your line should lie on the book's", "Both at the same points"
    figure = error_curves(
        book + own, **look, names={technique: "the book's", "yours": f"with your {reference.__name__}"}
    )
    figure.supxlabel(CAPTION, fontsize=8)
    return figure
