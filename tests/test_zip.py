"""zip and unzip: what was asked for is what comes out, and the report says what comes back."""

import io
import json
import math
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from nnzip.cli import main
from nnzip.compression.hadamard import rotate_network
from nnzip.files import zipping
from nnzip.files.archive import describe, save, writing_arrays
from nnzip.files.parts import pack, unpack
from nnzip.files.state_dict import load_state_dict
from nnzip.files.tensor_files import from_bits, open_tensors, to_bits
from nnzip.files.tensors import find_levels, tensor_to_bytes
from nnzip.files.zip_options import Options, parse_options, parse_pattern
from nnzip.files.zipping import unzip_arrays, zip_arrays
from nnzip.hadamard import random_signs
from nnzip.jobs import open_executor
from nnzip.nn.zoo import trained

RNG = np.random.default_rng(0)
WEIGHTS = {
    "conv.weight": RNG.normal(size=(8, 6, 3, 3)).astype(np.float32),
    "fc.weight": RNG.standard_t(3, (40, 64)).astype(np.float32),
    "fc.bias": RNG.normal(size=40).astype(np.float32),
}
ODD = {
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((3, 0), np.float32),
    "steps": np.arange(7),
    "flags": np.array([[True, False]]),
    "half": RNG.normal(size=(4, 5)).astype(np.float16),
    "double": RNG.normal(size=(4, 5)),
    "infinite": np.array([[1.0, np.inf], [np.nan, 0.0]], np.float32),
    "zeros": np.zeros((70, 80), np.float32),
    "pruned": np.where(RNG.random((30, 40)) < 0.1, RNG.normal(size=(30, 40)), 0).astype(np.float32),
    "few values": RNG.integers(-3, 4, (50, 60)).astype(np.float32) / 8,
    "few doubles": RNG.integers(-3, 4, (50, 60)) / 8,
    "negative zero": np.array([[0.0, -0.0, 1.0]], np.float32),
    "pruned to negative zeros": np.where(RNG.random((30, 40)) < 0.1, RNG.normal(size=(30, 40)), -0.0),
    "big-endian": RNG.normal(size=(7, 3)).astype(">f4"),
    "column": np.asfortranarray(RNG.normal(size=(30, 2))),
}


@pytest.fixture
def there_and_back(tmp_path):
    def run(arrays, *, suffix=".npz", **options):
        np.savez(tmp_path / "in.npz", **arrays)
        rows = zip_arrays(tmp_path / "in.npz", tmp_path / "a.nnz", progress=False, **options)
        unzip_arrays(tmp_path / "a.nnz", tmp_path / f"out{suffix}")
        with open_tensors(tmp_path / f"out{suffix}") as stored:
            back = {name: np.array(tensor.read()) for name, tensor in stored.items()}
        return {row.name: row for row in rows}, back, (tmp_path / "a.nnz").stat().st_size

    return run


