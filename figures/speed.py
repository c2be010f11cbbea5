"""Speed: matrix products, networks, transforms and coders beside their peers, and the records of chapter 03's figure.

    python figures/speed.py                          prints a row for each pair, some ten minutes
    python figures/speed.py --output figures         and writes 03_matmul_speed.csv and .png there

A record's time is a median of one machine's; its ratio to float32 was measured side by side (nnzip.book.bench), and is
above 1 where the way is faster.
"""

import argparse
import os
import platform
import tempfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from nnzip.book import plots
from nnzip.book.bench import (
    FLOATS,
    codes_and_weights,
    import_or_none,
    matmul_ways,
    onnx_session,
    seconds_of,
    side_by_side,
    size_name,
)
from nnzip.book.records import write_csv
from nnzip.checks import whole
from nnzip.codebooks import assign, kmeans
from nnzip.coding import decode, encode, pack_bits, unpack_bits
from nnzip.compression.integer import integer_network
from nnzip.data import load_mnist
from nnzip.files.onnx import to_onnx
from nnzip.hadamard import hadamard_matrix, hadamard_transform, transform_by_butterfly
from nnzip.matmul import int8_matmul, matmul_as, pack
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import lenet_5, lenet_300_100
from nnzip.nn.training import SGD, training_step
from nnzip.nn.zoo import trained
from nnzip.quantization import choose_qparams, quantize
from nnzip.reconstruction import gptq, input_hessian

SIZES = ((64, 784, 300), *((size, size, size) for size in (128, 256, 512, 1024, 2048)), (1, 4096, 4096))
INT32_SIZES = (256, 512, 1024)  # cubes: without BLAS the next one takes ten seconds
COLUMNS = ("machine", "way", "M", "K", "N", "seconds", "operations_per_second", "ratio_to_float32")
NAME = "03_matmul_speed"
BATCH = 128


def run(*, rounds=10, records=None):
    """Yield a line of text for every row of the benchmark, as soon as it is measured.

    records : a list, optional, that is given a record for every matrix product
    """
    rounds, records = whole(1)(rounds, "rounds"), [] if records is None else records
    torch, few = import_or_none("torch"), min(rounds, 3)
    yield _head("", "nnzip", "peer")
    for name, ours, peer in training_rows(torch) + forward_rows(torch):
        yield _line(name, ours, peer, rounds)
    yield _head("products of int8 codes and int8 weights", "this", "float32 @")
    for size in SIZES:
        yield from _product_lines(size, rounds, records)
    yield _head("", "packed", "int32 @")
    for size in INT32_SIZES:
        yield _int32_line(size, few, records)
    yield _head("hadamard_transform, float32", "nnzip", "peer")
    for name, ours, peer in hadamard_rows():
        yield _line(name, ours, peer, few if "butterfly" in name else rounds)
    yield _head("integer networks", "integer", "peer")
    for name, ours, peer in integer_rows():
        yield _line(name, ours, peer, rounds)
    yield _head("codebooks and codes", "nnzip", "peer")
    for name, ours, peer in [*kmeans_rows(), *coding_rows()]:
        yield _line(name, ours, peer, few)  # a fit of the peer's takes seconds
    yield _head("reconstruction", "nnzip", "peer")
    for name, ours, peer in gptq_rows(torch):
        yield _line(name, ours, peer, 1, once=True)


def _head(title, ours, peer):
    return f"\n{title:46}{ours:>11}{peer:>11}{peer.removesuffix(' @') + ' / ' + ours:>15}"


def _line(name, ours, peer, rounds, once=False):
    if peer is None:
        mine = np.median([seconds_of(ours, once) for _ in range(rounds)])
        return f"{name:46}{_time(mine)}   (the peer is not installed)"
    return _text(name, *side_by_side(ours, peer, rounds=rounds, once=once))


def _text(name, mine, theirs, ratio):
    return f"{name:46}{_time(mine)}{_time(theirs)}{ratio:12.2f} x"


def _time(seconds):  # -> eleven characters
    return f"{1e3 * seconds:8.2f} ms" if seconds < 10 else f"{seconds:8.2f} s "


def _product_lines(size, rounds, records):
    """Measure every way at one size; the record of the floats has the median of their times beside each way."""
    found, float_seconds = [], []
    for name, way, floats in matmul_rows(*size):
        mine, theirs, ratio = side_by_side(way, floats, rounds=rounds)
        yield _text(f"{name}, {size_name(*size)}", mine, theirs, ratio)
        found.append(speed_record(machine(), name, size, mine, ratio))
        float_seconds.append(theirs)
    records += [speed_record(machine(), FLOATS, size, float(np.median(float_seconds)), 1.0), *found]


