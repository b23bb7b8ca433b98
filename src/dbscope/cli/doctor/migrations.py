"""Checks of the migrations."""

from __future__ import annotations

from collections import Counter

from dbscope import DBScopeError
from dbscope.cli.ask import in_time
from dbscope.cli.doctor.finding import Case, Finding, note, ok, serious
from dbscope.cli.say import one_line, plural
from dbscope.migrate import Migrations, Status


def migrations(case: Case) -> Finding | None:
    """The database is where the files say, and they say one thing."""
    try:
        status = in_time(Migrations(case.db).status, case.timeout)
    except DBScopeError as error:
        return serious(f"{one_line(error)}.", "Make dbscope current work.")
    return ambiguous(status) or place(status)


def ambiguous(status: Status) -> Finding | None:
    """Tell of heads that `upgrade` cannot choose between."""
    heads = Counter(head.branches for head in status.heads)
    for labels, number in heads.items():
        if number > 1:
            where = f"of the branch {', '.join(labels)}" if labels else "without a label"
            return serious(f"There are {number} heads {where}.", "Join them: dbscope merge")
    return None


def place(status: Status) -> Finding:
    """Tell whether the database is behind or ahead."""
    if status.unknown:
        return serious(
            f"The database is ahead: it has {', '.join(status.unknown)}, which no file here knows.",
            "Start the newer code that belongs to it, or downgrade with that code first.",
        )
    if status.pending:
        return serious(
            f"The database is {plural(len(status.pending), 'revision')} behind, "
            f"up to {status.pending[-1]}.",
            "dbscope upgrade",
        )
    if not status.heads:
        return note("There are no revisions yet.")
    return ok(f"up to date: {', '.join(str(revision) for revision in status.current)}")
