"""Jobs and the study on a real Dask cluster of two worker processes, some of which are killed while they run."""

import functools
import os
from pathlib import Path

import pytest
from test_jobs import KILL, deadly, square, trace

from nnzip.book import study
from nnzip.files import zipping
from nnzip.files.zip_options import Options
from nnzip.jobs import run_jobs
from nnzip.nn.zoo import trained

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    distributed = pytest.importorskip("distributed")
    import dask

    settings = {"temporary_directory": str(tmp_path_factory.mktemp("dask")), "distributed.comm.timeouts.connect": "5s"}
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with dask.config.set(settings), distributed.LocalCluster(**options, silence_logs="CRITICAL") as cluster:
        yield cluster


@pytest.fixture
def executor(cluster):
    with cluster.get_client() as client:
        yield client.get_executor()


def test_a_cluster_gives_the_same_results_in_the_order_of_the_jobs(executor, tmp_path):
    numbers = [5, 3, 9, 1, 3, 7]
    found = run_jobs(square, numbers, executor=executor, log=tmp_path / "log")
    assert found == [square(number) for number in numbers]
    assert run_jobs(square, numbers, log=tmp_path / "log") == found


def test_a_job_that_kills_its_worker_is_done_by_another(executor, tmp_path, recwarn):
    (tmp_path / "fuse").touch()
    work = functools.partial(deadly, tmp_path)
    found = run_jobs(work, range(12), executor=executor, log=tmp_path / "log")
    assert found == [{"third": n / 3} for n in range(12)] and not (tmp_path / "fuse").exists()
    assert (tmp_path / "log").read_bytes().count(b'"result"') == 12
    assert os.getpid() not in {pid for _, pid in trace(tmp_path)}  # the cluster did it all
    assert not [w for w in recwarn if "workers died" in str(w.message)]


def killing(folder, networks, grid):
    """Measure a grid of the study; one of them kills its worker, once."""
    fuse = Path(folder) / "fuse"
    if grid[2] == "per_channel" and fuse.exists():
        fuse.unlink()
        os.kill(os.getpid(), KILL)
    return study.measure_grid(networks, grid)


def test_a_study_whose_worker_is_killed_has_the_same_records(executor, tmp_path, monkeypatch):
    (tmp_path / "fuse").touch()
    techniques = ("per_tensor", "per_channel", "global_magnitude")
    grids = [("lenet_300_100", 1, name, (2, 8), (0.5,)) for name in techniques]
    monkeypatch.setattr(study, "plan", lambda **options: grids)
    alone = study.run_study(progress=False)
    monkeypatch.setattr(study, "measure_grid", functools.partial(killing, tmp_path))
    assert study.run_study(executor=executor, progress=False) == alone and not (tmp_path / "fuse").exists()


def test_error_grid_is_the_same_on_a_cluster(executor, digits):
    asked = {"technique": "per_channel", "bits": (2, 4, 8), "sparsities": (0.0, 0.5, 0.9)}
    network = trained("lenet_300_100")
    assert study.error_grid(network, digits, **asked, executor=executor) == study.error_grid(network, digits, **asked)


def test_a_cluster_zips_the_same_file(executor, tmp_path):
    for name, own in (("here", None), ("cluster", executor)):
        options = Options(bits=3, rotate=True)
        zipping.zip_arrays("lenet_300_100:0", tmp_path / name, options=options, executor=own, progress=False)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "cluster").read_bytes()
