"""The two classes: which model they are for, how alike they are, and what comes with them."""

import inspect
import subprocess
import sys
from typing import Any, Generic, TypeVar

import pytest
from sqlalchemy.orm import DeclarativeBase

from dbscope import AsyncDatabase, ConfigurationError, Database
from dbscope.crud import CRUD, AsyncCRUD, BadCursor, BadRequest, NotFound
from tests.crud.shop import Base, Product, ProductCreate, ProductUpdate, Seat

PLAIN, ASYNC = Database("sqlite://"), AsyncDatabase("sqlite://")

Model = TypeVar("Model", bound=DeclarativeBase)
First = TypeVar("First")


class Products(CRUD[Product, ProductCreate, ProductUpdate]):
    sortable = ("name",)


class Own(AsyncCRUD[Model, ProductCreate, ProductUpdate]):
    """A base class of the application."""


class Turned(CRUD[Model, First], Generic[First, Model]):
    """Another, whose arguments are in another order."""


class OwnSeats(Own[Seat]):
    pass


class TurnedSeats(Turned[ProductCreate, Seat]):
    pass


class MoreSeats(TurnedSeats):
    pass


class Named(OwnSeats, Generic[First]):
    pass


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (Products, Product),
        (OwnSeats, Seat),
        (TurnedSeats, Seat),
        (MoreSeats, Seat),
        (Named[int], Seat),
    ],
)
def test_the_model_comes_from_the_type_argument(kind: Any, model: type) -> None:
    """However many classes are between."""
    db = ASYNC if issubclass(getattr(kind, "__origin__", kind), AsyncCRUD) else PLAIN
    assert kind(db).model is model


class NoModel(CRUD):  # type: ignore[type-arg]
    pass


class NotMapped(CRUD[ProductCreate]):
    pass


class Abstract(CRUD[Base]):
    pass


@pytest.mark.parametrize("kind", [NoModel, NotMapped, Abstract, CRUD[Product], Turned])
def test_a_class_without_a_model_is_refused(kind: Any) -> None:
    """When it is made, with the line to write."""
    with pytest.raises(ConfigurationError, match=r"has to say its model, .* `\[Item, ItemCreate"):
        kind(PLAIN)


@pytest.mark.parametrize("db", [ASYNC, None, Product, PLAIN.sessionmaker])
def test_a_crud_is_for_one_kind_of_database(db: Any) -> None:
    """The other kind would give what nobody awaits."""
    with pytest.raises(ConfigurationError, match="Products works on a Database, not on"):
        Products(db)
    with pytest.raises(ConfigurationError, match="OwnSeats works on a AsyncDatabase, not on"):
        OwnSeats(PLAIN)  # type: ignore[arg-type]


def methods(kind: type) -> dict[str, Any]:
    """Return the public methods."""
    return {
        name: member
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_have_the_same_methods() -> None:
    """Names, parameters, defaults and types; the ones are awaited, and the others never are."""
    plain, async_ = methods(CRUD), methods(AsyncCRUD)
    assert plain.keys() == async_.keys()
    for name, method in plain.items():
        assert inspect.signature(method) == inspect.signature(async_[name]), name
        assert inspect.iscoroutinefunction(async_[name]), name
        assert not inspect.iscoroutinefunction(method), name


def test_neither_commits() -> None:
    """The names are the agreed ones."""
    names = {"get", "get_or_404", "list", "create", "update", "delete", "upsert", "exists", "count"}
    names |= {"create_many", "upsert_many"}
    assert methods(CRUD).keys() == names


def python(code: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_nothing_else_is_imported_with_it() -> None:
    """No framework and no driver; and the library itself does not import it."""
    code = "import sys, {0}; print([name for name in {1} if name in sys.modules])"
    strange = ["fastapi", "starlette", "pydantic", "psycopg", "asyncpg"]
    strange += [f"sqlalchemy.dialects.{name}" for name in ("mysql", "postgresql", "sqlite")]
    assert python(code.format("dbscope.crud", strange)) == "[]"
    assert python(code.format("dbscope", ["dbscope.crud"])) == "[]"


def test_without_starlette_the_errors_are_pythons() -> None:
    """A job has nobody to answer to."""
    code = """if True:
        import sys
        from dbscope.crud.refusals import BadCursor, NotFound
        from dbscope.crud.refusing import refusal
        print(type(refusal(NotFound, "")) is NotFound, type(refusal(BadCursor, "")) is BadCursor)
        print("starlette" in sys.modules)"""
    assert python(code).split() == ["True", "True", "False"]


def test_the_errors_have_families() -> None:
    """Whoever catches a ValueError has the cursors, too."""
    assert issubclass(BadCursor, BadRequest)
    assert issubclass(BadRequest, ValueError)
    assert issubclass(NotFound, LookupError)
