"""Let each observer look at the same requests, each in an environment of its own; print two tables.

python3 -m benchmarks.observers [names] [--said FOLDER]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.places import start_server
from tests.install.environments import ROOT, Environment, make, run, wheel

APPLICATION = ["fastapi==0.165.0", "sqlalchemy[asyncio]==2.1.9", "psycopg[binary]==3.3.9"]
WANTED = {
    "dbscope": [],
    "queryspy": ["queryspy==0.6.0"],
    "asgi-profiler": ["asgi-profiler==0.3.0"],
    "tracepanel": ["tracepanel==0.5.1", "tracepanel-agent==0.5.1"],
}


def main() -> None:
    """Ask each, and print what came of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.observers")
    parser.add_argument("names", nargs="*", help=", ".join(WANTED))
    parser.add_argument("--said", type=Path, help="a folder for what each has said in full")
    options = parser.parse_args()
    server = start_server()
    try:
        told = {name: ask(name, server) for name in options.names or WANTED}
    finally:
        server.close()
    for name, each in told.items() if options.said else ():
        options.said.mkdir(exist_ok=True)
        (options.said / f"{name}.json").write_text(json.dumps(each, indent=1), encoding="utf-8")
    print("\n".join(tables(told)))


def ask(name: str, server: Any) -> dict[str, Any]:
    """Install a tool, and return what it said of each case."""
    with tempfile.TemporaryDirectory() as folder:
        environment: Environment = make(Path(folder) / "environment")
        ours = str(wheel(Path(folder) / "wheel"))
        environment.install(*WANTED[name], *APPLICATION, ours)
        url = server.new_database("observers")
        program = ["-m", "benchmarks.observers.look", name, url, folder]
        command = ["env", "-C", str(ROOT), str(environment.python), *program]
        told: dict[str, Any] = json.loads(run(*command).splitlines()[-1])
        return told


def tables(told: dict[str, Any]) -> list[str]:
    """Return the lines of both."""
    head = [
        " ".join(f"{name} {version}" for name, version in each["versions"].items())
        for each in told.values()
    ]
    rule = row("---", ["---"] * len(told))
    return [
        row("cause", head),
        rule,
        *rows(told, "causes", of_cause),
        row("outcome, reason, line", [totals(each["causes"]) for each in told.values()]),
        "",
        row("what is read", head),
        rule,
        *rows(told, "loads", of_load),
    ]


def rows(told: dict[str, Any], kind: str, cell: Callable[[Any], str]) -> list[str]:
    """Return a line for each case."""
    cases = next(iter(told.values()))[kind]
    return [row(case, [cell(each[kind][case]) for each in told.values()]) for case in cases]


def row(first: str, cells: list[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def of_cause(said: dict[str, Any]) -> str:
    """Return O, R and L for what is told; a cross for an outcome that is not the true one."""
    outcome = {True: "O", False: "✗", None: "·"}[said["outcome"]]
    line = {True: "L", False: "·", None: ""}[said["line"]]
    return f"{outcome}{'R' if said['reason'] else '·'}{line}"


def totals(causes: dict[str, Any]) -> str:
    """Return how many are told, of how many."""
    kinds = ("outcome", "reason", "line")
    asked = {kind: [each[kind] for each in causes.values()] for kind in kinds}
    lines = [each for each in asked["line"] if each is not None]
    told = [sum(map(bool, asked[kind])) for kind in kinds]
    return f"{told[0]}/{len(causes)}, {told[1]}/{len(causes)}, {told[2]}/{len(lines)}"


def of_load(said: dict[str, Any]) -> str:
    """Return N, L, Q and R for what is told."""
    if said["told apart"]:
        return "told apart"
    kinds = {"N": "found", "L": "line", "Q": "mend", "R": "remedy"}
    return "".join(letter if said[kind] else "·" for letter, kind in kinds.items())


if __name__ == "__main__":
    main()
