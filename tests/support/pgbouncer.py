"""PgBouncer in front of the tests' PostgreSQL, and something that answers as it does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, make_url

from tests.support import wire
from tests.support.processes import free_port, unprivileged_user

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
SETTINGS = """\
[databases]
* = host={host} port={port} user={user} {password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 4
server_login_retry = 1
ignore_startup_parameters = extra_float_digits
"""


@contextmanager
def pgbouncer(url: str, mode: str) -> Iterator[str]:
    """Start PgBouncer in front of a server, and give the URL of the same database through it."""
    direct = make_url(url)
    folder = Path(tempfile.mkdtemp(prefix="dbscope-pgbouncer-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        for _attempt in range(3):
            through = direct.set(host="127.0.0.1", port=free_port(), drivername="postgresql")
            if accepts(through, stack.enter_context(running(folder, direct, through, mode))):
                break  # else somebody has taken the port meanwhile
        else:
            raise RuntimeError(f"PgBouncer does not start:\n{(folder / 'log').read_text()}")
        yield through.set(drivername=direct.drivername).render_as_string(hide_password=False)


@contextmanager
def running(folder: Path, direct: URL, through: URL, mode: str) -> Iterator[subprocess.Popen[Any]]:
    """Run it on this port, whether that is free or not."""
    assert PROGRAM is not None
    settings, user = folder / "pgbouncer.ini", unprivileged_user()  # it refuses to be root
    settings.write_text(
        SETTINGS.format(
            host=direct.host or "127.0.0.1",
            port=direct.port or 5432,
            user=direct.username,
            password=f"password={direct.password}" if direct.password else "",
            listen=through.port,
            mode=mode,
        )
    )
    if user:
        for path in (folder, settings):
            os.chown(path, user["user"], user["group"])
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, settings], stdout=log, stderr=log, cwd="/", **user)
    try:
        yield process
    finally:
        process.kill()
        process.wait(40)


def accepts(url: URL, process: subprocess.Popen[Any]) -> bool:
    """Wait until it accepts connections; tell whether it does."""
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psycopg.OperationalError):
            psycopg.connect(url.render_as_string(hide_password=False)).close()
            return True
        time.sleep(0.02)
    return False


@contextmanager
def made_up_process(url: str) -> Iterator[str]:
    """Forward all but BackendKeyData, in which a pooler tells a process that it has made up."""
    direct = make_url(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = (direct.host or "127.0.0.1", direct.port or 5432)
        threading.Thread(target=accept, args=(listener, address), daemon=True).start()
        through = direct.set(host="127.0.0.1", port=listener.getsockname()[1])
        yield through.render_as_string(hide_password=False)
        listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts


def accept(listener: socket.socket, address: tuple[str, int]) -> None:
    with suppress(OSError):  # the end
        while True:
            client, _ = listener.accept()
            threading.Thread(target=forward, args=(client, address), daemon=True).start()


def forward(client: socket.socket, address: tuple[str, int]) -> None:
    with client, socket.create_connection(address) as server, suppress(OSError):
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=from_server, args=(server, client), daemon=True).start()
        messages = wire.Messages(from_client=True)
        while data := client.recv(65536):
            for kind, message in messages.feed(data):
                if kind == wire.STARTUP and wire.asks_for_encryption(message):
                    client.sendall(b"N")
                else:
                    server.sendall(message)
        server.shutdown(socket.SHUT_RDWR)


def from_server(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        messages = wire.Messages(from_client=False)
        while data := server.recv(65536):
            for kind, message in messages.feed(data):
                made_up = message[:5] + bytes([0, 1, 2, 3]) + message[9:]
                client.sendall(made_up if kind == b"K" else message)
        client.shutdown(socket.SHUT_RDWR)
