"""The Python of a document as a module that type checkers can read, line by line the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

# The documents are read as `python -m asyncio` reads them: there `await` needs no function around
# it. The type checkers know of no such thing, so it is put into calls of the same type.
HELPERS = '''\
"""What stands for `await`, `async with` and `async for` outside of a function."""

from collections.abc import AsyncIterable, Awaitable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TypeVar

T = TypeVar("T")


def waited(work: Awaitable[T]) -> T:
    raise NotImplementedError


def entered(
    context: AbstractAsyncContextManager[T, bool | None],
) -> AbstractContextManager[T, bool | None]:
    raise NotImplementedError


def iterated(items: AsyncIterable[T]) -> Iterable[T]:
    raise NotImplementedError
'''
# What a module has in its first line, where the document has its title.
WAITING = "from helpers import entered, iterated, waited"
HEADERS = {
    "file": WAITING,
    "edit": f"{WAITING}; import sqlalchemy as sa; from alembic import op",  # of a revision
    "like": WAITING,
    "shell": f"{WAITING}; from sqlalchemy import select; from .shop import *",  # what it gives
}
SHELL = "try.py"  # is piped into `dbscope shell`
BLOCK = re.compile(
    r"^```python(?: (?P<kind>file|edit|like)=(?P<file>\S+))?\n(?P<source>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

Edit = tuple[tuple[int, int], int, str]  # line and column, how much to take out, what to put in
Lines = dict[int, str]


def write(document: Path, folder: Path) -> None:
    """Write a package with the Python of a document; what is none is left as empty lines."""
    text = document.read_text(encoding="utf-8")
    modules: dict[str, Lines] = {"__init__": {1: ""}}
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start("source")) + 1
        module = modules.setdefault(name_of(block["file"]), {})
        module |= {1: header_of(block)} | dict(
            enumerate(plainly(block["source"]).splitlines(), first)
        )
    folder.mkdir()
    for name, lines in modules.items():
        source = "".join(f"{lines.get(number, '')}\n" for number in range(1, max(lines) + 1))
        for each in modules:  # they are files of one folder, and of a package here
            source = source.replace(f"from {each} import", f"from .{each} import")
        (folder / f"{name}.py").write_text(source, encoding="utf-8")


def header_of(block: re.Match[str]) -> str:
    """Return the first line of the module that a block belongs to."""
    return HEADERS["shell" if block["file"] == SHELL else block["kind"] or "file"]


def name_of(file: str | None) -> str:
    """Return the name of the module for a file of a document; without one it is its own code."""
    return "__init__" if file is None else re.sub(r"\W+", "_", file.removesuffix(".py"))


def plainly(source: str) -> str:
    """Return the source with calls in place of what waits outside of a function."""
    lines = source.encode().splitlines()
    for (line, column), length, text in sorted(edits_of(ast.parse(source)), reverse=True):
        old = lines[line - 1]
        lines[line - 1] = old[:column] + text.encode() + old[column + length :]
    return b"\n".join(lines).decode()


def edits_of(node: ast.AST) -> Iterator[Edit]:
    """Give the changes to make, but for what is inside of functions."""
    match node:
        case ast.Await(value=value):
            yield (node.lineno, node.col_offset), len("await "), "waited("
            yield end_of(value), 0, ")"
        case ast.AsyncWith(items=items):
            yield (node.lineno, node.col_offset), len("async "), ""
            for item in items:
                yield start_of(item.context_expr), 0, "entered("
                yield end_of(item.context_expr), 0, ")"
        case ast.AsyncFor(iter=items):
            yield (node.lineno, node.col_offset), len("async "), ""
            yield start_of(items), 0, "iterated("
            yield end_of(items), 0, ")"
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.ClassDef():
            return
    for child in ast.iter_child_nodes(node):
        yield from edits_of(child)


def start_of(node: ast.expr) -> tuple[int, int]:
    """Return line and column."""
    return node.lineno, node.col_offset


def end_of(node: ast.expr) -> tuple[int, int]:
    """Return line and column behind it."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset
