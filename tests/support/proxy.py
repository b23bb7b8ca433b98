"""A TCP proxy in front of PostgreSQL or MariaDB, which can fail exactly at COMMIT.

It has a thread and an event loop of its own, so that it works on while a test blocks.
"""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Self

import pytest
from sqlalchemy.engine import make_url

from tests.support import mysql_wire, wire
from tests.support.mysql import MySQLServer
from tests.support.postgres import PostgresServer
from tests.worlds import MYSQL

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """The switches, for any thread, and the counts; the last mode that was switched on holds."""

    def __init__(self, server: PostgresServer | MySQLServer) -> None:
        self.server = server
        self.wire: Any = mysql_wire if isinstance(server, MySQLServer) else wire
        self.delay = 0.0  # seconds, each way
        self.errors: list[BaseException] = []
        self._links: dict[Link, asyncio.Task[Any]] = {}
        self.reset_counts()
        self.pass_through()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._listener = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._listener.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """The server's URL through the proxy (driver psycopg)."""
        return self.through(self.server.url())

    def through(self, url: str) -> str:
        """Lead another URL of the server, of any database and driver, through the proxy."""
        direct = make_url(url).difference_update_query(["host"])
        return direct.set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)

    def pass_through(self) -> None:
        """Be invisible again; what a black hole swallowed stays lost."""
        self._switch("pass_through")

    def cut_before_commit(self, times: float = 1) -> None:
        """Close both sides instead of forwarding the next COMMIT; then pass through again."""
        self._switch("cut_before_commit", times)

    def cut_after_commit(self, times: float = 1, then: str = "pass_through") -> None:
        """Forward the next COMMIT, drop its answer, close both sides; then pass through again.

        Or be in another mode from that moment on: `then="refuse"`, `then="hold"`.
        """
        self._switch("cut_after_commit", times)
        self._then = then

    def cut_at(self, number: int) -> None:
        """Close both sides instead of forwarding what has this number of all questions and answers.

        Those of a login count, too.
        """
        self._switch("cut_at", number)

    def blackhole(self) -> None:
        """Swallow everything both ways, a hang-up too, and keep the sockets open."""
        self._switch("blackhole")

    def keep_open(self) -> None:
        """Forward what the server says, but not that it hangs up."""
        self._switch("keep_open")

    def refuse(self) -> None:
        """Close each new connection at once; those that exist go on."""
        self._switch("refuse")

    def say_over(self) -> None:
        """Say to who asks for encryption that there is none and, in the same breath, that all ends.

        A PostgreSQL that is killed just then says so.
        """
        self._switch("say_over")

    def hold(self) -> None:
        """Let each new connection wait for another mode; those that exist go on."""
        self._switch("hold")

    def cut_all(self) -> None:
        """Close all connections, now."""
        self._call(self._cut_all())

    def reset_counts(self) -> None:
        """Forget what was counted so far."""
        self.connections = 0  # logins
        self.round_trips = 0  # times a client waited for an answer, logins not counted
        self.cuts = 0
        self.sql: list[str] = []  # all statements in order, as the client sent them

    @property
    def statements(self) -> int:
        """How many statements were executed."""
        return len(self.sql)

    def close(self) -> None:
        """Close all connections, the listener and the thread; raise what went wrong in it."""
        self._call(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self.errors:
            raise self.errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def is_in(self, mode: str) -> bool:
        """Say whether this is the mode now."""
        return self._mode[0] == mode

    def uses_up(self, mode: str) -> bool:
        """Say whether this is the mode now, and use up one of its times."""
        now, times = self._mode
        if now == mode:
            self._switch(*((self._then,) if times <= 1 else (mode, times - 1)))
        return now == mode

    def _switch(self, mode: str, times: float = math.inf) -> None:
        if times == math.inf:
            self._then = "pass_through"
        self._mode = (mode, times)  # one assignment: no other thread sees half of it

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(40)

    async def _accept(self, *client: Any) -> None:
        if self.is_in("refuse"):
            await hang_up(client[1])
            return
        link = Link(self, client)
        task = asyncio.current_task()
        assert task is not None
        self._links[link] = task
        try:
            await link.run()
        except ConnectionError:
            pass  # what a proxy is here for
        except Exception as error:
            self.errors.append(error)
        finally:
            del self._links[link]

    async def _cut_all(self) -> None:
        for link in self._links:
            link.ended.set()
        await asyncio.gather(*self._links.values())

    async def _shut_down(self) -> None:
        self._listener.close()
        await self._cut_all()
        await self._listener.wait_closed()


class Link:
    """One connection: the client's side, the server's side, and what is known about it."""

    def __init__(self, proxy: Proxy, client: Stream) -> None:
        self.proxy = proxy
        self.wire = proxy.wire
        self.client = client
        self.ended = asyncio.Event()
        self._drops_the_answer = False
        self._statements = self.wire.Statements()

    async def run(self) -> None:
        """Forward both ways until one side ends or the link is cut."""
        try:
            await self._held()
            self.server = await connect(self.proxy.server.address)
            await first_of(
                self._pump(self.client, self.server, self._from_client, from_client=True),
                self._pump(self.server, self.client, self._from_server, from_client=False),
                self.ended.wait(),
            )
        finally:
            for side in (getattr(self, "server", None), self.client):
                if side:
                    await hang_up(side[1])

    async def _held(self) -> None:
        while self.proxy.is_in("hold") and not self.ended.is_set():  # noqa: ASYNC110  (by threads)
            await asyncio.sleep(0.01)

    async def _pump(
        self,
        source: Stream,
        target: Stream,
        passes: Callable[[bytes, bytes], bool],
        *,
        from_client: bool,
    ) -> None:
        messages = self.wire.Messages(from_client=from_client)
        while data := await source[0].read(65536):
            if self.proxy.delay:
                await asyncio.sleep(self.proxy.delay)
            for kind, message in messages.feed(data):
                self._count_down(kind)
                if not self.proxy.is_in("blackhole") and passes(kind, message):
                    target[1].write(message)
            if self.ended.is_set():
                return
            await target[1].drain()
        if self.proxy.is_in("blackhole") or (self.proxy.is_in("keep_open") and not from_client):
            await self.ended.wait()

    def _count_down(self, kind: bytes) -> None:
        counts = kind in (self.wire.STARTUP, *self.wire.AWAITED, self.wire.READY)
        if counts and self.proxy.uses_up("cut_at") and self.proxy.is_in("pass_through"):
            self._cut()

    def _from_client(self, kind: bytes, message: bytes) -> bool:
        """Count a message, and say whether the server gets it."""
        if self.ended.is_set():
            return False
        if kind == self.wire.STARTUP:
            return self._starts(message)
        self.proxy.round_trips += kind in self.wire.AWAITED
        sql = self._statements.executed(kind, message)
        if sql is not None:
            self.proxy.sql.append(sql)
        return not self.wire.is_commit(sql) or self._commits()

    def _starts(self, message: bytes) -> bool:
        if self.wire.asks_for_encryption(message):
            over = b"Eover\n\0" if self.proxy.is_in("say_over") else b""
            self.client[1].write(b"N" + over)  # no: we want to read along
            return False
        self.proxy.connections += self.wire.is_login(message)
        return True

    def _commits(self) -> bool:
        if self.proxy.uses_up("cut_before_commit"):
            self._cut()
            return False
        self._drops_the_answer = self.proxy.uses_up("cut_after_commit")
        return True

    def _from_server(self, kind: bytes, message: bytes) -> bool:
        """Say whether the client gets a message."""
        if self._drops_the_answer and kind == self.wire.READY:
            self._cut()
        return not (self._drops_the_answer or self.ended.is_set())

    def _cut(self) -> None:
        self.proxy.cuts += 1
        self.ended.set()


async def connect(address: tuple[str, int] | str) -> Stream:
    """Open a connection to a port or to a Unix socket."""
    if isinstance(address, str):
        return await asyncio.open_unix_connection(address)
    return await asyncio.open_connection(*address)


async def first_of(*works: Awaitable[Any]) -> None:
    """Run all until one of them ends, end the others too, and raise what one of them raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close one side, even if nobody reads there any more."""
    writer.close()
    with suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), 1)
    writer.transport.abort()


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A proxy in front of the shared server, of the kind that the test is about."""
    spec = getattr(request.node, "callspec", None)
    drivers = {spec.params.get(name) for name in ("database_url", "url")} if spec else set()
    server = "mysql_server" if drivers & set(MYSQL) else "postgres"
    with Proxy(request.getfixturevalue(server)) as proxy:
        yield proxy
