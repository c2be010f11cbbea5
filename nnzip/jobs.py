"""Independent pieces of work over threads, processes or a cluster, with a log from which a killed run goes on."""

import asyncio
import functools
import json
import os
import re
import sys
import threading
import time
import warnings
from concurrent import futures
from contextlib import closing, contextmanager, nullcontext
from multiprocessing import get_context, parent_process

import numpy as np

from nnzip.checks import check_integer

TIMEOUT = 10  # seconds in which a cluster must answer


def run_jobs(function, jobs, *, executor=None, log=None, settings=None, cost=None, progress=True):
    """Return function(job) for every job, in the order of the jobs, whoever computes them and in whatever order.

    Jobs that are equal are computed once. What a job returns goes through JSON, so that a result of this run and one
    that was read from the log are the same: floats to the last bit, NumPy's numbers as Python's, tuples as lists.
    Where a worker process dies, or a whole cluster, what is left is done in this process, with a warning; where one
    worker of a cluster dies, the others do its part.

    Parameters
    ----------
    function : job -> numbers, strings and None, in dicts and lists; where processes or a cluster run it, picklable
    jobs : iterable of the same kind of values
    executor : concurrent.futures.Executor, optional; Dask's is `client.get_executor()`. None: one after the other here
    log : path, optional, of a file of JSON lines to which every result is appended as it comes
        What it has is not computed again, so a run that was killed goes on where it was.
    settings : dict, optional: on what else the results depend. They stand, with the function's name, in the log's
        first line, and a log that begins with anything else is refused.
    cost : job -> number, optional: how long a job takes beside others. The long ones begin first.
    progress : bool, whether each result is a line on standard error, with the time that is left at this run's pace

    Raises
    ------
    ValueError for the log of another search and a damaged one, TypeError for values that JSON does not have

    Examples
    --------
    >>> run_jobs(lambda job: {"sum": sum(job)}, [(1, 2), (3, 4), (1, 2)], progress=False)
    [{'sum': 3}, {'sum': 7}, {'sum': 3}]
    """
    check_executor(executor)
    for name, given in ("function", function), ("cost", cost or len):
        if not callable(given):
            raise TypeError(f"{name} must be a function, got {given!r}")
    jobs = list(jobs)
    keys = [_key(job) for job in jobs]
    opened = nullcontext(({}, None)) if log is None else _opened(log, _head(function, settings))
    with opened as (results, file):
        left = {key: job for key, job in zip(keys, jobs, strict=True) if key not in results}
        if cost:
            left = dict(sorted(left.items(), key=lambda item: -cost(item[1])))
        clock = _Clock(left, len(set(keys)), cost or (lambda job: 1))
        with closing(_as_they_come(function, left, executor)) as computed:
            for key, result in computed:
                results[key] = _text(result, "the result of a job")
                if file:
                    file.write(f'{{"job": {key}, "result": {results[key]}}}\n'.encode())
                    file.flush()
                if progress:
                    print(clock.line(key), file=sys.stderr, flush=True)
    return [json.loads(results[key]) for key in keys]


def _as_they_come(function, jobs, executor):  # {key: job} -> (key, result), one after the other
    left, asked = dict(jobs), {}
    try:
        try:
            for key, job in jobs.items() if executor else ():
                asked[executor.submit(function, job)] = key
        except futures.BrokenExecutor:
            pass  # as below: those that were submitted may have come through
        for future in futures.as_completed(asked):
            try:
                result = future.result()
            except (futures.BrokenExecutor, futures.CancelledError):
                continue
            del left[asked[future]]
            yield asked[future], result
    finally:  # of an error too: what has not begun need not
        for future in asked:
            future.cancel()
    if executor and left:
        warnings.warn(f"workers died: the {len(left)} jobs left are done in this process", RuntimeWarning, stacklevel=3)
    for key, job in left.items():
        yield key, function(job)


class _Clock:
    """Counts what is done; the time left is from the pace of this run, not from what the log had."""

    def __init__(self, left, total, cost):
        self.costs = {key: cost(job) for key, job in left.items()}
        self.total, self.all, self.start = total, sum(self.costs.values()), time.perf_counter()

    def line(self, key):
        self.costs.pop(key)
        rest = sum(self.costs.values())
        seconds = (time.perf_counter() - self.start) * rest / (self.all - rest or 1)
        return f"{self.total - len(self.costs)}/{self.total}  {seconds:.0f} s left  {key[:90]}"


