"""The speed of a matrix product as records: a CSV file of them, and the figure drawn from it.

A record is a dict of COLUMNS. Its time is a median of one machine's; its ratio to float32 was measured side by side,
and is above 1 where the way is faster.
"""

import csv

from nnzip.book import plots
from nnzip.book.study import write_csv

COLUMNS = ("machine", "way", "M", "K", "N", "seconds", "operations_per_second", "ratio_to_float32")
NAME = "03_matmul_speed"


def speed_record(machine, way, size, seconds, ratio):  # size: M, K, N
    """Return a record; a product is 2 M K N operations, each multiplication and each addition one."""
    M, K, N = size
    return dict(zip(COLUMNS, (machine, way, M, K, N, seconds, 2 * M * K * N / seconds, ratio), strict=True))


def write_speed(records, folder):
    """Write the records and their figure into a folder that exists."""
    numbers = ("seconds", "operations_per_second", "ratio_to_float32")
    rows = [{**record, **{key: f"{record[key]:.6g}" for key in numbers}} for record in records]
    write_csv(rows, COLUMNS, folder / f"{NAME}.csv")
    plots.save_figure(plots.speed_curves(records), folder / f"{NAME}.png")


def read_speed(path):
    """Return the records of a CSV file that `write_speed` wrote."""
    types = {"machine": str, "way": str, "M": int, "K": int, "N": int}
    with open(path, encoding="utf-8", newline="") as file:
        return [{key: types.get(key, float)(value) for key, value in row.items()} for row in csv.DictReader(file)]
