"""`db.once`: what was done under a key is not done again, and its row is there if the work is."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from dbscope import KeyReused, ScopeClosed, TransactionRequired
from dbscope.once import metadata, once_table, purge
from tests.once.conftest import keys
from tests.worlds import MYSQL, Base, Both, Item, World, insert, is_postgresql, is_sqlite, waiting

only_scope = pytest.mark.worlds(places=["scope"])
pytestmark = pytest.mark.usefixtures("once")


class Trouble(Exception):
    """What goes wrong."""


def do_once(db: Both, key: str, name: str, **how: Any) -> Any:
    """Store an item, once; return what came of it."""
    with db.once(key, **how) as once:
        if not once.done:
            once.result = {"id": insert(db, name).id}
    return once.result


def test_a_later_call_returns_what_came_of_the_first(world: World) -> None:
    """And does nothing; in the same transaction, and in another one."""

    def body(db: Both) -> None:
        first = do_once(db, "k", "a")
        assert do_once(db, "k", "b") == first == {"id": 1}

    world.run(body)
    world.run(body)
    assert world.items() == ["a"]
    assert keys(world.look) == ["k"]


def test_a_decorated_function_is_called_once_for_each_key(world: World) -> None:
    """The key is a function of the arguments, or the same for all."""

    def store(name: str) -> list[str]:
        insert(db_of_world[0], name)
        return [name]

    db_of_world: list[Both] = []

    def body(db: Both) -> None:
        db_of_world.append(db)
        by_name = db.decorated(db.real.once(lambda name: f"item:{name}"), store)
        assert [by_name(name) for name in "aba"] == [["a"], ["b"], ["a"]]
        by_text = db.decorated(db.real.once("nightly"), store)
        assert [by_text(name) for name in "cd"] == [["c"], ["c"]]

    world.run(body)
    assert world.items() == ["a", "b", "c"]


def test_an_attempt_that_fails_leaves_no_trace(world: World) -> None:
    """The next one does the work."""

    def body(db: Both) -> None:
        with pytest.raises(Trouble), db.once("k"):
            insert(db, "a")
            raise Trouble
        assert do_once(db, "k", "b") == {"id": world.is_sqlite or 2}

    world.run(body)
    assert world.items() == ["b"]


@pytest.mark.parametrize("how", ["exception", "set_rollback", "doom"])
def test_the_row_shares_the_fate_of_what_is_around_it(world: World, how: str) -> None:
    """However that is rolled back."""

    def body(db: Both) -> None:
        do_once(db, "k", "a")
        if how == "exception":
            raise Trouble
        db.doom() if how == "doom" else db.set_rollback(True)

    if how == "exception":
        with pytest.raises((Trouble, ExceptionGroup)):
            world.run(body)
    else:
        world.run(body)
    assert world.items() == keys(world.look) == []


def test_the_row_is_not_there_before_commit(world: World) -> None:
    """It is in the transaction of the work, and in no other."""
    seen: list[Any] = []

    def body(db: Both) -> None:
        do_once(db, "k", "a")
        seen.append((world.items(), keys(world.look)))

    world.run(body)
    assert seen == [([], [])]
    assert (world.items(), keys(world.look)) == (["a"], ["k"])


def test_a_savepoint_around_takes_the_row_with_it(world: World) -> None:
    """What was swallowed there is not done, and may be done again."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(Trouble), db.atomic():
            do_once(db, "k", "b")
            raise Trouble
        assert keys(world.look) == []
        do_once(db, "k", "c")

    world.run(body)
    assert world.items() == ["a", "c"]


def test_another_input_under_the_same_key_is_an_error(world: World) -> None:
    """Nothing is done, and what is around may go on."""

    def body(db: Both) -> None:
        do_once(db, "k", "a", fingerprint={"amount": 1})
        with pytest.raises(KeyReused, match="'k' was done at"):
            do_once(db, "k", "b", fingerprint={"amount": 2})
        assert do_once(db, "k", "b", fingerprint={"amount": 1}) == {"id": 1}
        assert do_once(db, "k", "b") == {"id": 1}
        insert(db, "c")

    world.run(body)
    assert world.items() == ["a", "c"]


def at_once(world: World, number: int, body: Callable[[Both, int], Any], **scope: Any) -> list[Any]:
    """Run the body in so many scopes at once, all of which have begun."""

    def story(db: Both) -> list[Any]:
        begun = world.barrier(number)

        def one(each: int) -> Any:
            begun()
            try:
                with db.scope(**scope):
                    return body(db, each)
            except Trouble as error:
                return error

        return world.at_once(*(lambda each=each: one(each) for each in range(number)))

    return world.play(story)


@only_scope
def test_of_several_at_once_one_does_it_and_the_others_wait_and_return_its_result(
    world: World,
) -> None:
    """Whoever it is."""
    results = at_once(world, 5, lambda db, each: do_once(db, "k", f"item {each}"))
    assert len({str(result) for result in results}) == 1
    assert len(world.items()) == 1


