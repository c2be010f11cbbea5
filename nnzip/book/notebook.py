"""Help for chapters: the library's own source on display, so that no chapter repeats it, and plain tables."""

import ast
import inspect
import textwrap


def source_of(thing):
    """Return the source of a function, method or class without its docstrings."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    lines = textwrap.dedent(inspect.getsource(thing)).splitlines()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            lines[first.lineno - 1 : first.end_lineno] = [None] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line for line in lines if line is not None)


def show_source(*things):
    """Display functions, methods or classes as their module has them, without docstrings (needs IPython)."""
    from IPython.display import Markdown

    blocks = []
    for thing in things:
        name = inspect.getmodule(thing).__name__
        blocks.append(f"`{name}`\n\n```python\n{source_of(thing)}\n```")
    return Markdown("\n\n".join(blocks))


def table(rows, *, heads):
    """Display rows of cells under their heads (needs IPython); the text form is aligned columns."""
    return Table(rows, heads)


class Table:
    """Rows of cells that show as a table in a notebook and as aligned text elsewhere."""

    def __init__(self, rows, heads):
        self.rows = [[str(cell) for cell in row] for row in rows]
        self.heads = [str(head) for head in heads]

    def __repr__(self):
        widths = [max(map(len, column)) for column in zip(self.heads, *self.rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in [self.heads, *self.rows]
        )

    def _repr_markdown_(self):
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
