"""Attacks on the shop from outside, each with the answer that it must get."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from typing import Any

import httpx2
import itsdangerous
import pytest

from tests.acceptance.shop import (
    PASSWORD,
    ROOT,
    Shop,
    log_in,
    new_item,
    refused,
    register,
    shop,
)
from tests.acceptance.shop_attacks import ALLOWED, FOREIGN, REQUESTS, Attack
from tests.support.look import Onlooker

NEW, OLD, WRONG = (f"{each} 0123456789 abcdefghijklmnopq" for each in ("new", "old", "wrong"))
DAY = 24 * 60 * 60  # seconds

Answer = httpx2.Response


class Scene:
    """A shop with two users, a stranger, and what belongs to Anna."""

    def __init__(self, running: Shop) -> None:
        self.running = running
        self.clients = {name: running.visitor() for name in ("anna", "bert", "stranger")}
        self.anna, self.bert, self.stranger = self.clients.values()
        for name in ("anna", "bert"):
            register(self.clients[name], f"{name}@example.com")
            log_in(self.clients[name], f"{name}@example.com")
        self.item = new_item(self.anna, "cup", stock=10)
        ordered = self.anna.post("/orders", json={"lines": [{"item_id": self.item}]})
        self.order = ordered.json()["id"]

    @property
    def cookie(self) -> str:
        """Anna's."""
        return self.anna.cookies["session"]

    def me(self, cookie: str) -> Answer:
        """Ask who is logged in with a cookie."""
        return self.stranger.get("/users/me", headers={"Cookie": f"session={cookie}"})

    def new_user(self) -> str:
        """Register somebody whom nobody else has to do with; return the address."""
        email = f"{secrets.token_hex(8)}@example.com"
        register(self.stranger, email)
        return email

    def everything(self) -> list[Any]:
        """Return all that an attack could have changed."""
        with self.look() as look:
            tables = ("items", "stock", "orders", "order_lines", "users")
            return [sorted(look.rows(f"SELECT * FROM {table}"), key=str) for table in tables]

    @contextmanager
    def look(self) -> Iterator[Onlooker]:
        """Look at the database."""
        with Onlooker(self.running.url) as look:
            yield look


@pytest.fixture(scope="module")
def scene(postgres, tmp_path_factory) -> Iterator[Scene]:
    url = postgres.new_database("attacks", "asyncpg")
    settings = {
        "SECRET_KEYS": f"{NEW},{OLD}",
        "CORS_ORIGINS": ALLOWED,
        "ALLOWED_HOSTS": "127.0.0.1",
    }
    with shop(url, tmp_path_factory.mktemp("attacks"), **settings) as running:
        made = Scene(running)
        yield made
        for client in made.clients.values():
            client.close()


by_sentence = pytest.mark.parametrize("attack", REQUESTS.values(), ids=REQUESTS.keys())


@by_sentence
def test_an_attack_gets_its_answer_and_changes_nothing(scene, attack: Attack):
    """The status is as the table says, and the database is as before."""
    before = scene.everything()
    path = attack.path.format(item=scene.item, order=scene.order)
    answer = scene.clients[attack.who].request(attack.method, path, **attack.options)
    assert answer.status_code == attack.status, answer.text
    assert scene.everything() == before
    assert "set-cookie" not in answer.headers
    assert not re.search(r"Traceback|sqlalchemy|root:", answer.text)


def signed(key: str, told: Any, age: int = 0) -> str:
    """Return a cookie of our own making."""

    class Signer(itsdangerous.TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time()) - age

    return Signer(key).sign(base64.b64encode(json.dumps(told).encode())).decode()


def told_by(cookie: str) -> dict[str, str]:
    """Read a cookie, which everybody can."""
    return json.loads(base64.b64decode(cookie.partition(".")[0]))


COOKIES: dict[str, tuple[Callable[[Scene], str], int]] = {
    "The cookie as it is": (lambda scene: scene.cookie, 200),
    "A cookie with one letter changed": (lambda scene: "f" + scene.cookie[1:], 401),
    "A cookie without its signature": (lambda scene: scene.cookie.partition(".")[0], 401),
    "A cookie signed with a wrong key": (lambda scene: signed(WRONG, told_by(scene.cookie)), 401),
    "A cookie signed with an old key": (lambda scene: signed(OLD, told_by(scene.cookie)), 200),
    "A cookie older than a login may be": (
        lambda scene: signed(NEW, told_by(scene.cookie), age=15 * DAY),
        401,
    ),
    "A cookie of nonsense": (lambda scene: "x" * 8000, 401),
    "A token that nobody was given": (lambda scene: signed(NEW, {"login": "x" * 43}), 401),
    "A token that is no text": (lambda scene: signed(NEW, {"login": {"$ne": ""}}), 401),
    "The hash of a token, from a stolen database": (lambda scene: signed(NEW, hashes(scene)), 401),
}


