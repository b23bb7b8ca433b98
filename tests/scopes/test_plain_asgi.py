"""Applications that are of no framework: `DBSessionMiddleware` asks for nothing but ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.util import await_only, greenlet_spawn

from dbscope import DBSessionMiddleware
from tests.asgi import Answer, ask
from tests.worlds import Both, Child, Item, World, insert, needs_late_check

pytestmark = pytest.mark.worlds(places=["scope"], drivers=lambda name: name not in SYNC)
SYNC = {"sqlite3", "psycopg sync", "pymysql"}
App = Callable[[Any, Any, Any], Awaitable[None]]


class Trouble(Exception):
    """What an endpoint raises."""


def application(status: int, *works: Callable[[], object]) -> App:
    """Return an application that does this, and answers in two pieces."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await receive()
        for work in works:
            await greenlet_spawn(work)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    return app


def passing(app: App) -> App:
    """Return another middleware around it, as such stacks have: a function."""

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return middleware


def asked(world: World, app: Callable[[Both], App], stack: str) -> tuple[Answer, list[str]]:
    """Send a request through a stack; return the answer, and what was stored when it left."""
    seen: list[str] = []

    def story(db: Both) -> Answer:
        inner = app(db)
        served: App = {
            "alone": lambda: DBSessionMiddleware(inner),
            "inside": lambda: passing(DBSessionMiddleware(inner)),
            "outside": lambda: DBSessionMiddleware(passing(inner)),
            "twice": lambda: DBSessionMiddleware(DBSessionMiddleware(inner)),
        }[stack]()
        return await_only(ask(served, "POST", "/", on_start=lambda _: seen.extend(world.items())))

    return world.play(story), seen


in_each_stack = pytest.mark.parametrize("stack", ["alone", "inside", "outside", "twice"])


@in_each_stack
def test_a_success_leaves_when_it_is_stored(world: World, stack: str) -> None:
    """Hooks have run by then, too."""
    log: list[str] = []

    def app(db: Both) -> App:
        def work() -> None:
            insert(db, "a")
            db.on_commit(lambda: log.append("stored"))

        return application(201, work)

    answer, seen = asked(world, app, stack)
    assert (answer.status, answer.body, answer.error) == (201, b"ab", None)
    assert (seen, log) == (["a"], ["stored"])


@in_each_stack
def test_a_refusal_stores_nothing(world: World, stack: str) -> None:
    """Its status decides, as everywhere."""
    answer, seen = asked(world, lambda db: application(409, lambda: insert(db, "a")), stack)
    assert (answer.status, answer.body) == (409, b"ab")
    assert seen == world.items() == []


@in_each_stack
def test_an_exception_goes_on_to_the_server(world: World, stack: str) -> None:
    """Nobody inside makes an answer of it, and nothing is stored."""

    def fail() -> None:
        raise Trouble

    answer, _ = asked(world, lambda db: application(200, lambda: insert(db, "a"), fail), stack)
    assert isinstance(answer.error, Trouble)
    assert (answer.status, world.items()) == (None, [])


@needs_late_check
@in_each_stack
def test_a_commit_that_fails_is_no_success(world: World, stack: str) -> None:
    """The answer that the application has given is discarded, its body too."""

    def app(db: Both) -> App:
        def work() -> None:
            insert(db, "a")
            db.session.add(Child(item_id=99))
            db.session.flush()

        return application(200, work)

    answer, _ = asked(world, app, stack)
    assert answer.error is not None
    assert (answer.status, answer.body) == (None, b"")
    assert world.items() == []


def test_requests_do_not_share_a_session(world: World) -> None:
    """Each has its own, and the second reads what the first has stored."""
    sessions: list[object] = []

    def story(db: Both) -> None:
        def work() -> None:
            sessions.append(db.real.session)
            if not db.scalar(select(Item.id)):
                insert(db, "a")

        served = DBSessionMiddleware(application(200, work))
        for _ in range(2):
            assert await_only(ask(served, "POST", "/")).status == 200

    world.play(story)
    assert len(set(map(id, sessions))) == 2
    assert world.items() == ["a"]