def _int32_line(size, rounds, records):
    cube = (size, size, size)
    mine, theirs, ratio = side_by_side(*int32_row(size), rounds=rounds)
    for record in [r for r in records if r["way"] == FLOATS and (r["M"], r["K"], r["N"]) == cube]:
        records.append(speed_record(machine(), "int32 @", cube, theirs, record["seconds"] / theirs))
    return _text(f"int8_matmul, {size_name(*cube)}", mine, theirs, ratio)


def matmul_rows(M, K, N):
    """Return (name, way, float32 @) for every integer way at one size; the name says what is wrong on this machine."""
    ways = matmul_ways(M, K, N)
    floats, exact = ways.pop(FLOATS), ways["int8_matmul, unpacked"]()
    return [(name if np.array_equal(way(), exact) else f"{name}, wrong", way, floats) for name, way in ways.items()]


def int32_row(size):
    """Return (int8_matmul packed, NumPy's int32 @) for square matrices."""
    a, b = codes_and_weights(size, size, size)
    packed = pack(b)
    return lambda: int8_matmul(a, packed, backend="numpy"), lambda: matmul_as(a, b, np.int32)


def training_rows(torch):
    """Return (name, ours, PyTorch's) for a training step: forward, cross-entropy, backward, SGD with momentum."""
    return [
        (f"{name}, training step, batch {BATCH}", _our_step(build()), torch and _torch_step(torch, build()))
        for name, build in (("LeNet-300-100", lenet_300_100), ("LeNet-5", lenet_5))
    ]


def forward_rows(torch):
    """Return (name, ours, PyTorch's) for a forward pass without gradients."""
    rows = []
    for name, build in (("LeNet-300-100", lenet_300_100), ("LeNet-5", lenet_5)):
        for batch in (1, 1000):
            network, (images, _) = build(), _batch(batch)
            peer = torch and torch_forward(torch, build(), images)
            rows.append((f"{name}, forward, batch {batch}", lambda n=network, x=images: n.forward(x), peer))
    return rows


def hadamard_rows(size=4096):
    """Return (name, hadamard_transform, peer): the dense product, the butterfly of passes, and merely copying."""
    x, wide = (np.random.default_rng(0).random((size, width), np.float32) for width in (size, 784))
    dense, small = (hadamard_matrix(n).astype(np.float32) for n in (size, 784))
    ours = partial(hadamard_transform, x)
    return [
        (f"{size} x {size}, x @ H", ours, lambda: x @ dense),
        (f"{size} x {size}, butterfly", ours, partial(transform_by_butterfly, x)),
        (f"{size} x {size}, x.copy()", ours, x.copy),
        (f"{size} x 784, x @ H", partial(hadamard_transform, wide), lambda: wide @ small),
    ]


def integer_rows():
    """Return (name, integer network, peer): its own float form, and ONNX Runtime in the same integers, or None."""
    rows, images = [], load_mnist().test_images
    for title, name in (("LeNet-300-100", "lenet_300_100"), ("LeNet-5", "lenet_5")):
        network = trained(name)
        integer = integer_network(network, images[:500])  # a benchmark: any images give its speed
        session = _onnx_network(integer)
        for batch in (1, BATCH, 1000):
            x = images[:batch]
            ours = partial(integer.forward, integer.quantize_input(x))
            peer = session and partial(session.run, ["logits"], {"images": x})
            rows.append((f"{title}, batch {batch}, own float32", ours, partial(network.forward, x)))
            rows.append((f"{title}, batch {batch}, ONNX Runtime int8", ours, peer))
    return rows


def _onnx_network(integer):
    """Return ONNX Runtime ready to run an integer network, None where it is not installed."""
    if not (import_or_none("onnx") and import_or_none("onnxruntime")):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        to_onnx(integer, path)
        return onnx_session(path.read_bytes())


def kmeans_rows(size=1_000_000):
    """Return (name, ours, scikit-learn's): values and codes; ours stop at a lower error than its defaults do."""
    x, cluster = np.random.default_rng(0).normal(size=size).astype(np.float32), import_or_none("sklearn.cluster")

    def ours():
        codebook = kmeans(x, 16, init="density", iterations=100)
        return codebook, assign(x, codebook)

    peer = cluster and (lambda: cluster.KMeans(16, n_init=1, random_state=0).fit(x.reshape(-1, 1)))
    return [(f"k-means, {size:,} weights, 16 values", ours, peer)]


