"""Ask every library, each in an environment of its own, and print a table.

python3 -m benchmarks.peers [names]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.install.environments import make, run, wheel

PROGRAM = Path(__file__).with_name("application.py")
NEWEST = ["fastapi", "sqlalchemy[asyncio]", "aiosqlite"]
WANTED = {
    "by hand": NEWEST,
    "by hand, scope=function": NEWEST,
    "advanced-alchemy": ["advanced-alchemy", *NEWEST],
    "fastapi-sqla": ["fastapi-sqla>=4", *NEWEST],  # pip would take an old one, for a newer FastAPI
    "context-async-sqlalchemy": ["context-async-sqlalchemy", *NEWEST],
    "context-async-sqlalchemy, ASGI": ["context-async-sqlalchemy", *NEWEST],
    "dbscope": NEWEST,
}


def ask(name: str, folder: Path) -> dict[str, Any]:
    """Install what a library needs, and return what its application did."""
    environment = make(folder / "environment")
    ours = [f"{wheel(folder / 'wheel')}[fastapi]"] if name == "dbscope" else []
    environment.install(*WANTED[name], *ours)
    program = [str(environment.python), "-I", str(PROGRAM), name]
    answers: list[dict[str, Any]] = [
        json.loads(run(*program, str(folder / f"{how}.db"), *[how][:is_handled]).splitlines()[-1])
        for is_handled, how in enumerate(("plain", "handled"))
    ]
    plain, handled = answers
    return plain | {"handled": handled["status"], "stored": plain["stored"] + handled["stored"]}


def main(names: list[str]) -> None:
    """Print a line for each."""
    print("| library | versions | told | with a handler | rows stored | error |")
    print("|---|---|---|---|---|---|")
    for name in names or WANTED:
        with tempfile.TemporaryDirectory() as folder:
            told = ask(name, Path(folder))
        row = [told[key] for key in ("versions", "status", "handled", "stored", "error")]
        print(f"| {name} | {' | '.join(map(str, row))} |", flush=True)


main(sys.argv[1:])
