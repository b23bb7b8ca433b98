"""Every case of Django's own tests is told, and what differs has its reason in the documents."""

import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.unit.django_cases import ATOMIC, DEVIATIONS, ELSEWHERE, WITHOUT_A_TEST, all_cases
from tests.worlds import PLACES

ADOPTION = Path(__file__).parents[2] / "docs" / "adoption.md"
TELLING = (
    "tests.unit.test_django_atomic",
    "tests.unit.test_django_errors",
    "tests.unit.test_django_hooks",
    "tests.unit.test_nesting",
    "tests.engine.test_mysql",
)


def told() -> Iterator[tuple[str, set[str]]]:
    """Return the cases that docstrings name after "Django:", and the places they are told in."""
    for module in TELLING:
        for name, test in vars(importlib.import_module(module)).items():
            found = re.search(r"Django:\s+(\w+)\.(test_\w+(?:,\s+test_\w+)*)", test.__doc__ or "")
            if name.startswith("test_") and found:
                for case in found[2].replace(",", " ").split():
                    yield f"{found[1]}.{case}", places_of(test)


def places_of(test: Any) -> set[str]:
    """Return the places that a test of `world` runs in."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "worlds"]
    return set(marks[0].kwargs.get("places", PLACES) if marks else PLACES)


def told_elsewhere() -> set[str]:
    """Return the cases told, each by the name that it has in Django where it is run again."""
    places: defaultdict[str, set[str]] = defaultdict(set)
    for case, where in told():
        places[case].update(where)
    cases = {case for case in places if not case.startswith("AtomicTests.")}
    for name, place in ELSEWHERE.items():
        cases |= {f"{name}.{each}" for each in ATOMIC if place in places[f"AtomicTests.{each}"]}
    return cases


def test_all_cases_of_django_are_told() -> None:
    """Each in every place that Django runs it in; nothing else is said to be Django's."""
    assert told_elsewhere() | WITHOUT_A_TEST == all_cases()
    assert not told_elsewhere() & WITHOUT_A_TEST
    assert len(all_cases()) == 115


def test_what_differs_from_django_has_its_reason() -> None:
    """One row of the table for each kind, and no row without a case."""
    text = ADOPTION.read_text(encoding="utf-8").partition("## Coming from Django")[2]
    rows = re.findall(r"^\| (?!Django )(.+?) \| .+? \| .+? \|$", text, re.MULTILINE)
    assert sorted(rows) == sorted(set(DEVIATIONS.values()))
    assert set(DEVIATIONS) <= all_cases()
    assert set(DEVIATIONS) >= WITHOUT_A_TEST
