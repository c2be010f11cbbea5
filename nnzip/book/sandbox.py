"""A student's file in a process of its own: it sees the arguments of each call, and only its answers come back.

    with Sandbox("exercises/ex02_quantization.py") as student:
        student.call("dequantize", codes, qparams)

What the file does to its own process (prints, patches, endless loops, huge arrays) stays there, and what comes back is
numbers, never code: no pickles. The grader itself is not in that process. `refusals` reads the file before it runs: a
graded file may import NumPy, a few mathematical modules of the standard library, and from nnzip the names in GIVEN.
That keeps honest people honest; whoever wants to hide a way to the reference's source from it will find one.
"""

import ast
import contextlib
import copy
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from pathlib import Path

import numpy as np

from nnzip.quantization import QuantParams

GIVEN = {"nnzip.quantization": {"QuantParams": QuantParams}}  # what a graded file may import from nnzip
MODULES = {"numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.lib.stride_tricks", "__future__", "cmath"}
MODULES |= {"collections", "dataclasses", "fractions", "functools", "itertools", "math", "time", "typing", "warnings"}
BUILTINS = {"exec", "eval", "compile", "open", "breakpoint", "globals", "locals", "vars", "getattr", "setattr"}
FILES = {
    "load",
    "loadtxt",
    "genfromtxt",
    "fromfile",
    "memmap",
    "save",
    "savez",
    "savetxt",
    "tofile",
    "dump",
    "DataSource",
}
MACHINE = {"sys", "os", "modules", "builtins", "core", "npyio", "ctypeslib", "f2py", "testing", "format", "format_map"}
MACHINE |= {"attrgetter", "methodcaller", "get_type_hints", "ForwardRef"}
FRAMES = ("_", "gi_", "cr_", "ag_", "tb_", "f_glob", "f_back")  # attributes that lead out of a function
QPARAMS = ("scale", "zero_point", "bits", "signed", "narrow", "axis", "group_size")
LIMIT = 2**28  # bytes of one answer
FRAME = struct.Struct("<QQ")  # before each message: the bytes of its JSON and of its arrays


class Cut(Exception):
    """The student's process was ended, or ended itself: too long, too much memory, a crash."""


class Sandbox:
    """A process that has loaded a student's file and calls its functions on request.

    Parameters
    ----------
    path : the file
    seconds, megabytes : what one call may take; memory is limited where the system can (Linux)

    `call(name, *args, **kwargs)` returns {"value": ...}, {"error": type, "message": ..., "where": ...} or
    {"changed": names of arguments that the function changed}; `Cut` when a limit was passed or the process ended.
    """

    def __init__(self, path, *, seconds=20, megabytes=1000):
        self.seconds, self.megabytes = seconds, megabytes
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # threads reserve memory
        here = str(Path(__file__).resolve().parents[2])
        start = f"import sys; sys.path.insert(0, {here!r}); from nnzip.book.sandbox import serve; serve()"
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # where a file that it writes would go
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-I", "-c", start]
        self.process = subprocess.Popen(command, cwd=self.folder.name, env=environment, **pipes)
        try:
            self.loaded = self._ask({"path": str(Path(path).resolve()), "megabytes": megabytes})
        except Cut as cut:
            self.loaded = {"error": "Cut", "message": f"while the file was loaded: {cut}", "where": ""}

    def call(self, name, *args, **kwargs):
        """Call a function of the file; where the file itself did not load, the answer is why."""
        return self.loaded or self._ask({"name": name, "args": args, "kwargs": kwargs})

    def _ask(self, request):
        asked = message(request)
        answer, problem = [], f"took more than {self.seconds} s and was stopped: a loop without end, or too slow"

        def exchange():
            with contextlib.suppress(OSError, ValueError, EOFError, KeyError, TypeError, RecursionError):
                write(self.process.stdin, asked)
                answer.append(read(self.process.stdout))

        waiting = threading.Thread(target=exchange, daemon=True)
        waiting.start()
        waiting.join(self.seconds)
        if not waiting.is_alive() and not answer:
            problem = "ended its process without an answer: a crash, an exit, or an answer of more than 268 MB"
        if not answer:
            self.close()
            self.loaded = {"error": "Cut", "message": problem, "where": ""}
            raise Cut(problem)
        return answer[0]

    def close(self):
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def refusals(source, *, function="", forbidden=()):
    """Return what a graded file has and must not have, a line each; SyntaxError if it is no Python.

    `forbidden` are names that one function of it, and what it calls, must not use; "@" is the operator.

    Examples
    --------
    >>> refusals("import os")
    ['line 1: os must not be imported']
    >>> refusals("def f(x): return np.sort(x)", function="f", forbidden=["sort"])
    ['line 1: sort is not allowed here']
    """
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not _is_main(node)]  # which is not run when the file is graded
    found = [f"line {n.lineno}: {name} must not be imported" for n in ast.walk(tree) for name in _imports(n)]
    found += [f"line {n.lineno}: {name} is not allowed here" for n in ast.walk(tree) for name in _ways_out(n)]
    used = [n for own in _reached(tree, function) for n in ast.walk(own) if _name(n) in forbidden]
    return found + [f"line {n.lineno}: {_name(n)} is not allowed here" for n in used]


def _reached(tree, name):  # a function of the file, and those that it names, and those that they name
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    waiting, reached = [name], []
    while waiting:
        own = functions.pop(waiting.pop(), None)
        if own:
            reached.append(own)
            waiting += {_name(n) for n in ast.walk(own)} & set(functions)
    return reached


