"""Help for chapters: the library's own source on display, so that no chapter repeats it, figures and plain tables."""

import ast
import inspect
import itertools
import textwrap

import matplotlib.pyplot as plt


def source_of(thing):
    """Return the source of a function, method or class; of each docstring, its first sentence and its formula."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (said := ast.get_docstring(node)):
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno
            indent = " " * node.body[0].col_offset
            shown = textwrap.indent(f'"""{_sentence_and_formula(said)}"""', indent)
            lines[first:last] = [shown, *[None] * (last - first - 1)]
    return "\n".join(line for line in lines if line is not None)


def _sentence_and_formula(docstring):
    """Return the first paragraph of a docstring, and the indented lines that follow it."""
    first, *rest = docstring.split("\n\n")
    formulas = list(itertools.takewhile(lambda paragraph: paragraph.startswith("    "), rest))
    return "\n\n".join([first, *formulas]) + ("\n" if formulas else "")


def show_source(*things, fold=""):
    """Display functions, methods or classes as their module has them, each under its full name (needs IPython).

    fold : a title, under which the source is folded away until one clicks on it
    """
    from IPython.display import Markdown

    blocks = []
    for thing in things:
        name = f"{inspect.getmodule(thing).__name__}.{thing.__qualname__}"
        blocks.append(f"`{name}`\n\n```python\n{source_of(thing)}\n```")
    text = "\n\n".join(blocks)
    return Markdown(f"<details><summary>{fold}</summary>\n\n{text}\n\n</details>" if fold else text)


def show(figure, alt):
    """Display a figure, with a text that says what it shows to those who cannot see it (needs IPython)."""
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def table(rows, *, heads):
    """Display rows of cells under their heads (needs IPython); the text form is aligned columns."""
    return Table([str(cell) for cell in row] for row in [heads, *rows])


class Table(list):
    """Rows of cells, heads first, that show as a table in a notebook and as aligned text elsewhere."""

    def __repr__(self):
        widths = [max(map(len, column)) for column in zip(*self, strict=True)]
        lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in self)
        return "\n".join(line.rstrip() for line in lines)

    def _repr_markdown_(self):
        heads, *rows = (f"| {' | '.join(row)} |" for row in self)
        return "\n".join([heads, "| --- " * len(self[0]) + "|", *rows])
