"""Checks of the migrations."""

from __future__ import annotations

from collections import Counter

from dbscope import DBScopeError
from dbscope.backends.doctor import Finding, note, ok, plural, serious
from dbscope.cli.ask import in_time
from dbscope.cli.doctor.case import Case
from dbscope.cli.revisions import of_database
from dbscope.cli.say import Refusal, one_line
from dbscope.migrate import Status


def migrations(case: Case) -> Finding | None:
    """The database is where the files say, and they say one thing."""
    try:
        status = in_time(of_database(case.found, case.db).status, case.timeout)
    except (DBScopeError, Refusal) as error:
        return serious(f"{one_line(error)}.", "Make dbscope current work.")
    return ambiguous(status) or without_version(status) or position(status)


def ambiguous(status: Status) -> Finding | None:
    """Tell of heads that `upgrade` cannot choose between."""
    heads = Counter(head.branches for head in status.heads)
    for labels, number in heads.items():
        if number > 1:
            where = f"of the branch {', '.join(labels)}" if labels else "without a label"
            return serious(f"There are {number} heads {where}.", "Join them: dbscope merge")
    return None


def without_version(status: Status) -> Finding | None:
    """Tell of tables that no revision has made."""
    if status.differences is None:
        return None
    has = "There are tables of the revisions, but no version (made by ensure_schema, or by hand)"
    if not status.differences:
        return serious(f"{has}; all that the models have is there.", "dbscope stamp heads")
    return serious(
        f"{has}, and it differs from the models: {'; '.join(status.differences)}.",
        "dbscope stamp, to the revision that it is at; or bring it to the models, "
        "and dbscope stamp heads",
    )


def position(status: Status) -> Finding:
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
