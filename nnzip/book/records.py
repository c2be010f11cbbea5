"""Records: lists of dicts, written to CSV files and read back, with the type that each column has."""

import csv
import io

from nnzip.atomic import atomic_write

INTEGERS = ("seed", "bits", "bytes", "M", "K", "N", "network_seed", "number", "parameters", "epochs", "cpu_seconds")
FLOATS = ("sparsity", "error", "sqnr_db", "zeros", "loss", "train_error", "test_error", "seconds", "times")
FLOATS += ("operations_per_second", "ratio_to_float32", "error_0", "error_1", "error_2", "beside", "rate", "l2")
FLOATS += ("held_out_error", "limit")
TYPES = dict.fromkeys(INTEGERS, int) | dict.fromkeys(FLOATS, float)
TYPES["genome"] = lambda text: [int(gene) for gene in text.split()]


def read_records(path):
    """Return the records of a CSV file: numbers in the columns of numbers, genomes as lists of int, text elsewhere."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{key: TYPES.get(key, str)(value) for key, value in row.items()} for row in csv.DictReader(file)]


def write_csv(rows, columns, path):
    """Write dicts as a CSV file, whole or not at all."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def select(records, **wanted):
    """Return the records that have these values, such as `technique="per_channel", sparsity=0.0`."""
    return [record for record in records if all(record[key] == value for key, value in wanted.items())]