def _is_main(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _imports(node):  # the names that a statement imports and must not
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name not in MODULES]
    if isinstance(node, ast.ImportFrom):
        names = [alias.name for alias in node.names]
        if node.module in MODULES:
            return [name for name in names if _leads_out(name)]
        return [f"{node.module}.{name}" for name in names if name not in GIVEN.get(node.module, ())]
    return []


def _ways_out(node):
    name = _name(node)
    if isinstance(node, ast.Name):
        return [name] if name in BUILTINS or (name.startswith("__") and name != "__name__") else []
    own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return [name] if _leads_out(name) and not (own and not name.startswith("__")) else []


def _leads_out(name):
    return name in FILES | MACHINE or (name.startswith(FRAMES) and name != "__name__")


def _name(node):
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.BinOp(op=ast.MatMult()) | ast.AugAssign(op=ast.MatMult()):
            return "@"
    return ""


def call(function, args, kwargs):
    """Call a function on copies; return its answer as `Sandbox.call` does."""
    own_args, own_kwargs = copy.deepcopy(args), copy.deepcopy(kwargs)
    try:
        value = function(*own_args, **own_kwargs)
    except BaseException as error:  # exit() too
        return _failure(error, function.__code__.co_filename if hasattr(function, "__code__") else "")
    changed = [f"argument {i + 1}" for i, pair in enumerate(zip(args, own_args, strict=True)) if _differ(*pair)]
    changed += [name for name in kwargs if _differ(kwargs[name], own_kwargs[name])]
    return {"changed": changed} if changed else {"value": value}


def _differ(value, other):
    try:
        return message(value) != message(other)
    except TypeError:
        return True


def _failure(error, path):
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    where = f"line {own[-1].lineno}: {own[-1].line}" if own and own[-1].line else ""
    if isinstance(error, SyntaxError):
        where = f"line {error.lineno}: {(error.text or '').strip()}"
    return {"error": type(error).__name__, "message": str(error), "where": where}


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
        name = request["name"]
        if name not in functions:
            names = ", ".join(n for n, value in functions.items() if isinstance(value, types.FunctionType)) or "none"
            answer = {
                "error": "NameError",
                "message": f"no function {name} in the file, which has: {names}",
                "where": "",
            }
        else:
            answer = call(functions[name], request["args"], request["kwargs"])
        sys.stdout.flush()
        try:
            data = message(answer)
        except (TypeError, ValueError, RecursionError) as error:
            data = message({"error": "TypeError", "message": str(error), "where": ""})
        write(answers, data)


def _load(path):
    _close_nnzip()
    try:
        source = Path(path).read_text(encoding="utf-8")
        module = types.ModuleType("student")
        sys.modules["student"] = module  # dataclasses look their module up
        exec(compile(source, path, "exec"), vars(module))
    except BaseException as error:
        return {}, _failure(error, path)
    return vars(module), None


def _close_nnzip():  # nnzip, for the student, is the names in GIVEN
    for name in [name for name in sys.modules if name.split(".")[0] == "nnzip"]:
        sys.modules[name] = None  # an import of it is a ModuleNotFoundError
    sys.modules["nnzip"] = types.ModuleType("nnzip")
    for name, members in GIVEN.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)


def _limit_memory(megabytes):
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 10**6,) * 2)
    except (ImportError, OSError, ValueError):
        pass  # no such limit on this system


def message(value):
    """Return the bytes of numbers, text, arrays, grids, and lists, tuples and dicts of them; TypeError for the rest."""
    arrays = []
    text = json.dumps(_plain(value, arrays)).encode()
    data = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    return FRAME.pack(len(text), len(data)) + text + data


def write(stream, data):
    """Write a message to a binary stream, now."""
    stream.write(data)
    stream.flush()


def read(stream):
    """Read a message from a binary stream; ValueError or EOFError for anything else."""
    sizes = FRAME.unpack(_exactly(stream, FRAME.size))
    if sum(sizes) > LIMIT:
        raise ValueError(f"an answer of {sum(sizes)} bytes is too large")
    tree = json.loads(_exactly(stream, sizes[0]))
    return _restored(tree, io.BytesIO(_exactly(stream, sizes[1])))


def _exactly(stream, count):
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


def _plain(value, arrays):
    match value:
        case None | bool() | str():
            return value
        case np.ndarray() | np.generic() if value.dtype.kind in "biufc":
            arrays.append(np.asarray(value))
            return {"array": [value.dtype.str, list(value.shape), isinstance(value, np.generic)]}
        case int() | float():
            return value
        case QuantParams():
            return {"qparams": [_plain(getattr(value, name), arrays) for name in QPARAMS]}
        case dict():
            return {"dict": [_plain(list(item), arrays) for item in value.items()]}
        case list() | tuple():
            return {"tuple" if isinstance(value, tuple) else "list": [_plain(item, arrays) for item in value]}
    raise TypeError(f"a {type(value).__name__} is no answer here: numbers, arrays, grids, or lists of them")


def _restored(tree, data):
    if not isinstance(tree, dict):
        return tree
    (kind, inside), *_ = tree.items()
    if kind == "array":
        dtype, shape, is_scalar = np.dtype(inside[0]), tuple(inside[1]), inside[2]
        if dtype.kind not in "biufc":
            raise ValueError(f"no array of {dtype}")
        array = np.frombuffer(_exactly(data, dtype.itemsize * int(np.prod(shape))), dtype).reshape(shape).copy()
        return array[()] if is_scalar else array
    items = [_restored(item, data) for item in inside]
    match kind:
        case "qparams":
            return QuantParams(*items)
        case "tuple":
            return tuple(items)
        case "dict":
            return dict(items)
    return items
