"""What all commands have in common: where the application is, and how they fail."""

from __future__ import annotations

import functools
import inspect
import traceback as tracebacks
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from dbscope import ConfigurationError, DBScopeError
from dbscope.cli.find import find
from dbscope.cli.say import Refusal, echo_err, fail, one_line

APP = typer.Option(
    "--app",
    metavar="MODULE:NAME",
    help="The application or the database, or a function that makes it;"
    " else [tool.fastapi] entrypoint of pyproject.toml.",
)
DATABASE = typer.Option("--database", metavar="NAME", help="Which one, if there are several.")
CONFIG = typer.Option(
    "--config",
    metavar="FILE",
    help="Alembic's settings; only for an application that has no Migrations of its own.",
)
TRACEBACK = typer.Option("--traceback", help="Show where an error came from.")


@dataclass(frozen=True)
class Shared:
    """The options of all commands, as they were given in front of one."""

    app: str | None = None
    database: str | None = None
    traceback: bool = False
    config: Path | None = None


def with_application(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function whose first argument is what was found.

    The command has the options --app, --database, --config and --traceback, which may stand in
    front of it as well, and says in one sentence why it did not work. It ends with status 2 if it
    could not begin, and with 1 if it failed.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        option("app", str | None, None, APP),
        option("database", str | None, None, DATABASE),
        option("config", Path | None, None, CONFIG),
        option("traceback", bool, False, TRACEBACK),
    ]

    @functools.wraps(function)
    def command(
        *,
        context: typer.Context,
        app: str | None,
        database: str | None,
        config: Path | None,
        traceback: bool,
        **options: Any,
    ) -> None:
        before: Shared = context.obj
        with in_one_sentence(traceback=traceback or before.traceback):
            found = find(app or before.app, database or before.database)
            function(replace(found, config=config or before.config), **options)

    command.__annotations__ = {}
    command.__dict__["__signature__"] = inspect.Signature([*own, *shared])
    return command


def option(name: str, kind: Any, default: Any, how: Any) -> inspect.Parameter:
    """Return an option as a parameter of a function's signature."""
    annotation = Annotated[kind, how]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)


@contextmanager
def in_one_sentence(*, traceback: bool) -> Generator[None]:
    """Turn an error into a sentence and a status; with the traceback before it, if wanted."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if traceback:
            echo_err(tracebacks.format_exc())
        raise fail(*sentence_of(error)) from None


def sentence_of(error: Exception) -> tuple[str, int]:
    """Return what to say about an error, and the status to end with."""
    if isinstance(error, Refusal):
        return str(error), 2
    if isinstance(error, DBScopeError):
        return f"{one_line(error)}.", 2 if isinstance(error, ConfigurationError) else 1
    return f"{one_line(error)} (--traceback shows where.)", 1
