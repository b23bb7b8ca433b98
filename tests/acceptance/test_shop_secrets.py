"""R21: what people entered, and what only we know, is in no log, no error answer and no report."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from sqlalchemy.engine import make_url

from tests.acceptance.shop import Shop, log_in, new_item, register, shop, until
from tests.acceptance.shop_mail import Post, post_office
from tests.acceptance.shop_sentry import Sink, sentry_sink
from tests.support.look import Onlooker

ROUNDS = 17
BACKENDS = ["sqlite", "psycopg", "asyncpg"]

# Each of these repeats a value in its message, as constraints and triggers do.
TELL = """
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION USING MESSAGE = NEW.name, DETAIL = NEW.description; END';
    CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON items
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell();
"""
TELL_ON_SQLITE = """
    CREATE TRIGGER tell BEFORE UPDATE ON items BEGIN SELECT no_such_function(NEW.name); END
"""
NO_ROW = "ALTER TABLE users ADD CONSTRAINT nobody CHECK (name <> 'nobody') NOT VALID"


def marker(kind: str) -> str:
    """Return what occurs nowhere else."""
    return f"{kind}{secrets.token_hex(6)}"


@dataclass
class Case:
    """A shop with its sinks, and what must not be found."""

    running: Shop
    sentry: Sink
    post: Post
    secrets: dict[str, str]
    answers: list[httpx2.Response] = field(default_factory=list)

    @property
    def is_sqlite(self) -> bool:
        return self.running.url.startswith("sqlite")

    @contextmanager
    def changed(self, there: str, back: str) -> Iterator[None]:
        """Change the database for a while."""
        with Onlooker(self.running.url) as look:
            look.execute(there)
            try:
                yield
            finally:
                look.execute(back)

    @property
    def statuses(self) -> Counter[int]:
        """How often there was which answer."""
        return Counter(answer.status_code for answer in self.answers)

    def found(self, text: str) -> list[str]:
        """Return the kinds of secrets that a text has in it."""
        return [kind for kind, secret in self.secrets.items() if secret in text]


@contextmanager
def new_database(request, folder, password: str) -> Iterator[str]:
    """Make a database whose URL has a password."""
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/shop.db"
        return
    server = request.getfixturevalue("postgres")
    role = marker("role_")
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'".encode())
        driver = None if request.param == "psycopg" else request.param
        url = server.new_database("secrets", driver)
        yield make_url(url).set(username=role, password=password).render_as_string(False)
        server.drop_database(url)
        connection.execute(f"DROP ROLE {role}".encode())


@pytest.fixture(scope="module", params=BACKENDS)
def case(request, tmp_path_factory) -> Iterator[Case]:
    """A shop in which some 200 things have gone wrong."""
    folder = tmp_path_factory.mktemp("secrets")
    hidden = {name: marker(name) for name in ("database", "password", "value", "query", "key")}
    hidden["key"] += "0123456789abcdefghijklmnop"
    with ExitStack() as stack:
        sentry, post = stack.enter_context(sentry_sink()), stack.enter_context(post_office())
        url = stack.enter_context(new_database(request, folder, hidden["database"]))
        dsn = sentry.dsn.replace("public", marker("dsn"))
        settings = {"SECRET_KEYS": hidden["key"], "SENTRY_DSN": dsn, "SMTP_URL": post.url}
        settings["LOGIN_ATTEMPTS"] = "10000/minute"
        running = stack.enter_context(shop(url, folder, **settings))
        case = Case(running, sentry, post, hidden)
        with running.visitor() as client:
            provoke(case, client)
        until(lambda: sentry.events >= case.statuses[500], "reports")
        yield case


def provoke(case: Case, client: httpx2.Client) -> None:
    """Make errors of all kinds, with secrets in all that is sent."""
    hidden = case.secrets
    email = f"{hidden['value']}@example.com"
    register(client, email, hidden["password"])
    case.secrets["cookie"] = log_in(client, email, hidden["password"])
    case.secrets["payload"] = case.secrets["cookie"].partition(".")[0]
    names = [hidden["value"] + name for name in ("", " other")]
    item, other = [new_item(client, name, stock=1) for name in names]
    plain = new_item(client, "plain", stock=1)  # what is missing is named: that is public
    sent = SimpleNamespace(email=email, item=item, other=other, plain=plain)
    client.params = {"q": hidden["query"]}
    client.headers["Referer"] = f"{case.running.base}/shop?q={hidden['query']}"
    for _ in range(ROUNDS):
        case.answers += refusals(client, hidden, sent)
    break_it(case, client, sent)


def refusals(client: httpx2.Client, hidden: dict[str, str], sent: Any) -> Iterator[Any]:
    """Ask for what is refused."""
    value, password = hidden["value"], hidden["password"]
    user = {"email": sent.email, "name": value, "password": password}
    lines = [{"item_id": sent.plain, "quantity": 1000}]
    yield client.post("/users", json=user)  # 409, by a constraint that tells the value
    yield client.patch(f"/items/{sent.other}", json={"name": value})  # 409, at COMMIT
    yield client.post("/orders", json={"lines": lines})  # 409
    yield client.post("/users", json={"email": value, "name": [value], "password": password[:3]})
    yield client.post("/orders", json={"lines": value})  # 422
    yield client.get("/items", params={"sort": value, "after": value})
    yield client.post("/login", json={"email": sent.email, "password": password + "\0" * 200})
    yield client.post("/orders", content=value, headers={"Content-Type": "application/json"})
    yield client.patch(f"/items/{sent.item}", json={}, headers={"If-Match": value})  # 412
    yield client.post("/logout", headers={"Origin": f"https://{value}"})  # 403


def break_it(case: Case, client: httpx2.Client, sent: Any) -> None:
    """Ask for what cannot work: 500, and 503."""
    value, password = case.secrets["value"], case.secrets["password"]
    item = {"name": value + " new", "description": value, "price": 1}
    user = {"email": f"{value}@new.example", "name": "nobody", "password": password}
    rename = "ALTER TABLE items RENAME COLUMN {} TO {}"
    with case.changed(rename.format("description", "d"), rename.format("d", "description")):
        for _ in range(ROUNDS):
            case.answers.append(client.post("/items", json=item))
    if case.is_sqlite:
        with case.changed(TELL_ON_SQLITE, "DROP TRIGGER tell"):
            case.answers.append(client.patch(f"/items/{sent.item}", json={"description": value}))
        return
    with case.changed(TELL, "DROP FUNCTION tell CASCADE"):
        case.answers += [client.post("/items", json=item) for _ in range(ROUNDS)]
    with case.changed(NO_ROW, "ALTER TABLE users DROP CONSTRAINT nobody"):
        case.answers.append(client.post("/users", json=user))
    with unavailable(case):
        case.answers += [client.post("/items", json=item) for _ in range(ROUNDS)]


@contextmanager
def unavailable(case: Case) -> Iterator[None]:
    """Let nobody into the database, and end who is there."""
    name = make_url(case.running.url).database
    with Onlooker(make_url(case.running.url).set(database="postgres")) as look:
        look.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            look.rows(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = ?",
                name,
            )
            yield
        finally:
            look.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_errors_of_all_kinds_were_made(case):
    """Without them the tests below would say nothing."""
    expected = {403: ROUNDS, 409: 3 * ROUNDS, 412: ROUNDS, 422: 5 * ROUNDS}
    if case.is_sqlite:
        expected |= {500: ROUNDS + 1}
    else:
        expected |= {409: 3 * ROUNDS + 1, 500: 2 * ROUNDS, 503: ROUNDS}
    assert case.statuses == expected
    assert case.statuses.total() >= 185


def test_no_answer_to_an_error_repeats_what_was_sent(case):
    """Neither a value, nor a password, nor what the database says about them."""
    for answer in case.answers:
        assert case.found(answer.text + str(answer.headers)) == [], answer.text
        assert not re.search("Key \\(|DETAIL|Failing row|sqlalchemy|INSERT", answer.text)


def test_the_log_has_every_error_and_no_secret(case):
    """The tracebacks are there, the statements too; the values are not."""
    log = case.running.text
    assert case.found(log) == []
    assert log.count("Traceback") >= case.statuses[500]
    assert "INSERT INTO items" in log
    assert "?q=" not in log


def test_sentry_has_every_error_and_no_secret(case):
    """An event for each uncaught exception, that of a COMMIT included; without a value."""
    text = case.sentry.text
    assert case.found(text) == []
    assert case.sentry.events >= case.statuses[500]
    kinds = Counter(re.findall(r'"type":"(\w+)","value"', text))
    assert sum(n for kind, n in kinds.items() if kind.endswith("Error")) >= case.statuses[500]
    assert "?q=" not in text


def test_a_failed_commit_is_reported_with_its_place(case):
    """The event of a COMMIT that failed tells of the middleware that wanted it."""
    if case.is_sqlite:
        pytest.skip("nothing fails at COMMIT there but what is a 409")
    events = [each for each in case.sentry.envelopes if '"type":"event"' in each]
    assert sum("COMMIT" in event or "in end" in event or "commit" in event for event in events)


def test_what_the_environment_says_stays_there(case):
    """The DSN, the key and the password of the database are in no log."""
    assert "dsn" not in case.running.text


def order(client: httpx2.Client, item: int, quantity: int = 1) -> httpx2.Response:
    return client.post("/orders", json={"lines": [{"item_id": item, "quantity": quantity}]})


REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''no''; END';
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.fixture
def buyer(case) -> Iterator[tuple[httpx2.Client, str, int]]:
    """Somebody with an address, and an item of which there are 5."""
    email = f"{marker('buyer')}@example.com"
    with case.running.visitor() as client:
        register(client, email)
        log_in(client, email)
        yield client, email, new_item(client, marker("tea"), stock=5)


def test_each_order_is_confirmed_once(case, buyer):
    """One mail to the buyer, with what was ordered; none for an order that is not there."""
    client, email, item = buyer
    before = len(case.post.letters)
    ordered = order(client, item, 2).json()
    assert order(client, item, 4).status_code == 409
    assert order(client, item + 1000).status_code == 409
    if not case.is_sqlite:
        with case.changed(REFUSE, "DROP FUNCTION refuse CASCADE"):
            assert order(client, item).status_code == 500
    last = order(client, item)
    assert last.status_code == 201
    first, second = case.post.letters[before:]
    assert [first["Subject"], second["Subject"]] == [
        f"Your order {ordered['id']}",
        f"Your order {last.json()['id']}",
    ]
    assert first["To"] == email == case.post.receivers[-1]
    assert f"2 x {ordered['lines'][0]['name']}: 1.00" in first.get_content()
    assert "Total: 2.00" in first.get_content()


def test_a_mail_that_is_refused_loses_no_order_and_tells_no_address(case, buyer):
    """The order is stored and answered for; the log tells the failure, and not the buyer."""
    client, email, item = buyer
    before = case.running.text.count("robust hook")
    case.post.refusing = True
    try:
        ordered = order(client, item)
    finally:
        case.post.refusing = False
    assert ordered.status_code == 201
    assert client.get(f"/orders/{ordered.json()['id']}").json() == ordered.json()
    assert case.running.text.count("robust hook") == before + 1
    reports = case.sentry.events
    assert email not in case.running.text
    until(lambda: "SMTPRecipientsRefused" in case.sentry.text, f"a report after {reports}")
    assert email not in case.sentry.text
