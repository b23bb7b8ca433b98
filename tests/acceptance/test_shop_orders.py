"""Goods and money under load and faults: nothing is lost, and nothing is made out of nothing."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import pytest
from sqlalchemy.engine import make_url

from tests.acceptance.drivers import on_sqlite_and_postgresql
from tests.acceptance.shop import Shop, log_in, new_item, register, shop
from tests.acceptance.shop_client import Answer, Client
from tests.acceptance.shop_mail import Post, post_office
from tests.support.look import Onlooker

WORKERS = 2
CLIENTS = 50
USERS = 5
ITEMS = 20
SCARCE = 2  # of the items
SHARE = 0.05  # of the requests have a fault
RESTOCKS = 0.02
CLEAN = 25
COSTS = 18  # on average, an order

# What a request asks the server for; what is done to it from outside: `hung up`, `shot`.
ROLLED_BACK = ["before", "in", "after", "refused", "commit", "swallowed", "cancelled"]
ANYWHERE = [*ROLLED_BACK, "timeout", "hung up"]
ON_POSTGRESQL = ["killed", "shot"]

SHOOT = """
    SELECT pg_terminate_backend(pid) FROM (
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        ORDER BY random() LIMIT 1
    ) AS victim
"""

Lines = frozenset[tuple[int, int]]  # item and quantity


class Storm:
    """The orders that are tried, each with goods that no other order of its user has."""

    def __init__(self, under: Shop, count: int) -> None:
        self.under = under
        self.count = count
        self.random = random.Random(20261121)
        self.outcomes: Counter[str] = Counter()
        self.told: dict[tuple[int, Lines], Answer | None] = {}
        self.restocked: Counter[int] = Counter()
        self.maybe_restocked: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        is_sqlite = under.url.startswith("sqlite")
        self.kinds = ANYWHERE if is_sqlite else ANYWHERE + ON_POSTGRESQL
        self.furnish()

    def furnish(self) -> None:
        """Have users and goods."""
        self.users: dict[int, str] = {}
        for number in range(USERS):
            with self.under.visitor() as client:
                user = register(client, f"user{number}@example.com")
                self.users[user] = log_in(client, f"user{number}@example.com")
        with self.under.visitor(cookies={"session": self.users[min(self.users)]}) as client:
            self.items = [
                new_item(client, f"item {n}", f"{(n + 1) * 37 / 100:.2f}", self.stock_of(n))
                for n in range(ITEMS)
            ]

    def stock_of(self, number: int) -> int:
        """Return how much there is of an item to begin with: of some not enough."""
        return 10 + self.count // 20 if number < SCARCE else 10 + self.count

    async def rage(self) -> float:
        """Do it, with all clients at once, and return the seconds it took."""
        plan = self.plan()
        start = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self.customer(plan))
        return time.monotonic() - start

    def plan(self) -> Iterator[str]:
        """Give the faults, in turn, among the requests without one."""
        kinds = self.kinds * (self.count // len(self.kinds) + 1)
        for number in range(self.count):
            yield kinds.pop() if number % round(1 / SHARE) == 0 else ""

    async def customer(self, plan: Iterator[str]) -> None:
        """Be a client: order and order."""
        async with Client(self.under.base) as client:
            for fault in plan:
                if self.random.random() < RESTOCKS:
                    await self.restock(client)
                await self.order(client, fault)

    async def order(self, client: Client, fault: str) -> Answer | None:
        """Try an order."""
        user, lines = self.new_order()
        self.told[user, lines] = None
        body = {"lines": [{"item_id": item, "quantity": n} for item, n in lines]}
        headers = {"Cookie": f"session={self.users[user]}", "X-Fault": fault}
        patience = self.random.uniform(0, 0.05) if fault == "hung up" else None
        if fault == "shot":
            await asyncio.to_thread(self.shoot)
        answer = await client.post("/orders", body, headers, patience)
        self.told[user, lines] = answer
        self.note(fault, answer)
        return answer

    def shoot(self) -> None:
        """End some backend of the shop, whatever it is doing."""
        with Onlooker(self.under.url) as look:
            look.execute(SHOOT)

    def note(self, fault: str, answer: Answer | None) -> None:
        """Count an outcome."""
        if fault:
            self.faults[fault] += 1
        self.outcomes[str(answer.status) if answer else "no answer"] += 1
        if fault in (*ROLLED_BACK, "killed"):
            assert answer is None or answer.status >= 400, (fault, answer)
        elif not fault:
            assert answer is None or answer.status in (201, 409, 500, 503), answer

    def new_order(self) -> tuple[int, Lines]:
        """Invent an order that its user has not tried yet."""
        while True:
            chosen = self.random.sample(self.items, self.random.randint(1, 4))
            lines = frozenset((item, self.random.randint(1, 3)) for item in chosen)
            user = self.random.choice(list(self.users))
            if (user, lines) not in self.told:
                return user, lines

    async def restock(self, client: Client) -> None:
        """Let goods come in, of what there is little of."""
        item = self.random.choice(self.items[:SCARCE])
        headers = {"Cookie": f"session={self.users[min(self.users)]}"}
        answer = await client.post(f"/items/{item}/stock", {"quantity": 2}, headers)
        self.restocked[item] += 2 if answer and answer.status == 201 else 0
        self.maybe_restocked[item] += 2 if answer is None else 0

    async def clean(self) -> None:
        """Order without any fault: that is answered as it should."""
        async with Client(self.under.base) as client:
            answers = [await self.order(client, "") for _ in range(CLEAN)]
        assert {answer and answer.status for answer in answers} <= {201, 409}


def check_goods_and_money(look: Onlooker, storm: Storm) -> None:
    """What was sold and what is left is what was bought; what was spent is what was ordered."""
    sold = dict(look.rows("SELECT item_id, sum(quantity) FROM order_lines GROUP BY item_id"))
    for item, bought, remaining in look.rows("SELECT item_id, bought, remaining FROM stock"):
        assert sold.get(item, 0) + remaining == bought, item
        assert remaining >= 0
        least = storm.stock_of(storm.items.index(item)) + storm.restocked[item]
        assert least <= bought <= least + storm.maybe_restocked[item]
    spent = """
        SELECT o.user_id, sum(l.price * l.quantity) FROM orders o
        JOIN order_lines l ON l.order_id = o.id GROUP BY o.user_id
    """
    lines = {user: int(cents) for user, cents in look.rows(spent)}
    totals = dict(look.rows("SELECT user_id, sum(total) FROM orders GROUP BY user_id"))
    for user, credit in look.rows("SELECT id, credit FROM users"):
        assert credit >= 0
        assert credit_of(storm) - credit == lines.get(user, 0) == int(totals.get(user, 0))


def credit_of(storm: Storm) -> int:
    """Return what each user had to begin with, in cents: not enough for all they try."""
    return int(Decimal(storm.count * COSTS * 9 // (USERS * 10)) * 100)


def check_answers(look: Onlooker, storm: Storm) -> set[int]:
    """An order is there if its client was told so, and is not if its client was told that."""
    stored: dict[int, tuple[int, set[tuple[int, int]]]] = {}
    for number, user in look.rows("SELECT id, user_id FROM orders"):
        stored[number] = (user, set())
    for number, item, quantity in look.rows("SELECT order_id, item_id, quantity FROM order_lines"):
        stored[number][1].add((item, quantity))
    assert all(lines for _, lines in stored.values()), "an order without lines"
    there = {(user, frozenset(lines)): number for number, (user, lines) in stored.items()}
    assert len(there) == len(stored), "an order twice"
    for order, answer in storm.told.items():
        if answer is not None and answer.status == 201:
            assert there.get(order) == answer.json["id"], "acknowledged, but lost"
        elif answer is not None and not answer.is_unknown:
            assert order not in there, f"stored, but told {answer}"
    return set(stored)


def check_mails(post: Post, stored: set[int], storm: Storm) -> None:
    """A confirmation came once for each order that was acknowledged, and for no other."""
    confirmed = Counter(post.orders)
    acknowledged = {a.json["id"] for a in storm.told.values() if a and a.status == 201}
    assert set(confirmed) <= stored, "confirmed, but rolled back"
    assert acknowledged <= set(confirmed), "acknowledged, but not confirmed"
    assert set(confirmed.values()) <= {1}, "confirmed twice"


def outside_url(url: str) -> str:
    """Return the URL as people write it: without the driver that is the default."""
    made = make_url(url)
    if made.drivername.endswith(("inline", "psycopg")):
        made = made.set(drivername=made.get_backend_name())
    return made.render_as_string(hide_password=False)


async def all_of(storm: Storm) -> float:
    """Do all of it in one event loop."""
    seconds = await storm.rage()
    await storm.clean()
    return seconds


COUNTS = [250, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]


@on_sqlite_and_postgresql
@pytest.mark.parametrize("count", COUNTS)
def test_goods_and_money_agree_whatever_fails(url, count, tmp_path, figures):
    """From 50 clients at once, with faults in 5 % of the orders, all sums agree at the end."""
    address = outside_url(url)
    workers = 1 if address.startswith("sqlite") else WORKERS
    command = ["-m", "uvicorn", "tests.acceptance.shop_faults:app", "--port", "0"]
    command += ["--workers", str(workers), "--no-access-log"]
    with post_office() as post:
        settings = {
            "SMTP_URL": post.url,
            "WELCOME_CREDIT": str(count * COSTS * 9 // (USERS * 10)),
        }
        with shop(address, tmp_path, command=command, workers=workers, **settings) as under:
            storm = Storm(under, count)
            seconds = asyncio.run(all_of(storm))
            with Onlooker(url) as look:
                assert look.is_sqlite or look.idle_in_transaction() == []
        # What a client that hung up has asked for may have been done until now.
        with Onlooker(url) as look:
            check_goods_and_money(look, storm)
            check_mails(post, check_answers(look, storm), storm)
    assert set(storm.faults) == set(storm.kinds)
    figures(
        f"{count} orders in {seconds:.1f} s, {count / seconds:.0f}/s,"
        f" answers {dict(storm.outcomes)}, faults {dict(storm.faults)}"
    )
