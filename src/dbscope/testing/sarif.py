"""SARIF: what was found, as the pages of a code host show it beside the lines.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dbscope import __version__
from dbscope.testing.found import key_of

if TYPE_CHECKING:
    from dbscope.testing.found import Found
    from dbscope.watch.problems import Problem

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
HOME = "https://github.com/dbscope/dbscope"
HELP = f"{HOME}/blob/main/docs/watch.md#problems-with-the-remedy-to-paste"
TOLD = {
    "N+1": "An attribute is loaded by a statement for each row.",
    "duplicate read": "The same is read again in one scope.",
    "idle in a transaction": "A connection is held while something else is waited for.",
    "commit by hand": "A request commits before it has ended.",
}
STATES = {"new": "new", "known": "unchanged", "allowed": "unchanged"}


def write(path: Path, found: list[Found], *, has_baseline: bool) -> None:
    """Write the file.

    Args:
        path: of it.
        found: what is told in it; what is allowed is there as suppressed, with its reason.
        has_baseline: there is one, so each is new or was there before.
    """
    text = json.dumps(log_of(found, has_baseline=has_baseline), indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def log_of(found: list[Found], *, has_baseline: bool) -> dict[str, Any]:
    """Return the log."""
    kinds = sorted({*TOLD, *(each.problem.kind for each in found)})
    rules = [
        {
            "id": rule_of(kind),
            "name": kind,
            "shortDescription": {"text": TOLD.get(kind, f"A problem of the kind {kind}.")},
            "helpUri": HELP,
        }
        for kind in kinds
    ]
    driver = {"name": "dbscope", "version": __version__, "informationUri": HOME, "rules": rules}
    results = [_result(each, kinds, has_baseline=has_baseline) for each in found]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def rule_of(kind: str) -> str:
    """Return the id of a kind of problems: `n-plus-1`, say."""
    return re.sub(r"\W+", "-", kind.lower().replace("+", "-plus-")).strip("-")


def _result(found: Found, kinds: list[str], *, has_baseline: bool) -> dict[str, Any]:
    problem = found.problem
    told: dict[str, Any] = {
        "ruleId": rule_of(problem.kind),
        "ruleIndex": kinds.index(problem.kind),
        "level": "warning",
        "message": {"text": f"{problem} (seen in {found.test})"},
        "partialFingerprints": {"dbscope/v1": fingerprint(problem)},
    }
    lines = list(dict.fromkeys(each for each in (problem.line, problem.at) if each))
    if lines:
        told["locations"] = [_location(lines[0])]
    if lines[1:]:
        where = {**_location(lines[1]), "message": {"text": "it happens here"}}
        told["relatedLocations"] = [where]
    if found.state == "allowed":
        told["suppressions"] = [{"kind": "external", "justification": found.reason or ""}]
    if has_baseline:  # of all results, or of none
        told["baselineState"] = STATES[found.state]
    return told


def fingerprint(problem: Problem) -> str:
    """Return what stays the same when lines move."""
    key = "\n".join(key_of(problem))
    return hashlib.sha256(key.encode(errors="backslashreplace")).hexdigest()[:32]


def _location(line: str) -> dict[str, Any]:
    file, _, number = line.rpartition(":")
    path = Path(file)
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix(), errors="surrogateescape")
    place: dict[str, Any] = {"artifactLocation": {"uri": uri}}
    if number.isdigit():
        place["region"] = {"startLine": max(1, int(number))}
    return {"physicalLocation": place}
