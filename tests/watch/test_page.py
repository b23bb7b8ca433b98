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
from dbscope.watch.page.app import STATIC, Stream
from tests.asgi import Answer, http_scope

pytestmark = pytest.mark.anyio
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


def token(app: FastAPI) -> str:
    """Return what the log has told."""
    page: Any = next(route for route in app.routes if getattr(route, "path", "") == "/_db")
    found: str = page.app.guard.token
    return found


async def get(app: Any, path: str, *headers: tuple[bytes, bytes], method: str = "GET") -> Answer:
    """Ask for something with just these headers."""
    answer = Answer()
    scope = http_scope(method, path.partition("?")[0])
    scope |= {"headers": list(headers), "query_string": path.partition("?")[2].encode()}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

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


async def test_outside_of_debug_mode_somebody_has_to_decide(db: AsyncDatabase[Any]) -> None:
    """It would show an application's business to the world."""
    with pytest.raises(ConfigurationError, match="auth=lambda request"):
        db.watch.mount(FastAPI())
    with pytest.raises(ConfigurationError, match="must begin with a slash"):
        db.watch.mount(FastAPI(debug=True), "/_db/")


async def test_without_the_token_nothing_is_shown(app: FastAPI) -> None:
    """Not a file, not a record, and no wrong token either."""
    for path in ("/_db/", "/_db/app.js", "/_db/api/records", "/_db/events", "/_db/?token=wrong"):
        assert (await get(app, path, LOCAL)).status == 401, path
    wrong = (b"cookie", b"dbscope_watch=wrong")
    assert (await get(app, "/_db/api/records", LOCAL, wrong)).status == 401
    broken = (b"cookie", b'dbscope_watch="\\')
    assert (await get(app, "/_db/api/records", LOCAL, broken)).status == 401


async def test_who_has_the_token_sees_the_page(app: FastAPI) -> None:
    """By a cookie that no script can read, in the places that a page needs."""
    cookie = await signed_in(app)
    await get(app, "/read", LOCAL)
    for name in ("", "app.js", "waterfall.js", "style.css", "icon.svg", "api/now"):
        assert (await get(app, f"/_db/{name}", LOCAL, cookie)).status == 200, name
    (record,) = json.loads((await get(app, "/_db/api/records", LOCAL, cookie)).body)
    assert record["line"] == "read; 1 statement"
    assert record["route"] == "GET /read"
    found = json.loads((await get(app, "/_db/api/records/1", LOCAL, cookie)).body)
    assert [each["kind"] for each in found["sent"]] == ["SELECT"]
    assert (await get(app, "/_db/api/records/99", LOCAL, cookie)).status == 404
    assert (await get(app, "/_db/../secret", LOCAL, cookie)).status == 404


async def test_a_name_that_only_resolves_to_this_machine_is_refused(app: FastAPI) -> None:
    """DNS rebinding: the browser would send the cookie of that name, and show what comes."""
    cookie = await signed_in(app)
    for host in (b"evil.example", b"evil.example:8000", b"", b"127.0.0.1.evil.example"):
        assert (await get(app, "/_db/api/records", (b"host", host), cookie)).status == 421, host
    for host in (b"localhost", b"LOCALHOST:1", b"[::1]:8000"):
        assert (await get(app, "/_db/api/records", (b"host", host), cookie)).status == 200, host


async def test_another_site_gets_nothing_by_the_browser(app: FastAPI) -> None:
    """Not as a script, not as a frame; and nothing but reading is possible."""
    cookie = await signed_in(app)
    for site in (b"cross-site", b"same-site"):
        fetched = (b"sec-fetch-site", site)
        assert (await get(app, "/_db/app.js", LOCAL, cookie, fetched)).status == 403
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert (await get(app, "/_db/", LOCAL, cookie, method=method)).status == 405


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
    await get(app, "/_db/api/records", LOCAL, cookie)
    assert db.watch.recent() == []
    assert not any("_db" in path for path in app.openapi()["paths"])


async def until_sent(sent: list[bytes], what: bytes) -> None:
    """Let the stream go on until it has sent this."""
    while not any(each.startswith(what) for each in sent):  # noqa: ASYNC110  (nobody tells)
        await asyncio.sleep(0)


async def test_what_is_new_comes_by_itself(app: FastAPI, db: AsyncDatabase[Any]) -> None:
    """As server-sent events; who is gone is sent nothing, and not listened for any more."""
    sent: list[bytes] = []
    gone = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    task = asyncio.create_task(Stream(db.watch, send).run(receive))
    await until_sent(sent, b"event: now")
    await get(app, "/read", LOCAL)
    await until_sent(sent, b"event: record")
    gone.set()
    await task
    assert db.watch.recorder is not None
    assert db.watch.recorder.on_record == []
    (record,) = [each for each in sent if each.startswith(b"event: record")]
    assert json.loads(record.partition(b"data: ")[2])["line"] == "read; 1 statement"


async def test_the_page_is_small_and_asks_nobody_else() -> None:
    """At most 60 KB, from here; no style and no script inside, which the policy would refuse."""
    files = {path.name: path.read_text() for path in STATIC.iterdir()}
    assert sum(map(len, files.values())) < 60_000
    for name, content in files.items():
        without = content.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", without), name
    assert not re.search(r"style=|onclick=|<script>|<style>", files["index.html"])
    assert "innerHTML" not in files["app.js"] + files["waterfall.js"]