def sqnr(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return math.inf if np.array_equal(x, y) else 10 * math.log10(np.sum(x**2) / np.sum((x - y) ** 2))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_without_options_nothing_is_lost(there_and_back, suffix):
    arrays = WEIGHTS | ODD
    rows, back, size = there_and_back(arrays, suffix=suffix)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype.newbyteorder("=")
        assert back[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
        assert rows[name].sqnr == math.inf
    assert rows["zeros"].after < 50
    assert rows["pruned"].after < 0.2 * ODD["pruned"].nbytes
    assert rows["few values"].after < 0.12 * ODD["few values"].nbytes
    assert rows["few doubles"].after < 0.06 * ODD["few doubles"].nbytes
    assert rows["fc.weight"].after < 0.93 * WEIGHTS["fc.weight"].nbytes  # the exponents of floats are much alike
    assert sum(row.after for row in rows.values()) < size


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bits_are_a_symmetric_grid_for_each_output(there_and_back, bits):
    rows, back, _ = there_and_back(WEIGHTS, options=Options(bits=bits))
    for name in ("conv.weight", "fc.weight"):
        w = WEIGHTS[name].reshape(len(WEIGHTS[name]), -1)
        scale = np.abs(w).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
        error = np.abs(back[name].reshape(w.shape) - w)
        assert np.all(error <= scale * 0.5001)
        assert rows[name].sqnr == pytest.approx(sqnr(w, back[name].reshape(w.shape)), abs=0.01)
        assert rows[name].after <= w.size * bits / 8 + 4 * len(w) + 2 * 2**bits + 20
    np.testing.assert_array_equal(back["fc.bias"], WEIGHTS["fc.bias"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", ["bits:4", "bits:2", "bits:3,codebook", "bits:4,rotate", "sparsity:0.5", "error:30"])
def test_the_largest_and_the_smallest_floats_go_there_and_back_without_a_warning(there_and_back, text):
    most = np.finfo(np.float32).max
    plane = RNG.choice(np.array([most, -most, most / 3, 70_000, 1e-38, 1e-45, 0], np.float32), (12, 8))
    arrays = {"few": plane, "many": (plane * RNG.uniform(0.5, 1, plane.shape)).astype(np.float32)}
    arrays |= {"all": np.full((2, 8), -most), "tiny": np.full((2, 8), 1e-45, np.float32)}
    arrays["rotated beyond"] = np.full((2, 8), most) * np.where(random_signs(8, seed=0) < 0, -1, 1).astype(np.float32)
    arrays["rotated doubles"] = np.tile([3.4e38, 1e38, 0, 0], (16, 1)) * random_signs(4, seed=0)
    arrays |= {"too large": np.array([[1e300, -1e-300], [1.5, 0.0]]), "too small": RNG.normal(size=(8, 8)) * 1e-60}
    rows, back, _ = there_and_back(arrays, options=parse_options(text))
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype and np.isfinite(back[name]).all()
        assert rows[name].sqnr == pytest.approx(exact_sqnr(array, back[name]), rel=1e-9, abs=1e-9)
        if rows[name].technique.startswith("as it is"):
            np.testing.assert_array_equal(back[name], array)
        if name.startswith("too") and "sparsity" not in text:
            assert rows[name].technique == "as it is: float32 cannot hold it"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("sparsity", [0.01, 0.5, 0.9])
def test_sparsity_takes_the_smallest_and_keeps_the_rest_to_the_bit(there_and_back, sparsity, dtype):
    normal, ties = RNG.normal(size=(20, 50)).astype(dtype), np.where(RNG.random((20, 50)) < 0.5, 1, -1).astype(dtype)
    rows, back, _ = there_and_back({"normal": normal, "ties": ties}, options=Options(sparsity=sparsity))
    for name, w in {"normal": normal, "ties": ties}.items():
        zero = back[name] == 0
        assert np.count_nonzero(zero) == 1000 * sparsity and rows[name].technique == f"float, {sparsity:.1%} zero"
        assert back[name].dtype == dtype and np.abs(w[zero]).max() <= np.abs(w[~zero]).min()
        np.testing.assert_array_equal(back[name], np.where(zero, 0, w))


def test_a_codebook_has_so_many_values(there_and_back):
    rows, back, _ = there_and_back(WEIGHTS, options=Options(bits=3, codebook=True, sparsity=0.5))
    assert len(np.unique(back["fc.weight"])) <= 8
    assert np.count_nonzero(back["fc.weight"]) == WEIGHTS["fc.weight"].size / 2
    grid, _, _ = there_and_back(WEIGHTS, options=Options(bits=3))
    shared, _, _ = there_and_back(WEIGHTS, options=Options(bits=3, codebook=True))
    assert shared["fc.weight"].sqnr > grid["fc.weight"].sqnr  # it is made for long tails


def test_rotated_tensors_come_back_in_their_own_basis(there_and_back):
    rows, back, _ = there_and_back(WEIGHTS, options=Options(bits=6, rotate=True))
    plain, _, _ = there_and_back(WEIGHTS, options=Options(bits=6))
    assert rows["fc.weight"].sqnr > plain["fc.weight"].sqnr + 3  # outliers are spread over their row
    for name in ("conv.weight", "fc.weight"):
        assert rows[name].sqnr == pytest.approx(sqnr(WEIGHTS[name], back[name]), abs=0.05)


@pytest.mark.parametrize("target", [30, 200])
def test_an_error_is_reached_by_the_fewest_bits(there_and_back, target):
    rows, back, _ = there_and_back(WEIGHTS, options=Options(error=target))
    for name in ("conv.weight", "fc.weight"):
        assert sqnr(WEIGHTS[name], back[name]) >= target
        if rows[name].technique == "as it is: 8 bits miss 200 dB":
            assert target == 200
        elif (bits := int(rows[name].technique[0])) > 2:
            fewer, _, _ = there_and_back(WEIGHTS, options=Options(bits=bits - 1))
            assert fewer[name].sqnr < target


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
@pytest.mark.parametrize(
    "text", ["bits:4", "bits:4,rotate", "bits:3,codebook,sparsity:0.5", "error:43", "sparsity:0.3"]
)
def test_what_is_reported_is_what_comes_back(tmp_path, monkeypatch, text, dtype):
    monkeypatch.setattr(zipping, "BLOCK", 100)  # so that there are several
    w = RNG.normal(size=(24, 32)) * np.exp(RNG.normal(0, 2, (24, 1)))
    w[:2] = np.where(RNG.random((2, 32)) < 0.5, 60_000, -60_000)  # float16 ends at 65504: turned back, some lie beyond
    stored = to_bits(w, "bfloat16") if dtype == "bfloat16" else w.astype(dtype)
    code = {"float16": "F16", "float64": "F64", "bfloat16": "BF16"}[dtype]
    safetensors_by_hand(tmp_path / "in.safetensors", {"w": (code, stored)})
    row, _ = zip_arrays(tmp_path / "in.safetensors", tmp_path / "a.nnz", options=parse_options(text), progress=False)
    unzip_arrays(tmp_path / "a.nnz", tmp_path / "out.safetensors")
    with open_tensors(tmp_path / "in.safetensors") as before, open_tensors(tmp_path / "out.safetensors") as after:
        assert after["w"].dtype == dtype
        w, back = (np.array(tensors["w"].read()) for tensors in (before, after))
    assert np.isfinite(back).all()
    assert row.sqnr == pytest.approx(sqnr(w, back), rel=1e-9)
    if "error" in text:
        assert row.sqnr >= 43
    if row.technique.startswith("float, 30"):
        assert np.count_nonzero(back == 0) == round(0.3 * w.size)


def test_codes_that_save_nothing_are_not_taken(there_and_back):
    w = RNG.normal(size=(500, 1)).astype(np.float32)  # a scale for each number
    rows, back, _ = there_and_back({"w": w}, options=Options(bits=8))
    assert rows["w"].technique == "as it is: 8 bits save nothing" and rows["w"].after < w.nbytes
    np.testing.assert_array_equal(back["w"], w)


def test_integers_are_coded(there_and_back):
    codes = RNG.integers(-3, 4, (100, 100)).astype(np.int8)
    rows, back, _ = there_and_back({"codes": codes, "steps": np.arange(10_000)})
    assert rows["codes"].after < 1.02 * math.log2(7) / 8 * codes.size + 600  # bits of 7 equally frequent values
    assert rows["steps"].after < 0.05 * 80_000
    np.testing.assert_array_equal(back["codes"], codes)


@pytest.mark.parametrize("rotated", [False, True])
def test_a_saved_network_comes_out_as_the_network_it_was(tmp_path, rotated):
    network = trained("lenet_300_100", seed=1)
    save(rotate_network(network) if rotated else network, tmp_path / "a.nnz")
    assert unzip_arrays(tmp_path / "a.nnz", tmp_path / "out.npz") == list(network.parameters())
    plain = trained("lenet_300_100")
    load_state_dict(plain, tmp_path / "out.npz")
    for name, array in network.parameters().items():
        np.testing.assert_allclose(plain.parameters()[name], array, rtol=0, atol=1e-6 * rotated)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("text", np.array(["a"]), "the dtype of 'text' must be one of float32.*, got 'str32'"),
        ("z", np.ones(3, complex), "the dtype of 'z' must be one of .*, got 'complex128'"),
        ("day", np.array(["2020-01-01"], "datetime64[D]"), "the dtype of 'day' must be one of"),
        ("things", np.array([{}]), "the dtype of 'things' must be one of .*, got 'object'"),
        ("deep", np.ones((1,) * 33), "the number of dimensions of 'deep' must be from 0 to 32, got 33"),
    ],
)
def test_what_no_file_can_hold_is_refused_by_name_before_the_work(tmp_path, name, array, message):
    np.savez(tmp_path / "in.npz", w=WEIGHTS["fc.weight"], **{name: array})
    with pytest.raises(ValueError, match=message):
        zip_arrays(tmp_path / "in.npz", tmp_path / "a.nnz", progress=False)
    assert not (tmp_path / "a.nnz").exists()


def test_a_name_that_could_not_be_read_back_is_refused(tmp_path):
    safetensors_by_hand(tmp_path / "in.safetensors", {"n" * 70_000: ("F32", WEIGHTS["fc.bias"])})
    with pytest.raises(ValueError, match=r"the length of the name 'nnn.* in bytes must be from 0 to 65531, got 70000"):
        zip_arrays(tmp_path / "in.safetensors", tmp_path / "a.nnz", progress=False)


def test_a_file_is_not_written_over_what_it_is_made_from(tmp_path):
    np.savez(tmp_path / "in.npz", **WEIGHTS)
    before = (tmp_path / "in.npz").read_bytes()
    (tmp_path / "link.nnz").symlink_to(tmp_path / "in.npz")
    for target in ("in.npz", "link.nnz"):
        with pytest.raises(ValueError, match="is what is zipped, and cannot be what is written too"):
            zip_arrays(tmp_path / "in.npz", tmp_path / target, progress=False)
    assert (tmp_path / "in.npz").read_bytes() == before


def test_an_error_of_writing_does_not_blame_the_source(tmp_path):
    np.savez(tmp_path / "in.npz", **WEIGHTS)
    with pytest.raises(FileNotFoundError):
        zip_arrays(tmp_path / "in.npz", tmp_path / "none" / "a.nnz", progress=False)


@pytest.mark.parametrize(("executor", "times"), [(None, 1), (ThreadPoolExecutor(2), 1 + 30)])
def test_a_file_of_many_tensors_is_not_opened_for_each(tmp_path, monkeypatch, executor, times):
    def counting(path):
        opened.append(path)
        return open_tensors(path)

    opened = []
    monkeypatch.setattr(zipping, "open_tensors", counting)
    np.savez(tmp_path / "in.npz", **{str(i): np.full((2, 2), i % 7, np.int8) for i in range(150)})
    rows = zip_arrays(tmp_path / "in.npz", tmp_path / "a.nnz", executor=executor, progress=False)
    assert len(rows) == 150 and len(opened) == times


def test_the_first_pattern_that_fits_counts(there_and_back):
    own = [parse_pattern(text) for text in ("fc.*=bits:8", "fc[0].w=bits:4", "*.weight=plain", "fc.weight=bits:2")]
    with pytest.raises(ValueError, match=r"no tensor matches 'layer\*'; there are conv.weight, fc.weight, fc.bias"):
        there_and_back(WEIGHTS, per_tensor=[parse_pattern("layer*=bits:2")])
    rows, back, _ = there_and_back(
        WEIGHTS | {"fc[0].w": WEIGHTS["fc.weight"], "fc0.w": WEIGHTS["fc.weight"]},
        options=Options(bits=3),
        per_tensor=own,
    )
    assert {name: row.technique for name, row in rows.items()} == {
        "conv.weight": "as it is",
        "fc.weight": "8 bits",
        "fc.bias": "8 bits",
        "fc[0].w": "4 bits",
        "fc0.w": "4 bits",
    }


@pytest.mark.parametrize("arrays", [WEIGHTS, {}], ids=["three", "none"])
def test_an_executor_writes_the_same_file(tmp_path, arrays):
    np.savez(tmp_path / "in.npz", **arrays)
    for jobs in (1, 2):
        with open_executor(jobs) as pool:
            options = {"options": Options(bits=4), "executor": pool, "progress": False}
            zip_arrays(tmp_path / "in.npz", tmp_path / f"{jobs}.nnz", **options)
    assert (tmp_path / "1.nnz").read_bytes() == (tmp_path / "2.nnz").read_bytes()


@pytest.mark.parametrize("dtype", ["int64", "bool", "f8_e4m3"])
def test_levels_for_what_is_no_float_are_refused_by_name(tmp_path, dtype):
    w = np.resize(np.float32([0.5, -1, 0, 1.5]), (8, 8))
    with writing_arrays(tmp_path / "a.nnz") as add:
        add("w", dtype, w.shape, tensor_to_bytes(w, find_levels(w)))
    with pytest.raises(ValueError, match=rf"a\.nnz cannot be loaded: w, {dtype} of shape .* has technique 29"):
        unzip_arrays(tmp_path / "a.nnz", tmp_path / "out.npz")


def test_other_numbers_than_were_packed_are_refused():
    data = pack(np.arange(100))
    np.testing.assert_array_equal(unpack(data, 100, np.dtype("int64")), np.arange(100))
    for damaged, count in ((data + b"x", 100), (data[:-1], 100), (data, 99), (data, 101)):
        with pytest.raises(ValueError, match=f"bytes cannot be {count} numbers"):
            unpack(damaged, count, np.dtype("int64"))


def test_an_array_of_a_negative_shape_is_not_read(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (-1,)})
    with zipfile.ZipFile(tmp_path / "in.npz", "w") as archive:
        archive.writestr("w.npy", buffer.getvalue() + bytes(400))
    with pytest.raises(ValueError, match=r"a dimension of 'w' must be from 0 to .*, got -1"):
        zip_arrays(tmp_path / "in.npz", tmp_path / "a.nnz", progress=False)


def test_damaged_metadata_is_one_error_that_names_the_file(tmp_path):
    with writing_arrays(tmp_path / "a.nnz") as add:
        array = np.frombuffer(b"{no JSON", np.uint8)
        add("__metadata__", "metadata", array.shape, tensor_to_bytes(array))
    with pytest.raises(ValueError, match=r"a\.nnz cannot be loaded"):
        unzip_arrays(tmp_path / "a.nnz", tmp_path / "out.safetensors")


def test_types_that_numpy_lacks_and_metadata_pass(tmp_path):
    w, bits = WEIGHTS["fc.weight"], RNG.integers(0, 256, (6, 8)).astype(np.uint8)
    tensors = {"b": ("BF16", to_bits(w, "bfloat16")), "h": ("F16", w.astype("<f2")), "f8": ("F8_E4M3", bits)}
    safetensors_by_hand(tmp_path / "in.safetensors", tensors)
    zip_arrays(tmp_path / "in.safetensors", tmp_path / "a.nnz", progress=False)
    kept = {"b": "bfloat16", "h": "float16", "f8": "f8_e4m3", "__metadata__": "metadata"}
    for suffix, dtypes in {".safetensors": kept, ".npz": {"b": "float32", "h": "float16", "f8": "uint8"}}.items():
        unzip_arrays(tmp_path / "a.nnz", tmp_path / f"out{suffix}")
        with open_tensors(tmp_path / f"out{suffix}") as back:
            assert {name: stored.dtype for name, stored in back.items()} == dtypes
            np.testing.assert_array_equal(back["b"].read(), from_bits(to_bits(w, "bfloat16"), "bfloat16"))
            np.testing.assert_array_equal(back["h"].read(), w.astype(np.float16))
            np.testing.assert_array_equal(back["f8"].read(), bits)
            assert suffix == ".npz" or back["__metadata__"].read() == {"made": "by hand"}


def test_bfloat16_is_the_nearest_with_ties_to_even():
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.1415927, 0.0], np.float32)
    assert to_bits(x, "bfloat16").tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xC049, 0]