def coding_rows(size=4_000_000):
    """Return (name, ours, zlib's) for codes of Gaussian weights in 4 bits: to fewest bytes, and back."""
    weight = np.random.default_rng(0).normal(size=size).astype(np.float32)
    codes = (quantize(weight, choose_qparams(weight, bits=4)) + 7).astype(np.uint8)
    packed = pack_bits(codes, 4)
    ours, peers = encode(codes, alphabet=15), zlib.compress(packed)
    name = f"{size:,} codes, rANS and zlib, {len(ours) / 1e6:.2f} and {len(peers) / 1e6:.2f} MB"
    return [
        (name, partial(encode, codes, alphabet=15), partial(zlib.compress, packed)),
        (
            "the same, back",
            partial(decode, ours, size, alphabet=15),
            lambda: unpack_bits(zlib.decompress(peers), 4, size),
        ),
    ]


def gptq_rows(torch, size=4096):
    """Return (name, gptq, the published way in PyTorch) for a layer whose inputs have 64 directions and some noise."""
    rng = np.random.default_rng(0)
    weight, mix, noise = (rng.standard_normal((rows, size), np.float32) for rows in (size, 64, size // 2))
    hessian = input_hessian(rng.standard_normal((size // 2, 64), np.float32) @ mix + noise)
    grid = choose_qparams(weight, bits=4, axis=0)
    peer = torch and partial(_torch_gptq, torch, weight, hessian, grid)
    return [(f"GPTQ, {size} x {size}, 4 bits, PyTorch float32", partial(gptq, weight, hessian, grid), peer)]


def _torch_gptq(torch, weight, hessian, grid):
    """Frantar et al. 2023, Algorithm 1, re-expressed: errors go on within their block at once, then to all the rest."""
    left, hessian = torch.tensor(weight), torch.tensor(hessian, dtype=torch.float32)
    scale, rounded = torch.tensor(grid.scale).reshape(-1), torch.empty_like(left)
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    for start in range(0, len(hessian), 128):
        now, rest = slice(start, start + 128), slice(start + 128, None)
        block, factor = left[:, now].clone(), upper[now, now]
        on_grid, errors = torch.empty_like(block), torch.empty_like(block)
        for k in range(len(factor)):
            on_grid[:, k] = scale * torch.clamp(torch.round(block[:, k] / scale), grid.qmin, grid.qmax)
            errors[:, k] = (block[:, k] - on_grid[:, k]) / factor[k, k]
            block[:, k:] -= torch.outer(errors[:, k], factor[k, k:])
        rounded[:, now] = on_grid
        left[:, rest] -= errors @ upper[now, rest]
    return rounded.numpy()


def torch_forward(torch, network, images):
    """Return a function without arguments: the same network in PyTorch on these images."""
    model, images = torch_twin(torch, network), torch.from_numpy(images)

    def forward():
        with torch.inference_mode():
            model(images)

    return forward


def torch_twin(torch, network):
    """Return the same network as a torch.nn.Sequential, with the same weights."""
    build = {
        Linear: lambda layer: torch.nn.Linear(layer.in_features, layer.out_features),
        Conv2d: lambda layer: torch.nn.Conv2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, stride=layer.stride, padding=layer.padding
        ),
        ReLU: lambda layer: torch.nn.ReLU(),
        MaxPool2d: lambda layer: torch.nn.MaxPool2d(layer.size),
        Flatten: lambda layer: torch.nn.Flatten(),
    }
    twin = torch.nn.Sequential(*[build[type(layer)](layer) for layer in network.layers])
    twin.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in network.parameters().items()})
    return twin


def _batch(size):
    rng = np.random.default_rng(0)
    return rng.random((size, 1, 28, 28), np.float32), rng.integers(0, 10, size)


def _our_step(network):
    images, labels = _batch(BATCH)
    optimizer = SGD(0.01)
    return lambda: training_step(network, images, labels, np.arange(BATCH), optimizer)


def _torch_step(torch, network):
    model = torch_twin(torch, network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = (torch.from_numpy(array) for array in _batch(BATCH))

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def machine():
    """Return a line that names the machine: processor, cores, system, versions of Python, NumPy and its BLAS."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    torch = import_or_none("torch")
    peers = f", PyTorch {torch.__version__} with {torch.get_num_threads()} threads" if torch else ""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__} ({blas['name']} {blas['version']}){peers}"
    )


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a processor without a name
        return platform.processor() or platform.machine()


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


def main(arguments=None):
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(prog="python figures/speed.py", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="how often each pair is measured (default: 10)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where to write 03_matmul_speed.csv and .png")
    asked = parser.parse_args(arguments)
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)  # before minutes of measuring, not after
    print(machine())
    records = []
    for row in run(rounds=asked.rounds, records=records):
        print(row, flush=True)
    if asked.output:
        write_speed(records, asked.output)


if __name__ == "__main__":
    main()
