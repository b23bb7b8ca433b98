"""The page is for whoever is let in, and nobody else: the attacks that are tried on such pages."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from dbscope import AsyncDatabase, ConfigurationError
from dbscope.watch.page.app import FILES, STATIC, Page
from dbscope.watch.page.stream import Stream
from tests.asgi import Answer, http_scope

pytestmark = pytest.mark.anyio
READ = "read; 1 statement"  # and that it was idle, where the machine is busy
LOCAL = (b"host", b"127.0.0.1:8000")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[AsyncDatabase[Any]]:
    """Return a database that is watched."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/a.db")
    yield db
    db.watch.stop()


@pytest.fixture
def app(db: AsyncDatabase[Any]) -> FastAPI:
    """Return an application with the page, in debug mode."""
    app = FastAPI(debug=True)
    db.install(app)

    @app.get("/read")
    async def read() -> Any:
        return await db.scalar(text("SELECT 1"))

    db.watch.mount(app)
    return app


def page_of(app: FastAPI) -> Page:
    """Return the page that is mounted."""
    found: Any = next(route for route in app.routes if getattr(route, "path", "") == "/_db")
    page: Page = found.app
    return page


def token(app: FastAPI) -> str:
    """Return what the log has told."""
    return page_of(app).guard.token


async def get(
    app: Any, path: str, *headers: tuple[bytes, bytes], method: str = "GET", body: bytes = b""
) -> Answer:
    """Ask for something with just these headers."""
    answer = Answer()
    scope = http_scope(method, path.partition("?")[0])
    scope |= {"headers": list(headers), "query_string": path.partition("?")[2].encode()}

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        answer.messages.append(message)

    await app(scope, receive, send)
    return answer


async def signed_in(app: FastAPI) -> tuple[bytes, bytes]:
    """Open the address with the token, and return the cookie that comes back."""
    answer = await get(app, f"/_db/?token={token(app)}", LOCAL)
    assert (answer.status, answer.headers["location"]) == (303, "/_db/")
    told = answer.headers["set-cookie"]
    assert told.endswith("; Path=/_db; HttpOnly; SameSite=Strict")
    return b"cookie", told.partition(";")[0].encode()


async def records_of(app: FastAPI) -> list[Any]:
    """Return what the page is told of records."""
    page = page_of(app)
    found = await page.in_thread(lambda: list(page.everybody.look({})))
    return [record for each in found for record in each["records"]]


async def test_outside_of_debug_mode_somebody_has_to_decide(db: AsyncDatabase[Any]) -> None:
    """It would show an application's business to the world."""
    with pytest.raises(ConfigurationError, match="auth=lambda request"):
        db.watch.mount(FastAPI())
    with pytest.raises(ConfigurationError, match="must begin with a slash"):
        db.watch.mount(FastAPI(debug=True), "/_db/")


async def test_without_the_token_nothing_is_shown(app: FastAPI) -> None:
    """Not a file, not a record, and no wrong token either."""
    for path in ("/_db/", "/_db/app.js", "/_db/api/pool", "/_db/events", "/_db/?token=wrong"):
        assert (await get(app, path, LOCAL)).status == 401, path
    wrong = (b"cookie", b"dbscope_watch=wrong")
    assert (await get(app, "/_db/api/pool", LOCAL, wrong)).status == 401
    broken = (b"cookie", b'dbscope_watch="\\')
    assert (await get(app, "/_db/api/pool", LOCAL, broken)).status == 401


async def test_who_has_the_token_sees_the_page(app: FastAPI) -> None:
    """By a cookie that no script can read, in the places that a page needs."""
    cookie = await signed_in(app)
    await get(app, "/read", LOCAL)
    for name in ("", *(FILES.keys() - {"index.html"}), "api/problems", "api/routes", "api/pool"):
        assert (await get(app, f"/_db/{name}", LOCAL, cookie)).status == 200, name
    (record,) = await records_of(app)
    assert record["line"].startswith(READ)
    assert record["route"] == "GET /read"
    found = json.loads((await get(app, f"/_db/api/records/{record['id']}", LOCAL, cookie)).body)
    assert [each["kind"] for each in found["sent"]] == ["SELECT"]
    for other in ("1", "here.99", "../../etc.1", ".1", f"{record['id']}/../{record['id']}"):
        assert (await get(app, f"/_db/api/records/{other}", LOCAL, cookie)).status == 404, other
    assert (await get(app, "/_db/api/migrations", LOCAL, cookie)).status == 404
    assert (await get(app, "/_db/../secret", LOCAL, cookie)).status == 404


