"""What a revision of a test and the test itself share."""

import threading
from contextvars import ContextVar

from sqlalchemy import text

begun = threading.Event()
here = threading.Event()
NAME = text("SELECT name FROM item")
FOREIGN_KEYS = text("PRAGMA foreign_keys")
who: ContextVar[str] = ContextVar("who", default="nobody")
seen: list[str] = []
