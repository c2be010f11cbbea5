"""Jobs: the same results whoever computes them, in whatever order, and however often the run is killed on the way."""

import functools
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nnzip import jobs
from nnzip.jobs import open_executor, run_jobs


def square(job):
    return {"job": job, "square": job**2}


def traced(folder, job):
    """Note in a file that this job was finished, and by which process."""
    with open(Path(folder) / "trace", "a", encoding="utf-8") as file:
        file.write(f"{job} {os.getpid()}\n")
    return {"third": job / 3}


def trace(folder):
    return [tuple(map(int, line.split())) for line in (folder / "trace").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("pool", "number"), [(open_executor, 1), (open_executor, 2), (ThreadPoolExecutor, 3)])
def test_every_executor_gives_the_same_results_in_the_order_of_the_jobs(pool, number, tmp_path):
    numbers = [5, 3, 9, 1, 3, 7]
    with pool(number) as executor:
        assert (executor is None) == (number == 1)  # one process is this one
        found = run_jobs(square, iter(numbers), executor=executor, log=tmp_path / "log")
    assert found == [{"job": n, "square": n**2} for n in numbers]
    assert len((tmp_path / "log").read_bytes().splitlines()) == 1 + 5


def test_the_order_is_that_of_the_jobs_and_results_are_logged_as_they_come(tmp_path):
    def job(number):
        deadline = time.monotonic() + 10
        while number == 0 and (tmp_path / "log").read_bytes().count(b'"result"') < 2:
            assert time.monotonic() < deadline, "the log must have the others before all are done"
            time.sleep(0.005)
        return number

    with ThreadPoolExecutor(2) as executor:
        assert run_jobs(job, [0, 1, 2], executor=executor, log=tmp_path / "log") == [0, 1, 2]
    lines = (tmp_path / "log").read_text().splitlines()[1:]
    assert [json.loads(line)["job"] for line in lines][-1] == 0


def test_equal_jobs_are_computed_once_and_their_results_are_not_one_object():
    calls = []
    asked = [(1, 2.5), [1, 2.5], {"a": 1, "b": 2}, {"b": 2, "a": 1}, (np.int64(1), np.float32(2.5)), 1, 1.0, True]
    found = run_jobs(lambda job: calls.append(job) or {"number": len(calls)}, asked)
    assert [r["number"] for r in found] == [1, 1, 2, 2, 1, 3, 4, 5]
    found[0]["number"] = "changed"
    assert found[1] == {"number": 1}


def test_numbers_come_back_to_the_last_bit_and_in_the_order_of_their_names(tmp_path):
    rng = np.random.default_rng(0)
    floats = rng.integers(0, 2**64, 500, np.uint64).view(np.float64).tolist()  # any bits: subnormal, huge, NaN
    special = [0.1 + 0.2, -0.0, 5e-324, math.inf, -math.inf, math.nan, 2**80, True, None, "é\n\ud800", [], {}]
    result = {"z": floats, "a": special, "m": {"y": 1, "b": (2, 3)}}
    expected = repr(result).replace("(2, 3)", "[2, 3]")
    first, again = (run_jobs(lambda job: result, [0], log=tmp_path / "log") for _ in range(2))
    assert repr(first[0]) == repr(again[0]) == expected
    numpys = [np.float32(0.1), np.float64(0.1), np.int8(-3), np.bool_(True), np.str_("s")]
    [plain] = run_jobs(lambda job: numpys, [0])
    assert repr(plain) == repr([float(np.float32(0.1)), 0.1, -3, True, "s"])


@pytest.mark.parametrize("value", [np.zeros(2), {1, 2}, {1: 2}, 1j, object(), b"bytes", [{"a": np.longdouble(1)}]])
def test_values_that_json_does_not_have_are_refused(value, tmp_path):
    with pytest.raises(TypeError, match="jobs, results and settings are numbers, strings"):
        run_jobs(square, [1, value], log=tmp_path / "log")
    assert not (tmp_path / "log").exists()
    with pytest.raises(TypeError, match="jobs, results and settings are numbers, strings"):
        run_jobs(lambda job: value, [1])