@only_scope
def test_when_the_first_fails_one_of_those_who_wait_does_it(world: World) -> None:
    """A deadlock of them, which MariaDB makes of it, is not seen by anybody."""
    tried: list[int] = []

    def body(db: Both, each: int) -> Any:
        with db.once("k") as once:
            if not once.done:
                tried.append(each)
                once.result = {"id": insert(db, f"item {each}").id}
                if len(tried) == 1:
                    raise Trouble
        return once.result

    results = at_once(world, 5, body)
    done = [result for result in results if not isinstance(result, Trouble)]
    assert (len(tried), len(done)) == (2, 4)
    assert done.count(done[0]) == 4
    assert world.items() == [f"item {tried[1]}"]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_whoever_waits_with_isolation_sees_what_was_done(world: World, isolation: str) -> None:
    """PostgreSQL refuses a row that came after the snapshot; the claim is begun anew."""

    def body(db: Both, each: int) -> Any:
        with db.atomic(isolation=isolation):
            return do_once(db, "k", f"item {each}")

    results = at_once(world, 3, body, atomic=False)
    assert len({str(result) for result in results}) == 1
    assert len(world.items()) == 1


@pytest.mark.worlds(drivers=lambda each: not is_sqlite(each), places=["scope"])
def test_a_transaction_that_has_read_before_sees_what_was_done_meanwhile(world: World) -> None:
    """Also where its snapshot is older than the row, as MySQL's may be."""

    def story(db: Both) -> None:
        with db.scope():
            assert db.scalars(select(Item.name)).all() == []
            with db.scope():
                do_once(db, "k", "a")
            assert do_once(db, "k", "b") == {"id": 1}

    world.play(story)
    assert world.items() == ["a"]


@pytest.mark.worlds(drivers=lambda each: each in MYSQL, places=["scope"])
def test_so_does_one_with_snapshot_isolation(world: World) -> None:
    """MariaDB would end it by error 1020 (`innodb_snapshot_isolation`, on since 11.6.2)."""

    def story(db: Both) -> None:
        with db.scope():
            db.execute(text("SET SESSION innodb_snapshot_isolation = ON"))
            assert db.scalars(select(Item.name)).all() == []
            with db.scope():
                do_once(db, "k", "a")
            assert do_once(db, "k", "b") == {"id": 1}
            db.session.add(Item(name="c"))

    world.play(story)
    assert world.items() == ["a", "c"]


@only_scope
def test_outside_of_any_scope_it_opens_one(world: World) -> None:
    """As `atomic` does, and commits when it is left."""

    def story(db: Both) -> None:
        assert do_once(db, "k", "a") == do_once(db, "k", "b")
        with pytest.raises(TransactionRequired):
            db.doom() if db.current_transaction() else db.set_rollback(True)

    world.play(story)
    assert (world.items(), keys(world.look)) == (["a"], ["k"])


@only_scope
def test_in_autocommit_it_is_a_transaction_of_its_own(world: World) -> None:
    """What comes after it is another one."""

    def story(db: Both) -> None:
        with pytest.raises(Trouble), db.scope(atomic=False):
            do_once(db, "k", "a")
            raise Trouble

    world.play(story)
    assert (world.items(), keys(world.look)) == (["a"], ["k"])


@only_scope
def test_keys_differ_by_every_character(world: World) -> None:
    """MySQL takes "a", "A" and "a " for one, and no database has an index for a long text."""
    different = ["a", "A", "a ", "ä", "a" * 10_000, "a" * 9_999, "🔑", "a\n", "%", "\x01"]

    def body(db: Both) -> None:
        for _ in range(2):
            for number, key in enumerate(different):
                assert do_once(db, key, f"item {number}") == {"id": number + 1}

    world.run(body)
    assert len(world.items()) == len(different)


@only_scope
@pytest.mark.parametrize("result", [{"a": [1, 2.5, None, "ä"]}, "text", 0, "", [], None, True])
def test_a_result_comes_back_as_it_was(world: World, result: Any) -> None:
    """Whatever JSON can hold."""

    def body(db: Both) -> None:
        with db.once("k") as once:
            assert (once.done, once.result) == (False, None)
            once.result = result
        with db.once("k") as once:
            assert (once.done, once.result) == (True, result)
            with pytest.raises(TypeError, match="was done before"):
                once.result = 1

    world.run(body)


@only_scope
@pytest.mark.parametrize("how", ["well", "failed"])
def test_a_result_that_comes_too_late_is_an_error(world: World, how: str) -> None:
    """It would be stored nowhere, and the next call return something else."""

    def body(db: Both) -> None:
        with suppress(Trouble), db.once("k") as once:
            once.result = 1
            if how == "failed":
                raise Trouble
        with pytest.raises(ScopeClosed, match="Assign it inside"):
            once.result = 2
        assert once.result == 1

    world.run(body)


