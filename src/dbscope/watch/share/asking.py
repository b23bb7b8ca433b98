"""Ask all processes that watch one database, and put together what they say."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections import Counter
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from dbscope.watch.share import answers, folder, revisions, serving, shapes
from dbscope.watch.share.values import decoded, dictionary, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dbscope.watch.findings import Findings
    from dbscope.watch.share.folder import Member

PATIENCE = 1.0  # seconds for one process
REST = 3.0  # seconds in which one that did not answer is not asked
LARGEST = 8_000_000  # bytes of an answer
LONGEST = 15  # digits of a number
OWN = "here"

logger = logging.getLogger("dbscope")


class Silent(OSError):
    """A process that is there, and does not answer."""


class Everybody:
    """All processes that watch one database.

    Args:
        place: gives their folder, which only threads may look at.
        watch: of this process, which is asked without a socket; None: it is not one of them.
    """

    def __init__(self, place: Callable[[], Path], watch: Findings | None = None) -> None:
        self._place = place
        self.watch = watch
        self._folder: Path | None = None
        self._silent: dict[str, float] = {}
        self._left: dict[str, dict[str, Any]] = {}

    @property
    def folder(self) -> Path:
        """The folder of the database."""
        if self._folder is None:
            self._folder = self._place()
        return self._folder

    @property
    def id(self) -> str:
        """The name of this process."""
        return (None if self.watch is None else self.watch.id) or OWN

    def look(self, seen: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Give what is new in each process: records, who holds and who waits.

        Args:
            seen: by process the last record that is known; it is brought up to date.
        """
        for name, found in self._ask("new", seen):
            if name in self._left and name in seen:
                continue
            seen[name] = found.get("last", 0)
            for record in found.get("records", ()):
                record["id"] = f"{name}.{record['number']}"
            yield found | {"id": name}

    def record(self, id: str) -> dict[str, Any] | None:  # noqa: A002
        """Return a record by its id."""
        name, _, number = id.rpartition(".")
        if not number.isdecimal() or len(number) > LONGEST:
            return None
        asked = {"ask": "record", "number": int(number)}
        for each in self._members():
            if each.id == name and (found := self._answer(each, asked)) is not None:
                found["id"] = id
                return cast("dict[str, Any]", found)
        return None

    def problems(self) -> list[dict[str, Any]]:
        """Return the problems of all, each once."""
        found: dict[Any, dict[str, Any]] = {}
        for _, told in self._ask("problems"):
            for each in told:
                what = None if each["kind"].startswith("idle") else each["what"]
                known = found.setdefault((each["kind"], what, each["line"], each["at"]), each)
                if known is not each:
                    known["seen"] += each["seen"]
                    known["times"] = max(known["times"], each["times"])
                    known["routes"] = sorted({*known["routes"], *each["routes"]})[:5]
        return sorted(found.values(), key=lambda each: -each["seen"])

    def routes(self) -> list[dict[str, Any]]:
        """Return what the routes have done in all processes."""
        found: dict[str, dict[str, Any]] = {}
        for name, told in self._ask("routes"):
            for each in told:
                each["slowest"] = [f"{name}.{each['slowest'][0]}", each["slowest"][1]]
                known = found.get(each["name"])
                found[each["name"]] = each if known is None else both(known, each)
        return list(found.values())

    def pool(self) -> list[list[int]]:
        """Return the pools of all over time, added up by second."""
        found: dict[int, list[int]] = {}
        for _, told in self._ask("pool"):
            for second, *numbers in told:
                known = found.setdefault(second, [0] * len(numbers))
                found[second] = [a + b for a, b in zip(known, numbers, strict=True)]
        return [[second, *found[second]] for second in sorted(found)]

    def revisions(self) -> dict[str, dict[str, Any]]:
        """Return when revisions were applied, and by which process, as far as one has noted it."""
        return revisions.noted(self.folder)

    def note_revisions(self, ran: dict[str, float], undone: Iterable[str] | None = ()) -> None:
        """Note what this process has run, where somebody watches, or has watched, the database.

        Args:
            ran: revisions that were applied, and when, in seconds since 1970.
            undone: those of which that is over; None: all that are noted.
        """
        if not serving.IS_POSSIBLE:
            return
        try:
            if self.watch is not None and self.watch.id is not None:
                folder.make(self.folder)
            if self.folder.is_dir():
                revisions.note(self.folder, ran, undone)
        except OSError as error:
            logger.debug("When revisions were applied could not be noted: %r", error)

    # -- inside --------------------------------------------------------------------------------

    def _members(self) -> list[Member]:
        own = [] if self.watch is None else [folder.Member(self.id, self.folder, is_left=False)]
        others = [each for each in folder.members(self.folder) if each.id != self.id]
        return [*own, *others]

    def _ask(self, what: str, seen: dict[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
        for each in self._members():
            after = None if seen is None else seen.get(each.id)
            found = self._answer(each, {"ask": what, "after": after})
            if found is not None:
                yield each.id, found

    def _answer(self, member: Member, asked: dict[str, Any]) -> Any:
        found = self._told(member, asked)
        return found if shapes.fits(found, shapes.ANSWERS[asked["ask"]]) else None

    def _told(self, member: Member, asked: dict[str, Any]) -> Any:
        if self.watch is not None and member.id == self.id:
            return json.loads(encoded(answers.answer(self.watch, asked)))
        try:
            if member.is_left:
                return self._of_left(member, asked)
            if self._silent.get(member.id, 0.0) > monotonic():
                raise Silent
            return ask(member.path, asked)
        except Silent:
            self._silent.setdefault(member.id, 0.0)
            if self._silent[member.id] <= monotonic():
                self._silent[member.id] = monotonic() + REST
            return silent(member) if asked["ask"] == "new" else None
        except (OSError, ValueError):
            return None

    def _of_left(self, member: Member, asked: dict[str, Any]) -> Any:
        left = self._left.get(member.id)
        if left is None:
            left = self._left[member.id] = checked(decoded(folder.read(member.path)))
        if asked["ask"] == "record":
            found = [each for each in left["records"] if each["number"] == asked["number"]]
            return dict(found[0]) if found else None
        if asked["ask"] == "new":
            return left | {"records": [dict(each) for each in left["records"]]}
        return json.loads(json.dumps(left.get(asked["ask"], [])))


def checked(left: Any) -> dict[str, Any]:
    """Return what a process has left behind.

    Raises:
        ValueError: it is something else.
    """
    found = dictionary(left)
    if not isinstance(found.get("records"), list) or not isinstance(found.get("process"), dict):
        raise ValueError("It is nothing that a process has left.")  # noqa: TRY004  (of JSON)
    return found


def ask(path: Path, asked: dict[str, Any]) -> Any:
    """Ask one process.

    Raises:
        Silent: it is there, and says nothing.
        OSError: it has gone; what it had in the folder is removed.
        ValueError: what it says is too long, or no JSON.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE)
            line.connect(str(path))
            line.sendall(encoded(asked) + b"\n")
            return decoded(heard(line))
    except ConnectionRefusedError:
        folder.bury(path)
        raise
    except (TimeoutError, BlockingIOError):
        raise Silent from None


def heard(line: socket.socket) -> bytes:
    """Return what is said in time, if it is not too long."""
    parts: list[bytes] = []
    end, length = monotonic() + PATIENCE, 0
    while part := line.recv(65536):
        parts.append(part)
        length += len(part)
        if length > LARGEST:
            raise ValueError("The answer is too long.")
        if monotonic() > end:
            raise TimeoutError
    return b"".join(parts)


def silent(member: Member) -> dict[str, Any]:
    """Return what is told of a process that does not answer: its interpreter may be stuck."""
    pid = member.id.partition("-")[0]
    told = {"pid": int(pid) if pid.isdecimal() else None, "name": "does not answer"}
    return {"process": told, "records": [], "missed": 0, "now": None}


def both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return what a route has done in two processes."""
    minutes: dict[int, list[Any]] = {}
    for minute, *numbers, took in [*one["minutes"], *other["minutes"]]:
        *known, counted = minutes.setdefault(minute, [0] * len(numbers) + [Counter()])
        counted.update(took)
        minutes[minute] = [*(a + b for a, b in zip(known, numbers, strict=True)), counted]
    reasons = Counter[str](dict(map(tuple, one["reasons"])))
    reasons.update(dict(map(tuple, other["reasons"])))
    begun = [each["since"] for each in (one, other) if each["since"] is not None]
    return one | {
        "minutes": [[minute, *minutes[minute]] for minute in sorted(minutes)],
        "since": min(begun, default=None),
        "last": max(one["last"], other["last"]),
        "slowest": max(one["slowest"], other["slowest"], key=lambda each: each[1]),
        "reasons": reasons.most_common(3),
    }


def of_everybody() -> dict[str, Everybody]:
    """Return those who watch each database of this user, by its folder."""
    base = folder.base()
    try:
        folder.check(base)
        places = [entry for entry in os.scandir(base) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return {}
    return {entry.name: Everybody(partial(Path, entry.path)) for entry in places}