def test_the_error_of_a_job_comes_out_and_stops_what_has_not_begun(tmp_path):
    calls = []

    def job(number):
        calls.append(number)
        time.sleep(0.002)
        return number // (number - 2)

    for executor in (None, ThreadPoolExecutor(1)):
        with pytest.raises(ZeroDivisionError):
            run_jobs(job, [0, 1, 2, *range(3, 200)], executor=executor, log=tmp_path / str(executor is None))
        executor and executor.shutdown()
        assert calls[:3] == [0, 1, 2] and len(calls) < 50
        calls.clear()
    assert (tmp_path / "True").read_bytes().count(b'"result"') == 2
    with pytest.raises(TypeError, match="results"), ThreadPoolExecutor(1) as pool:  # which waits for what it has
        run_jobs(lambda number: calls.append(number) or time.sleep(0.002) or {number}, range(200), executor=pool)
    assert len(calls) < 50


def test_a_log_may_end_anywhere(tmp_path):
    log, settings = tmp_path / "log", {"budget": 0.5, "name": "é"}
    expected = run_jobs(square, range(3), log=log, settings=settings)
    whole = log.read_bytes()
    for end in range(len(whole) + 1):
        log.write_bytes(whole[:end])
        calls = []
        work = functools.wraps(square)(lambda job, calls=calls: calls.append(job) or square(job))
        assert run_jobs(work, range(3), log=log, settings=settings) == expected
        assert calls == list(range(max(0, whole[:end].count(b"\n") - 1), 3))  # the lines that were not whole
        assert log.read_bytes() == whole


def test_the_log_of_another_search_is_refused_and_stays(tmp_path):
    log = tmp_path / "log"
    run_jobs(square, [1], log=log, settings={"seed": 0, "bits": [2, 3]})
    head = {"function": f"{__name__}.square", "settings": {"bits": [2, 3], "seed": 0}}
    assert json.loads(log.read_bytes().splitlines()[0]) == head
    texts = [log.read_bytes(), log.read_bytes()[:20] + b"?", b"a poem", b"\n", b"\x00\xff\n1\n", b"{}\n"]
    for text in texts:
        log.write_bytes(text)
        for function, settings in ((square, {"seed": 1, "bits": [2, 3]}), (square, None), (abs, {"seed": 0})):
            with pytest.raises(ValueError, match=r"log is not the log of this search: it begins with .*, not .*sett"):
                run_jobs(function, [1], log=log, settings=settings)
        assert log.read_bytes() == text
    log.write_bytes(texts[0])
    assert run_jobs(square, [1], log=log, settings={"bits": (2, 3), "seed": 0}) == [square(1)]


