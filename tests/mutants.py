"""Mistakes made by rule: each operator changes one place of a solution, and the graders must notice.

    python tests/mutants.py 02             the changes of chapter 02 that no check notices and no rule explains
    python tests/mutants.py 02 quantize    of one exercise

A change after which a solution is still right stands in RIGHT of its file, with the reason.
"""

import ast
import contextlib
import copy
import itertools
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from planted import CHAPTERS, functions, of_chapter, solution

from nnzip.book import sandbox
from nnzip.book.grading import Student, rng_of

SECONDS = 3  # of one mutant: then it is in a loop without end, which is noticed too
COMPARE = {ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt]}
COMPARE |= {ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq]}
BINARY = {ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.Pow: [ast.Mult]}
BINARY |= {ast.FloorDiv: [ast.Div], ast.Mod: [ast.FloorDiv], ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd]}
BINARY |= {ast.LShift: [ast.RShift], ast.RShift: [ast.LShift]}
SIBLINGS = {
    **{"rint": ["floor", "trunc"], "round": ["floor"], "floor": ["ceil", "rint"], "ceil": ["floor"]},
    **{"max": ["min"], "min": ["max"], "maximum": ["minimum"], "minimum": ["maximum"], "argmax": ["argmin"]},
    **{"argmin": ["argmax"], "sum": ["mean"], "mean": ["sum"], "log": ["log10"], "log2": ["log"], "log10": ["log2"]},
    **{"float64": ["float32"], "float32": ["float16"], "int64": ["int16"], "int32": ["int8"], "uint32": ["uint8"]},
    **{"zeros_like": ["ones_like"], "zeros": ["ones"], "ones": ["zeros"], "any": ["all"], "all": ["any"]},
    **{"exp": ["exp2"], "sqrt": ["abs"], "append": ["insert"], "row_stack": ["hstack"], "var": ["std"]},
}
IDENTITIES = ("astype", "copy", "ravel", "tolist")  # methods without which the value is much the same
WRAPPERS = ("abs", "sorted", "sqrt", "square")  # functions without which it is not
ROUNDING = ("rint", "round", "floor", "ceil", "trunc", "int")
SYMMETRIC = ("min", "max", "minimum", "maximum", "logaddexp", "array_equal", "outer", "multiply", "add")


def mutants(chapter, name):
    """Yield (the changed statement, the source of the chapter's solutions with that one change) for an exercise."""
    tree, seen = ast.parse(solution(chapter)), set()
    original = ast.unparse(tree)
    for own in _functions_of(tree, name):
        nodes = [node for statement in own.body for node in ast.walk(statement)]
        lasts = [n.operand for n in nodes if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub)]
        for node in nodes:
            if node in lasts and getattr(node, "value", None) == 1:
                continue  # -1, the last of anything: it has no neighbours
            kind, fields = type(node), dict(vars(node))
            for change in _changes(node):
                _become(node, type(change), vars(change))
                source = ast.unparse(tree)
                _become(node, kind, fields)
                if source != original and source not in seen:
                    seen.add(source)
                    yield _difference(original, source), source


def _functions_of(tree, name):  # the function, and those of the file that it calls, without those of other exercises
    known = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    waiting, found = [name], []
    while waiting:
        own = known.pop(waiting.pop(), None)
        if own:
            found.append(own)
            waiting += [n.id for n in ast.walk(own) if isinstance(n, ast.Name) and n.id not in EXERCISES]
    return found


EXERCISES = {exercise.name for chapter in CHAPTERS for exercise in of_chapter(chapter)}


def _become(node, kind, fields):
    """Put another node's kind and fields in the place of a node's own."""
    node.__class__ = kind
    vars(node).clear()
    vars(node).update(fields)


def _difference(old, new):  # -> the first line of the new text that is another
    pairs = zip(old.splitlines(), [*new.splitlines(), ""], strict=False)
    return next((after.strip() for before, after in pairs if before != after), "").strip()


def _with(node, **fields):
    other = copy.copy(node)
    vars(other).update(fields)
    return other


def _changes(node):
    """Yield what may stand in the place of a node by mistake."""
    match node:
        case ast.Compare(ops=[op]):
            yield from (_with(node, ops=[other()]) for other in COMPARE.get(type(op), ()))
        case ast.BinOp(op=op) | ast.AugAssign(op=op):
            yield from (_with(node, op=other()) for other in BINARY.get(type(op), ()))
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield from (ast.Constant(other) for other in (value + 1, value - 1) if isinstance(value, int))
            yield from (ast.Constant(2 * value) for _ in [0] if isinstance(value, float) and value)
        case ast.Attribute(attr=attr) if attr == "T":
            yield node.value
        case ast.Attribute(attr=attr):
            yield from (_with(node, attr=other) for other in SIBLINGS.get(attr, ()))
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            yield operand
        case ast.BoolOp(values=[first, *rest]):
            yield from (first, rest[-1])
        case ast.IfExp(body=body, orelse=orelse):
            yield from (body, orelse)
        case ast.If():
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
            yield ast.Pass()
        case ast.Call(func=func, args=args, keywords=keywords):
            name, named = getattr(func, "attr", getattr(func, "id", "")), [k for k in keywords if k.arg != "strict"]
            yield from (_with(node, keywords=[k for k in keywords if k is not dropped]) for dropped in named)
            if name in IDENTITIES and isinstance(func, ast.Attribute):
                yield func.value
            if name in WRAPPERS and args:
                yield args[0]
            if len(args) == 2 and name not in SYMMETRIC:
                yield _with(node, args=args[::-1])
            if name in ROUNDING and args and isinstance(args[0], ast.BinOp) and isinstance(args[0].op, ast.Div):
                reciprocal = ast.BinOp(ast.Constant(1), ast.Div(), args[0].right)
                yield _with(node, args=[ast.BinOp(args[0].left, ast.Mult(), reciprocal), *args[1:]])
        case ast.Subscript(value=value, slice=ast.Slice(step=ast.UnaryOp())):
            yield value
        case ast.Tuple(elts=[first, second], ctx=ast.Load()):
            yield _with(node, elts=[second, first])
        case ast.Expr(value=ast.Call()) | ast.Continue() | ast.Break():
            yield ast.Pass()
    if isinstance(node, ast.AugAssign):
        yield ast.Pass()


def survives(exercise, function):
    """Tell whether a function passes every check."""

    def stop(*_):
        raise TimeoutError

    student = Student(lambda args, kwargs: sandbox.call(function, args, kwargs, exercise.forbidden))
    previous = signal.signal(signal.SIGALRM, stop)
    try:
        for i, check in enumerate(exercise.checks):
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            check.run(student, rng_of(exercise, i, 0))
        return True
    except Exception:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def survivors(chapter, exercise, step=1):
    """Yield the changed statement of every mutant that passes."""
    for line, source in itertools.islice(mutants(chapter, exercise.name), 0, None, step):
        with np.errstate(all="ignore"), contextlib.suppress(SyntaxError, ValueError):
            if survives(exercise, functions(source)[exercise.name]):
                yield line


def main(chapter, *names):
    chapter = next(stem for stem in CHAPTERS if stem.startswith(chapter))
    right = functions(solution(chapter)).get("RIGHT", {})
    for exercise in of_chapter(chapter):
        if not names or exercise.name in names:
            left = [line for line in survivors(chapter, exercise) if line not in right.get(exercise.name, {})]
            print(f"{exercise.name}: {len(left)} of {len(list(mutants(chapter, exercise.name)))} not noticed")
            print("".join(f"    {line}\n" for line in left), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