def safetensors_by_hand(path, tensors):
    header, data = {"__metadata__": {"made": "by hand"}}, b""
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_only_one_tensor_is_in_memory(tmp_path):
    tensors = {f"{i}.weight": ("F32", np.random.default_rng(i).normal(size=(512, 256)).astype("<f4")) for i in range(4)}
    safetensors_by_hand(tmp_path / "in.safetensors", tensors)
    largest = 4 * 512 * 256
    for work in (
        lambda: zip_arrays(tmp_path / "in.safetensors", tmp_path / "a.nnz", options=Options(bits=4), progress=False),
        lambda: unzip_arrays(tmp_path / "a.nnz", tmp_path / "out.safetensors"),
    ):
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 * largest


def test_options_as_they_are_written():
    assert Options(bits=np.uint8(8)).bits == 8 and type(Options(bits=np.uint8(8)).bits) is int
    assert parse_options("bits:4,sparsity:0.9,rotate") == Options(bits=4, sparsity=0.9, rotate=True)
    assert parse_options("error:30dB,codebook") == Options(error=30, codebook=True)
    assert parse_options("plain") == Options()
    assert parse_pattern("a=b*=error:30dB") == ("a=b*", Options(error=30))
    for text, message in {
        "bots:4": "an option must be one of bits",
        "bits:9": "bits must be from 2 to 8",
        "bits:4,error:30": "only one can be asked for",
        "rotate": "rotate and codebook need bits",
        "bits:4,rotate:false": "rotate takes no value",
        "bits:4,codebook:0": "codebook takes no value",
        "bits": "bits takes a value",
        "error:nan": r"error must be in \(0, inf\), got nan",
        "sparsity:2": r"sparsity must be in \[0, 1\]",
        "error:loud": "could not convert",
    }.items():
        with pytest.raises(ValueError, match=message):
            parse_options(text)
    with pytest.raises(ValueError, match="must be PATTERN=OPTIONS, got 'conv'"):
        parse_pattern("conv")