@pytest.mark.parametrize("line", [b"", b"1", b'{"job": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_log_is_one_clear_error(line, tmp_path):
    log = tmp_path / "log"
    run_jobs(square, [1, 2], log=log)
    head, first, second = log.read_bytes().splitlines()
    text = b"\n".join([head, first, line, second, b""])
    log.write_bytes(text)
    with pytest.raises(ValueError, match="log: line 3 is damaged"):
        run_jobs(square, [1, 2], log=log)
    assert log.read_bytes() == text


KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows ends a process at once by any signal


def deadly(folder, job):
    """Job 4 kills its process, the first time."""
    fuse = Path(folder) / "fuse"
    if job == 4 and fuse.exists():
        fuse.unlink()
        os.kill(os.getpid(), KILL)
    return traced(folder, job)


def test_a_killed_worker_takes_no_result_with_it(tmp_path):
    (tmp_path / "fuse").touch()
    with open_executor(2) as executor:
        with pytest.warns(RuntimeWarning, match=r"workers died: the \d+ jobs left are done in this process"):
            found = run_jobs(functools.partial(deadly, tmp_path), range(12), executor=executor, log=tmp_path / "log")
        assert found == [{"third": n / 3} for n in range(12)]
        with pytest.warns(RuntimeWarning, match="the 2 jobs left"):  # of a pool that is broken already
            assert run_jobs(square, [1, 2], executor=executor) == [square(1), square(2)]
    logged = [json.loads(line)["job"] for line in (tmp_path / "log").read_bytes().splitlines()[1:]]
    assert sorted(logged) == list(range(12))
    assert (4, os.getpid()) in trace(tmp_path) and {pid for _, pid in trace(tmp_path)} != {os.getpid()}


SEARCH = """
import functools, sys, time
from pathlib import Path
from nnzip.jobs import open_executor, run_jobs
sys.path.insert(0, {tests!r})
from test_jobs import traced

def slow(folder, job):
    while job >= int((folder / "until").read_text()):
        time.sleep(0.01)
    return traced(folder, job)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with open_executor(int(sys.argv[2])) as executor:
        print(run_jobs(functools.partial(slow, folder), range(6), log=folder / "log", executor=executor, progress=True))
"""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_killed_search_goes_on_where_it_was(processes, tmp_path):
    script, until = tmp_path / "search.py", tmp_path / "until"
    script.write_text(SEARCH.format(tests=str(Path(__file__).parent)), encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path), processes]
    until.write_text("3")
    search = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    lines = [search.stderr.readline() for _ in range(3)]
    search.kill()
    search.communicate(timeout=20)  # its workers end too: they hold the other end of the pipe
    assert [line.split()[0] for line in lines] == ["1/6", "2/6", "3/6"]
    with open(tmp_path / "log", "ab") as file:
        file.write(b'{"job": 3, "res')
    until.write_text("6")
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.strip() == str([{"third": n / 3} for n in range(6)])
    assert again.stderr.split()[0] == "4/6"
    finished = [job for job, _ in trace(tmp_path)]
    assert sorted(job for job in finished if job < 3) == [0, 1, 2]  # nothing that was logged is computed twice


def test_progress_counts_what_the_log_had_and_times_what_this_run_did(tmp_path, capsys, monkeypatch):
    now = iter([100.0, 102.0, 104.0, 110.0])
    run_jobs(square, [1, 2], log=tmp_path / "log")
    monkeypatch.setattr(jobs.time, "perf_counter", lambda: next(now))
    run_jobs(square, [1, 2, 3, 4, 5, 3], log=tmp_path / "log", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == ["3/5  4 s left  3", "4/5  2 s left  4", "5/5  0 s left  5"]


def test_the_long_jobs_begin_first_and_the_time_left_knows_them(capsys, monkeypatch):
    now, calls = iter([0.0, 8.0, 10.0, 12.0]), []
    monkeypatch.setattr(jobs.time, "perf_counter", lambda: next(now))
    work, cost = lambda job: calls.append(job) or job, {4: 8, 1: 2, 1.5: 2}.get
    found = run_jobs(work, [1, 4, 1.5], cost=cost, progress=True)
    assert found == [1, 4, 1.5] and calls == [4, 1, 1.5]
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["4", "2", "0"]
    monkeypatch.undo()
    assert run_jobs(abs, [-1, -2], cost=lambda job: 0, progress=True) == [1, 2]


def test_what_is_no_executor_and_no_path_is_refused():
    for executor in ("processes:2", open_executor(2)):
        with pytest.raises(TypeError, match=r"executor must be a concurrent.futures.Executor"):
            run_jobs(square, [1], executor=executor)
    with pytest.raises(TypeError, match="Path"):  # open(1) would cut standard output off
        run_jobs(square, [1], log=1)


@pytest.mark.parametrize("jobs", [0, 2.0, None, "threads:2"])
def test_what_is_no_number_of_processes_is_refused(jobs):
    with pytest.raises((ValueError, TypeError), match="jobs must be"), open_executor(jobs):
        pass


def test_a_pool_has_one_blas_thread_a_process_and_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with open_executor(2) as executor:
        assert run_jobs(os.getenv, ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"], executor=executor) == ["1", "1"]
    assert dict(os.environ) == before
    with pytest.raises(KeyError), open_executor(2):
        raise KeyError
    assert dict(os.environ) == before
