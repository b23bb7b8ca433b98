"""What strangers do who only want to stand in the way, and what they find."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.acceptance.shop import PASSWORD, Shop, log_in, new_item, refused, register, shop, until

KEY = "a key of the tests 0123456789 abcdef"
PRODUCTION = {"ENVIRONMENT": "production", "SECRET_KEYS": KEY, "ALLOWED_HOSTS": "127.0.0.1"}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(params=["sqlite", "psycopg"])
def url(request, tmp_path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/shop.db"
        return
    server = request.getfixturevalue("postgres")
    made = server.new_database("strangers", None)
    yield made
    server.drop_database(made)


class Slow:
    """A client that has begun to send a request, and sends no more."""

    def __init__(self, running: Shop, path: str, cookie: str, kind: str = FORM) -> None:
        host, port = running.base.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        head = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Type: {kind}"]
        head += [f"Cookie: session={cookie}", "Content-Length: 1000", "", "quantity=1"]
        self.socket.sendall("\r\n".join(head).encode())

    def hang_up(self) -> None:
        """Be gone."""
        self.socket.close()


@contextmanager
def slow_clients(running: Shop, cookie: str, number: int) -> Iterator[list[Slow]]:
    """Have many of them, at every form there is, and at the API."""
    paths = ["/shop/orders", "/shop/login", "/shop/register", "/shop/logout"]
    clients = [Slow(running, path, cookie) for path in paths * number]
    clients += [Slow(running, "/orders", cookie, "application/json") for _ in range(number)]
    try:
        yield clients
    finally:
        for client in clients:
            client.hang_up()


def test_a_body_that_never_ends_keeps_nobody_from_writing(url, tmp_path):
    """A user who is logged in: 100 forms at once hold no connection, and not the turn to write."""
    with shop(url, tmp_path) as running, running.visitor() as anna:
        register(anna, "anna@example.com")
        cookie = log_in(anna, "anna@example.com")
        with slow_clients(running, cookie, 20):
            for number in range(5):
                new_item(anna, f"item {number}", stock=1)
            assert anna.get("/shop/orders").status_code == 200
        until(lambda: anna.get("/healthz").status_code == 200, "the end")
        assert "Traceback" not in running.text


def test_who_hangs_up_is_no_error(url, tmp_path):
    """In the middle of a form, and of JSON: no traceback, and no 500 in the log."""
    with shop(url, tmp_path) as running, running.visitor() as anna:
        register(anna, "anna@example.com")
        cookie = log_in(anna, "anna@example.com")
        with slow_clients(running, cookie, 3):
            pass
        until(lambda: clients_of(running) <= 1, "the end of their connections")
        assert anna.get("/items").status_code == 200
        assert not re.search(r"Traceback|ERROR| 500", running.text)


def clients_of(running: Shop) -> int:
    """Return how many are connected to the shop."""
    port = int(running.base.rpartition(":")[2])
    there = psutil.Process(running.process.pid).net_connections("tcp")
    return sum(each.laddr.port == port and each.status == "ESTABLISHED" for each in there)


async def at_once(base: str, requests: list[tuple[str, dict[str, Any]]]) -> list[httpx2.Response]:
    """Send requests, all at the same time."""
    limits = httpx2.Limits(max_connections=200)
    async with httpx2.AsyncClient(base_url=base, timeout=60, limits=limits) as client:
        sent = [client.post(path, json=body) for path, body in requests]
        return list(await asyncio.gather(*sent))


def someone() -> dict[str, str]:
    """Return a login of an account that there is not."""
    return {"email": f"{secrets.token_hex(6)}@example.com", "password": PASSWORD}


def check_waits(answers: list[httpx2.Response], status: int) -> Counter[int]:
    """Some are told to come back later, and when."""
    told = [answer for answer in answers if answer.status_code == status]
    assert told
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in told)
    return Counter(answer.status_code for answer in answers)


def test_sixty_accounts_from_one_address_are_too_many(tmp_path):
    """The 31st attempt in a minute waits, for whichever account it is."""
    url = f"sqlite:///{tmp_path}/shop.db"
    with shop(url, tmp_path, LOGIN_ATTEMPTS_FROM="30/minute") as running:
        with running.visitor() as client:
            answers = [client.post("/login", json=someone()) for _ in range(60)]
            form = client.post("/shop/login", data=someone())
        assert check_waits(answers, 429) == {401: 30, 429: 30}
        assert [answer.status_code for answer in answers[:30]] == [401] * 30
        assert (form.status_code, "retry-after" in form.headers) == (429, True)


def test_one_account_from_everywhere_is_limited(tmp_path):
    """Somebody with many addresses guesses no faster than that; behind a proxy of ours."""
    settings = {"LOGIN_ATTEMPTS_FOR": "5/minute", "FORWARDED_ALLOW_IPS": "127.0.0.1"}
    with shop(f"sqlite:///{tmp_path}/shop.db", tmp_path, **settings) as running:
        who, answers = someone(), []
        with running.visitor() as client:
            for number in range(10):
                headers = {"X-Forwarded-For": f"192.0.2.{number}"}
                answers.append(client.post("/login", json=who, headers=headers))
        assert check_waits(answers, 429) == {401: 5, 429: 5}


def test_registrations_are_limited(tmp_path):
    """By the API and by the page, counted together."""
    url = f"sqlite:///{tmp_path}/shop.db"
    with shop(url, tmp_path, REGISTRATIONS_FROM="3/hour") as running:
        with running.visitor() as client:
            new = [{**someone(), "name": "Anna"} for _ in range(6)]
            answers = [client.post("/users", json=each) for each in new[:4]]
            pages = [client.post("/shop/register", data=each) for each in new[4:]]
        assert [answer.status_code for answer in answers + pages] == [201] * 3 + [429] * 3
        check_waits(answers + pages, 429)


def test_more_logins_than_can_be_looked_at_are_told_to_come_back(tmp_path):
    """503 for who would wait for long; the shop goes on meanwhile."""
    url = f"sqlite:///{tmp_path}/shop.db"
    with shop(url, tmp_path, TEST_PASSWORDS="as those of users") as running:
        answers = asyncio.run(at_once(running.base, [("/login", someone())] * 1))
        answers += asyncio.run(at_once(running.base, [("/login", someone()) for _ in range(80)]))
        statuses = check_waits(answers, 503)
        assert set(statuses) == {401, 503}
        with running.visitor() as client:
            assert client.get("/items").status_code == 200


def test_the_docs_load_nothing_from_elsewhere(tmp_path):
    """Their page may run one script of its own, which is named by its hash."""
    with shop(f"sqlite:///{tmp_path}/shop.db", tmp_path) as running, running.visitor() as client:
        page = client.get("/docs")
        assert not re.search(r"(src|href)=\"(https?:)?//", page.text)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert re.search(r"script-src 'self' 'sha256-[\w+/]+=*';", policy)
        for path in re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text):
            assert client.get(path).status_code == 200, path
        assert client.get("/redoc").status_code == 404


def test_in_production_there_is_less_to_find(tmp_path):
    """No docs unless they are asked for; a host of ours, HSTS, nothing kept, and mail is missed."""
    url = f"sqlite:///{tmp_path}/shop.db"
    with shop(url, tmp_path, **PRODUCTION, HSTS_DAYS="365") as running:
        with running.visitor() as client:
            for path in ("/docs", "/openapi.json", "/docs/files/swagger-ui.css"):
                assert client.get(path).status_code == 404, path
            answers = [client.get(path) for path in ("/users/me", "/orders", "/", "/nothing")]
            assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
        for answer in answers:
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["strict-transport-security"] == f"max-age={365 * 24 * 60 * 60}"
        assert running.text.count("SMTP_URL is not set") == 1


def test_the_files_of_the_database_are_of_its_owner_only(tmp_path):
    """Passwords and tokens are hashed there; addresses are not."""
    with shop(f"sqlite:///{tmp_path}/shop.db", tmp_path) as running, running.visitor() as client:
        register(client, "anna@example.com")
        files = [path for path in tmp_path.glob("shop.db*") if path.stat().st_size]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}, files
        assert Path(f"{tmp_path}/shop.db-wal") in files


def test_a_database_of_development_is_not_served_to_strangers(tmp_path):
    """Its demo user has a password that everybody knows."""
    with shop(f"sqlite:///{tmp_path}/shop.db", tmp_path, SAMPLE_DATA="true") as running:
        assert "demo@example.com, password demo-demo" in running.text
        with running.visitor() as client:
            page = client.get("/shop/login").text
            assert "demo-demo" in page
            log_in(client, "demo@example.com", "demo-demo")
            for path in ("/shop/login", "/shop/register"):
                led = client.get(path)
                assert (led.status_code, led.headers["location"]) == (303, "/")
    done = refused(tmp_path, **PRODUCTION)
    assert done.returncode == 1
    assert re.search(r"^server: [^\n]*demo@example.com[^\n]*$", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_an_order_is_at_the_price_that_was_shown(tmp_path):
    """By the form and by the API; at another one nothing is bought, and the new price is told."""
    with shop(f"sqlite:///{tmp_path}/shop.db", tmp_path) as running, running.visitor() as anna:
        register(anna, "anna@example.com")
        log_in(anna, "anna@example.com")
        item = new_item(anna, "cup", "5.00", stock=9)
        page = anna.get(f"/shop/items/{item}").text
        fields = dict(re.findall(r'name="(\w+)"[^>]* value="([^"]*)"', page))
        shown = {"item_id": str(item), "price": "5.00", "quantity": "1"}
        assert fields == shown | {"key": fields["key"]}  # it orders once
        anna.patch(f"/items/{item}", json={"price": "7.00"})
        line = {"item_id": item, "price": "5.00"}
        told = [
            anna.post("/shop/orders", data=fields),
            anna.post("/orders", json={"lines": [line]}),
        ]
        for answer in told:
            assert answer.status_code == 409
            assert "cup costs 7.00 by now." in answer.text
        assert anna.get("/orders").json()["items"] == []
        assert anna.post("/orders", json={"lines": [{**line, "price": 7}]}).status_code == 201
