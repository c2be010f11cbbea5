"""Speed, as ratios measured side by side: each round times one thing, then its peer, in the same process.

A machine's speed drifts, and the two of a pair drift together: the ratio of each round, and the median over the
rounds, can be trusted where single times cannot. Each turn begins with a short pause and one call that is not
counted: the threads of NumPy's BLAS and of PyTorch stay awake for a while after their work, and would take the cores
from one another.
"""

import importlib
import os
import platform
import tempfile
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from nnzip.book.speed import speed_record
from nnzip.checks import check_integer
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

BATCH = 128
PAUSE = 0.2  # seconds
CALLS = 5
SIZES = ((64, 784, 300), *((size, size, size) for size in (128, 256, 512, 1024, 2048)), (1, 4096, 4096))
INT32_SIZES = (256, 512, 1024)  # cubes: without BLAS the next one takes ten seconds
FLOATS = "float32 @"


def side_by_side(ours, peer, *, rounds, once=False):
    """Return the median times of two functions in seconds, and the median of peer / ours: above 1, ours is faster."""
    rounds = check_integer(rounds, "rounds", 1)
    times = np.array([(_seconds(ours, once), _seconds(peer, once)) for _ in range(rounds)])  # [rounds, 2]
    return *np.median(times, axis=0), float(np.median(times[:, 1] / times[:, 0]))


