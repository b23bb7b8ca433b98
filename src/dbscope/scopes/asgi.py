"""ASGI, as far as it is used (https://asgi.readthedocs.io/en/latest/specs/main.html)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

Message = MutableMapping[str, Any]
ASGIScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[ASGIScope, Receive, Send], Awaitable[None]]

PATH = "/!$&'()*+,;=:@~"  # RFC 3986, 3.3: all that a path may have as it is
PLAIN = re.compile(r"[\w/.-]*", re.ASCII)  # as most are


def path_of(scope: ASGIScope) -> str:
    """Return the path of a request, as it may stand in a message."""
    path: str = scope["path"]
    return path if PLAIN.fullmatch(path) else quote(path, safe=PATH, errors="replace")
