"""The reference server, from outside: a process, spoken to by HTTP."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.acceptance.shop import NO_LIMITS, PASSWORD, PATIENCE, SERVER, log_in
from tests.support import warm
from tests.support.processes import bar

ROOT = Path(__file__).resolve().parents[2]
CUP = {"name": "cup", "price": "12.50"}


COMMAND = [sys.executable, *SERVER]


def environment(url: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    ours = {"DATABASE_URL": url, "PYTHONPATH": path, "SAMPLE_DATA": "false", **NO_LIMITS}
    return {**os.environ, **ours, "TEST_PASSWORDS": "cheap"}


class Server:
    """A running server."""

    def __init__(self, url: str, log: Path) -> None:
        self.log = log
        self.cookies: dict[str, str] = {}  # of who sells
        with log.open("w") as file:
            self.process = warm.Popen(
                COMMAND, cwd=log.parent, env=environment(url), stdout=file, stderr=file
            )

    @property
    def base(self) -> str:
        """Where it listens, which it tells in its log."""
        found = re.search(r"running on (http://\S+)", self.log.read_text())
        return found[1] if found else ""

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.base:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(40)

    def visitor(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.base, timeout=30)

    @contextlib.contextmanager
    def seller(self) -> Iterator[httpx2.Client]:
        """Give a client that is logged in, as the same user each time."""
        who = {"email": "seller@example.com", "name": "Seller", "password": PASSWORD}
        with self.visitor() as client:
            if not self.cookies:
                assert client.post("/users", json=who).status_code in (201, 409)
                self.cookies["session"] = log_in(client, who["email"])
            client.cookies.update(self.cookies)
            yield client


@contextlib.contextmanager
def running(url: str, log: Path) -> Iterator[Server]:
    server = Server(url, log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg"])
def driver(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def new_url(request, tmp_path_factory) -> Callable[[str], str]:
    """Make an empty database, and return its URL as people write it."""

    def new_url(driver: str) -> str:
        if driver == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/app.db"
        postgres = request.getfixturevalue("postgres")
        return postgres.new_database("server", None if driver == "psycopg" else driver)

    return new_url


@pytest.fixture(scope="module")
def server_on(new_url, tmp_path_factory) -> Iterator[Callable[[str], Server]]:
    """One server for each driver, started when the first test asks for it."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def server_on(driver: str) -> Server:
            log = tmp_path_factory.mktemp(driver) / "log"
            return stack.enter_context(running(new_url(driver), log))

        yield server_on


@pytest.fixture
def client(server_on, driver) -> Iterator[httpx2.Client]:
    """A client of a server without items."""
    with server_on(driver).seller() as client:
        for item in client.get("/items", params={"limit": 100}).json()["items"]:
            client.delete(f"/items/{item['id']}")
        yield client


def test_what_was_stored_is_found(client):
    """An item that was answered for with 201 is there in the next request."""
    created = client.post("/items", json={**CUP, "tax": 1.1})
    assert created.status_code == 201
    item = created.json()
    assert item == {
        "id": item["id"],
        "name": "cup",
        "description": None,
        "price": "12.50",
        "tax": "1.10",
        "owner_id": client.get("/users/me").json()["id"],
        "version": 1,
    }
    assert client.get(f"/items/{item['id']}").json() == item
    assert client.get("/items").json() == {"items": [item], "total": 1, "next": None}


def test_items_are_listed_in_pages(client):
    """A page has `limit` items from `offset` on; the total counts all of them."""
    for number in range(5):
        client.post("/items", json={"name": f"item {number}", "price": number})
    page = client.get("/items", params={"limit": 2, "offset": 3}).json()
    assert [item["name"] for item in page["items"]] == ["item 3", "item 4"]
    assert page["total"] == 5
    beyond = client.get("/items", params={"offset": 5}).json()
    assert beyond == {"items": [], "total": 5, "next": None}


def test_pages_go_on_by_cursor(client):
    """`next` of a page is `after` of the next one, until there is none."""
    for number in range(5):
        client.post("/items", json={"name": f"item {number}", "price": number})
    query, names = {"limit": 2, "sort": "-price"}, []
    while query:
        page = client.get("/items", params=query).json()
        names += [item["name"] for item in page["items"]]
        query = {**query, "after": page["next"]} if page["next"] else None
    assert names == [f"item {number}" for number in reversed(range(5))]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_an_item_that_is_not_there_is_a_404(client, method):
    """404 says that there is no such item."""
    answer = client.request(method, f"/items/{2**31 - 1}", json={} if method == "PATCH" else None)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is no such item.",
    }


def test_a_name_that_is_taken_is_a_409(client):
    """What the database refuses is a conflict, at the INSERT as well as at COMMIT."""
    client.post("/items", json=CUP)
    plate = client.post("/items", json={**CUP, "name": "plate"}).json()
    assert client.post("/items", json=CUP).status_code == 409
    # The endpoint has returned its 200 when the UPDATE is sent.
    assert client.patch(f"/items/{plate['id']}", json={"name": "cup"}).status_code == 409
    assert client.get(f"/items/{plate['id']}").json() == plate
    assert client.get("/items").json()["total"] == 2


WRONG_ITEMS = {
    "no price": {"name": "cup"},
    "no name": {"price": 1},
    "empty name": {**CUP, "name": ""},
    "long name": {**CUP, "name": "x" * 101},
    "NUL, which PostgreSQL cannot store": {**CUP, "name": "cu\0p"},
    "negative price": {**CUP, "price": "-0.01"},
    "part of a cent": {**CUP, "price": "0.001"},
    "no number": {**CUP, "price": "NaN"},
    "too much": {**CUP, "price": "10000000000.00"},
    "owner beyond the column": {**CUP, "owner_id": 2**31},
}