def _seconds(function, once=False):
    """Return the median time of a few calls, after a pause and a call to warm up; or, if it takes long, of one call."""
    time.sleep(PAUSE)
    if not once:
        function()
    times = []
    for _ in range(1 if once else CALLS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def run(*, rounds=10, records=None):
    """Yield a line of text for every row of the benchmark, as soon as it is measured.

    records : a list, optional, that is given a record of `nnzip.book.speed` for every matrix product
    """
    rounds = check_integer(rounds, "rounds", 1)
    records = [] if records is None else records
    torch = _import("torch")
    yield f"{'':46}{'nnzip':>11}{'peer':>11}{'peer / nnzip':>15}"
    for name, ours, peer in training_rows(torch) + forward_rows(torch):
        yield _line(name, ours, peer, rounds)
    yield f"\n{'products of int8 codes and int8 weights':46}{'this':>11}{'float32 @':>11}{'float32 / this':>15}"
    for size in SIZES:
        yield from _product_lines(size, rounds, records)
    yield f"\n{'':46}{'packed':>11}{'int32 @':>11}{'int32 / packed':>15}"
    for size in INT32_SIZES:
        yield _int32_line(size, min(rounds, 3), records)
    yield f"\n{'hadamard_transform, float32':46}{'nnzip':>11}{'peer':>11}{'peer / nnzip':>15}"
    for name, ours, peer in hadamard_rows():
        yield _line(name, ours, peer, min(rounds, 3) if "butterfly" in name else rounds)
    yield f"\n{'integer networks':46}{'integer':>11}{'peer':>11}{'peer / integer':>15}"
    for name, ours, peer in integer_rows(torch):
        yield _line(name, ours, peer, rounds)
    yield f"\n{'codebooks and codes':46}{'nnzip':>11}{'peer':>11}{'peer / nnzip':>15}"
    for name, ours, peer in [*kmeans_rows(), *coding_rows()]:
        yield _line(name, ours, peer, min(rounds, 3))  # a fit of the peer's takes seconds
    yield f"\n{'reconstruction':46}{'nnzip':>11}{'peer':>11}{'peer / nnzip':>15}"
    for name, ours, peer in gptq_rows(torch):
        yield _line(name, ours, peer, 1, once=True)


def _line(name, ours, peer, rounds, once=False):
    if peer is None:
        mine = np.median([_seconds(ours, once) for _ in range(rounds)])
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


def matmul_ways(M, K, N):
    """Return {name: function without arguments} for a product in every way there is here: any codes times weights."""
    a, b = _codes_and_weights(M, K, N)
    a_floats, b_floats, packed = a.astype(np.float32), b.astype(np.float32), pack(b)
    ways = {
        FLOATS: lambda: a_floats @ b_floats,
        "int8_matmul, packed": lambda: int8_matmul(a, packed, backend="numpy"),
        "int8_matmul, unpacked": lambda: int8_matmul(a, b, backend="numpy"),
    }
    if _import("numkong"):
        ways["int8_matmul, numkong"] = lambda: int8_matmul(a, packed, backend="numkong")
    if (torch := _import("torch")) and M > 16:  # what _int_mm asks for
        a_torch, b_torch = torch.from_numpy(a), torch.from_numpy(b)
        ways["torch._int_mm"] = lambda: torch._int_mm(a_torch, b_torch)
    if _import("onnx") and _import("onnxruntime"):
        unsigned = a.view(np.uint8) ^ 128
        for name, codes, precise in (
            ("int8 by int8", a, False),
            ("uint8 by int8", unsigned, False),
            ("uint8 by uint8", unsigned, True),
        ):
            session = onnx_session(_matmul_integer(codes, b), precise=precise)
            ways[f"ONNX Runtime, {name}"] = partial(session.run, None, {"a": codes})
    return ways


def onnx_session(model, *, precise=True):
    """Open an ONNX model of bytes. Precise: int8 weights become uint8 ones, exact on CPUs without VNNI too.

    There the product of uint8 codes and int8 weights adds neighbours in 16 bits, which saturate; nnzip.files.onnx.
    """
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _codes_and_weights(M, K, N):  # -> int8 [M, K], int8 [K, N]
    """Return uniform codes, and Gaussian weights quantized with a scale for each column, as those of a network are."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((K, N), np.float32)
    return rng.integers(-128, 128, (M, K), np.int8), quantize(weights, choose_qparams(weights, bits=8, axis=1))


def _matmul_integer(a, b):
    """Return an ONNX model of one product, MatMulInteger, of codes like a with weights b; uint8 codes mean a - 128."""
    from onnx import TensorProto, helper, numpy_helper

    zero_point = np.array(128 if a.dtype == np.uint8 else 0, a.dtype)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "zero_point"], ["y"])],
        "product",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), ["M", b.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["M", b.shape[1]])],
        [numpy_helper.from_array(b, "b"), numpy_helper.from_array(zero_point, "zero_point")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def matmul_rows(M, K, N):
    """Return (name, way, float32 @) for every integer way at one size; the name says what is wrong on this machine."""
    ways = matmul_ways(M, K, N)
    floats, exact = ways.pop(FLOATS), ways["int8_matmul, unpacked"]()
    named = {f"{name}{'' if np.array_equal(_first(way()), exact) else ', wrong'}": way for name, way in ways.items()}
    return [(name, way, floats) for name, way in named.items()]


def _first(result):  # of ONNX Runtime's list of outputs, or the array that others give
    return result[0] if isinstance(result, list) else result


def int32_row(size):
    """Return (int8_matmul packed, NumPy's int32 @) for square matrices."""
    a, b = _codes_and_weights(size, size, size)
    packed = pack(b)
    return lambda: int8_matmul(a, packed, backend="numpy"), lambda: matmul_as(a, b, np.int32)


def hadamard_rows():
    """Return (name, hadamard_transform, peer): the dense product, the butterfly of passes, and merely copying."""
    x, wide = (np.random.default_rng(0).random(shape, np.float32) for shape in ((4096, 4096), (4096, 784)))
    dense, small = (hadamard_matrix(n).astype(np.float32) for n in (4096, 784))
    ours = partial(hadamard_transform, x)
    return [
        ("4096 x 4096, x @ H", ours, lambda: x @ dense),
        ("4096 x 4096, butterfly", ours, partial(transform_by_butterfly, x)),
        ("4096 x 4096, x.copy()", ours, x.copy),
        ("4096 x 784, x @ H", partial(hadamard_transform, wide), lambda: wide @ small),
    ]


def kmeans_rows():
    """Return (name, ours, scikit-learn's): values and codes; ours stop at a lower error than its defaults do."""
    x, cluster = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32), _import("sklearn.cluster")

    def ours():
        codebook = kmeans(x, 16, init="density", iterations=100)
        return codebook, assign(x, codebook)

    peer = cluster and (lambda: cluster.KMeans(16, n_init=1, random_state=0).fit(x.reshape(-1, 1)))
    return [("k-means, 1,000,000 weights, 16 values", ours, peer)]


def coding_rows():
    """Return (name, ours, zlib's) for codes of Gaussian weights in 4 bits: to fewest bytes, and back."""
    weight = np.random.default_rng(0).normal(size=4_000_000).astype(np.float32)
    codes = (quantize(weight, choose_qparams(weight, bits=4)) + 7).astype(np.uint8)
    packed = pack_bits(codes, 4)
    ours, peers = encode(codes, alphabet=15), zlib.compress(packed)
    sizes = f"{len(ours) / 1e6:.2f} and {len(peers) / 1e6:.2f} MB"
    unpack = partial(unpack_bits, bits=4, count=len(codes))
    return [
        (
            f"4,000,000 codes, rANS and zlib, {sizes}",
            partial(encode, codes, alphabet=15),
            partial(zlib.compress, packed),
        ),
        ("the same, back", partial(decode, ours, len(codes), alphabet=15), lambda: unpack(zlib.decompress(peers))),
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


def size_name(M, K, N):
    """Return what a row calls the size of a product."""
    return f"{M} cubed" if M == K == N else f"{M} x {K} x {N}"


def integer_rows(torch):
    """Return (name, integer network, peer): its own float form, PyTorch in float, ONNX Runtime in the same integers."""
    rows = []
    for title, name in (("LeNet-300-100", "lenet_300_100"), ("LeNet-5", "lenet_5")):
        network, images = trained(name), load_mnist().test_images
        integer = integer_network(network, images[:500])  # a benchmark: any images give its speed
        session = _onnx_session(integer)
        for batch in (1, BATCH, 1000):
            x = images[:batch]
            codes = integer.quantize_input(x)
            ours = partial(integer.forward, codes)
            rows.append((f"{title}, batch {batch}, own float32", ours, partial(network.forward, x)))
            rows.append((f"{title}, batch {batch}, PyTorch float32", ours, torch and _torch_forward(torch, network, x)))
            peer = session and partial(session.run, ["logits"], {"images": x})
            rows.append((f"{title}, batch {batch}, ONNX Runtime int8", ours, peer))
    return rows


def _onnx_session(integer):
    """Return ONNX Runtime ready to run an integer network, None where it is not installed."""
    if not (_import("onnx") and _import("onnxruntime")):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        to_onnx(integer, path)
        return onnx_session(path.read_bytes())


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
            peer = torch and _torch_forward(torch, build(), images)
            rows.append((f"{name}, forward, batch {batch}", lambda n=network, x=images: n.forward(x), peer))
    return rows


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


def _torch_forward(torch, network, images):
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


def machine():
    """Return a line that names the machine: processor, cores, system, versions of Python, NumPy and its BLAS."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    torch = _import("torch")
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


def _import(name):
    """Return an optional package, None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
