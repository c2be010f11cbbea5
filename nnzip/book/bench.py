"""Speed, as ratios measured side by side: each round times one thing, then its peer, in the same process.

A machine's speed drifts, and the two of a pair drift together: the ratio of each round, and the median over the
rounds, can be trusted where single times cannot. Each turn begins with a short pause and one call that is not
counted: the threads of NumPy's BLAS and of PyTorch stay awake for a while after their work, and would take the cores
from one another.
"""

import importlib
import time
from functools import partial

import numpy as np

from nnzip.checks import door, whole
from nnzip.matmul import int8_matmul, pack
from nnzip.quantization import choose_qparams, quantize

PAUSE = 0.2  # seconds
CALLS = 5
FLOATS = "float32 @"


@door
def side_by_side(ours, peer, *, rounds: whole(1), once=False):
    """Return the median times of two functions in seconds, and the median of peer / ours: above 1, ours is faster."""
    times = np.array([(seconds_of(ours, once), seconds_of(peer, once)) for _ in range(rounds)])  # [rounds, 2]
    return *np.median(times, axis=0), float(np.median(times[:, 1] / times[:, 0]))


def seconds_of(function, once=False):
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


def size_name(M, K, N):
    """Return what a row calls the size of a product."""
    return f"{M} cubed" if M == K == N else f"{M} x {K} x {N}"


def matmul_ways(M, K, N):
    """Return {name: function without arguments} for a product in every way there is here: any codes times weights."""
    a, b = codes_and_weights(M, K, N)
    a_floats, b_floats, packed = a.astype(np.float32), b.astype(np.float32), pack(b)
    ways = {
        FLOATS: lambda: a_floats @ b_floats,
        "int8_matmul, packed": lambda: int8_matmul(a, packed, backend="numpy"),
        "int8_matmul, unpacked": lambda: int8_matmul(a, b, backend="numpy"),
    }
    if import_or_none("numkong"):
        ways["int8_matmul, numkong"] = lambda: int8_matmul(a, packed, backend="numkong")
    if (torch := import_or_none("torch")) and M > 16:  # what _int_mm asks for
        ways["torch._int_mm"] = partial(torch._int_mm, torch.from_numpy(a), torch.from_numpy(b))
    if import_or_none("onnx") and import_or_none("onnxruntime"):
        unsigned = a.view(np.uint8) ^ 128
        ways["ONNX Runtime, int8 by int8"] = _matmul_integer(a, b, precise=False)
        ways["ONNX Runtime, uint8 by int8"] = _matmul_integer(unsigned, b, precise=False)
        ways["ONNX Runtime, uint8 by uint8"] = _matmul_integer(unsigned, b, precise=True)
    return ways


def codes_and_weights(M, K, N):  # -> int8 [M, K], int8 [K, N]
    """Return uniform codes, and Gaussian weights quantized with a scale for each column, as those of a network are."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((K, N), np.float32)
    return rng.integers(-128, 128, (M, K), np.int8), quantize(weights, choose_qparams(weights, bits=8, axis=1))


def _matmul_integer(a, b, *, precise):
    """Return ONNX Runtime's product of codes and weights, ready to run; uint8 codes mean a - 128."""
    from onnx import numpy_helper, parser

    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        product ({a.dtype}[M, K] a) => (int32[M, N] y) {{ y = MatMulInteger(a, b, zero_point) }}"""
    )
    constants = {"b": b, "zero_point": np.array(128 if a.dtype == np.uint8 else 0, a.dtype)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    session = onnx_session(model.SerializeToString(), precise=precise)
    return lambda: session.run(None, {"a": a})[0]


def onnx_session(model, *, precise=True):
    """Open an ONNX model of bytes. Precise: int8 weights become uint8 ones, exact on CPUs without VNNI too.

    There the product of uint8 codes and int8 weights adds neighbours in 16 bits, which saturate; nnzip.files.onnx.
    """
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def import_or_none(name):
    """Return an optional package, None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