def _key(value, name="a job"):  # -> JSON, the same for equal values
    return json.dumps(_plain(value, name), sort_keys=True)


def _text(value, name):  # -> JSON
    return json.dumps(_plain(value, name))


def _plain(value, name):
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, name) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, name) for key, item in value.items()}
    raise TypeError(
        f"{name} must be made of numbers, strings, None, lists and dicts with strings as keys, got {value!r}"
    )


# The log


def _head(function, settings):  # -> bytes
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return _key({"function": f"{named.__module__}.{named.__qualname__}", "settings": settings}, "settings").encode()


@contextmanager
def _opened(path, head):  # -> {key: result} of what is there, and the file to which more is appended
    with open(os.fspath(path), "a+b") as file:  # not a number, which would be an open file of somebody else's
        file.seek(0)
        *lines, torn = file.read().split(b"\n")  # the last line ends where the run was killed: nothing, or half of one
        if lines[:1] != [head] and (lines or not head.startswith(torn)):
            found = (lines or [torn])[0][:200].decode(errors="replace")
            raise ValueError(f"{path} is not the log of this search: it begins with {found!r}, not {head.decode()!r}")
        results = dict(_entry(path, number, line) for number, line in enumerate(lines[1:], 2))
        file.truncate(file.tell() - len(torn))
        if not lines:
            file.write(head + b"\n")
            file.flush()
        yield results, file


def _entry(path, number, line):  # -> key, result
    try:
        entry = json.loads(line)
        return _key(entry["job"]), _text(entry["result"], "a result")
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"{path}: line {number} is damaged: {line[:80].decode(errors='replace')!r}") from None


# Executors


def check_executor(executor):
    """Return what is given if it is a concurrent.futures.Executor or None."""
    if executor is not None and not isinstance(executor, futures.Executor):
        raise TypeError(
            f"executor must be a concurrent.futures.Executor, as client.get_executor() of Dask is, got {executor!r}"
        )
    return executor


@contextmanager
def open_executor(spec):
    """Give the executor that a text names, until the block ends.

    Parameters
    ----------
    spec : "processes:4", or 4; "threads:4"; "dask://host:8786", the scheduler of a cluster; 1 or None: no executor

    Raises ValueError for another text or where `distributed` is missing, OSError where no cluster answers in 10 s.

    Examples
    --------
    >>> with open_executor("threads:2") as executor:
    ...     run_jobs(abs, [-1, 2], executor=executor, progress=False)
    [1, 2]
    """
    if not isinstance(spec, str):
        spec = f"processes:{check_integer(1 if spec is None else spec, 'jobs', 1)}"
    parts = re.fullmatch(r"(processes|threads):(\d{1,4})|(dask)://(\S+:\d+)", spec)
    if not parts:
        raise ValueError(f"an executor must be processes:N, threads:N or dask://HOST:PORT, got {spec!r}")
    kind, number, dask, address = parts.groups()
    if dask:
        opened = _cluster(address)
    elif kind == "threads":
        opened = futures.ThreadPoolExecutor(check_integer(int(number), "threads", 1))
    else:
        opened = process_pool(int(number))
    with opened as executor:
        yield executor


@contextmanager
def process_pool(jobs):
    """Give an executor of `jobs` new processes with one BLAS thread each, so that they do not fight over the cores.

    With one job it gives None: everything then runs in this process, with all of its BLAS threads.
    """
    if check_integer(jobs, "jobs", 1) == 1:
        yield None
        return
    limits = dict.fromkeys(
        ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
    )
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)  # read by NumPy as a new process loads it
    try:
        with futures.ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_end_with_parent) as executor:
            yield executor
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _end_with_parent():
    """Let this process end when the one that started it is killed: left alone it would wait for work for ever."""

    def wait():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _cluster(address):
    try:
        from distributed import Client
        from distributed.comm import connect
    except ImportError:
        raise ValueError(f"dask://{address} needs a package: pip install 'dask[distributed]'") from None

    async def knock():  # Client itself would wait for ever at a port that speaks another language, as the dashboard's
        await (await asyncio.wait_for(connect(f"tcp://{address}"), TIMEOUT)).close()

    try:
        with futures.ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own running in this one
            thread.submit(asyncio.run, knock()).result()
        client = Client(f"tcp://{address}", timeout=TIMEOUT, set_as_default=False)
    except OSError as error:  # a time-out too
        raise OSError(f"no Dask scheduler answers at {address} within {TIMEOUT} s") from error
    with client:
        yield client.get_executor()
