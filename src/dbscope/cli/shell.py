"""`dbscope shell`: try things in an open scope; nothing stays unless it is committed."""

from __future__ import annotations

import linecache
import sys
from contextlib import suppress
from typing import Annotated, Any

import sqlalchemy
import typer

from dbscope import Rollback
from dbscope.cli.console import Console, Names, Workspace, compiled, show_error
from dbscope.cli.find import Found, modules_of
from dbscope.cli.say import echo_err

STDIN = "<stdin>"
WORDS = ("select", "insert", "update", "delete", "func", "text")
Commit = Annotated[bool, typer.Option("--commit", help="Commit at the end.")]


def shell(found: Found, *, commit: Commit = False) -> None:
    """Try things with `db` and the models in an open scope.

    What is piped in is run as a script. All is rolled back at the end, but for --commit, and for
    what db.session.commit() has stored.
    """
    workspace = Workspace(found.database)
    names = names_of(found)
    run = interact if sys.stdin.isatty() else run_script
    status = 1
    try:
        status = run(workspace, names)
    except SystemExit as error:
        status = status_of(error)
    finally:
        keep = commit and status == 0
        if not keep and is_open(workspace):
            echo_err("Rolled back. (To keep the work: --commit, or db.session.commit().)")
        workspace.end(None if keep else Rollback())
    raise typer.Exit(status)


def is_open(workspace: Workspace) -> bool:
    """Tell whether a transaction has been begun and not ended."""
    stats = workspace.database.stats()
    return stats["transactions"] > stats["commits"] + stats["rollbacks"]


def interact(workspace: Workspace, names: Names) -> int:
    """Let somebody type, until the end of input or `exit()`."""
    with suppress(ImportError):  # not on Windows
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    Console(workspace, names).interact(banner(workspace, names), exitmsg="")
    return 0


def run_script(workspace: Workspace, names: Names) -> int:
    """Run what is piped in, as one script; return the status, which for an error is 1."""
    source = sys.stdin.read()
    linecache.cache[STDIN] = (len(source), None, source.splitlines(keepends=True), STDIN)
    try:
        workspace.run(compiled(source, STDIN), names)
    except Exception as error:
        show_error(error, STDIN)
        return 1
    return 0


def status_of(error: SystemExit) -> int:
    """Return the status that `exit()` was called with."""
    if isinstance(error.code, str):
        echo_err(error.code)
    return error.code if isinstance(error.code, int) else int(error.code is not None)


def banner(workspace: Workspace, names: Names) -> str:
    """Return what is said at the beginning."""
    models = ", ".join(name for name, value in names.items() if is_model(value))
    wait = "await " if workspace.is_async else ""
    return (
        f"db is {workspace.database!r}; the models: {models or 'none'}.\n"
        f"Try: {wait}db.scalars(select(…)). "
        f"All is rolled back at the end, but for --commit and: {wait}db.session.commit()"
    )


def names_of(found: Found) -> Names:
    """Return what the code can use: `db`, `app`, words of SQLAlchemy, all models."""
    names: Names = {"__name__": "__console__", "db": found.database}
    names.update((word, getattr(sqlalchemy, word)) for word in WORDS)
    for module in modules_of(found.module):
        names.update((name, value) for name, value in vars(module).items() if is_model(value))
    if found.application is not None:
        names["app"] = found.application
    return names


def is_model(value: Any) -> bool:
    """Tell whether this is a mapped class."""
    return isinstance(value, type) and "__mapper__" in vars(value)
