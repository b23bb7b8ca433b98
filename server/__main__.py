"""Run the server: `python -m server --port 8000`, with the options of uvicorn."""

import asyncio
import sys

from uvicorn.main import main as uvicorn

from dbscope import ConfigurationError, DatabaseUnavailable


async def try_database() -> None:
    """Reach the database once."""
    from server.db.database import db

    async with db.lifespan():
        await db.ping()


def main() -> None:
    """Start, or end with one sentence: from inside uvicorn it would be a traceback."""
    try:
        asyncio.run(try_database())
    except (ConfigurationError, DatabaseUnavailable) as error:
        sys.exit("server: " + " ".join(error.what.split()))
    uvicorn(["server.main:app", *sys.argv[1:]])


if __name__ == "__main__":
    main()