def test_the_commands(tmp_path, capsys):
    target = str(tmp_path / "lenet.nnz")
    assert main(["zip", "lenet_300_100:0", "-o", target, "--bits", "3", "--rotate", "--per-tensor", "5.*=bits:8"]) == 0
    printed = capsys.readouterr()
    assert "\n1.weight 3 bits, rotated " in printed.out
    assert "6/6  5.bias" in printed.err
    assert printed.out.splitlines()[-1].split()[2] == f"{(tmp_path / 'lenet.nnz').stat().st_size:,}"
    assert sum(part.bytes for part in describe(target)) == (tmp_path / "lenet.nnz").stat().st_size
    assert main(["unzip", target, "-o", str(tmp_path / "lenet.npz")]) == 0
    assert "6 arrays" in capsys.readouterr().out
    assert main(["zip", "lenet_9:0", "-o", target]) == 2
    assert "the suffix of a file of arrays must be one of" in capsys.readouterr().err
    assert main(["unzip", target, "-o", str(tmp_path / "lenet.pt")]) == 2
    assert "the suffix of a file of arrays must be one of .npz, .safetensors" in capsys.readouterr().err


@pytest.mark.oracle
def test_another_projects_safetensors_go_in_and_come_out(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    import safetensors.torch
    import torch

    rng = torch.Generator().manual_seed(0)
    tensors = {"a.weight": torch.randn(64, 96, generator=rng), "a.bias": torch.randn(64, generator=rng)}
    tensors |= {"b": torch.randn(32, 48, generator=rng).bfloat16(), "n": torch.tensor(3), "h": torch.randn(8, 8).half()}
    safetensors.torch.save_file(tensors, tmp_path / "in.safetensors")
    zip_arrays(tmp_path / "in.safetensors", tmp_path / "a.nnz", options=Options(error=30), progress=False)
    unzip_arrays(tmp_path / "a.nnz", tmp_path / "out.safetensors")
    back = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert sqnr(tensor.float().numpy(), back[name].float().numpy()) >= 29.9
    theirs = tensors["a.weight"].bfloat16().view(torch.int16).numpy()
    np.testing.assert_array_equal(to_bits(tensors["a.weight"].numpy(), "bfloat16").view(np.int16), theirs)


@pytest.mark.oracle
@pytest.mark.filterwarnings("error")
def test_hypothesis_finds_no_array_of_which_less_is_true_than_is_said(there_and_back):
    """Arrays of every type, shape, memory order and byte order, with every option."""
    pytest.importorskip("hypothesis")
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
    from hypothesis.extra.numpy import array_shapes, arrays

    kinds = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
    dtypes = st.sampled_from([order + kind for kind in kinds for order in "<>"])
    shapes = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
    bits = st.one_of(st.none(), st.integers(2, 8))
    anything = dtypes.flatmap(lambda dtype: arrays(dtype, shapes))

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(anything, st.booleans(), bits, st.sampled_from([0, 0.3, 1.0]), st.booleans(), st.booleans(), st.booleans())
    def holds(array, fortran, bits, sparsity, rotate, codebook, by_error):
        array = np.asfortranarray(array) if fortran else array
        targets = {"bits": None if by_error else bits, "error": 20.0 if by_error else None}
        if by_error or bits:
            targets |= {"rotate": rotate, "codebook": codebook}
        rows, back, _ = there_and_back({"a": array}, per_tensor=[("a", Options(sparsity=sparsity, **targets))])
        row, back = rows["a"], back["a"]
        assert back.dtype == array.dtype.newbyteorder("=") and back.shape == array.shape
        if row.technique.startswith("as it is"):
            assert back.tobytes() == array.astype(back.dtype).tobytes() and row.sqnr == math.inf
            return
        assert np.isfinite(back).all() and row.sqnr == pytest.approx(exact_sqnr(array, back), rel=1e-9, abs=1e-9)
        if by_error:
            assert row.sqnr >= 20
        if row.technique.startswith("float"):
            assert np.count_nonzero(back == 0) >= round(sparsity * array.size)
            np.testing.assert_array_equal(back[back != 0], array[back != 0])

    holds()


def exact_sqnr(x, y):  # in fractions: no float holds the squares of the largest and the smallest
    x, y = ([Fraction(float(v)) for v in array.ravel()] for array in (x, y))
    signal, noise = sum(v**2 for v in x), sum((v - w) ** 2 for v, w in zip(x, y, strict=True))
    if noise == 0 or signal == 0:
        return math.inf if noise == 0 else -math.inf
    ratio = signal / noise
    return 10 * (math.log10(ratio.numerator) - math.log10(ratio.denominator))
