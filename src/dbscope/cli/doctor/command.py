"""The command, and its two forms: for people, and for programs."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import typer

from dbscope.backends.doctor import plural
from dbscope.cli.find import Found
from dbscope.cli.say import paint, say, working

if TYPE_CHECKING:
    from dbscope.cli.doctor.examine import Examined

COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "serious": "red"}
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; else WEB_CONCURRENCY, else 1.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Seconds = Annotated[float, typer.Option("--timeout", help="Seconds for each database.")]


def doctor(
    found: Found, workers: Workers = None, timeout: Seconds = 10.0, *, as_json: AsJson = False
) -> None:
    """Look for what will hurt; status 1 if anything is serious.

    It connects as the application does (on SQLite this sets WAL), and then only reads.
    """
    from dbscope.cli.doctor import examine
    from dbscope.cli.doctor.case import Case

    processes = workers or workers_of_environment()
    databases = {found.name: found.database} if found.chosen else found.databases
    seen = list(examine.examine_application(found))
    for name, db in databases.items():
        with working(f"looking at {name} …"):
            seen += examine.examine_database(name, Case(db, processes, timeout, found))
    (print_json if as_json else print_text)(found, seen)
    if count(seen)["serious"]:
        raise typer.Exit(1)


def workers_of_environment() -> int:
    """Return WEB_CONCURRENCY, which uvicorn and gunicorn read, or 1."""
    given = os.environ.get("WEB_CONCURRENCY", "")
    return max(1, int(given)) if given.isdecimal() else 1


def count(seen: list[Examined]) -> dict[str, int]:
    """Return how many findings there are of each level."""
    levels = Counter[str](each.finding.level for each in seen)
    return {level: levels[level] for level in COLOURS}


def print_json(found: Found, seen: list[Examined]) -> None:
    """Print one object; its keys stay."""
    findings = [
        {"subject": each.subject, "check": each.check, **asdict(each.finding)} for each in seen
    ]
    report = {"target": found.target, "count": count(seen), "findings": findings}
    say(json.dumps(report, indent=2, ensure_ascii=False))


def print_text(found: Found, seen: list[Examined]) -> None:
    """Print a line for each finding, the remedy below it, and a sum."""
    urls = {name: f"database {name}: {db!r}" for name, db in found.databases.items()}
    width = max(len(each.check) for each in seen)
    for subject, group in groupby(seen, attrgetter("subject")):
        say(urls.get(subject, f"application {found.target}"))
        for each in group:
            print_finding(each, width)
        say()
    number = count(seen)
    warnings, notes = plural(number["warning"], "warning"), plural(number["note"], "note")
    say(f"{number['serious']} serious, {warnings}, {notes}, {number['ok']} ok")


def print_finding(examined: Examined, width: int) -> None:
    """Print one finding."""
    finding = examined.finding
    level = paint(f"{finding.level:<8}", COLOURS[finding.level])
    say(f"  {level} {examined.check.replace('_', ' '):<{width}}  {finding.found}")
    if finding.remedy:
        say(f"  {'':<8} {'':<{width}}  → {finding.remedy}")
