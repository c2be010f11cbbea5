"""Speed, as ratios measured side by side: each round times one thing, then its peer, in the same process.

A machine's speed drifts, and the two of a pair drift together: the ratio of each round, and the median over the
rounds, can be trusted where single times cannot. Each turn begins with a short pause and one call that is not
counted: the threads of NumPy's BLAS and of PyTorch stay awake for a while after their work, and would take the cores
from one another.
"""

import os
import platform
import time

import numpy as np

from nnzip.checks import check_integer
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import lenet_5, lenet_300_100
from nnzip.nn.training import SGD, training_step

BATCH = 128
PAUSE = 0.2  # seconds
CALLS = 5


def side_by_side(ours, peer, *, rounds):
    """Return the median times of two functions in seconds, and the median of peer / ours: above 1, ours is faster."""
    rounds = check_integer(rounds, "rounds", 1)
    times = np.array([(_seconds(ours), _seconds(peer)) for _ in range(rounds)])  # [rounds, 2]
    return *np.median(times, axis=0), float(np.median(times[:, 1] / times[:, 0]))


def _seconds(function):
    """Return the median time of a few calls, after a pause and a call to warm up."""
    time.sleep(PAUSE)
    function()
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def run(*, rounds=40):
    """Yield a line of text for every row of the benchmark, as soon as it is measured."""
    rounds = check_integer(rounds, "rounds", 1)
    torch = _import_torch()
    yield f"{'':42}{'nnzip':>10}{'peer':>10}{'peer / nnzip':>15}"
    for name, ours, peer in training_rows(torch) + forward_rows(torch):
        if peer is None:
            mine = np.median([_seconds(ours) for _ in range(rounds)])
            yield f"{name:42}{1e3 * mine:7.2f} ms   (PyTorch is not installed)"
            continue
        mine, theirs, ratio = side_by_side(ours, peer, rounds=rounds)
        yield f"{name:42}{1e3 * mine:7.2f} ms{1e3 * theirs:7.2f} ms{ratio:12.2f} x"


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
    torch = _import_torch()
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


def _import_torch():
    try:
        import torch
    except ImportError:
        return None
    return torch
