"""GraphQL: fields that are resolved at once, and errors that are answered with 200."""

import json
from typing import Any

import pytest
import strawberry
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import greenlet_spawn
from strawberry.extensions import SchemaExtension
from strawberry.fastapi import GraphQLRouter

from dbscope import ConcurrentUse, UnexpectedRollback
from tests.asgi import Answer, ask
from tests.scopes.stage import ALONE, ASYNC, INSIDE, OUTSIDE, Stage, Trouble, eventually, only
from tests.worlds import Item

pytestmark = pytest.mark.anyio

EVERYWHERE = (ALONE, OUTSIDE, INSIDE)


def serve(stage: Stage, *, own: bool = False, extended: bool = True) -> None:
    """Serve a schema: with a scope for each resolver, or in that of the request."""
    db = stage.real

    def scoped(function: Any) -> Any:
        return db.scope(function) if own else function

    async def number(self: Any) -> int:
        return int(await db.scalar(select(func.count(Item.id))))

    async def add(self: Any, name: str) -> int:
        await greenlet_spawn(stage.insert, name)
        db.background(db.scope(greenlet), name)
        return 1

    async def greenlet(name: str) -> None:
        await greenlet_spawn(stage.insert, f"behind {name}")

    async def fail(self: Any) -> int | None:
        raise Trouble

    class Extension(SchemaExtension):
        def on_operation(self) -> Any:
            yield
            if self.execution_context.result is None or self.execution_context.result.errors:
                db.doom()

    members = {"number": strawberry.field(scoped(number))}
    query = strawberry.type(type("Query", (), members))
    changing = {
        name: strawberry.mutation(scoped(each)) for name, each in (("add", add), ("fail", fail))
    }
    mutation = strawberry.type(type("Mutation", (), changing))
    schema = strawberry.Schema(query, mutation, extensions=[Extension] if extended else [])
    stage.app.include_router(GraphQLRouter(schema), prefix="/graphql")
    stage.wire()


async def asked(stage: Stage, query: str) -> tuple[Answer, Any]:
    """Send an operation; return the answer, and what is in it."""
    body = json.dumps({"query": query}).encode()
    kind = [(b"content-type", b"application/json")]
    answer = await ask(stage.app, "POST", "/graphql", body=[body], headers=kind)
    return answer, json.loads(answer.body) if answer.status == 200 else None


ALL = "{ a: number b: number c: number }"


@only(*ASYNC, places=EVERYWHERE)
async def test_fields_that_are_resolved_at_once_have_a_scope_each(stage: Stage) -> None:
    """So all of them are answered."""
    serve(stage, own=True)
    answer, told = await asked(stage, ALL)
    assert (answer.status, told) == (200, {"data": {"a": 0, "b": 0, "c": 0}})
    assert stage.real.stats()["concurrent_uses"] == 0


@only("psycopg async", "asyncpg", "asyncmy", "aiosqlite", places=(ALONE, INSIDE))
async def test_on_one_session_the_second_is_refused(stage: Stage) -> None:
    """And told what to do: it is no wrong answer."""
    serve(stage, extended=False)
    answer, told = await asked(stage, ALL)
    if answer.status == 200:
        assert "async with db.scope()" in told["errors"][0]["message"]
    else:
        assert isinstance(answer.error, UnexpectedRollback)
        assert isinstance(answer.error.__cause__, ConcurrentUse)


@only(*ASYNC, places=EVERYWHERE)
async def test_mutations_are_one_transaction_and_an_error_rolls_it_back(stage: Stage) -> None:
    """Though it is answered with 200; what was left behind it is forgotten, too."""
    serve(stage)
    answer, told = await asked(stage, 'mutation { add(name: "a") fail }')
    assert (answer.status, answer.error) == (200, None)
    assert told["errors"]
    assert stage.world.items() == []
    answer, told = await asked(stage, 'mutation { x: add(name: "a") y: add(name: "b") }')
    assert (answer.status, told) == (200, {"data": {"x": 1, "y": 1}})
    await eventually(lambda: stage.world.items() == ["a", "b", "behind a", "behind b"])


@only(*ASYNC, places=EVERYWHERE)
async def test_an_error_of_the_database_rolls_back_in_any_case(stage: Stage) -> None:
    """GraphQL swallows it, and COMMIT does not; with the extension the answer stays."""
    serve(stage, extended=False)
    answer, _ = await asked(stage, 'mutation { x: add(name: "a") y: add(name: "a") }')
    assert answer.status == 500
    assert isinstance(answer.error, UnexpectedRollback)
    assert isinstance(answer.error.__cause__, IntegrityError)
    assert stage.world.items() == []


@only(*ASYNC, places=EVERYWHERE)
async def test_mutations_with_a_scope_each_are_stored_each(stage: Stage) -> None:
    """One that fails takes only its own."""
    serve(stage, own=True, extended=False)
    answer, told = await asked(stage, 'mutation { x: add(name: "a") fail y: add(name: "b") }')
    assert (answer.status, told["data"]) == (200, {"x": 1, "fail": None, "y": 1})
    assert len(told["errors"]) == 1
    await eventually(lambda: stage.world.items() == ["a", "b", "behind a", "behind b"])


@only(*ASYNC, places=(ALONE, INSIDE))
async def test_a_query_that_is_none_stores_nothing(stage: Stage) -> None:
    """It is refused before anything is executed."""
    serve(stage)
    answer, told = await asked(stage, "mutation { nothing }")
    assert answer.status == 200
    assert told["errors"]
    assert stage.world.items() == []
