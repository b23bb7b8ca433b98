"""A mail server of our own: it takes what comes by SMTP, and keeps it."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage


class Post(socketserver.ThreadingTCPServer):
    """Where it listens, and the letters that came."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"smtp://127.0.0.1:{self.server_address[1]}"
        self.letters: list[EmailMessage] = []
        self.receivers: list[str] = []  # as the envelope has them
        self.refusing = False

    @property
    def orders(self) -> list[int]:
        """The numbers of the orders that were confirmed."""
        return [int(letter["Subject"].rpartition(" ")[2]) for letter in self.letters]


class Handler(socketserver.StreamRequestHandler):
    """One connection: https://www.rfc-editor.org/rfc/rfc5321, as much as smtplib needs."""

    def handle(self) -> None:
        self.say("220 hello")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.take()
            elif verb == b"RCPT" and self.server.refusing:
                self.say(f"550 no {line.decode().strip()} here")
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            else:
                if verb == b"RCPT":
                    self.server.receivers.append(line.decode().partition("<")[2].partition(">")[0])
                self.say("250 ok")

    def take(self) -> None:
        """Take a letter."""
        self.say("354 go on")
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        letter = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        self.server.letters.append(letter)
        self.say("250 taken")

    def say(self, line: str) -> None:
        """Answer."""
        self.wfile.write(f"{line}\r\n".encode())


@contextmanager
def post_office() -> Iterator[Post]:
    """Listen."""
    with Post() as post:
        thread = threading.Thread(target=post.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield post
        finally:
            post.shutdown()
            thread.join(40)