@pytest.mark.parametrize(("strips", "nested"), [(True, False), (False, False), (False, True)])
async def test_it_is_behind_a_proxy_and_in_another_application(
    app: FastAPI, strips: bool, nested: bool
) -> None:
    """Whether the prefix of the proxy is still in the path, or only in `root_path`."""
    outer = FastAPI()
    outer.mount("/inner", app)
    whole, where = (outer, "/inner/_db") if nested else (app, "/_db")

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"] if strips else f"/proxy{scope['path']}"
        await whole(scope | {"root_path": "/proxy", "path": path}, receive, send)

    answer = await get(proxy, f"{where}/?token={token(app)}", LOCAL)
    assert (answer.status, answer.headers["location"]) == (303, f"/proxy{where}/")
    cookie = b"cookie", answer.headers["set-cookie"].partition(";")[0].encode()
    for name in ("", "app.js", "api/pool"):
        assert (await get(proxy, f"{where}/{name}", LOCAL, cookie)).status == 200, name


async def test_a_name_that_only_resolves_to_this_machine_is_refused(app: FastAPI) -> None:
    """DNS rebinding: the browser would send the cookie of that name, and show what comes."""
    cookie = await signed_in(app)
    for host in (b"evil.example", b"evil.example:8000", b"", b"127.0.0.1.evil.example"):
        assert (await get(app, "/_db/api/pool", (b"host", host), cookie)).status == 421, host
    for host in (b"localhost", b"LOCALHOST:1", b"[::1]:8000"):
        assert (await get(app, "/_db/api/pool", (b"host", host), cookie)).status == 200, host


async def test_another_site_gets_nothing_by_the_browser(app: FastAPI) -> None:
    """Not as a script, not as a frame; and nothing but reading is possible."""
    cookie = await signed_in(app)
    for site in (b"cross-site", b"same-site"):
        fetched = (b"sec-fetch-site", site)
        assert (await get(app, "/_db/app.js", LOCAL, cookie, fetched)).status == 403
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert (await get(app, "/_db/", LOCAL, cookie, method=method)).status == 405


async def test_only_a_script_of_the_page_has_the_database_asked(app: FastAPI) -> None:
    """A form of another site has the cookie, if `auth` is by one; it has no header of ours."""
    cookie = await signed_in(app)
    await get(app, "/read", LOCAL)
    (record,) = await records_of(app)
    asked = json.dumps({"id": record["id"], "place": 0}).encode()
    ours, here = (b"x-dbscope-watch", b"1"), (b"origin", b"http://127.0.0.1:8000")
    strange = (b"origin", b"http://evil.example")

    async def plan(*headers: tuple[bytes, bytes], body: bytes = asked) -> Answer:
        return await get(app, "/_db/api/plan", *headers, method="POST", body=body)

    assert (await plan(LOCAL, ours, here)).status == 401
    assert (await plan((b"host", b"evil.example"), cookie, ours, here)).status in {403, 421}
    for headers in ([], [ours], [here], [ours, strange], [strange], [ours, (b"origin", b"null")]):
        assert (await plan(LOCAL, cookie, *headers)).status == 403, headers
    assert (await plan(LOCAL, cookie, ours, here, (b"sec-fetch-site", b"cross-site"))).status == 403
    assert (await get(app, "/_db/api/plan", LOCAL, cookie, ours, here)).status == 405
    for body in (b"", b"[]", b'{"id": "1"}', b'{"id": "x.1", "place": 0}', b"9" * 10_000):
        assert (await plan(LOCAL, cookie, ours, here, body=body)).status == 404, body
    for headers in ([here], [(b"sec-fetch-site", b"same-origin")]):
        found = await plan(LOCAL, cookie, ours, *headers)
        assert json.loads(found.body) == {"plan": ["SCAN CONSTANT ROW"]}


