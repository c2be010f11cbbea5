"""Independent pieces of work over any concurrent.futures.Executor, with a log from which a killed run goes on."""

import functools
import io
import json
import os
import sys
import threading
import time
import warnings
from concurrent import futures
from contextlib import closing, contextmanager, suppress
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np

from nnzip.checks import door, whole

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def run_jobs(function, jobs, *, executor=None, log=None, settings=None, cost=lambda job: 1, progress=False):
    """Return function(job) for every job, in the order of the jobs, whoever computes them and in whatever order.

    Equal jobs are computed once. Jobs and results are made of what JSON has, and every result goes through it, so that
    one of this run and one from the log are the same, floats to the last bit. Where a worker process dies, what is left
    is done in this process, with a warning.

    executor : of concurrent.futures, such as Dask's `client.get_executor()`; `function` must then be picklable
    log : path of a file of JSON lines to which results are appended as they come; what it has is not computed again
    settings : dict, on what else the results depend; a log of another function or other settings is refused
    cost : job -> number, how long a job takes beside others; the long ones begin first
    progress : print each result to standard error, with the time that is left at this run's pace

    >>> run_jobs(lambda job: {"sum": sum(job)}, [(1, 2), (3, 4), (1, 2)])
    [{'sum': 3}, {'sum': 7}, {'sum': 3}]
    """
    if not isinstance(executor, futures.Executor | None):
        raise TypeError(f"executor must be a concurrent.futures.Executor, got {executor!r}")
    jobs = list(jobs)
    keys = [_json(job, sort_keys=True) for job in jobs]
    with io.BytesIO() if log is None else Path(log).open("a+b") as file:
        results = _logged(file, log, _head(function, settings))
        left = {key: job for key, job in zip(keys, jobs, strict=True) if key not in results}
        costs = {key: cost(job) for key, job in left.items()}
        left = {key: left[key] for key in sorted(left, key=lambda key: -costs[key])}
        start, done, total, count = time.perf_counter(), 0, sum(costs.values()), len(set(keys))
        with closing(_as_they_come(function, left, executor)) as computed:
            for key, result in computed:
                results[key] = _json(result)
                file.write(f'{{"job": {key}, "result": {results[key]}}}\n'.encode())
                file.flush()
                done += costs.pop(key)
                if progress:  # the log's results took no time of this run
                    seconds = (time.perf_counter() - start) * (total - done) / (done or 1)
                    line = f"{count - len(costs)}/{count}  {seconds:.0f} s left  {key[:90]}"
                    print(line, file=sys.stderr, flush=True)
    return [json.loads(results[key]) for key in keys]


def _as_they_come(function, jobs, executor):  # {key: job} -> (key, result), one after the other
    left, asked = dict(jobs), {}
    with suppress(futures.BrokenExecutor):  # those that were submitted may come through all the same
        for key, job in jobs.items() if executor else ():
            asked[executor.submit(function, job)] = key
    try:
        for future in futures.as_completed(asked):
            with suppress(futures.BrokenExecutor, futures.CancelledError):
                yield asked[future], future.result()
                del left[asked[future]]
    finally:  # of an error too: what has not begun need not
        for future in asked:
            future.cancel()
    if executor and left:
        warnings.warn(f"workers died: the {len(left)} jobs left are done in this process", RuntimeWarning, stacklevel=3)
    for key, job in left.items():
        yield key, function(job)


def _json(value, **options):
    return json.dumps(_plain(value), **options)


def _plain(value):
    """Give NumPy's numbers as Python's, tuples as lists, and refuse what JSON has not or would change."""
    value = value.item() if isinstance(value, np.generic) else value
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _plain(item) for key, item in value.items()}
    raise TypeError(f"jobs, results and settings are numbers, strings, None, lists and dicts by string, got {value!r}")


def _head(function, settings):  # -> bytes, the first line of a log
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    head = {"function": f"{named.__module__}.{named.__qualname__}", "settings": settings}
    return _json(head, sort_keys=True).encode()


def _logged(file, path, head):  # -> {key: result} of what is there; more can be written behind it
    file.seek(0)
    *lines, torn = file.read().split(b"\n")  # the last line ends where the run was killed: nothing, or half of one
    if lines[:1] != [head] and (lines or not head.startswith(torn)):
        found = (lines or [torn])[0][:200].decode(errors="replace")
        raise ValueError(f"{path} is not the log of this search: it begins with {found!r}, not {head.decode()!r}")
    results = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            entry = json.loads(line)
            results[_json(entry["job"], sort_keys=True)] = _json(entry["result"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError(f"{path}: line {number} is damaged: {line[:80].decode(errors='replace')!r}") from None
    file.truncate(file.tell() - len(torn))
    if not lines:
        file.write(head + b"\n")
        file.flush()
    return results


@contextmanager
@door
def open_executor(jobs: whole(1)):
    """Give an executor of so many processes until the block ends; one is this process, and the executor then None.

    They are new ones with one BLAS thread each, so that they do not fight over the cores.

    >>> with open_executor(1) as executor:
    ...     run_jobs(abs, [-1, 2], executor=executor)
    [1, 2]
    """
    if jobs == 1:
        yield None
        return
    before = {name: os.environ[name] for name in ONE_THREAD if name in os.environ}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read by NumPy as a new process loads it
    try:
        with futures.ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_end_with_parent) as executor:
            yield executor
    finally:
        for name in ONE_THREAD:
            del os.environ[name]
        os.environ.update(before)


def _end_with_parent():
    """Let a worker end when the process that started it is killed: it would wait for work for ever."""

    def wait():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