def hashes(scene: Scene) -> dict[str, str]:
    """Return the hash of some login in place of its token."""
    with scene.look() as look:
        return {"login": look.scalar("SELECT token_hash FROM logins LIMIT 1")}


@pytest.mark.parametrize(("cookie", "status"), COOKIES.values(), ids=COOKIES.keys())
def test_only_a_cookie_of_ours_is_one(scene, cookie, status):
    """Changed, forged and outlived cookies are those of a stranger; an old key still verifies."""
    assert scene.me(cookie(scene)).status_code == status


def test_a_cookie_is_worthless_after_logging_out(scene):
    """A copy of the cookie is refused: the login itself has ended."""
    email = scene.new_user()
    with scene.running.visitor() as client:
        cookie = log_in(client, email)
        assert scene.me(cookie).status_code == 200
        assert client.post("/logout").status_code == 204
    assert scene.me(cookie).status_code == 401


def test_a_cookie_is_worthless_when_its_login_has_ended(scene):
    """What counts is the time in the database, and not only that in the cookie."""
    email = scene.new_user()
    with scene.running.visitor() as client, scene.look() as look:
        cookie = log_in(client, email)
        look.execute(
            "UPDATE logins SET expires_at = now() - interval '1 second' WHERE user_id ="
            " (SELECT id FROM users WHERE email = ?)",
            email,
        )
    assert scene.me(cookie).status_code == 401


def test_a_login_takes_nothing_over_from_the_cookie_before(scene):
    """Who planted a cookie in somebody's browser is not logged in with it afterwards."""
    with scene.running.visitor() as client:
        planted = log_in(client, scene.new_user())
        email = scene.new_user()
        cookie = log_in(client, email)
    assert told_by(planted)["login"] != told_by(cookie)["login"]
    assert scene.me(planted).status_code == 401
    assert scene.me(cookie).json()["email"] == email


def test_a_script_cannot_read_the_cookie_and_other_sites_do_not_send_it(scene):
    """HttpOnly and SameSite=Lax; it tells a token, and nothing about the user."""
    answer = scene.stranger.post("/login", json={"email": scene.new_user(), "password": PASSWORD})
    scene.stranger.cookies.clear()
    (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "lax", "/")
    assert int(morsel["max-age"]) == 14 * DAY
    assert morsel["domain"] == ""
    assert list(told_by(morsel.value)) == ["login"]


def test_in_production_the_cookie_is_bound_to_https_and_this_host(tmp_path):
    """Secure, with the prefix __Host-; a cookie without the prefix is none."""
    url = f"sqlite:///{tmp_path}/shop.db"
    settings = {"ENVIRONMENT": "production", "SECRET_KEYS": NEW, "ALLOWED_HOSTS": "127.0.0.1"}
    with shop(url, tmp_path, **settings) as running, running.visitor() as client:
        register(client, "anna@example.com")
        who = {"email": "anna@example.com", "password": PASSWORD}
        header = client.post("/login", json=who).headers["set-cookie"]
        name, value = re.match(r"([^=]+)=([^;]+)", header).groups()
        client.cookies.clear()
        assert name == "__Host-session"
        assert "; secure" in header.lower()
        assert "domain" not in header.lower()
        asked = {each: {"Cookie": f"{each}={value}"} for each in (name, "session")}
        answers = {each: client.get("/users/me", headers=asked[each]) for each in asked}
        assert {each: answers[each].status_code for each in answers} == {name: 200, "session": 401}


REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''no'' USING ERRCODE = ''23514''; END';
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON logins
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@contextmanager
def changed(look: Onlooker, there: str, back: str) -> Iterator[None]:
    """Change the database for a while."""
    look.execute(there)
    try:
        yield
    finally:
        look.execute(back)


def test_a_login_whose_commit_failed_sets_no_cookie(scene):
    """Neither a new one, nor does it end the one that was there."""
    who = {"email": scene.new_user(), "password": PASSWORD}
    with scene.running.visitor() as client, scene.look() as look:
        before = log_in(client, scene.new_user())
        with changed(look, REFUSE, "DROP FUNCTION refuse CASCADE"):
            answer = client.post("/login", json=who)
        assert answer.status_code == 409
        assert "set-cookie" not in answer.headers
        assert scene.me(before).status_code == 200
        assert client.post("/login", json=who).status_code == 200


