"""The command line: what each command leaves and prints, and one clear line with exit code 2 for what is wrong."""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

import nnzip
from nnzip import cli
from nnzip.book import report, study
from nnzip.nn import zoo
from nnzip.nn.network import lenet_300_100
from nnzip.nn.zoo import trained

# Everything that the summary and the figures show of one network, on as few points as they can do with.
SMALL_PLAN = [
    (network, 0, technique, bits, sparsities)
    for network in study.NETWORKS
    for technique, bits, sparsities in (
        ("per_tensor", (2, study.FLOAT), (0.0,)),
        ("per_channel", (2, study.FLOAT), (0.0, 0.9)),
        ("integer_8", (2, study.FLOAT), (0.0,)),
    )
]


@pytest.fixture
def small_study(monkeypatch, digits, tmp_path):
    """Let the study run its small plan on 100 test images, and anything without a folder land in a temporary one."""
    small = digits._replace(test_images=digits.test_images[:100], test_labels=digits.test_labels[:100])
    monkeypatch.setattr(study, "study_data", lambda: small)
    monkeypatch.setattr(study, "plan", lambda **extent: SMALL_PLAN)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def asked(monkeypatch, tmp_path, digits):
    """Let nothing be measured; return what the study was asked for."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "load_mnist", lambda: digits)
    monkeypatch.setattr(study, "run_study", lambda **options: calls.append(options) or [])
    monkeypatch.setattr(
        report, "write_report", lambda records, folder, **how: calls.extend([folder, how]) or (records, [])
    )
    monkeypatch.setattr(report, "summary", lambda records, count, changes, folder: f"summary of {folder}")
    return calls


# ---------------------------------------------------------------- study


def test_the_quick_study_writes_its_files_and_prints_the_summary(small_study, tmp_path, report_files, capsys, drawn):
    assert cli.main(["study", "--quick", "--jobs", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "figures" / "quick").iterdir()) == report_files
    out, err = capsys.readouterr()
    assert "LeNet-300-100" in out and "LeNet-5" in out and "nan" not in out
    assert "16 records measured." in out  # 2 networks x (2 + 2 x 2 + 2) points
    assert len(err.splitlines()) == len(SMALL_PLAN) + 2  # the float networks are done once each


@pytest.mark.parametrize(
    ("arguments", "wanted", "folder"),
    [
        ([], set(), "figures"),
        (["--quick"], {"quick"}, "figures/quick"),
        (["--all"], {"everything"}, "figures"),
        (["study", "--quick", "--retrain"], {"quick", "everything", "retrain"}, "figures/quick"),
        (["--output", "a/b"], set(), "a/b"),
        (["study", "--quick", "--output", "c"], {"quick"}, "c"),
    ],
)
def test_study_is_what_happens_without_a_command(arguments, wanted, folder, asked, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["nnzip", *arguments])
    assert cli.main() == 0
    options, written, how = asked
    assert {name for name in ("quick", "everything", "retrain") if options[name]} == wanted
    assert how == {"complete": "everything" in wanted, "same_weights": "retrain" not in wanted}
    assert written.as_posix() == folder
    assert (tmp_path / folder).is_dir() and "summary of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["--jobs", "1"], type(None)),
        (["--jobs", "2"], ProcessPoolExecutor),
    ],
)
def test_jobs_is_the_number_of_processes(arguments, kind, asked):
    assert cli.main(["study", *arguments, "--log", "a.jsonl"]) == 0
    assert type(asked[0]["executor"]) is kind and str(asked[0]["log"]) == "a.jsonl"


# ---------------------------------------------------------------- train


def test_train_saves_every_network_that_is_asked_for(tmp_path, monkeypatch, digits, capsys):
    trained = []

    def fake_train(name, *, seed, progress):
        trained.append((name, seed))
        return zoo.BUILD[name](seed=seed)

    monkeypatch.setattr(cli, "load_mnist", lambda: digits)
    monkeypatch.setattr(cli.zoo, "train", fake_train)
    assert cli.main(["train", "--networks", "lenet_300_100", "--seeds", "1", "5", "--output", str(tmp_path)]) == 0
    assert trained == [("lenet_300_100", 1), ("lenet_300_100", 5)]
    assert {path.name for path in tmp_path.iterdir()} == {"lenet_300_100_seed1.npz", "lenet_300_100_seed5.npz"}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("test error" in line and str(tmp_path) in line for line in lines)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    weights = zoo.trained("lenet_300_100", seed=1).parameters()
    assert (weights["1.weight"] == lenet_300_100(seed=1).parameters()["1.weight"]).all()


def test_train_means_all_the_committed_networks_and_their_folder():
    asked = cli._parser().parse_args(["train"])
    assert asked.networks == ["lenet_300_100", "lenet_5"] and asked.seeds == [0, 1, 2] and asked.output == zoo.FOLDER


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["study", "--slow"],
        ["study", "extra"],
        ["study", "--jobs", "two"],
        ["train", "--networks", "resnet"],
        ["train", "--seeds", "one"],
    ],
)
def test_an_unknown_word_is_exit_code_2_and_a_usage_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("usage: python -m nnzip") and "error:" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--seeds", "-1"], "seed must be at least 0, got -1"),
        (["study", "--output", "a_file"], "a_file"),
        (["study", "--jobs", "0"], "jobs must be at least 1, got 0"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(arguments, message, asked, tmp_path, capsys):
    (tmp_path / "a_file").write_text("in the way")
    assert cli.main(arguments) == 2 and not asked
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nnzip: ")]
    assert len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "nnzip: stopped\n"),
        (MemoryError(), 2, "nnzip: there is not enough memory\n"),
        (BrokenProcessPool("a process was killed"), 2, "nnzip: a process was killed\n"),
        (OSError(28, "No space left on device"), 2, "nnzip: [Errno 28] No space left on device\n"),
    ],
)
def test_what_stops_the_work_is_one_line_and_an_exit_code(error, code, said, monkeypatch, tmp_path, capsys):
    def fails(**options):
        raise error

    monkeypatch.setattr(study, "run_study", fails)
    assert cli.main(["study", "--output", str(tmp_path)]) == code
    assert capsys.readouterr().err == said


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")
def test_a_closed_pipe_and_a_signal_leave_no_traceback_and_no_file(tmp_path):
    python = shlex.quote(sys.executable)
    run = subprocess.run(
        ["bash", "-c", f"{python} -m nnzip exercises | head -n 1; exit ${{PIPESTATUS[0]}}"], capture_output=True
    )
    assert run.returncode in (0, 141) and run.stderr == b""
    np.savez(tmp_path / "in.npz", **{str(i): np.random.default_rng(i).normal(size=(300, 300)) for i in range(30)})
    command = [sys.executable, "-m", "nnzip", "zip", str(tmp_path / "in.npz"), "-o", str(tmp_path / "a.nnz")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as running:
        assert running.stderr.readline().startswith(b"1/30")
        running.terminate()
        assert b"Traceback" not in running.stderr.read()
    assert running.returncode == 143 and [path.name for path in tmp_path.iterdir()] == ["in.npz"]


@pytest.mark.parametrize(
    ("option", "said"),
    [("-h", ("study", "train", "zip")), ("--help", ("exercises",)), ("--version", (f"nnzip {nnzip.__version__}\n",))],
)
def test_help_names_every_command_and_version_is_the_packages(option, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([option])
    out = capsys.readouterr().out
    assert stopped.value.code == 0 and all(words in out for words in said)


def test_the_package_runs_as_a_module_and_hands_on_the_exit_code(tmp_path):
    (tmp_path / "a_file").write_text("in the way")
    command = [sys.executable, "-m", "nnzip", "study", "--output", str(tmp_path / "a_file")]
    wrong = subprocess.run(command, capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stdout == "" and wrong.stderr.startswith("nnzip: ")
    assert len(wrong.stderr.splitlines()) == 1


def test_zip_and_unzip_need_no_matplotlib():
    code = "import sys, nnzip.cli; nnzip.cli._parser(); sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_train_finds_out_about_its_folder_before_it_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli.zoo, "train", lambda name, *, seed: pytest.fail("trained for nothing"))
    (tmp_path / "taken").touch()
    assert cli.main(["train", "--output", str(tmp_path / "taken")]) == 2
    assert "taken" in capsys.readouterr().err


def test_zip_deep_writes_what_the_recipe_makes_and_accounts_for_it(monkeypatch, tmp_path, capsys):
    small, asked = trained("lenet_300_100"), []
    for array in small.parameters().values():
        array[...] = 0
    monkeypatch.setattr(cli, "compress", lambda name, seed: asked.append((name, seed)) or (small, []))
    path = tmp_path / "new" / "small.nnz"
    assert cli.main(["zip", "lenet_300_100:2", "--deep", "-o", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = [int(line.split()[-1].replace(",", "")) for line in lines[:-1]]
    assert asked == [("lenet_300_100", 2)]
    assert lines[-1].startswith(f"{sum(counts):,} bytes for 1,066,440") and sum(counts) == path.stat().st_size
    assert lines[-1].endswith("test error 90.20%")  # all zeros say 0, and 980 of the 10,000 are
    for source in ("lenet_6", "lenet_5:9", "model.npz"):
        assert cli.main(["zip", source, "--deep", "-o", str(path)]) == 2
        assert "must be one of" in capsys.readouterr().err
    for options in (["--bits", "4"], ["--per-tensor", "*=plain"], ["--sparsity", "0.5"], ["--jobs", "4"]):
        assert cli.main(["zip", "lenet_5", "--deep", "-o", str(path), *options]) == 2
        assert "--deep has a recipe of its own" in capsys.readouterr().err
