"""The doors by which a transaction begins, and what the server was told of each transaction.

Triggers write down what holds in the transaction of each row that is written, so that even what
only COMMIT sends leaves the server's own word about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ForeignKey, String, create_engine, func, select, text
from sqlalchemy import insert as core_insert
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    make_transient_to_detached,
    mapped_column,
    relationship,
)

from tests.worlds import Both, World

TEXT = String(100)
OLD = 1_000_000  # the id of the row that is there
PLAIN = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}


class Base(DeclarativeBase):
    """Tables with triggers, which only these tests have."""


class Note(Base):
    __tablename__ = "door_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(TEXT)


class Author(Base):
    __tablename__ = "door_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship()


class Book(Base):
    __tablename__ = "door_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("door_author.id"))


class Told(Base):
    """What the server says of the transaction in which a row was written."""

    __tablename__ = "door_told"
    id: Mapped[int] = mapped_column(primary_key=True)
    isolation: Mapped[str] = mapped_column(TEXT)
    seconds: Mapped[float]
    tenant: Mapped[str] = mapped_column(TEXT)


POSTGRES = """
CREATE FUNCTION tell() RETURNS trigger AS $$ BEGIN
  INSERT INTO door_told (isolation, seconds, tenant) SELECT
    upper(current_setting('transaction_isolation')),
    extract(epoch FROM current_setting('statement_timeout')::interval),
    coalesce(current_setting('app.tenant', true), '');
  RETURN NULL;
END $$ LANGUAGE plpgsql
"""
POSTGRES_TRIGGER = (
    "CREATE TRIGGER tell_{table} AFTER INSERT OR UPDATE OR DELETE ON {table}"
    " FOR EACH ROW EXECUTE FUNCTION tell()"
)
MYSQL_TRIGGER = (
    "CREATE TRIGGER tell_{table}_{kind} AFTER {kind} ON {table} FOR EACH ROW"
    " INSERT INTO door_told (isolation, seconds, tenant)"
    " SELECT REPLACE(@@SESSION.tx_isolation, '-', ' '), @@SESSION.max_statement_time, ''"
)


_made: set[str | None] = set()


def open_doors(world: World) -> None:
    """Let the database of a world have the tables and their triggers; on a server made once."""
    if world.look.url.database not in _made:
        make_tables(world)
    for table in ("door_book", "door_author", "door_note"):
        world.look.execute(f"DELETE FROM {table}")
    world.look.execute("INSERT INTO door_note VALUES (?, 'old')", OLD)
    world.look.execute("INSERT INTO door_author VALUES (?)", OLD)
    world.look.execute("DELETE FROM door_told")  # of these rows


def make_tables(world: World) -> None:
    """Create the tables; a server tells there what it was told, SQLite has nothing to tell."""
    url = world.look.url
    engine = create_engine(url.set(drivername=PLAIN[url.get_backend_name()]))
    Base.metadata.create_all(engine)
    engine.dispose()
    tables = [table for table in Base.metadata.tables if table != "door_told"]
    if world.look.is_mysql:
        for table in tables:
            for kind in ("INSERT", "UPDATE", "DELETE"):
                world.look.execute(MYSQL_TRIGGER.format(table=table, kind=kind))
    elif not world.is_sqlite:
        world.look.execute(POSTGRES)
        for table in tables:
            world.look.execute(POSTGRES_TRIGGER.format(table=table))
    _made.add(url.database)


def told(world: World, column: str) -> set[Any]:
    """Return what the server says of all transactions that have written, and forget it."""
    found = {value for (value,) in world.look.rows(f"SELECT {column} FROM door_told")}
    world.look.execute("DELETE FROM door_told")
    return found


def plain(db: Both) -> Session:
    """Return the plain session, which for async is the one inside."""
    session: Any = db.session
    return session.real.sync_session if db.is_async else session


def persistent(db: Both) -> Note:
    """Return an object of the session for a row that is there; nothing was sent for it."""
    note = Note(id=OLD, text="old")
    make_transient_to_detached(note)
    db.session.add(note)
    return note


# -- what can come first in a transaction ----------------------------------------------------------


def statement(db: Both) -> None:
    db.execute(core_insert(Note).values(text="a"))


def words(db: Both) -> None:
    db.execute(text("INSERT INTO door_note (text) VALUES ('a')"))


def read_then_add(db: Both) -> None:
    db.scalar(select(func.count()).select_from(Note))
    db.session.add(Note(text="a"))


def get_then_change(db: Both) -> None:
    db.session.get(Note, OLD).text = "b"


def add(db: Both) -> None:
    db.session.add(Note(text="a"))


def autoflush(db: Both) -> None:
    add(db)
    db.scalars(select(Note)).all()


def flush(db: Both) -> None:
    add(db)
    db.session.flush()


def change(db: Both) -> None:
    persistent(db).text = "b"


def delete(db: Both) -> None:
    db.session.delete(persistent(db))


def merge(db: Both) -> None:
    db.session.merge(Note(id=OLD, text="b"))


def cascade(db: Both) -> None:
    db.session.add(Author(books=[Book(), Book()]))


def bulk(db: Both) -> None:
    plain(db).bulk_save_objects([Note(text="a"), Note(text="b")])


def bulk_mappings(db: Both) -> None:
    plain(db).bulk_insert_mappings(Note, [{"text": "a"}, {"text": "b"}])


def query_update(db: Both) -> None:
    plain(db).query(Note).filter_by(id=OLD).update({"text": "b"})


def savepoint(db: Both) -> None:
    with db.savepoint():
        add(db)


def connection(db: Both) -> None:
    plain(db).connection().execute(core_insert(Note).values(text="a"))


def connection_of_transaction(db: Both) -> None:
    """By the object that SQLAlchemy has for the transaction, past the session."""
    session = plain(db)
    note = Note()
    session.add(note)
    session.expunge(note)  # it has autobegun by that
    transaction: Any = session.get_transaction()
    transaction.connection(Note).execute(core_insert(Note).values(text="a"))


Act = Callable[[Both], None]
# In autocommit too, each is a transaction that ends by itself.
ACTS: list[Act] = [
    statement,
    words,
    read_then_add,
    get_then_change,
    add,
    autoflush,
    flush,
    change,
    delete,
    merge,
    cascade,
    bulk,
    bulk_mappings,
    query_update,
]
IN_A_TRANSACTION: list[Act] = [*ACTS, savepoint, connection, connection_of_transaction]
