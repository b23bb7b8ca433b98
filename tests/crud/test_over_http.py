"""Rows that belong together, created and changed by the requests of a client, on every database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy.util import await_only

from tests.asgi import ask
from tests.crud.relations import Box, Record
from tests.crud.shop import BothCRUD
from tests.worlds import Both, World

pytestmark = pytest.mark.worlds(places=["scope"])


class LabelIn(BaseModel):
    id: int | None = None
    name: str | None = None


class MeasureIn(BaseModel):
    width: int | None = None
    height: int | None = None


class SleeveIn(BaseModel):
    id: int | None = None
    colour: str | None = None
    width: int | None = None
    height: int | None = None


class RecordIn(BaseModel):
    title: str | None = None
    labels: list[LabelIn] | None = None
    sleeve: SleeveIn | None = None


class SlotIn(BaseModel):
    place: int
    holds: str | None = None
    room: str | None = None
    number: int | None = None


class BoxIn(BaseModel):
    room: str
    number: int
    colour: str | None = None
    slots: list[SlotIn] = []


class BoxChange(BaseModel):
    colour: str | None = None
    slots: list[SlotIn] = []


def application(db: Both) -> FastAPI:
    """Return one whose endpoints do nothing but what `CRUD` does."""
    app = FastAPI()
    records, boxes = BothCRUD(db, Record), BothCRUD(db, Box)

    def route(method: str, path: str, endpoint: Callable[..., Any]) -> None:
        app.add_api_route(path, db.awaitable(endpoint), methods=[method])

    def create_record(data: RecordIn) -> int:
        return records.create(data).id

    def change_record(pk: int, data: RecordIn) -> None:
        records.update(records.get_or_404(pk), data)

    def delete_record(pk: int) -> None:
        records.delete(records.get_or_404(pk))

    def create_box(data: BoxIn) -> None:
        boxes.create(data)

    def change_box(room: str, number: int, data: BoxChange) -> None:
        boxes.update(boxes.get_or_404((room, number)), data)

    route("POST", "/records", create_record)
    route("PATCH", "/records/{pk}", change_record)
    route("DELETE", "/records/{pk}", delete_record)
    route("POST", "/boxes", create_box)
    route("PATCH", "/boxes/{room}/{number}", change_box)
    db.real.install(app)
    return app


Request = tuple[str, str, Any]


def requests(library: World, *wanted: Request) -> list[tuple[int | None, Any]]:
    """Send the requests, one after the other; return the status and the body of each answer."""

    def story(db: Both) -> list[tuple[int | None, Any]]:
        return list(answers(application(db), wanted))

    world = World(library.driver, "request", library.url, library.look, library.database)
    return world.play(story)


def answers(app: FastAPI, wanted: Iterable[Request]) -> Iterable[tuple[int | None, Any]]:
    """Give the answers."""
    headers = [(b"content-type", b"application/json")]
    for method, path, data in wanted:
        body = [json.dumps(data).encode()]
        answer = await_only(ask(app, method, path, body=body, headers=headers))
        assert answer.error is None
        yield answer.status, json.loads(answer.body)


def done(library: World, *wanted: Request) -> None:
    """Send requests of which each has to succeed."""
    got = requests(library, *wanted)
    assert [status for status, _ in got] == [200] * len(wanted), got


def rows(library: World, columns: str, table: str) -> list[tuple[Any, ...]]:
    """Return what another client sees."""
    return [tuple(row) for row in library.look.rows(f"SELECT {columns} FROM {table} ORDER BY 1, 2")]


NEW = {"title": "a", "labels": [{"name": "jazz"}, {"name": "old"}]}


def labelled(library: World) -> list[tuple[Any, ...]]:
    """Return which record has which label."""
    return rows(library, "record_id, label_id", "lib_record_label")


def test_many_to_many_is_made_shared_changed_and_left(library: World) -> None:
    """A label that is named by its key is that label; what is left out loses only the link."""
    done(
        library,
        ("POST", "/records", NEW),
        ("POST", "/records", {"title": "b", "labels": [{"id": 1}, {"name": "new"}]}),
    )
    assert labelled(library) == [(1, 1), (1, 2), (2, 1), (2, 3)]
    done(library, ("PATCH", "/records/1", {"labels": [{"id": 2, "name": "older"}, {"id": 3}]}))
    assert labelled(library) == [(1, 2), (1, 3), (2, 1), (2, 3)]
    done(library, ("PATCH", "/records/2", {"labels": []}), ("DELETE", "/records/1", None))
    assert labelled(library) == []
    assert rows(library, "id, name", "lib_label") == [(1, "jazz"), (2, "older"), (3, "new")]


WHITE = {"colour": "white", "width": 30, "height": 31}


def sleeves(library: World) -> list[tuple[Any, ...]]:
    """Return the sleeves, and whose they are."""
    return rows(library, "record_id, colour, width, height", "lib_sleeve")


def test_one_to_one_is_made_changed_replaced_and_ended(library: World) -> None:
    """Without a key the one that is there is meant: there is no second; null ends it."""
    done(library, ("POST", "/records", {"title": "a", "sleeve": WHITE}))
    assert sleeves(library) == [(1, "white", 30, 31)]
    done(library, ("PATCH", "/records/1", {"sleeve": {"colour": "red"}}))
    assert sleeves(library) == [(1, "red", 30, 31)]
    done(library, ("PATCH", "/records/1", {"title": "b"}))
    assert sleeves(library) == [(1, "red", 30, 31)]
    done(library, ("PATCH", "/records/1", {"sleeve": None}))
    assert sleeves(library) == []
    done(library, ("PATCH", "/records/1", {"sleeve": WHITE}), ("DELETE", "/records/1", None))
    assert sleeves(library) == rows(library, "id, title", "lib_record") == []


BOX = {
    "room": "x",
    "number": 1,
    "colour": "red",
    "slots": [{"place": n, "holds": "-"} for n in (1, 2)],
}


def slots(library: World) -> list[tuple[Any, ...]]:
    """Return what is where."""
    return rows(library, "number, place, holds, room", "lib_slot")


def test_keys_of_several_columns_name_a_row_and_its_children(library: World) -> None:
    """A child gets its parent's part of the key; by the whole of it, it is the one that is held."""
    done(library, ("POST", "/boxes", BOX), ("POST", "/boxes", {**BOX, "number": 2}))
    assert slots(library) == [(n, place, "-", "x") for n in (1, 2) for place in (1, 2)]
    change = [{"room": "x", "number": 1, "place": 2, "holds": "b"}, {"place": 3, "holds": "c"}]
    done(library, ("PATCH", "/boxes/x/1", {"slots": change}))
    assert slots(library)[:2] == [(1, 2, "b", "x"), (1, 3, "c", "x")]
    assert slots(library)[2:] == [(2, 1, "-", "x"), (2, 2, "-", "x")]
    assert requests(library, ("PATCH", "/boxes/y/1", {}))[0][0] == 404


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (("POST", "/records", {"title": None}), "title"),
        (("POST", "/records", {**NEW, "labels": [{"name": None}]}), "labels[0].name"),
        (("POST", "/records", {**NEW, "sleeve": {**WHITE, "colour": None}}), "sleeve.colour"),
        (("POST", "/records", {**NEW, "sleeve": {**WHITE, "width": None}}), "sleeve.width"),
        (("PATCH", "/records/1", {"title": None}), "title"),
        (("PATCH", "/records/1", {"labels": None}), "labels"),
        (("PATCH", "/records/1", {"labels": [{"id": 1, "name": None}]}), "labels[0].name"),
        (("PATCH", "/records/1", {"sleeve": {"colour": None}}), "sleeve.colour"),
        (("POST", "/boxes", {**BOX, "number": 2, "colour": None}), "colour"),
        (("PATCH", "/boxes/x/1", {"slots": [{"place": 1, "holds": None}]}), "slots[0].holds"),
        (("PATCH", "/boxes/x/1", {"colour": None}), "colour"),
    ],
    ids=str,
)
def test_null_for_what_cannot_be_null_is_a_422_that_names_the_field(
    library: World, request_: Request, field: str
) -> None:
    """Not a 500 of the database's; and nothing of the request is stored."""
    done(library, ("POST", "/records", {**NEW, "sleeve": WHITE}), ("POST", "/boxes", BOX))
    before = [rows(library, "id, title", "lib_record"), labelled(library), slots(library)]
    assert requests(library, request_) == [(422, {"detail": f"{field} must not be null."})]
    assert before == [rows(library, "id, title", "lib_record"), labelled(library), slots(library)]
    assert sleeves(library) == [(1, "white", 30, 31)]
