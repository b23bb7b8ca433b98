"""The commands about migrations: each is one call of `dbscope.migrate.Migrations`."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbscope.backends.doctor import plural
from dbscope.cli.find import Found
from dbscope.cli.guess import import_path_of, metadata_of
from dbscope.cli.revisions import of_database
from dbscope.cli.say import paint, say
from dbscope.cli.streams import while_read

if TYPE_CHECKING:
    from dbscope.migrate import Migrations, Revision

Message = Annotated[str, typer.Option("--message", "-m", help="What it does.")]
Branch = Annotated[str, typer.Option("--branch", help="schema, or data.")]
Alone = Annotated[
    bool, typer.Option("--alone", help="Migrate without a lock; nobody else may migrate meanwhile.")
]
TARGET = "heads, schema@head, data@+1, a revision …; as in Alembic."
Target = Annotated[str, typer.Argument(help=TARGET)]


def init(
    found: Found,
    folder: Annotated[Path, typer.Argument(help="Of the migrations.")] = Path("migrations"),
    *,
    metadata: Annotated[
        str | None,
        typer.Option(
            "--metadata",
            metavar="MODULE:NAME",
            help="Where the tables are; found by itself if there is one.",
        ),
    ] = None,
) -> None:
    """Write the folder of the migrations, and the settings."""
    from dbscope.migrate import Migrations

    written = Migrations.init(
        folder,
        database=import_path_of(found),
        metadata=metadata or metadata_of(found),
    )
    for path in written:
        say(f"wrote {shown(path)}")


def revision(
    found: Found,
    message: Message,
    branch: Branch = "schema",
    *,
    autogenerate: Annotated[
        bool,
        typer.Option("--autogenerate", help="Write what the models have and the database has not."),
    ] = False,
) -> None:
    """Write the file of a new revision."""
    made = migrations_of(found).revision(message, branch, autogenerate=autogenerate)
    if made is None:
        say("The database has all that the models have; no file was written.")
    else:
        say(f"wrote {shown(made.path)}")


def upgrade(
    found: Found,
    target: Target = "heads",
    *,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Stamp a database without a version that has all tables."),
    ] = False,
    alone: Alone = False,
) -> None:
    """Bring the database up to date, or to the target."""
    migrations = migrations_of(found, alone=alone)
    with progress():
        done = migrations.upgrade(target, adopt=adopt)
    say(f"{plural(len(done), 'revision')} run." if done else "Nothing to do.")


def downgrade(
    found: Found,
    target: Annotated[str, typer.Argument(help="data@-1, data@base, base …")],
    *,
    alone: Alone = False,
) -> None:
    """Take the database back to the target."""
    migrations = migrations_of(found, alone=alone)
    with progress():
        done = migrations.downgrade(target)
    say(f"{plural(len(done), 'revision')} taken back." if done else "Nothing to do.")


def current(found: Found) -> None:
    """Show where the database is."""
    status = migrations_of(found).status()
    for each in status.current:
        say(line(each))
    for unknown in status.unknown:
        say(f"{unknown} {paint('(no file here: newer code wrote it)', 'red')}")
    if not status.current and not status.unknown:
        say("No revision was run yet.")
    if status.pending:
        say(paint(f"{plural(len(status.pending), 'revision')} behind:", "yellow"))
        show(status.pending, indent="  ")


def heads(found: Found) -> None:
    """Show the newest revision of each branch."""
    show(migrations_of(found).heads())


def history(found: Found) -> None:
    """Show all revisions, newest first."""
    show(migrations_of(found).history())


def branches(found: Found) -> None:
    """Show each branch and its heads."""
    for label, there in sorted(migrations_of(found).branches().items()):
        say(paint(label, "cyan"))
        show(there, indent="  ")


def merge(
    found: Found,
    revisions: Annotated[list[str] | None, typer.Argument(help="Else all heads.")] = None,
    message: Message = "merge",
    branch: Branch = "schema",
) -> None:
    """Write a revision that joins the heads of a branch."""
    made = migrations_of(found).merge(message, branch, revisions=revisions or ())
    say(f"wrote {shown(made.path)}")


def stamp(
    found: Found,
    target: Target = "heads",
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Empty the version table first.")] = False,
    alone: Alone = False,
) -> None:
    """Note that the database is at the target, and run nothing."""
    migrations_of(found, alone=alone).stamp(target, purge=purge)
    say(f"Stamped: {target}.")


def check(found: Found) -> None:
    """End with status 1 if the database is behind or ahead."""
    migrations_of(found).check()
    say(paint("The database is up to date.", "green"))


def sql(
    found: Found,
    target: Annotated[str, typer.Argument(help="The target, or from:to.")] = "heads",
    *,
    down: Annotated[bool, typer.Option("--downgrade", help="The other way.")] = False,
) -> None:
    """Print the SQL of an upgrade, for somebody else to run."""
    script = migrations_of(found).sql(target, downgrade=down).rstrip()
    with while_read(sys.stdout):
        typer.echo(script)  # as it is, or not at all: an escape would be another value


CHANGING = (init, revision, merge, upgrade, downgrade, stamp)
SHOWING = (current, heads, history, branches, check, sql)


def migrations_of(found: Found, *, alone: bool = False) -> Migrations:
    """Return the migrations of the database that is meant; see `of_database`."""
    migrations = of_database(found, found.database)
    migrations.alone = alone or migrations.alone
    return migrations


def show(revisions: Iterable[Revision], indent: str = "") -> None:
    """Print a line for each revision."""
    for each in revisions:
        say(indent + line(each))


def line(revision: Revision) -> str:
    """Return what is shown of a revision."""
    labels = f" {paint(','.join(revision.branches), 'cyan')}" if revision.branches else ""
    head = f" {paint('(head)', 'green')}" if revision.is_head else ""
    return f"{paint(revision.id, 'yellow')}{labels} {revision.message}{head}"


def shown(path: Path) -> str:
    """Return a path as it is seen from the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


STEP = re.compile(r"Running (upgrade|downgrade) (.*) -> (.*?), (.*)")


class Lines(logging.Handler):
    """Prints what is logged: a line for each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        if step := STEP.match(record.getMessage()):
            verb, before, after, message = step.groups()
            say(f"{verb} {paint(before if verb == 'downgrade' else after, 'yellow')} {message}")


@contextmanager
def progress() -> Generator[None]:
    """Print a line when a revision begins: Alembic logs one."""
    logger, lines = logging.getLogger("alembic.runtime.migration"), Lines()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
        logger.propagate = propagate
