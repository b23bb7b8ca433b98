"""The same of the protocol of MySQL and MariaDB as `tests.support.wire` has of PostgreSQL's."""

from collections.abc import Iterator

from tests.support.wire import is_commit

__all__ = ["AWAITED", "READY", "STARTUP", "Messages", "Statements", "is_commit"]

STARTUP = b"login"
QUERY, PING = b"\x03", b"\x0e"
AWAITED = (QUERY, PING)
READY = b"answer"  # each packet of the server: the answer to COMMIT is one
LOGIN = 1  # the packet of the client with this number; a command has 0
REFUSED = 0xFF  # the first byte of an error, too many connections for one, instead of a greeting
TLS = 0x0800  # CLIENT_SSL, among the lower capabilities: what a server can, in its greeting


def asks_for_encryption(message: bytes) -> bool:
    """Say that nobody asks: a server that does not offer it is not asked."""
    return False


def without_tls(greeting: bytes) -> bytes:
    """Take the offer of TLS out of a server's greeting, so that we can read along.

    https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection
    """
    capabilities = greeting.index(b"\0", 5) + 14  # thread 4, scramble 8, filler 1
    there = slice(capabilities, capabilities + 2)
    offered = int.from_bytes(greeting[there], "little") & ~TLS
    return greeting[: there.start] + offered.to_bytes(2, "little") + greeting[there.stop :]


def is_login(message: bytes) -> bool:
    """Say that it is one: there is no other startup packet."""
    return True


class Messages:
    """Cuts a stream of bytes into packets, each with its kind; the greeting offers no TLS."""

    def __init__(self, *, from_client: bool) -> None:
        self._from_client = from_client
        self._is_greeting = not from_client
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Give the packets that are complete by now: their kind and all of their bytes."""
        self._buffer += data
        while (size := 4 + int.from_bytes(self._buffer[:3], "little")) <= len(self._buffer):
            packet = bytes(self._buffer[:size])
            del self._buffer[:size]
            if self._is_greeting and packet[4] != REFUSED:
                packet = without_tls(packet)
            self._is_greeting = False
            yield self._kind(packet), packet

    def _kind(self, packet: bytes) -> bytes:
        if not self._from_client:
            return READY
        number = packet[3]
        return packet[4:5] if number == 0 else STARTUP if number == LOGIN else b""


class Statements:
    """Knows which SQL a packet executes."""

    def executed(self, kind: bytes, packet: bytes) -> str | None:
        """Return the SQL that this packet executes, if it executes any."""
        return packet[5:].decode() if kind == QUERY else None
