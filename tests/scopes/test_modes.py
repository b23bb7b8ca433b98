"""What a request is to a database: one transaction, autocommit or read-only, and who says so."""

from typing import Any

import pytest
from fastapi import APIRouter, Depends
from sqlalchemy import select

from dbscope import Database, ReadOnlyViolation, TransactionRequired, unsafe_methods
from tests.scopes.stage import ASYNC, Stage, handle, only
from tests.worlds import Item, needs_plain_reads

pytestmark = pytest.mark.anyio


@only()
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
async def test_unsafe_methods_are_atomic_and_safe_ones_autocommit(
    stage: Stage, method: str
) -> None:
    """`atomic_requests=unsafe_methods`; RFC 9110, 9.2.1."""
    stage.remake(atomic_requests=unsafe_methods)
    seen_inside: list[bool] = []
    stage.route(lambda: seen_inside.append(stage.real.in_transaction()), method=method)
    assert (await stage.ask(method)).status == 200
    assert seen_inside == [method not in ("GET", "HEAD", "OPTIONS")]


@only()
async def test_a_predicate_is_asked_with_the_scope_and_a_route_has_the_last_word(
    stage: Stage,
) -> None:
    """The setting of the database is for those routes that say nothing."""
    stage.remake(atomic_requests=lambda scope: scope["path"].startswith("/atomic"))
    app, db = stage.app, stage.real

    def in_transaction() -> bool:
        return bool(db.in_transaction())

    def another() -> bool:
        return bool(db.in_transaction())

    app.get("/atomic")(in_transaction)
    app.get("/other")(in_transaction)
    app.get("/atomic/not")(db.non_atomic_requests(another))
    answers = [
        (await stage.ask("GET", path)).answer.body for path in ("/atomic", "/other", "/atomic/not")
    ]
    assert answers == [b"true", b"false", b"false"]


def readonly_routes(stage: Stage) -> list[str]:
    """Make the same endpoint read-only in every way there is; return the paths."""
    app, db = stage.app, stage.real

    def body() -> Any:
        return stage.db.scalars(select(Item.name)).all()

    def way(path: str, app: Any = app, **kw: Any) -> Any:
        return stage.route(body, path, "GET", **kw)

    db.readonly(way("/marked"))
    way("/depends", dependencies=[Depends(db.readonly)])

    def deeper(_: None = Depends(db.readonly)) -> None:
        """Depend on it."""

    way("/deeper", dependencies=[Depends(deeper)])
    router = APIRouter(dependencies=[Depends(db.readonly)])
    endpoint = way("/twice")
    router.add_api_route("/router", endpoint, methods=["GET"])
    app.include_router(router)
    return ["/marked", "/depends", "/deeper", "/router"]


@only()
@needs_plain_reads
async def test_a_route_is_read_only_by_decorator_or_dependency(stage: Stage) -> None:
    """In whatever depth it is said; a read is the statement alone."""
    paths = readonly_routes(stage)
    for path in paths:
        await stage.ask("GET", path)
        stage.world.statements.clear()
        assert (await stage.ask("GET", path)).status == 200, path
        assert stage.world.sent() == ["SELECT"], path


@only()
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_writing_in_a_read_only_request_is_an_error(stage: Stage, method: str) -> None:
    """The application's own handler may answer it; nothing is sent."""
    handle(stage.app, ReadOnlyViolation, 405)
    stage.route(
        lambda: stage.insert("a"), method=method, dependencies=[Depends(stage.real.readonly)]
    )
    seen = await stage.ask(method)
    assert (seen.status, seen.items) == (405, [])
    assert stage.world.sent() == []


@only()
async def test_the_dependency_says_nothing_to_openapi(stage: Stage) -> None:
    """It has no parameters, so a client is asked for none."""
    stage.route(lambda: None, "/", "GET", dependencies=[Depends(stage.real.readonly)])
    (operation,) = stage.app.openapi()["paths"]["/"].values()
    assert "parameters" not in operation


@pytest.mark.parametrize("wrong", ["a path", 7])
def test_what_is_no_function_cannot_be_decorated(wrong: Any) -> None:
    """It is refused where it is written."""
    with pytest.raises(TypeError, match="a route's function is decorated"):
        Database("sqlite://").readonly(wrong)


@only("inline")
async def test_the_dependency_takes_no_thread(stage: Stage, monkeypatch: Any) -> None:
    """FastAPI takes it for a coroutine function, and awaits it."""
    monkeypatch.setattr("fastapi.dependencies.utils.run_in_threadpool", None)
    stage.route(lambda: None, "/", "GET", dependencies=[Depends(stage.real.readonly)])
    assert (await stage.ask("GET")).status == 200


# -- results that are read in pieces ---------------------------------------------------------------

PIECES = [{"yield_per": 10}, {"stream_results": True}]


@only()
@pytest.mark.parametrize("options", PIECES, ids=lambda options: next(iter(options)))
@pytest.mark.parametrize("given", ["statement", "call"])
@pytest.mark.parametrize("mode", ["autocommit", "readonly"])
async def test_a_result_in_pieces_needs_a_transaction(
    stage: Stage, options: dict[str, Any], given: str, mode: str
) -> None:
    """Its cursor would be gone with the statement; so nothing is sent, on any database."""
    query, how = select(Item.name), {"execution_options": options}
    if given == "statement":
        query, how = query.execution_options(**options), {}

    def body() -> str:
        begun = len(stage.world.statements)
        with pytest.raises(TransactionRequired, match="pieces"):
            stage.db.session.execute(query, **how)
        assert len(stage.world.statements) == begun
        return "".join(stage.db.scalars(select(Item.name)))

    endpoint = stage.route(body, method="GET")
    if mode == "autocommit":
        stage.real.non_atomic_requests(endpoint)
    else:
        stage.real.readonly(endpoint)
    stage.world.look.execute("INSERT INTO item (name) VALUES ('a')")
    seen = await stage.ask("GET")
    assert (seen.status, seen.answer.body) == (200, b'"a"')


@only(*ASYNC)
@pytest.mark.parametrize("mode", ["autocommit", "readonly"])
async def test_a_stream_in_a_block_is_read_in_pieces(stage: Stage, mode: str) -> None:
    """What the error says works: in a block there is a transaction that holds the cursor."""
    db = stage.real

    @stage.app.get("/")
    async def endpoint() -> list[str]:
        with pytest.raises(TransactionRequired):
            await db.session.stream(select(Item.name))
        async with db.atomic():
            return [name async for name in await db.session.stream_scalars(select(Item.name))]

    {"autocommit": db.non_atomic_requests, "readonly": db.readonly}[mode](endpoint)
    stage.world.look.execute("INSERT INTO item (name) VALUES ('a')")
    assert (await stage.ask("GET")).answer.body == b'["a"]'
