"""Run the server: `python -m server --port 8000`, with the options of uvicorn."""

import asyncio
import sys

from pydantic import ValidationError
from uvicorn.main import main as uvicorn

from dbscope import ConfigurationError, DatabaseUnavailable, MigrationError


async def prepare() -> None:
    """Reach the database, and bring it up to date, before there are workers."""
    from server import events
    from server.config import settings
    from server.db import sample
    from server.db.database import db, keep_private, migrations

    events.check()
    keep_private(db.url)
    async with db.lifespan():
        await db.ping()
        say("the database answers; bringing its tables up to date")
        await migrations.at_start(settings.migrations)
        if settings.wants_sample_data:
            say(f"log in as {sample.DEMO['email']}, password {sample.DEMO['password']}")
        if settings.in_production:
            await sample.refuse_demo()


def say(text: str) -> None:
    """Tell what goes on; standard output is for mails."""
    print(f"server: {text}", file=sys.stderr, flush=True)  # noqa: T201


def told(error: ValidationError) -> str:
    """Return what is wrong with the environment; the values may be secret."""
    return "; ".join(
        " ".join([*(str(part).upper() for part in each["loc"][:1]), each["msg"]])
        for each in error.errors()
    )


def main() -> None:
    """Start, or end with one sentence: from inside uvicorn it would be a traceback."""
    try:
        asyncio.run(prepare())
    except (ConfigurationError, DatabaseUnavailable, MigrationError) as error:
        sys.exit("server: " + " ".join(error.what.split()))
    except ValidationError as error:
        sys.exit(f"server: {told(error)}")
    uvicorn(["server.main:app", *sys.argv[1:]])


if __name__ == "__main__":
    main()
