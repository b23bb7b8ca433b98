"""What the command says, and how: plain when it is piped, coloured on a terminal only."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO

import typer

from dbscope import DBScopeError, masked
from dbscope.cli.streams import while_read, writable

LONGEST = 300  # characters


class Refusal(Exception):
    """The command cannot begin; the message is one sentence that says why."""


def paint(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """Return the text coloured, if the stream (standard output) is a terminal that wants it.

    By https://no-color.org and by `TERM=dumb`, it may not want it.
    """
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return typer.style(text, fg=colour) if wanted and (stream or sys.stdout).isatty() else text


def say(text: str = "") -> None:
    """Print a line of the result."""
    put(masked(text))


def echo_err(text: str) -> None:
    """Print a line that is not the result: to standard error, in its turn."""
    with while_read(sys.stdout):
        sys.stdout.flush()
    put(masked(text), err=True)


def put(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Print, as long as somebody reads."""
    with while_read(sys.stderr if err else sys.stdout):
        echo(text, nl=nl, err=err)


def echo(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Print in the characters that the stream has; `LANG=de_DE.ISO-8859-1` has not all."""
    try:
        typer.echo(text, nl=nl, err=err)
    except UnicodeEncodeError:
        typer.echo(writable(text, sys.stderr if err else sys.stdout), nl=nl, err=err)


@contextmanager
def working(text: str) -> Generator[None]:
    """Show what is being done while it lasts; on a terminal only."""
    seen = sys.stderr.isatty()
    put(f"{text}\r" if seen else "", nl=False, err=True)
    try:
        yield
    finally:
        put(" " * len(text) + "\r" if seen else "", nl=False, err=True)


def fail(text: str, status: int) -> typer.Exit:
    """Print why it did not work, and return the end of the command, to be raised."""
    echo_err(paint("dbscope: ", "red", sys.stderr) + text)
    return typer.Exit(status)


def one_line(error: BaseException) -> str:
    """Return an error as one line; if it is not ours, with its type, and short.

    Ours ends with what is to be done, so nothing is cut off.
    """
    if isinstance(error, DBScopeError):
        return " ".join((error.what or error.rule).split()).rstrip(".")
    return f"{type(error).__name__}: {shortened(str(error))}".removesuffix(": ")


def shortened(text: str) -> str:
    """Return the text on one line that can be read at a glance."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else words[:LONGEST] + " …"