def test_what_cannot_be_stored_is_a_422(client):
    """Wrong input is refused before it reaches the database."""
    for what, item in WRONG_ITEMS.items():
        assert client.post("/items", json=item).status_code == 422, what
    for query in ({"limit": 0}, {"limit": 101}, {"offset": -1}, {"offset": 2**63}):
        assert client.get("/items", params=query).status_code == 422, query
    assert client.get(f"/items/{2**31}").status_code == 422
    assert client.get("/items").json()["total"] == 0


def test_the_largest_values_are_stored(client):
    """What passes the checks fits into the columns, to the cent."""
    item = {
        "name": "é" * 100,
        "description": "\N{TEAPOT}" * 1000,
        "price": "9999999999.99",
        "tax": "0.01",
    }
    created = client.post("/items", json=item).json()
    owner = client.get("/users/me").json()["id"]
    assert created == {**item, "id": created["id"], "owner_id": owner, "version": 1}
    assert client.get(f"/items/{created['id']}").json() == created


def test_patch_changes_what_was_sent(client):
    """Fields that were left out stay; null empties those that may be empty, and only those."""
    item = client.post("/items", json={**CUP, "description": "blue", "tax": 1}).json()
    path = f"/items/{item['id']}"
    changed = client.patch(path, json={"price": 3, "description": None})
    assert changed.status_code == 200
    assert changed.json() == {**item, "price": "3.00", "description": None, "version": 2}
    assert client.patch(path, json={"name": None}).status_code == 422
    assert client.patch(path, json={}).json() == changed.json()
    assert client.get(path).json() == changed.json()


def test_what_was_deleted_is_gone(client):
    """After a 204 the item is not there."""
    item = client.post("/items", json=CUP).json()
    assert client.delete(f"/items/{item['id']}").status_code == 204
    assert client.get(f"/items/{item['id']}").status_code == 404
    assert client.get("/items").json()["items"] == []


def test_it_is_healthy_while_the_database_answers(client):
    """200 says that a request could be served."""
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_without_its_database_it_says_503(private_postgres, tmp_path):
    """A database that went away is a 503, which ends when it is back; the server stays."""
    url = private_postgres.new_database()
    with running(url, tmp_path / "log") as server, server.visitor() as client:
        private_postgres.stop()
        for path in ("/healthz", "/items"):
            answer = client.get(path)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), path
        private_postgres.start()
        assert client.get("/healthz").status_code == 200
        assert client.get("/items").json()["items"] == []


def test_items_outlive_the_server(new_url, driver, tmp_path):
    """A second start finds what the first one has stored."""
    url = new_url(driver)
    with running(url, tmp_path / "log") as server, server.seller() as client:
        item = client.post("/items", json=CUP).json()
    with running(url, tmp_path / "log") as server, server.visitor() as client:
        assert client.get("/items").json()["items"] == [item]


def store(server: Server) -> None:
    with server.seller() as client:
        client.post("/items", json=CUP)


def test_it_ends_when_told_to(new_url, driver, tmp_path):
    """SIGTERM ends it within 2 seconds, without a complaint, and with all it started."""
    url = new_url(driver)
    with running(url, tmp_path / "log") as server:
        store(server)
        process = psutil.Process(server.process.pid)
        family = [process, *process.children(recursive=True)]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(bar(2)) in (0, -signal.SIGTERM)
        assert not any(member.is_running() for member in family)
        assert "Traceback" not in server.log.read_text()


def test_an_orderly_end_leaves_one_file(new_url, tmp_path):
    """SQLite's log is written back: app.db is the whole database, and can be copied.

    The file beside it is empty: it is the lock of those who migrate.
    """
    url = new_url("sqlite")
    with running(url, tmp_path / "log") as server:
        store(server)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(40)
    files = Path(url.removeprefix("sqlite:///")).parent.iterdir()
    assert {path.name: path.stat().st_size > 0 for path in files} == {
        "app.db": True,
        "app.db-migrate": False,
    }


WRONG_URLS = {
    "not a URL": "app.db",
    "no such database": "postgrsql://localhost/shop",
    "a driver that is not async": "postgresql+psycopg2://localhost/shop",
    "nobody listens": "postgresql://anna:secret@127.0.0.1:1/shop",
    "nobody listens, asyncpg": "postgresql+asyncpg://anna:secret@127.0.0.1:1/shop",
    "no such folder": "sqlite:////no/such/folder/app.db",
}


@pytest.mark.parametrize("url", WRONG_URLS.values(), ids=WRONG_URLS.keys())
def test_a_wrong_url_is_one_sentence(url, tmp_path):
    """The start ends with a sentence that shows no password, a status, and no traceback."""
    done = start_and_fail(url, tmp_path)
    assert "secret" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("driver", ["", "+asyncpg"])
def test_a_wrong_password_is_one_sentence(postgres, tmp_path, driver):
    """The database is there and refuses us: that is a sentence, too."""
    url = postgres.url("psycopg").replace("+psycopg", driver).replace("@", "X@")
    done = start_and_fail(url, tmp_path)
    assert "password" in done.stderr or "role" in done.stderr


def start_and_fail(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    done = warm.run(COMMAND, cwd=folder, env=environment(url), timeout=PATIENCE)
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    assert done.stderr.startswith("server: ")
    assert len(done.stderr.splitlines()) == 1
    return done