def ask_from(origin: str, client: httpx2.Client, path: str, **options: Any) -> Answer:
    return client.request(options.pop("method", "GET"), path, headers={"Origin": origin}, **options)


def test_a_foreign_origin_is_told_nothing(scene):
    """Without the header a browser keeps the answer from the script that asked."""
    for path in ("/items", "/users/me", "/nothing"):
        answer = ask_from(FOREIGN["Origin"], scene.anna, path)
        assert "access-control-allow-origin" not in answer.headers
    preflight = {**FOREIGN, "Access-Control-Request-Method": "POST"}
    answer = scene.anna.options("/orders", headers=preflight)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


def test_an_allowed_origin_sees_the_errors_too(scene):
    """401, 404, 409, 422 and 500 have the headers, so a script can tell what went wrong."""
    with scene.look() as look, scene.running.visitor(cookies={"session": scene.cookie}) as anna:
        there, back = (f"ALTER TABLE {a} RENAME TO {b}" for a, b in (("orders", "o"), "oo"))
        back = "ALTER TABLE o RENAME TO orders"
        with changed(look, there, back):
            broken = ask_from(ALLOWED, anna, "/orders")
        cup = {"name": "cup", "price": "1"}
        answers = {
            200: ask_from(ALLOWED, scene.anna, "/users/me"),
            401: ask_from(ALLOWED, scene.stranger, "/users/me"),
            404: ask_from(ALLOWED, scene.stranger, "/nothing"),
            409: ask_from(ALLOWED, scene.anna, "/items", method="POST", json=cup),
            422: ask_from(ALLOWED, scene.stranger, "/items?limit=x"),
            500: broken,
        }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ALLOWED, status
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in answer.headers["vary"]


