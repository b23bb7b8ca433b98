"""An order of the shop is placed once, is told of once it is there, and its goods are gone live."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from faststream.nats import JStream, NatsBroker
from nats.js.api import DeliverPolicy
from playwright.sync_api import expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.acceptance.shop import Shop, log_in, new_item, refused, register, shop, until
from tests.support.look import Onlooker

pytestmark = pytest.mark.timeout(150)  # more than the browser waits: it says what it has waited for


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(request, tmp_path_factory) -> Iterator[Shop]:
    """A shop whose orders are told to NATS."""
    try:
        socket.create_connection(("127.0.0.1", 4222), timeout=5).close()
    except OSError as error:
        pytest.skip(f"no NATS at 127.0.0.1:4222 ({error})")
    folder = tmp_path_factory.mktemp("shop")
    url = f"sqlite:///{folder}/shop.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").new_database("once", None)
    with shop(url, folder, BROKER_URL="nats://127.0.0.1:4222") as running:
        yield running
        assert "Traceback" not in running.text


@pytest.fixture
def buyer(running) -> Iterator[httpx2.Client]:
    """Somebody who is logged in."""
    with running.visitor() as client:
        email = f"{uuid.uuid4().hex}@example.com"
        register(client, email)
        log_in(client, email)
        yield client


@pytest.fixture
def item(buyer) -> int:
    """Something of which there are ten."""
    return new_item(buyer, f"tea {uuid.uuid4().hex}", "2.00", 10)


def left(client: httpx2.Client, item: int) -> int:
    """Return how many there are."""
    return int(client.get(f"/items/{item}/stock").json()["remaining"])


def form_of(client: httpx2.Client, item: int, quantity: int = 1) -> dict[str, str]:
    """Return what the page of the item would send."""
    page = client.get(f"/shop/items/{item}").text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)">', page))
    assert set(hidden) == {"item_id", "price", "key"}
    return {**hidden, "quantity": str(quantity)}


def test_a_repeated_request_with_a_key_is_answered_as_the_first_time(buyer, item):
    """The order is there once, whose answer got lost is told it again."""
    key, order = {"Idempotency-Key": str(uuid.uuid4())}, {"lines": [{"item_id": item}]}
    first, again = (buyer.post("/orders", json=order, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert (left(buyer, item), len(buyer.get("/orders").json()["items"])) == (9, 1)
    other = {"lines": [{"item_id": item, "quantity": 2}]}
    assert buyer.post("/orders", json=other, headers=key).status_code == 422
    assert buyer.post("/orders", json=order).status_code == 201  # without a key it is another one


def test_a_key_is_the_users_own(running, buyer, item):
    """Somebody else's is another one, and who has logged out is told nothing."""
    key, order = {"Idempotency-Key": uuid.uuid4().hex}, {"lines": [{"item_id": item}]}
    mine = buyer.post("/orders", json=order, headers=key)
    with running.visitor() as stranger:
        email = f"{uuid.uuid4().hex}@example.com"
        register(stranger, email)
        cookie = log_in(stranger, email)
        theirs = stranger.post("/orders", json=order, headers=key)
        assert "idempotent-replayed" not in theirs.headers
        assert theirs.json()["id"] != mine.json()["id"]
        stranger.post("/logout")
        told = stranger.post("/orders", json=order, headers={**key, "Cookie": f"session={cookie}"})
        assert told.status_code == 401


def test_a_form_that_is_sent_several_times_orders_once(buyer, item):
    """A double click, at the same time or not: each is led to the one order."""
    form = form_of(buyer, item)

    def send(_: int) -> Any:
        answer = buyer.post("/shop/orders", data=form, follow_redirects=False)
        return answer.status_code, answer.headers["location"]

    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(send, range(4)))
    assert len(answers) == 1
    assert answers.pop()[0] == 303
    assert left(buyer, item) == 9


def test_a_form_that_was_changed_is_asked_about(buyer, item):
    """What was ordered stays, nothing else is, and the page has a key for another order."""
    form = form_of(buyer, item)
    buyer.post("/shop/orders", data=form)
    changed = buyer.post("/shop/orders", data={**form, "quantity": "3"})
    assert changed.status_code == 422
    assert "This was ordered already" in changed.text
    assert left(buyer, item) == 9
    assert form["key"] not in changed.text


def test_an_order_that_could_not_be_may_be_sent_again(buyer, item):
    """Nothing is remembered of what was refused."""
    form = form_of(buyer, item, 11)
    assert buyer.post("/shop/orders", data=form).status_code == 409
    again = {**form, "quantity": "10"}
    assert buyer.post("/shop/orders", data=again, follow_redirects=False).status_code == 303
    assert left(buyer, item) == 0


def test_an_order_is_told_to_the_broker_and_a_refused_one_is_not(running, buyer, item):
    """Each once, in the order in which the user placed them; nothing waits for ever."""
    sent = []
    with hearing() as heard:
        for quantity in (1, 11, 2):
            order = {"lines": [{"item_id": item, "quantity": quantity}]}
            answer = buyer.post("/orders", json=order)
            if answer.status_code == 201:
                sent.append(answer.json()["id"])
        until(lambda: len(of(heard, sent, item)) >= len(sent), "all messages arrive")
        with Onlooker(running.url) as look:
            until(lambda: waiting(look) == 0, "none is left")
    assert [each["lines"][0]["quantity"] for each in of(heard, sent, item)] == [1, 2]


