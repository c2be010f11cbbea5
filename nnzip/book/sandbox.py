"""A student's functions, called in a process of their own: it sees the arguments, and only its answers come back.

    with Sandbox("exercises/ex02_quantization.py") as student:
        student.call("dequantize", (codes, qparams), {})

What the file does to its own process (prints, patches, endless loops, huge arrays) stays there, and what comes back is
numbers, never code: no pickles. The rules keep honest people from accidents: nnzip's own functions cannot be called,
and an exercise may forbid names. They do not stop a cheat: a grade that must is made in a container.
"""

import contextlib
import copy
import dis
import importlib.abc
import importlib.machinery
import inspect
import io
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import warnings
from pathlib import Path

from nnzip.book.messages import message, read, write
from nnzip.quantization import QuantParams

GIVEN = {"nnzip.quantization": {"QuantParams": QuantParams}}  # what a student's file may use of nnzip
WHOLE = 600  # seconds that all calls of a file may take together
TIMES = 2  # so many times as long as one call may all calls of a function take together


class Cut(Exception):
    """The student's process was ended, or ended itself: too long, too much memory, a crash."""


class Sandbox:
    """A process that has loaded a student's file and calls its functions on request; a new one after a `Cut`.

    megabytes : what the file may take more than Python at its start, where the system can limit it (Linux)
    whole : seconds that all calls may take together

    `call` returns {"value": ...}, {"error": type, "message": ..., "where": ..., "stub": whether it is one},
    {"changed": names of arguments}, or {"unloaded": why no function of the file can be called}.
    """

    def __init__(self, path, *, megabytes=1000, whole=WHOLE):
        self.path, self.megabytes, self.left, self.process = Path(path).resolve(), megabytes, whole, None
        self.spent, self.unloaded = {}, ""
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # where a file that it writes would go

    def call(self, name, args, kwargs, *, seconds=20, forbidden=()):
        """Call a function of the file. What forbids itself is told as an error."""
        if self.process is None and not self.unloaded:
            self._load(seconds)
        if self.unloaded:
            return {"unloaded": self.unloaded}
        request = {"name": name, "args": args, "kwargs": kwargs, "forbidden": list(forbidden)}
        spent, before = self.spent.get(name, 0), self.left
        if spent > TIMES * seconds:
            self._end()
            raise Cut(f"its calls took more than {TIMES * seconds} s together: too slow")
        answer = self._ask(request, seconds)
        self.spent[name] = spent + before - self.left
        return answer

    def _load(self, seconds):
        self._start()
        try:
            problem = self._ask({"path": str(self.path), "megabytes": self.megabytes}, seconds, "its loading ")
        except Cut as cut:
            if self.left <= 0:
                raise
            self.unloaded = str(cut)
        else:
            if problem:
                self.unloaded = f"{problem['where'] or self.path.name} ({problem['error']}: {problem['message']})"
                self.unloaded += ": take that line out" if problem["error"] == "NotImplementedError" else ""

    def _start(self):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # threads reserve memory
        here = str(Path(__file__).resolve().parents[2])
        start = f"import sys; sys.path.insert(0, {here!r}); from nnzip.book.sandbox import serve; serve()"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-I", "-c", start]
        self.process = subprocess.Popen(command, cwd=self.folder.name, env=environment, **pipes)

    def _ask(self, request, seconds, what=""):
        if self.left <= 0:
            raise Cut("the whole file has taken more time than it may")
        asked, answer, problems, begin = message(request), [], [], time.monotonic()

        def exchange():
            try:
                write(self.process.stdin, asked)
                answer.append(read(self.process.stdout))
            except ValueError as error:
                problems.append(str(error))
            except (OSError, EOFError, KeyError, TypeError, RecursionError):
                problems.append("ended its process without an answer: a crash, or an exit")

        waiting = threading.Thread(target=exchange, daemon=True)
        waiting.start()
        waiting.join(min(seconds, self.left))
        self.left -= time.monotonic() - begin
        if not answer:
            too_long = f"{what}took more than {seconds} s and was stopped: a loop without end, or too slow"
            problem = problems[0] if problems else too_long
            self._end()
            raise Cut(problem)
        return answer[0]

    def _end(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._end()
        self.folder.cleanup()


# In the student's process, or in a notebook


def call(function, args, kwargs, forbidden=()):
    """Call a function on copies, unless it uses what it must not: the answer of `Sandbox.call`, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        answer = _called(function, args, kwargs, forbidden)
    return answer | {"printed": printed.getvalue()[-500:]}


def _called(function, args, kwargs, forbidden):
    objections = "; ".join(_objections(function, forbidden))
    if objections:
        return {"error": "not allowed", "message": objections, "where": "", "stub": False}
    own_args, own_kwargs = copy.deepcopy(args), copy.deepcopy(kwargs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a right answer too: 0 / 0 where it is not used
            value = function(*own_args, **own_kwargs)
    except Cut:
        raise
    except BaseException as error:  # exit() too
        return _failure(error, getattr(inspect.unwrap(function), "__code__", None))
    changed = [f"argument {i + 1}" for i, pair in enumerate(zip(args, own_args, strict=True)) if _differ(*pair)]
    changed += [name for name in kwargs if _differ(kwargs[name], own_kwargs[name])]
    return {"changed": changed} if changed else {"value": value}


@contextlib.contextmanager
def time_limit(seconds):
    """Raise `Cut` in a block that takes longer: in a notebook, where no other process can be ended (not on Windows)."""

    def stop(*signal_and_frame):
        raise Cut(f"took more than {seconds} s and was stopped: a loop without end, or too slow")

    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _objections(function, forbidden):
    own = _against(getattr(function, "__name__", ""), function, ())
    if own:
        return [own]
    found = [(line, _against(name, value, forbidden)) for line, name, value in uses(function)]
    return [f"line {line}: {what}" for line, what in found if what]


def _against(name, value, forbidden):
    if name in forbidden:
        return f"{name} is not allowed here"
    origin = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None) or ""
    if origin.split(".")[0] == "nnzip" and value is not QuantParams:
        return f"{name} is the book's own; here yours is asked for"
    return ""


def uses(function):
    """Yield (line, name, global value or None) for what a function uses, and what it calls of the same file.

    The operator @ is called "@".

    >>> def f(x): return np.sort(x @ x)
    >>> [name for _, name, _ in uses(f)]
    ['np', 'sort', '@']
    """
    waiting, seen = [inspect.unwrap(function)], []
    while waiting:
        own = waiting.pop()
        if not isinstance(own, types.FunctionType) or own in seen:
            continue
        seen.append(own)
        for line, name, module in _names(own.__code__):
            value = _imported(module, name) if module else own.__globals__.get(name)
            called = inspect.unwrap(value) if callable(value) else None
            if getattr(called, "__globals__", None) is own.__globals__:
                waiting.append(called)
            yield line, name, value


def _names(code):  # (line, name, module of nnzip's that it is imported from)
    module, steps = "", list(dis.get_instructions(code))
    for step, following in itertools.pairwise(steps):
        line = step.positions.lineno
        if step.opname == "IMPORT_NAME":
            module = step.argval if step.argval.split(".")[0] == "nnzip" else ""
            if module and following.opname != "IMPORT_FROM":
                yield line, module, module
        elif step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"):
            yield line, step.argval, module if step.opname == "IMPORT_FROM" else ""
        elif step.opname == "BINARY_OP" and step.argrepr in ("@", "@="):
            yield line, "@", ""
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def _imported(module, name):
    with contextlib.suppress(ImportError):
        found = importlib.import_module(module)
        return found if name in (module, module.rpartition(".")[2]) else getattr(found, name, None)  # import a.b as c


def _differ(value, other):
    try:
        return message(value) != message(other)
    except TypeError:
        return True


def _failure(error, code=None):
    path = code.co_filename if code else ""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == path]
    message, stub = str(error), False
    if isinstance(error, NotImplementedError):
        stub = bool(own) and frames[-1] is own[-1] and own[-1].name == getattr(code, "co_name", "")
        if not stub and frames[-1].name != "<module>":  # a stub that is called
            message, own = f"{frames[-1].name} is not written yet", [f for f in own if f is not frames[-1]]
    where = f"line {own[-1].lineno}: {own[-1].line}" if own and own[-1].line else ""
    if isinstance(error, SyntaxError):
        where, message = f"line {error.lineno}: {(error.text or '').strip()}", error.msg
    return {"error": type(error).__name__, "message": message, "where": where, "stub": stub}


def serve():
    """Answer requests on standard input, in the student's process; the first one loads the file."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the file prints goes beside the report, not into the answers
    request = read(requests)
    _limit_memory(request["megabytes"])
    functions, problem = _load(request["path"])
    write(answers, message(problem))
    while True:
        request = read(requests)
        function = functions.get(request["name"])
        if function is None:
            own = ", ".join(name for name, value in functions.items() if isinstance(value, types.FunctionType))
            said = f"no function {request['name']} in the file, which has: {own or 'none'}"
            answer = {"error": "NameError", "message": said, "where": "", "stub": False}
        else:
            answer = call(function, request["args"], request["kwargs"], request["forbidden"])
        sys.stdout.flush()
        try:
            data = message(answer)
        except (TypeError, ValueError, RecursionError) as error:
            data = message({"error": "TypeError", "message": str(error), "where": "", "stub": False})
        write(answers, data)


def _load(path):  # -> the file's names, or what went wrong
    for name in [name for name in sys.modules if name.split(".")[0] == "nnzip"]:
        del sys.modules[name]
    sys.meta_path.insert(0, ClosedBook())
    module = sys.modules["student"] = types.ModuleType("student")  # dataclasses look their module up
    module.__file__ = path
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), vars(module))  # bytes: with their own encoding
    except BaseException as error:
        return {}, _failure(error, types.SimpleNamespace(co_filename=path))
    return vars(module), None


class ClosedBook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """nnzip as a student's file sees it: GIVEN is there, everything else can be imported and not be called."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] == "nnzip":
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        vars(module).update(GIVEN.get(spec.name, {}))

        def absent(name):
            if name.startswith("__"):
                raise AttributeError(name)

            def own(*args, **kwargs):
                raise RuntimeError(f"{spec.name}.{name} is the book's own; here yours is asked for")

            own.__name__ = name
            return own

        module.__getattr__ = absent
        return module

    def exec_module(self, module):
        pass


def _limit_memory(megabytes):
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 10**6,) * 2)
    except (ImportError, OSError, ValueError):
        pass  # no such limit on this system