@only_scope
@pytest.mark.parametrize(
    "result",
    [{1: 2}, (1,), object(), timedelta(1), float("nan")],
    ids=lambda value: type(value).__name__,
)
def test_a_result_that_would_come_back_otherwise_is_refused(world: World, result: Any) -> None:
    """At the first call, and not at the second."""

    def body(db: Both) -> None:
        with pytest.raises(TypeError, match="stored as JSON"), db.once("k") as once:
            insert(db, "a")
            once.result = result

    world.run(body)
    assert world.items() == keys(world.look) == []


@only_scope
def test_what_was_kept_for_long_enough_is_done_again(world: World) -> None:
    """By one of those who want it at once."""
    world.run(lambda db: do_once(db, "k", "a", fingerprint="1"))
    world.look.execute("UPDATE dbscope_once SET expires_at = '2001-01-01'")
    results = at_once(world, 3, lambda db, each: do_once(db, "k", f"b{each}", fingerprint="2"))
    assert len({str(result) for result in results}) == 1
    assert len(world.items()) == 2
    assert keys(world.look) == ["k"]


@only_scope
def test_purge_deletes_what_was_kept_for_long_enough(world: World) -> None:
    """In batches, each of which is a transaction."""

    def fill(db: Both) -> None:
        for number in range(7):
            do_once(db, f"k{number}", f"item {number}")

    def story(db: Both) -> list[int]:
        forget = waiting(purge)
        return [forget(db.real, batch=2), forget(db.real)]

    world.run(fill)
    assert len(keys(world.look)) == 7
    names = "('k0', 'k2', 'k3', 'k5', 'k6')"
    column = "`key`" if world.look.is_mysql else "key"
    old = f"SET expires_at = '2001-01-01' WHERE {column} IN {names}"
    world.look.execute(f"UPDATE dbscope_once {old}")
    assert world.play(story) == [5, 0]
    assert keys(world.look) == ["k1", "k4"]


@only_scope
def test_without_the_table_it_says_how_to_make_it(world: World) -> None:
    """On the database's own error."""
    world.look.execute("DROP TABLE dbscope_once")

    def body(db: Both) -> None:
        with pytest.raises(DBAPIError) as raised, db.once("k"):
            pass
        assert "db.ensure_schema(dbscope.once.metadata)" in str(raised.value.__notes__)
        db.doom()

    world.run(body)


@only_scope
def test_the_table_can_be_made_by_ensure_schema_and_be_in_the_applications_metadata(
    world: World,
) -> None:
    """With the same columns, once."""
    world.look.execute("DROP TABLE dbscope_once")
    own = type(Base.metadata)()
    assert once_table(own) is once_table(own) is own.tables["dbscope_once"]

    def story(db: Both) -> None:
        db.ensure_schema(own)
        db.ensure_schema(metadata)
        assert do_once(db, "k", "a") == {"id": 1}

    world.play(story)
    assert keys(world.look) == ["k"]


@only_scope
def test_what_cannot_be_a_key_is_refused(world: World) -> None:
    """Before anything is sent."""
    for key in ("", None, 1):
        with pytest.raises(TypeError, match="key must be a text"):
            world.database.once(key)  # type: ignore[arg-type]
    for keep in (timedelta(), 1, None):
        with pytest.raises(TypeError, match="keep must be a positive timedelta"):
            world.database.once("k", keep=keep)  # type: ignore[arg-type]
    for keep in (timedelta.max, timedelta(days=36_501)):
        with pytest.raises(ValueError, match="at most 36500 days"):
            world.database.once("k", keep=keep)

    def body(db: Both) -> None:
        with pytest.raises(TypeError, match="needs the decorator"), db.once(lambda: "k"):
            pass
        with pytest.raises(TypeError, match="fingerprint must be"), db.once("k", fingerprint={1}):
            pass
        assert db.decorated(db.real.once(lambda: "k"), lambda: 1)() == 1
        with pytest.raises(TypeError, match="a text that is not empty, not 3"):
            db.decorated(db.real.once(lambda: 3), lambda: 1)()
        for key in ("a\0b", "\ud800"):
            with pytest.raises(ValueError, match="not every database can store"), db.once(key):
                pass
            with pytest.raises(ValueError, match="not every database can store"):
                db.decorated(db.real.once(lambda key=key: key), lambda: 1)()

    world.run(body)
    assert keys(world.look) == ["k"]


@only_scope
def test_one_that_is_used_by_several_at_once_is_entered_by_each(world: World) -> None:
    """A decorator makes a block of its own for each call, whoever else is in the middle of one."""
    entered: list[object] = []

    def store(name: str) -> str:
        entered.append(asyncio.current_task() if world.is_async else threading.get_ident())
        return name

    def story(db: Both) -> Any:
        function = db.decorated(db.real.once(lambda name: name), store)
        return world.at_once(*(lambda name=name: function(name) for name in "abc"))

    assert world.play(story) == ["a", "b", "c"]
    assert len(entered) == 3
