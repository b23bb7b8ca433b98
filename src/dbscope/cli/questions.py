"""What `dbscope mcp` can be asked: each question with its arguments, and its answer as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from dbscope.explain import explain
from dbscope.watch.share.asking import of_everybody
from dbscope.watch.share.words import FILTERS, Scene, line, printable, table

MOST = 200  # records
STATEMENTS = 50  # of a record, unless more are asked for
NOBODY = "No process of this user watches a database."
Arguments = dict[str, Any]


class Wrong(Exception):
    """A question that cannot be answered; the message says why."""


@dataclass(frozen=True)
class Question:
    """One question.

    Args:
        name: of the tool.
        description: for who chooses between them.
        answer: given the arguments, the text.
        arguments: by name, as JSON Schema has them.
        required: those that must be given.
    """

    name: str
    description: str
    answer: Callable[[Arguments], str]
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    required: tuple[str, ...] = ()

    def schema(self) -> dict[str, Any]:
        """Return what the protocol says of it."""
        arguments: dict[str, Any] = {"type": "object", "properties": self.arguments}
        arguments |= {"required": list(self.required), "additionalProperties": False}
        hints = {"readOnlyHint": True, "openWorldHint": False}
        told = {"name": self.name, "description": self.description, "annotations": hints}
        return told | {"inputSchema": arguments}

    def ask(self, given: Any) -> str:
        """Return the answer.

        Raises:
            Wrong: of the arguments, or nobody knows.
        """
        found = cast("Arguments", given) if isinstance(given, dict) else {}
        missing = [name for name in self.required if name not in found]
        if missing:
            raise Wrong(f"It needs {', '.join(missing)}.")
        for name, value in found.items():
            self._check(name, value)
        return self.answer(found)

    def _check(self, name: str, value: Any) -> None:
        known = self.arguments.get(name)
        if known is None:
            raise Wrong(f"There is no argument {name!r}.")
        kind = {"string": str, "integer": int}[known["type"]]
        if not isinstance(value, kind) or value not in known.get("enum", [value]):
            raise Wrong(f"{name} must be {known.get('enum') or known['type']}.")


def scenes() -> list[Scene]:
    """Return what goes on, by database.

    Raises:
        Wrong: nowhere anything.
    """
    found = [Scene(each) for each in of_everybody().values()]
    found = [each for each in found if each.processes]
    if not found:
        raise Wrong(NOBODY)
    return found


def by_database(told: Callable[[Scene], list[str]], nothing: str) -> str:
    """Return what is told of each database."""
    parts = [[scene.database, *(told(scene) or [nothing])] for scene in scenes()]
    return "\n\n".join("\n".join(map(printable, lines)) for lines in parts)


def recent(given: Arguments) -> str:
    """Return the last records, each on a line with its id."""
    most = min(MOST, max(1, given.get("n", 20)))

    def told(scene: Scene) -> list[str]:
        found = scene.records(given.get("only", "all"), given.get("text", ""))
        return [f"{each['id']} {line(each)}" for each in found[:most]]

    return by_database(told, "Nothing.")


def details(given: Arguments) -> str:
    """Return all of one record, but for statements that nobody has asked for."""
    first, most = max(0, given.get("first", 0)), max(1, given.get("n", STATEMENTS))
    for everybody in of_everybody().values():
        found = everybody.record(given["id"])
        if found is not None:
            sent = found["sent"]
            told = {"sent": sent[first : first + most], "sent_in_all": len(sent) + found["more"]}
            return json.dumps(found | told, indent=1, default=str)
    raise Wrong("That record is not kept any more.")


def problems(_: Arguments) -> str:
    """Return what was found, with remedies."""
    return by_database(
        lambda scene: [
            f"{each['told']} (in {each['seen']} records of {', '.join(each['routes'])})"
            for each in scene.everybody.problems()
        ],
        "No problem was found.",
    )


def now(_: Arguments) -> str:
    """Return who holds a connection, and who waits."""

    def told(scene: Scene) -> list[str]:
        holders = table(("HOLDS A CONNECTION", "FOR", "DOES"), scene.holders())
        waiting = table(("WAITS", "FOR", "WHAT"), scene.waiting())
        return [scene.pool(), *holders, *waiting]

    return by_database(told, "Nothing.")


def routes(_: Arguments) -> str:
    """Return what the routes have done in half an hour."""
    heads = ("ROUTE", "TIMES", "P50", "P95", "NOT STORED", "WHY")
    return by_database(lambda scene: table(heads, scene.routes()), "Nothing.")


def meaning(given: Arguments) -> str:
    """Return what an error of dbscope means."""
    return explain(given["name"])


def argument(kind: str, told: str, **more: Any) -> dict[str, Any]:
    """Return an argument, as JSON Schema has it."""
    return {"type": kind, "description": told, **more}


QUESTIONS = {
    question.name: question
    for question in (
        Question(
            "recent_transactions",
            "What the application's last pieces of work did with the database, newest first, each "
            "in one line: what became of it, why, at which line of code, what was not stored.",
            recent,
            {
                "n": argument("integer", "How many; 20."),
                "only": argument("string", "Which.", enum=list(FILTERS)),
                "text": argument("string", "A part of the line: a route, a table, an error."),
            },
        ),
        Question(
            "transaction",
            "All of one record: statements without values, waits, gaps, savepoints, hooks. Of many "
            "statements the first: see sent_in_all.",
            details,
            {
                "id": argument("string", "As recent_transactions gives it."),
                "first": argument("integer", "The first statement that is told; 0."),
                "n": argument("integer", "How many statements; 50."),
            },
            ("id",),
        ),
        Question(
            "problems",
            "N+1, reads of the same thing, transactions that were idle: with the remedy and the "
            "line where it is to be written.",
            problems,
        ),
        Question(
            "who_holds_and_who_waits",
            "Who holds a connection at this moment, what it does with it, and who waits for whom.",
            now,
        ),
        Question("routes", "Percentiles and rollbacks by route, since when and why.", routes),
        Question(
            "explain_error",
            "What an error of dbscope means, and what to do.",
            meaning,
            {"name": argument("string", "Its class, like PoolTimeout.")},
            ("name",),
        ),
    )
}
