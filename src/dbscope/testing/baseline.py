"""The baseline: problems that were there when the gate was put up, in a file of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dbscope.testing.found import Key, key_of
from dbscope.watch.share.values import decoded

if TYPE_CHECKING:
    from dbscope.testing.found import Found
    from dbscope.watch.problems import Problem

Known = Callable[["Problem"], bool]
VERSION = 1


def read(path: Path) -> Known:
    """Return what tells whether a problem is in a file.

    Raises:
        UsageError: there is no such file, or it is none of ours.
    """
    try:
        told = decoded(path.read_bytes())
        known: set[Key] = {(each["kind"], each["what"], each["file"]) for each in told["problems"]}
        version = told.get("version", VERSION)
    except FileNotFoundError:
        raise pytest.UsageError(
            f"There is no {path}: --dbscope-baseline-write makes it, once."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise pytest.UsageError(f"{path} is no baseline of dbscope: {error!r}.") from error
    if version != VERSION:
        raise pytest.UsageError(f"{path} has version {version!r}: this dbscope knows {VERSION}.")
    return lambda problem: key_of(problem) in known


def write(path: Path, found: list[Found]) -> None:
    """Write what was found, but for what is allowed; without lines, which move."""
    keys = sorted({key_of(each.problem) for each in found if each.state != "allowed"})
    problems = [{"kind": kind, "what": what, "file": file} for kind, what, file in keys]
    text = json.dumps({"version": VERSION, "problems": problems}, indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
