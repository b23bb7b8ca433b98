"""A Sentry of our own: it takes envelopes by HTTP, as the real one does, and keeps their text."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Sink:
    """Where it listens, and what it was sent."""

    def __init__(self, port: int) -> None:
        self.dsn = f"http://public@127.0.0.1:{port}/1"
        self.envelopes: list[str] = []

    @property
    def text(self) -> str:
        """All that was sent."""
        return "\n".join(self.envelopes)

    @property
    def events(self) -> int:
        """How many of the envelopes tell of an error."""
        return sum('"type":"event"' in envelope for envelope in self.envelopes)


@contextmanager
def sentry_sink() -> Iterator[Sink]:
    """Listen; https://develop.sentry.dev/sdk/data-model/envelopes tells what comes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.sink = Sink(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.sink
    finally:
        server.shutdown()
        thread.join(40)
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """Keeps the body of each POST."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.sink.envelopes.append(body.decode("utf-8", "backslashreplace"))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Say nothing."""
