"""All commands."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from dbscope.cli import migrations
from dbscope.cli.doctor import doctor
from dbscope.cli.mcp import mcp
from dbscope.cli.once import once, outbox
from dbscope.cli.options import (
    APP,
    CONFIG,
    DATABASE,
    TRACEBACK,
    Shared,
    in_one_sentence,
    with_application,
)
from dbscope.cli.ping import ping
from dbscope.cli.plain import VERSION, run
from dbscope.cli.shell import shell
from dbscope.cli.top import Once, Seconds
from dbscope.cli.top import top as show

app = typer.Typer(
    help="Migrations, a shell and a doctor for the database of an application.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text, whatever else is installed
    pretty_exceptions_enable=False,
)


def show_version(wanted: bool) -> None:
    """Print the version, and end."""
    if wanted:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def before_the_command(
    context: typer.Context,
    *,
    app: Annotated[str | None, APP] = None,
    database: Annotated[str | None, DATABASE] = None,
    config: Annotated[Path | None, CONFIG] = None,
    traceback: Annotated[bool, TRACEBACK] = False,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options that all commands have in front of the command, too."""
    context.obj = Shared(app, database, traceback, config)


for command in (*migrations.CHANGING, *migrations.SHOWING, ping, shell, doctor, once, outbox):
    app.command(command.__name__)(with_application(command))


@app.command()
def explain(
    errors: Annotated[
        list[str] | None, typer.Argument(help="Their classes; else all names.")
    ] = None,
) -> None:
    """Print what an error means, and what to do."""
    raise typer.Exit(run("explain", *errors or ()))


@app.command()
def top(context: typer.Context, *, once: Once = False, every: Seconds = 1.0) -> None:
    """Show who holds a connection, who waits, and what has ended."""
    shared: Shared = context.obj
    with in_one_sentence(traceback=shared.traceback), suppress(BrokenPipeError, KeyboardInterrupt):
        show(once=once, every=every)


app.command()(mcp)
