"""The database: one place for the engines and session factories of both kinds.

See Also
--------
server.models : the tables, on `Base`.
server.config : where the URL comes from.

Notes
-----
- `db` is for the application: one session for each request, committed before the answer leaves.
- `SessionLocal` and `AsyncSessionLocal` are SQLAlchemy's own factories, for code that wants to open
  and commit a session by hand. All of them share the pool of their kind.
- Nothing is opened before it is used. SQLite is set up by dbscope: WAL, foreign keys, and a queue
  of writers.

Examples
--------
>>> import anyio
>>> from sqlalchemy import select
>>> ensure_database_schema()

A session by hand, in plain code:

>>> with SessionLocal() as session:
...     session.scalar(select(1))
1

The same in async code, and without a factory, as the server does it:

>>> async def both() -> tuple[int, int]:
...     async with db.lifespan():
...         async with AsyncSessionLocal() as session:
...             one = await session.scalar(select(1))
...         async with db.scope():
...             return one, await db.scalar(select(2))
>>> anyio.run(both)
(1, 2)
"""

from contextlib import suppress
from pathlib import Path

from sqlalchemy import URL, MetaData
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session

from dbscope import AsyncDatabase
from dbscope.migrate import NAMING_CONVENTION, Migrations
from server.config import settings

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"

db = AsyncDatabase(
    settings.database_url.get_secret_value(),
    engine_options={"hide_parameters": True},  # no bound value in a log or an error
)
migrations = Migrations(db, PROJECT)


def keep_private(url: URL) -> None:
    """Make the file of a new SQLite database readable by its owner only, whatever the umask says.

    What SQLite puts beside it has the permissions of the file itself.
    """
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        with suppress(OSError):  # the database says better why it cannot be opened
            Path(url.database).touch(mode=0o600)


class Base(DeclarativeBase):
    """The base of all models.

    Attributes
    ----------
    metadata : MetaData
        All tables. Constraints are named by a convention, so that migrations can find them again.

    Examples
    --------
    >>> from server.models import Item
    >>> Item.__table__ in Base.metadata.sorted_tables
    True
    """

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


def SessionLocal() -> Session:  # noqa: N802 - the name of FastAPI's tutorial
    """Return a new session for plain code; you commit and close it.

    Examples
    --------
    >>> from sqlalchemy import text
    >>> with SessionLocal() as session, session.begin():
    ...     session.execute(text("SELECT 1")).scalar_one()
    1
    """
    return db.sync.sessionmaker()


def AsyncSessionLocal() -> AsyncSession:  # noqa: N802
    """Return a new session for async code; you commit and close it."""
    return db.sessionmaker()


def ensure_database_schema() -> None:
    """Bring the tables up to date, by the migrations.

    Safe to call at any time and from several processes at once: only one of them works.

    Raises
    ------
    dbscope.MigrationError
        A revision failed, or newer code has migrated the database already.
    dbscope.DatabaseUnavailable
        It cannot be reached.

    Examples
    --------
    >>> ensure_database_schema()
    >>> migrations.status().pending
    ()
    """
    migrations.upgrade("heads")
