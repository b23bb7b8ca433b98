"""What a column does by itself is done by an upsert too, on every database."""

from typing import Any

import pytest

from dbscope import ConfigurationError
from dbscope.crud import NullRefused
from tests.crud.library import Author, Desk, Member
from tests.crud.shop import BothCRUD
from tests.worlds import MYSQL, Both, World, is_sqlite

in_scope = pytest.mark.worlds(places=["scope"])
with_partial_indexes = pytest.mark.worlds(drivers=lambda name: name not in MYSQL, places=["scope"])


@in_scope
def test_defaults_and_onupdate_may_look_at_the_row(library: World) -> None:
    """A callable that takes the context is given one; one that takes nothing, and SQL, go too."""

    def body(db: Both) -> None:
        members = BothCRUD(db, Member)
        ada = members.upsert({"email": "a@b", "name": "Ada"}, on=["email"])
        assert (ada.greeting, ada.farewell, ada.plain, ada.sql) == ("hello a@b", None, None, None)
        same = members.upsert({"email": "a@b", "name": "Ada L"}, on=["email"])
        assert same is ada
        assert (ada.greeting, ada.farewell) == ("hello a@b", "bye Ada L a@b")
        assert (ada.plain, ada.sql, ada.name) == ("called", "SQL", "Ada L")

    library.run(body)


@in_scope
def test_what_is_given_is_not_asked_for(library: World) -> None:
    """The callable of a column that has a value is not called."""

    def body(db: Both) -> None:
        members = BothCRUD(db, Member)
        for _ in range(2):  # there is no name, so `farewell` would fail
            ada = members.upsert({"email": "a@b", "farewell": "mine"}, on=["email"])
        assert (ada.farewell, ada.plain) == ("mine", "called")

    library.run(body)


@in_scope
def test_each_row_of_many_has_its_own(library: World) -> None:
    """A context is of one row, though the statement is of many."""

    def body(db: Both) -> None:
        members = BothCRUD(db, Member)
        for names in (["a", "b"], ["c", "d"]):
            rows = [{"email": f"{n}@x", "name": name} for n, name in enumerate(names)]
            stored = members.upsert_many(rows, on=["email"])
        assert [row.farewell for row in stored] == ["bye c 0@x", "bye d 1@x"]
        assert [row.greeting for row in stored] == ["hello 0@x", "hello 1@x"]

    library.run(body)


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_what_a_trigger_sets_is_read(library: World) -> None:
    """`server_onupdate`: RETURNING of SQLite is older than its triggers."""
    library.look.execute(
        "CREATE TRIGGER t AFTER UPDATE OF name ON lib_member BEGIN"
        " UPDATE lib_member SET server = 'trigger' WHERE id = new.id; END"
    )

    def body(db: Both) -> None:
        members = BothCRUD(db, Member)
        members.upsert({"email": "a@b", "name": "Ada"}, on=["email"])
        ada = members.upsert({"email": "a@b", "name": "Ada L"}, on=["email"])
        assert ada.server == "trigger"

    library.run(body)


@in_scope
def test_the_models_validators_are_run(library: World) -> None:
    """As by `create` and `update`: what they return is stored, what they raise is raised."""

    def body(db: Both) -> None:
        members = BothCRUD(db, Member)
        ada = members.create({"email": "A@B"})
        assert members.upsert({"email": "A@b", "name": "Ada"}, on=["email"]) is ada
        assert (ada.email, ada.name, members.count()) == ("a@b", "Ada", 1)
        library.statements.clear()
        with pytest.raises(ValueError, match="email has no @"):
            members.upsert({"email": "a"}, on=["email"])
        assert library.statements == []

    library.run(body)


@with_partial_indexes
def test_a_unique_index_may_be_partial(library: World) -> None:
    """`where=` is its condition; rows beside it do not count."""

    def body(db: Both) -> None:
        desks, only = BothCRUD(db, Desk), Desk.state == "active"
        desks.create({"place": "window", "state": "old"})
        new = desks.upsert({"place": "window", "guest": "Ada"}, on=["place"], where=only)
        same = desks.upsert({"place": "window", "guest": "Bob"}, on=["place"], where=only)
        assert same is new
        assert (new.guest, desks.count()) == ("Bob", 2)
        both = [{"place": "window", "guest": "Eve"}, {"place": "door", "guest": "Joe"}]
        assert desks.upsert_many(both, on=["place"], where=only)[0] is new
        library.statements.clear()
        with pytest.raises(TypeError, match="not have columns of lib_author"):
            desks.upsert({"place": "window"}, on=["place"], where=Author.name == "active")
        assert library.statements == []

    library.run(body)


@pytest.mark.worlds(drivers=lambda name: name in MYSQL, places=["scope"])
def test_where_there_are_no_partial_indexes_none_is_named(library: World) -> None:
    """MySQL and MariaDB would take the row that is the same without the condition."""

    def body(db: Both) -> None:
        with pytest.raises(ConfigurationError, match="partial index, and MySQL has none"):
            BothCRUD(db, Desk).upsert(
                {"place": "window"}, on=["place"], where=Desk.state == "active"
            )

    library.run(body)


@pytest.mark.parametrize("value", [None, "explicit"])
@in_scope
def test_null_is_refused_or_the_default_comes(library: World, value: Any) -> None:
    """In a change it is refused, by the name of the field, before anything is sent."""

    def body(db: Both) -> None:
        members = BothCRUD(db, Member)
        library.statements.clear()
        for refused in ({"level": None}, {"greeting": None}):
            with pytest.raises(NullRefused, match=f"{next(iter(refused))} must not be null"):
                members.upsert({"email": "a@b", "name": value, **refused}, on=["email"])
        assert library.statements == []

    library.run(body)
