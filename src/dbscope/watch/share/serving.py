"""The thread that answers other processes, and does nothing while nobody asks."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dbscope.watch.share import answers, folder
from dbscope.watch.share.values import decoded, dictionary, encoded

if TYPE_CHECKING:
    from pathlib import Path

    from dbscope.watch.findings import Findings

LONGEST = 4096  # bytes of a question
AT_ONCE = 8  # who may ask
BACKLOG = 64
PATIENCE = 2.0  # seconds for one who asks

IS_POSSIBLE = hasattr(socket, "AF_UNIX")

logger = logging.getLogger("dbscope")


class Sharing(threading.Thread):
    """Answers by a socket in the folder of the database.

    Args:
        watch: what is told of.
        source: of the database.
        name: in the folder; None: a new one.
    """

    def __init__(self, watch: Findings, source: Any, name: str | None = None) -> None:
        super().__init__(name="dbscope watch answers", daemon=True)
        self.watch = watch
        self.source = source
        self.pid = os.getpid()
        self.id = name or f"{self.pid}-{secrets.token_hex(2)}"
        self._folder: Path | None = None
        self._socket = socket.socket(socket.AF_UNIX)
        self._asking = threading.BoundedSemaphore(AT_ONCE)
        self.is_closed = False
        atexit.register(self.leave)

    @property
    def folder(self) -> Path:
        """The folder, which only threads may look at: a disk can be slow."""
        if self._folder is None:  # `cached_property` of 3.11 has a lock, and a fork would keep it
            self._folder = folder.of_database(self.source)
        return self._folder

    @property
    def path(self) -> Path:
        """The socket."""
        return self.folder / f"{self.id}{folder.SOCKET}"

    def run(self) -> None:
        """Be there for others, until it is closed."""
        try:
            self._open()
            self._listen()
        except OSError as error:
            if not self.is_closed:
                logger.warning("The watch shows this process alone: %s", error)
        finally:
            with suppress(OSError):
                for each in (self.path, self._new):
                    each.unlink(missing_ok=True)

    @property
    def _new(self) -> Path:
        return self.path.with_suffix(folder.NEW)

    def _open(self) -> None:
        folder.make(self.folder)
        folder.sweep(self.folder)
        folder.make(self.folder)  # unless somebody else has just swept it away
        folder.take_back(self.folder, self.id)
        self._socket.bind(str(self._new))
        self._socket.listen(BACKLOG)
        self._new.rename(self.path)  # what has the name of a socket listens

    def _listen(self) -> None:
        while not self.is_closed:
            asker, _ = self._socket.accept()
            if self._asking.acquire(blocking=False):
                threading.Thread(target=self._answer, args=(asker,), daemon=True).start()
            else:
                asker.close()

    def close(self) -> None:
        """Be there no more; in a process that was forked, the socket is the parent's."""
        atexit.unregister(self.leave)
        self.is_closed = True
        if os.getpid() == self.pid:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes up who accepts
        self._socket.close()

    def leave(self) -> None:
        """Close at the end of the process, and leave what was recorded for an hour."""
        if os.getpid() != self.pid:
            return
        self.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            if self.watch.recent(1):
                folder.leave(self.folder, self.id, shortened(answers.left(self.watch)))

    def _answer(self, asker: socket.socket) -> None:
        try:
            with asker, asker.makefile("rwb") as file:
                asker.settimeout(PATIENCE)
                asked: Any = decoded(file.readline(LONGEST))
                found = answers.answer(self.watch, dictionary(asked))
                file.write(encoded(found) + b"\n")
        except (OSError, ValueError):
            pass  # it has gone, or has asked nothing
        except Exception:
            logger.exception("A question about the watch could not be answered.")
        finally:
            self._asking.release()


def shortened(left: dict[str, Any]) -> bytes:
    """Return JSON of what is left, with as many of the last records as there is room for.

    Many routes with long reasons may leave no room, not even for themselves.
    """
    for record in left["records"]:
        for sent in record["sent"]:
            sent["values"] = None  # not even if they were asked for: this is on a disk
    while len(found := encoded(left)) > folder.LARGEST and left["records"]:
        left["records"] = left["records"][1 + len(left["records"]) // 2 :]
    return found if len(found) <= folder.LARGEST else encoded(left | {"problems": [], "routes": []})