def test_an_allowed_origin_may_ask_first(scene):
    """A preflight names what is allowed, and that is not everything."""
    asked = {"Origin": ALLOWED, "Access-Control-Request-Method": "PATCH"}
    answer = scene.stranger.options("/items/1", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert "*" not in answer.headers.values()
    wrong = {**asked, "Access-Control-Request-Headers": "X-Evil"}
    assert scene.stranger.options("/items/1", headers=wrong).status_code == 400


def test_our_own_pages_and_programs_pass(scene):
    """Same origin by either header, a bookmark, an allowed origin, and who is no browser."""
    own = scene.running.base
    passing = [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": own},
        {"Origin": ALLOWED, "Sec-Fetch-Site": "cross-site"},
        {},
    ]
    for headers in passing:
        answer = scene.anna.post("/orders", json={"lines": []}, headers=headers)
        assert answer.status_code == 422, headers


WRONG_SETTINGS = {
    "All origins": {"CORS_ORIGINS": "*"},
    "A short key": {"SECRET_KEYS": "t0p s3cret"},
    "A short old key": {"SECRET_KEYS": f"{NEW},t0p s3cret"},
    "A key of one letter": {"SECRET_KEYS": "s3cret" * 20},
    "The key of development in production": {"ENVIRONMENT": "production"},
}


@pytest.mark.parametrize("settings", WRONG_SETTINGS.values(), ids=WRONG_SETTINGS.keys())
def test_a_dangerous_setting_is_refused_at_the_start(tmp_path, settings):
    """R22: a status, one sentence that names the setting, no traceback, and no secret in it."""
    done = refused(tmp_path, **settings)
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    assert re.fullmatch(r"server: [^\n]+\n", done.stderr)
    assert ("CORS_ORIGINS" if "CORS_ORIGINS" in settings else "SECRET_KEYS") in done.stderr
    assert "s3cret" not in done.stderr
    assert "everybody knows" not in done.stderr


def test_the_eleventh_attempt_to_log_in_waits(scene):
    """429 and when to come back, for this account only, also with the right password."""
    email, other = scene.new_user(), scene.new_user()
    wrong = {"email": email, "password": "not that one"}
    answers = [scene.stranger.post("/login", json=wrong) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    right = {"email": email.upper(), "password": PASSWORD}
    assert scene.stranger.post("/login", json=right).status_code == 429
    assert scene.stranger.post("/shop/login", data=right).status_code == 429
    with scene.running.visitor() as client:
        log_in(client, other)


def test_a_login_does_not_tell_who_is_registered(scene):
    """An unknown user and a wrong password get the same answer, to the byte."""
    known = {"email": scene.new_user(), "password": "not that one"}
    unknown = {**known, "email": f"{secrets.token_hex(8)}@example.com"}
    answers = [scene.stranger.post("/login", json=who) for who in (known, unknown)]
    assert {answer.status_code for answer in answers} == {401}
    assert answers[0].content == answers[1].content
    varying = {"date"}
    headers = [{k: v for k, v in a.headers.items() if k not in varying} for a in answers]
    assert headers[0] == headers[1]


def test_a_cursor_belongs_to_its_order(scene):
    """One of another sort, a changed one, and a forged one are refused, and none is an error."""
    with scene.running.visitor() as client:
        log_in(client, scene.new_user())
        for _ in range(2):
            new_item(client, secrets.token_hex(8))
        pages = {sort: client.get("/items", params={"limit": 1, "sort": sort}) for sort in SORTS}
        cursors = {sort: answer.json()["next"] for sort, answer in pages.items()}
        for sort, cursor in cursors.items():
            told = json.loads(base64.urlsafe_b64decode(cursor + "==="))
            wrong = [packed([told[0], *values]) for values in FORGED]
            for after in [*wrong, packed([told[0] + 1, *told[1:]]), *set(cursors.values())]:
                answer = client.get("/items", params={"sort": sort, "after": after})
                expected = 200 if after == cursor else 422
                assert answer.status_code == expected, (sort, after, answer.text)


SORTS = ("id", "name", "-price")
FORGED = [[], ["i1", "i1", "i1"], ["i" + "9" * 30], ["s\0", "i1"], ["n1e9", "i1"], [[["i1"]]], [1]]


def packed(told: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()


def test_a_body_sets_only_what_is_offered(scene):
    """Credit, version, ids and hashes in a body are ignored."""
    email = f"{secrets.token_hex(8)}@example.com"
    more = {"id": 4711, "credit": "1000000", "password_hash": "x", "is_admin": True}
    user = {"email": email, "name": "new", "password": PASSWORD, **more}
    made = scene.stranger.post("/users", json=user).json()
    assert made == {"id": made["id"], "email": email, "name": "new", "credit": "100.00"}
    assert made["id"] != 4711
    item = {"name": secrets.token_hex(8), "price": "1", "id": 4711, "version": 9, "bought": 5}
    made = scene.anna.post("/items", json=item).json()
    assert (made["version"], made["id"] != 4711) == (1, True)
    path = f"/items/{made['id']}"
    changed = scene.anna.patch(path, json={"id": 4712, "version": 7, "remaining": 5, "price": "2"})
    assert changed.json() == {**made, "price": "2.00", "version": 2}
    lines = [{"item_id": scene.item, "quantity": 1, "total": "0.01", "name": "free"}]
    ordered = scene.anna.post("/orders", json={"lines": lines, "total": "0", "user_id": 2}).json()
    assert (ordered["total"], ordered["lines"][0]["name"]) == ("1.00", "cup")
    assert scene.bert.get("/orders").json()["items"] == []


def test_what_people_write_is_text_on_a_page(scene):
    """No script, no tag and no attribute comes out of a name."""
    name = f'"><script>alert({secrets.randbits(30)})</script>'
    new_item(scene.anna, name)
    page = scene.stranger.get("/", params={"limit": 100})
    assert page.status_code == 200
    assert name not in page.text
    assert "<script" not in page.text


@pytest.mark.parametrize(
    "place", ["//evil.example", "https://evil.example", "/\\evil.example", "\r\nX: y"]
)
def test_a_login_leads_nowhere_else(scene, place):
    """`next` goes on within the shop, whatever the link says."""
    who = {"email": scene.new_user(), "password": PASSWORD}
    with scene.running.visitor() as client:
        answer = client.post("/shop/login", params={"next": place}, data=who)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_the_list_of_attacks_is_the_one_that_was_tried():
    """Every row of docs/security.md is an attack that is tried here, and none is missing."""
    rows = re.findall(
        r"^\| (.+) \| (\d{3}) \|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE
    )
    tried = {sentence: attack.status for sentence, attack in REQUESTS.items()}
    cookies = {sentence: status for sentence, (_, status) in COOKIES.items()}
    assert {sentence: int(status) for sentence, status in rows} == tried | cookies
    assert len(rows) == len(tried) + len(cookies)