def of(heard: list[dict[str, Any]], orders: list[int], item: int) -> list[dict[str, Any]]:
    """Return what was heard of these orders; another shop has the same numbers."""
    return [
        each for each in heard if each["order_id"] in orders and each["lines"][0]["item_id"] == item
    ]


def waiting(look: Onlooker) -> int:
    """Return how many messages are not published yet."""
    return int(look.scalar("SELECT count(*) FROM dbscope_outbox"))


@contextmanager
def hearing() -> Iterator[list[dict[str, Any]]]:
    """Hear of all orders from now on, in a thread: this one has the event loop of the browser."""
    heard: list[dict[str, Any]] = []
    ready, done = threading.Event(), threading.Event()

    async def hear_all() -> None:
        broker = NatsBroker("nats://127.0.0.1:4222")
        stream = JStream("orders", declare=False)

        @broker.subscriber("orders.placed", stream=stream, deliver_policy=DeliverPolicy.NEW)
        async def hear(body: dict[str, Any]) -> None:
            heard.append(body)

        async with broker:
            await broker.start()
            ready.set()
            await asyncio.to_thread(done.wait)

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(lambda: asyncio.run(hear_all()))
        assert ready.wait(30)
        try:
            yield heard
        finally:
            done.set()
            work.result()


# -- live ------------------------------------------------------------------------------------------


def live(running: Shop, item: int, **options: Any) -> Any:
    """Connect as the page of the item does."""
    address = running.base.replace("http://", "ws://") + f"/shop/items/{item}/live"
    return connect(address, open_timeout=30, **options)


def test_the_stock_is_told_as_it_changes(running, buyer, item):
    """At once for what this process does; and nobody holds a connection while nothing happens."""
    with live(running, item) as one, live(running, item) as other:
        first = {"left": 10, "words": "10 left", "kind": ""}
        assert json.loads(one.recv(30)) == json.loads(other.recv(30)) == first
        buyer.post("/orders", json={"lines": [{"item_id": item, "quantity": 7}]})
        for each in (one, other):
            until_told(each, {"left": 3, "words": "Only 3 left", "kind": "few"})
        buyer.post("/orders", json={"lines": [{"item_id": item, "quantity": 3}]})
        for each in (one, other):
            until_told(each, {"left": 0, "words": "Sold out", "kind": "none"})


def until_told(websocket: Any, expected: dict[str, Any]) -> None:
    """Hear what is told until it is this; the first may be told twice."""
    while json.loads(websocket.recv(30)) != expected:
        pass


@pytest.mark.parametrize("how", ["no item", "another site"])
def test_who_has_no_business_there_is_refused(running, item, how):
    """Before anything is told."""
    number = 10_000_000 if how == "no item" else item
    origin = "https://elsewhere.example" if how == "another site" else None
    with pytest.raises(InvalidStatus, match="403"), live(running, number, origin=origin):
        pass


def test_the_page_shows_it_and_is_whole_without_javascript(running, browser, buyer, item):
    """With it the words change and the button is taken away; without it the page is as ever."""
    cookie = {"name": "session", "value": buyer.cookies["session"], "url": running.base}
    for with_script in (True, False):
        context = browser.new_context(base_url=running.base, java_script_enabled=with_script)
        context.add_cookies([cookie])
        page = context.new_page()
        faults: list[str] = []
        page.on("console", lambda message, faults=faults: faults.append(message.text))
        page.goto(f"/shop/items/{item}")
        stock = page.locator(".stock")
        quantity = left(buyer, item)
        if with_script:
            expect(stock).to_have_class(re.compile("live"))
            buyer.post("/orders", json={"lines": [{"item_id": item, "quantity": quantity - 3}]})
            expect(stock).to_have_text("Only 3 left")
        else:
            expect(stock).to_have_text("Only 3 left")
            with page.expect_event("load"):
                page.get_by_role("button", name="Order").click()
            expect(page.get_by_role("heading", level=1)).to_contain_text("Order")
        assert faults == []
        context.close()


# -- the start -------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://host", "nats:host", "localhost:4222"])
def test_a_broker_that_is_none_is_refused_at_the_start(tmp_path, url):
    """By a sentence, which does not repeat what may have a password in it."""
    done = refused(tmp_path, BROKER_URL=url)
    assert done.returncode != 0
    assert "BROKER_URL" in done.stderr
    assert "nats://host:4222" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_is_away_stops_nobody_from_ordering(tmp_path):
    """The log says so, the order is placed, and its message waits."""
    url = f"sqlite:///{tmp_path}/shop.db"
    with shop(url, tmp_path, BROKER_URL="redis://127.0.0.1:1") as running:
        assert "The broker does not answer" in running.text
        with running.visitor() as client:
            register(client, "anna@example.com")
            log_in(client, "anna@example.com")
            item = new_item(client, "tea", "1.00", 1)
            answer = client.post("/orders", json={"lines": [{"item_id": item}]})
            assert answer.status_code == 201
        look = Onlooker(url)
        assert waiting(look) == 1
        look.close()
