"""Read-only scopes and blocks: we refuse to write before it is sent, and so does the database."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, select, text, update
from sqlalchemy.ext.asyncio import create_async_engine

from dbscope import AttributeMismatch, ReadOnlyViolation, TransactionRequired
from tests.worlds import Both, Item, World, insert, is_postgresql, needs_plain_reads

pytestmark = pytest.mark.worlds(places=["scope"])


class Trouble(Exception):
    """Something that the application raises."""


def prepared(world: World, body: Callable[[Both], Any], **scope: Any) -> None:
    """Run the body in a scope, when there is one item."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
        world.statements.clear()
        with db.scope(**scope):
            body(db)

    world.play(story)


@needs_plain_reads
def test_reads_autocommit_and_hold_no_connection(world: World) -> None:
    """Nothing but the statement is sent, and the connection is given back with its rows."""

    def body(db: Both) -> None:
        found = db.scalars(select(Item)).all()
        assert db.get_by_pk(Item, 1) is found[0]
        assert db.stats()["pool_checked_out"] == 0
        assert not db.in_transaction()

    prepared(world, body, readonly=True)
    assert world.sent() == ["SELECT"]


WRITES: dict[str, Callable[[Both], Any]] = {
    "a statement": lambda db: db.execute(update(Item).values(name="b")),
    "a text": lambda db: db.execute(text("UPDATE item SET name = 'b'")),
    "a flush": lambda db: insert(db, "b"),
    "a bulk insert": lambda db: (
        db.session.run_sync(lambda session: session.bulk_insert_mappings(Item, [{"name": "b"}]))
        if db.is_async
        else db.session.bulk_insert_mappings(Item, [{"name": "b"}])
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_write_is_refused_before_it_is_sent(world: World, write: Any) -> None:
    """E8: nothing is begun and nothing broken by it."""

    def body(db: Both) -> None:
        with pytest.raises(ReadOnlyViolation, match=r"scope opened at .* is read-only"):
            write(db)
        db.session.expunge_all()
        assert world.sent() == []
        assert db.scalar(select(Item.name)) == "a"

    prepared(world, body, readonly=True)
    assert world.items() == ["a"]


def test_what_is_pending_at_the_end_is_not_passed_over(world: World) -> None:
    """An object that was added would be lost in silence otherwise."""
    with pytest.raises(ReadOnlyViolation, match=r"read-only, and its session has a new Item\."):
        prepared(world, lambda db: db.session.add(Item(name="b")), readonly=True)
    assert world.items() == ["a"]


def test_what_is_pending_is_named_without_its_values(world: World) -> None:
    """No line of the application is in the traceback of a flush at the end."""

    def body(db: Both) -> None:
        (found,) = db.scalars(select(Item)).all()
        found.name = "secret"
        db.session.add_all([Item(name="secret"), Item(name="secret")])

    with pytest.raises(ReadOnlyViolation) as raised:
        prepared(world, body, readonly=True)
    named = "its session has a new Item, a changed Item (name)."
    assert named in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_statement_in_a_read_only_scope_names_nothing(world: World) -> None:
    """Its line is in the traceback."""
    with pytest.raises(ReadOnlyViolation, match=r"is read-only\. "):
        prepared(world, lambda db: db.execute(update(Item).values(name="b")), readonly=True)


with_engines = pytest.mark.parametrize("engine", ["its own", "given"])


def with_engine(world: World, engine: str) -> None:
    """Let the database have an engine that the application has made, or one of its own."""
    if engine == "given":
        create = create_async_engine if world.is_async else create_engine
        options = {"pool_size": 1, "max_overflow": 0}
        world.database = type(world.database)(engine=create(world.url, **options))


@with_engines
@pytest.mark.parametrize("readonly", ["scope", "block"])
def test_what_we_do_not_see_the_database_refuses(world: World, readonly: str, engine: str) -> None:
    """A statement that looks like a SELECT, or goes around the session."""
    with_engine(world, engine)

    def sneak(db: Both) -> None:
        def write(session: Any) -> None:
            session.connection().exec_driver_sql("INSERT INTO item (name) VALUES ('b')")

        with pytest.raises(ReadOnlyViolation, match="is read-only"):
            db.session.run_sync(write) if db.is_async else write(db.session)
        db.session.rollback() if readonly == "scope" else db.set_rollback()

    def in_block(db: Both) -> None:
        with db.atomic(readonly=True):
            sneak(db)

    if readonly == "scope":
        prepared(world, sneak, readonly=True)
    else:
        prepared(world, in_block, atomic=False)
    assert world.items() == ["a"]


@with_engines
def test_nothing_of_it_stays_in_the_pool(world: World, engine: str) -> None:
    """After an error, too, the next one that has the connection may write."""
    with_engine(world, engine)

    def story(db: Both) -> None:
        for number in range(8):
            with pytest.raises(Trouble), db.scope(readonly=True):
                db.execute(select(Item)).all()
                raise Trouble
            with db.scope(atomic=False), db.atomic(readonly=True):
                db.execute(select(Item)).all()
            with db.scope():
                insert(db, f"number {number}")

    world.play(story)
    assert len(world.items()) == 8


def test_a_unit_without_a_statement_takes_no_connection(world: World) -> None:
    """E13: nor does a block."""

    def story(db: Both) -> None:
        with db.scope(readonly=True), db.atomic():
            assert db.session is not None
        with db.scope(atomic=False), db.atomic(readonly=True):
            pass
        assert db.stats()["transactions"] == 0
        assert db.stats()["pool_checked_out"] == 0

    world.play(story)
    assert world.sent() == []


def test_a_block_inside_reads_one_snapshot_at_a_time(world: World) -> None:
    """A plain block joins: a transaction that cannot write; one that wants to write is refused."""

    def body(db: Both) -> None:
        with db.atomic():
            assert db.in_transaction()
            with pytest.raises(ReadOnlyViolation, match=r"opened at"):
                db.execute(update(Item).values(name="b"))
            assert db.scalar(select(Item.name)) == "a"
        with pytest.raises(AttributeMismatch, match="for writing"), db.atomic(readonly=False):
            pytest.fail("it was let in")
        with db.atomic(readonly=True):
            assert db.scalar(select(Item.name)) == "a"

    prepared(world, body, readonly=True)
    assert world.sent() == ["BEGIN", "SELECT", "COMMIT"] * 2


def test_all_statements_of_a_block_have_one_connection(world: World) -> None:
    """E7: whichever engine it is from."""

    def story(db: Both) -> None:
        for scope, block in (({"readonly": True}, {}), ({"atomic": False}, {"readonly": True})):
            with db.scope(**scope), db.atomic(**block):
                for _ in range(3):
                    db.execute(select(Item)).all()
                    assert db.stats()["pool_checked_out"] == 1

    world.play(story)
    assert world.sent() == ["BEGIN", "SELECT", "SELECT", "SELECT", "COMMIT"] * 2


def test_readers_do_not_wait_for_the_writer(world: World) -> None:
    """On SQLite a read-only block begins without the lock that writers queue for."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            with db.scope(readonly=True):
                assert db.scalar(select(Item.name)) is None
            with db.scope(atomic=False), db.atomic(readonly=True):
                assert db.scalar(select(Item.name)) is None

    world.play(story)


@pytest.mark.parametrize("scope", [{"atomic": False}, {"readonly": True}])
def test_a_lock_outside_of_a_transaction_is_an_error_when_run(world: World, scope: Any) -> None:
    """E9: it would be gone with the statement. To build it is none."""
    statement = select(Item).with_for_update()

    def body(db: Both) -> None:
        with pytest.raises((TransactionRequired, ReadOnlyViolation)):
            db.execute(statement)
        assert world.sent() == []
        if "atomic" in scope:
            with db.atomic():
                assert db.scalars(statement).one().name == "a"

    prepared(world, body, **scope)


def test_a_lock_cannot_be_taken_in_a_block_that_only_reads(world: World) -> None:
    """It is for writing."""

    def body(db: Both) -> None:
        with pytest.raises(ReadOnlyViolation), db.atomic(readonly=True):
            db.execute(select(Item).with_for_update())

    prepared(world, body, atomic=False)


# -- who asks for a server that can be written to --------------------------------------------------


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
@pytest.mark.parametrize("attrs", ["read-write", "primary", "any", "prefer-standby"])
@pytest.mark.parametrize("where", ["URL", "connect_args", "environment"])
def test_a_read_only_scope_wants_the_same_server(
    world: World, attrs: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drivers would refuse one to which it was said with the login that nothing is written."""
    options: dict[str, Any] = {"connect_args": {}}
    url = make_url(world.url)
    if where == "environment":
        monkeypatch.setenv("PGTARGETSESSIONATTRS", attrs)
    elif where == "URL":
        url = url.update_query_dict({"target_session_attrs": attrs})
    else:
        options["connect_args"] = {"target_session_attrs": attrs}
    world.database = type(world.database)(url, engine_options=options)

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
        with db.scope(readonly=True):
            assert db.scalar(select(Item.name)) == "a"
            assert db.scalar(text("SELECT current_setting('transaction_read_only')")) == "on"
        with db.scope(readonly=True), db.atomic():
            assert db.scalar(text("SELECT current_setting('transaction_read_only')")) == "on"
        with db.scope():
            assert db.scalar(text("SHOW transaction_read_only")) == "off"

    world.play(story)