async def test_every_answer_keeps_others_out(app: FastAPI) -> None:
    """Scripts of elsewhere, frames, caches, and other sites that learn where one comes from."""
    for headers in ([LOCAL], [LOCAL, await signed_in(app)]):
        told = (await get(app, "/_db/", *headers)).headers
        assert told["content-security-policy"].startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in told["content-security-policy"]
        assert told["x-frame-options"] == "DENY"
        assert told["cache-control"] == "no-store"
        assert told["x-content-type-options"] == "nosniff"
        assert told["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in told


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_application_decides_in_production(
    db: AsyncDatabase[Any], is_async: bool
) -> None:
    """By a function of the request; then it is asked for by the name of the site."""
    app = FastAPI()

    def is_admin(request: Any) -> bool:
        return request.headers.get("x-admin") == "yes"

    async def is_admin_too(request: Any) -> bool:
        return is_admin(request)

    db.watch.mount(app, "/ops/db", auth=is_admin_too if is_async else is_admin)
    host, admin = (b"host", b"shop.example"), (b"x-admin", b"yes")
    assert (await get(app, "/ops/db/", host)).status == 403
    assert (await get(app, "/ops/db/?token=", host)).status == 403
    assert (await get(app, "/ops/db/", host, admin)).status == 200


async def test_hosts_may_be_named(db: AsyncDatabase[Any]) -> None:
    """Where the application is behind one that it trusts."""
    app = FastAPI()
    db.watch.mount(app, auth=lambda request: True, hosts=["shop.example"])
    assert (await get(app, "/_db/", (b"host", b"shop.example"))).status == 200
    assert (await get(app, "/_db/", (b"host", b"evil.example"))).status == 421


async def test_the_page_is_no_part_of_the_api_and_of_its_own_records(
    app: FastAPI, db: AsyncDatabase[Any]
) -> None:
    """Who watches does not want to see himself."""
    cookie = await signed_in(app)
    await get(app, "/_db/api/pool", LOCAL, cookie)
    assert db.watch.recent() == []
    assert not any("_db" in path for path in app.openapi()["paths"])


class Browser:
    """One that listens to what is new."""

    def __init__(self, app: FastAPI, last: bytes = b"") -> None:
        self.sent: list[bytes] = []
        self.gone = asyncio.Event()
        stream = Stream(page_of(app).look, self._send)
        scope = {"headers": [(b"last-event-id", last)] if last else []}
        self.task = asyncio.create_task(stream.run(scope, self._receive))

    async def _send(self, message: Any) -> None:
        self.sent.append(message.get("body", b""))

    async def _receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    def looks(self) -> list[list[Any]]:
        """Return the records that came, by event."""
        told = [each.partition(b"data: ")[2] for each in self.sent if b"event: look" in each]
        return [
            [r["line"][: len(READ)] for each in json.loads(told) for r in each["records"]]
            for told in told
        ]

    async def until(self, holds: Any) -> None:
        """Let the stream go on until this is so."""
        while not holds(self.looks()):  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0)

    async def leave(self) -> bytes:
        """Go away, and return what the last event was called."""
        self.gone.set()
        await self.task
        return self.sent[-2].partition(b"id: ")[2].partition(b"\n")[0]


async def test_what_is_new_comes_by_itself(app: FastAPI) -> None:
    """All of it in one event, twice a second: a thousand requests are not a thousand events."""
    browser = Browser(app)
    await browser.until(lambda looks: looks)
    for _ in range(20):
        await get(app, "/read", LOCAL)
    await browser.until(lambda looks: sum(map(len, looks)) == 20)
    assert len(browser.looks()) <= 4
    await browser.leave()


async def test_for_who_does_not_read_nothing_is_gathered(app: FastAPI) -> None:
    """A look waits for the one before: of what nobody takes there is one, however many listen."""
    looks, stuck = 0, asyncio.Event()

    async def look(seen: Any) -> bytes:
        nonlocal looks
        looks += 1
        return b"[]"

    async def send(message: Any) -> None:
        if b"event: look" in message.get("body", b""):
            await stuck.wait()

    async def receive() -> Any:
        await stuck.wait()

    many = 200
    streams = [
        asyncio.create_task(Stream(look, send).run({"headers": []}, receive)) for _ in range(many)
    ]
    while looks < many:
        await get(app, "/read", LOCAL)
    for _ in range(20):
        assert (await get(app, "/read", LOCAL)).status == 200
    await asyncio.sleep(1.2)  # longer than two looks
    assert looks == many
    for stream in streams:
        stream.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError)
        for each in await asyncio.gather(*streams, return_exceptions=True)
    )


async def test_who_comes_again_is_sent_only_what_is_new(app: FastAPI) -> None:
    """A browser says what it has; whatever else it says is nothing that is known."""
    await get(app, "/read", LOCAL)
    browser = Browser(app)
    await browser.until(lambda looks: looks == [[READ]])
    last = await browser.leave()
    for told, expected in ((last, []), (b"no JSON", [READ]), (b"[" * 100_000, [READ])):
        browser = Browser(app, told)
        await browser.until(lambda looks: looks)
        assert browser.looks()[0] == expected
        await browser.leave()


async def test_the_page_is_small_and_asks_nobody_else() -> None:
    """At most 60 KB, from here; no style and no script inside, which the policy would refuse."""
    files = {path.name: path.read_text() for path in STATIC.iterdir()}
    assert sum(map(len, files.values())) < 60_000
    for name, content in files.items():
        without = content.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", without), name
    assert not re.search(r"style=|onclick=|<script>|<style>", files["index.html"])
    assert "innerHTML" not in "".join(files.values())
