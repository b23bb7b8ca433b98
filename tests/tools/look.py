"""Make the requests with a tool that looks on, and print what it has seen, as JSON.

python -m tests.tools.look TOOL '{"driver": "url", ...}'
"""

from __future__ import annotations

import json
import sys
from typing import Any

from starlette.testclient import TestClient

from dbscope import AsyncDatabase, Database  # before any tool is there, as in most applications
from tests.tools import application
from tests.tools.watching import TOOLS, Seen

NAME, URLS = sys.argv[1], json.loads(sys.argv[2])
SYNC = {"sqlite3", "psycopg sync", "pymysql"}


def seen(tool: Any, driver: str, url: str) -> dict[str, Seen]:
    """Return what the tool has seen of each request."""
    if driver in SYNC:
        db: Any = Database(url)
        app = application.plain_app(db)
    else:
        db = AsyncDatabase(url)
        app = application.async_app(db)
    tool.install(app, db)
    told: dict[str, Seen] = {}
    with TestClient(app) as client:
        for name, (method, path) in application.REQUESTS.items():
            tool.clear()
            client.request(method, path).raise_for_status()
            told[name] = [one for one in tool.statements() if "thing" in one[0]]
    return told


def main() -> None:
    """Look at all drivers, one after the other."""
    tool = TOOLS[NAME]()
    told = {driver: seen(tool, driver, url) for driver, url in URLS.items()}
    sys.stdout.write(f"\n{json.dumps(told)}")


main()
