"""One observer looks at all cases; prints what it said, as JSON.

python -m benchmarks.observers.look TOOL URL FOLDER
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg
from fastapi import FastAPI
from sqlalchemy import event, make_url, select
from sqlalchemy.orm import joinedload, selectinload, undefer

from benchmarks.observers import causes, loads, model, stories
from benchmarks.observers.tools import TOOLS, Problem, Said, settle

NAMES: dict[str, Any] = {
    "select": select,
    "selectinload": selectinload,
    "joinedload": joinedload,
    "undefer": undefer,
    "Author": model.Author,
    "Book": model.Book,
    "Copy": model.Copy,
}
OPTION = re.compile(r"\.options\((?:[^()]|\([^()]*\))*\)")
WHOLE = re.compile(r"`(select\(.*?)`")


def line(file: Any, mark: str) -> str:
    """Return `file:line` of a mark, or what no tool says."""
    source = Path(file.__file__)
    for number, text in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        if text.endswith(f"  # {mark}"):
            return f"{source.name}:{number}"
    return "nowhere:0"


def names(text: str, place: str) -> bool:
    """Tell whether a text names a line, in any of the ways in which they are written."""
    file, _, number = place.partition(":")
    in_json = rf'{file}", [^{{}}]*?"lineno": {number}\b'  # tracepanel's stacks
    return bool(re.search(rf"{re.escape(place)}\b|{in_json}", text))


async def ask(app: FastAPI, path: str) -> None:
    """Make a request."""
    scope: dict[str, Any] = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"}
    scope |= {"method": "POST", "path": path, "raw_path": path.encode(), "root_path": ""}
    scope |= {"scheme": "http", "query_string": b"", "headers": [], "state": {}}
    scope |= {"client": None, "server": ("testserver", 80)}
    asked: list[int] = []

    async def receive() -> dict[str, Any]:
        if asked:
            await asyncio.sleep(60)
        asked.append(1)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None: ...

    with suppress(Exception):  # what nobody handles goes to the server
        await app(scope, receive, send)


class Look:
    """One tool, one application."""

    def __init__(self, name: str, url: str, folder: Path) -> None:
        self.tool = TOOLS[name]()
        self.url = url
        self.dbs = model.databases(url, folder)
        self.app = causes.application(self.dbs)
        self.pasted = ""
        for case in loads.LOADS:
            self.app.add_api_route(causes.path(case), self.endpoint(case), methods=["POST"])
        self.tool.install(self.app, self.dbs)

    def endpoint(self, case: str) -> Any:
        """Return the endpoint of a way to read."""
        load = loads.LOADS[case]

        async def read() -> None:
            query = eval(load.query + self.pasted, NAMES)
            await load.story(self.dbs.main.session, query)

        return read

    async def all(self) -> dict[str, Any]:
        """Run each case."""
        await model.fill(self.dbs)
        found = {cause.name: await self.cause(cause) for cause in causes.CAUSES}
        read = {name: await self.load(name, load) for name, load in loads.LOADS.items()}
        for db in self.dbs.all:
            await db.dispose()
        return {"causes": found, "loads": read}

    async def cause(self, cause: causes.Cause) -> dict[str, Any]:
        """Let it happen, and judge what is said of it."""
        self.tool.clear()
        with causes.faults(self.dbs, cause):
            await self.happen(cause)
        said: Said = self.tool.said(causes.path(cause.name))
        return {
            "outcome": outcome(said, cause.outcome),
            "reason": self.reason(said, cause),
            "line": None if cause.mark is None else self.line(said, cause),
            "text": said.text,
        }

    def reason(self, said: Said, cause: causes.Cause) -> bool:
        holder = causes.path(f"{cause.holder} held")
        wanted = re.escape(holder) if cause.reason == "holder" else cause.reason
        return bool(re.search(wanted, said.text))

    def line(self, said: Said, cause: causes.Cause) -> bool:
        return names(said.text, line(stories, cause.mark or cause.name))

    async def happen(self, cause: causes.Cause) -> None:
        """Make the request, beside the one that it waits for."""
        path = causes.path(cause.name)
        if cause.cancelled:
            await cut_off(ask(self.app, path))
        elif cause.holder == "other":
            await self.beside_another_program(path)
        elif cause.holder:
            holder = asyncio.create_task(ask(self.app, causes.path(f"{cause.holder} held")))
            await stories.taken[cause.holder].wait()
            await asyncio.gather(holder, ask(self.app, path))
        else:
            await ask(self.app, path)

    async def beside_another_program(self, path: str) -> None:
        """Wait for a row that another client has changed."""
        address = make_url(self.url).set(drivername="postgresql")
        address_text = address.render_as_string(hide_password=False)
        async with await psycopg.AsyncConnection.connect(address_text) as other:
            await other.execute("UPDATE item SET name = name || 'y' WHERE id = 1")
            asking = asyncio.create_task(ask(self.app, path))
            await asyncio.sleep(stories.HELD)
            await other.rollback()
            await asking

    async def load(self, name: str, load: loads.Load) -> dict[str, Any]:
        """Let it be read, and judge what is found."""
        self.tool.clear()
        await self.read(name, load)
        found: list[Problem] = self.tool.said(causes.path(name)).problems
        many = [each for each in found if each.many]
        loop, query = (line(loads, f"{name}: {what}") for what in ("loop", "query"))
        mend = loop if query.startswith("nowhere") else query
        return {
            "found": bool(many),
            "line": any(names(each.text, place) for each in many for place in (loop, query)),
            "mend": any(names(each.text, mend) for each in many),
            "remedy": await self.cured(name, load, many),
            "told apart": bool(found) and not many,
            "text": "\n".join(each.text for each in found),
        }

    async def read(self, name: str, load: loads.Load, pasted: str = "") -> None:
        """Make the request, or do the job, with this behind the query."""
        self.pasted = pasted
        if not load.in_a_job:
            await ask(self.app, causes.path(name))
            return
        with self.tool.job(causes.path(name)):
            async with self.dbs.main.scope():
                await self.endpoint(name)()

    async def cured(self, name: str, load: loads.Load, found: list[Problem]) -> bool:
        """Paste what is said, and count what is sent."""
        options = [match[0] for each in found if (match := OPTION.search(each.remedy))]
        wholes = [match[1] for each in found if (match := WHOLE.search(each.remedy))]
        tries = [max(options, key=len), "".join(options)] if options else []
        if name in {"get", "refresh"}:
            return any([await self.runs(self.whole(code), 1) for code in wholes[:1]])
        return any([await self.runs(self.read(name, load, code), load.at_once) for code in tries])

    async def runs(self, work: Any, most: int) -> bool:
        """Tell whether this work can be done, by so many statements."""
        try:
            return await self.sent(work) <= most
        except Exception:
            return False  # it is no code, or SQLAlchemy refuses it

    async def whole(self, code: str) -> None:
        async with self.dbs.main.scope():
            query = eval(code.replace("...", str(list(loads.ALL))), NAMES)
            assert len((await self.dbs.main.session.scalars(query)).all()) == model.AUTHORS

    async def sent(self, work: Any) -> int:
        """Count the statements of some work."""
        seen: list[str] = []

        def note(*told: Any) -> None:
            seen.append(told[2])

        engine = self.dbs.main.engine.sync_engine
        event.listen(engine, "before_cursor_execute", note)
        try:
            await work
        finally:
            event.remove(engine, "before_cursor_execute", note)
        return len(seen) or 1000


def outcome(said: Said, wanted: str) -> bool | None:
    """Tell whether the outcome is among what is said; None if nothing is."""
    if not said.outcomes:
        return None
    return any(re.fullmatch(wanted, each) for each in said.outcomes)


async def cut_off(request: Any) -> None:
    """Cancel a request when it waits, as servers do when a client has gone."""
    task = asyncio.create_task(request)
    await asyncio.sleep(0.2)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def main(name: str, url: str, folder: str) -> None:
    """Print what came of it."""
    settle(folder)
    look = Look(name, url, Path(folder))
    try:
        told = asyncio.run(look.all())
    finally:
        look.tool.close()
    told["versions"] = {each: metadata.version(each) for each in look.tool.packages}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
