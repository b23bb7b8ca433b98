"""A decorator above that of the route is passed over, so the application does not start."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from dbscope import AsyncDatabase, ConfigurationError, Database
from tests.asgi import ask
from tests.scopes.stage import Trouble

pytestmark = pytest.mark.anyio

Db = AsyncDatabase | Database


async def work() -> None: ...


def plain_work() -> None: ...


def fresh(db: Db) -> Callable[..., Any]:
    """Return a function of its own, as each route has one."""

    async def endpoint(request: Any = None) -> None: ...

    def plain(request: Any = None) -> None: ...

    return endpoint if db.is_async else plain


DECORATORS: dict[str, Callable[[Db], Callable[..., Any]]] = {
    "atomic": lambda db: db.atomic,
    "atomic(retry)": lambda db: db.atomic(retry=2),
    "atomic(never)": lambda db: db.atomic(propagation="never"),
    "scope": lambda db: db.scope,
    "durable": lambda db: db.durable,
    "transaction_required": lambda db: db.transaction_required,
    "transaction_required()": lambda db: db.transaction_required(),
}


def on_app(app: FastAPI, function: Any, decorate: Any) -> None:
    decorate(app.get("/")(function))


def on_router(app: FastAPI, function: Any, decorate: Any) -> None:
    router = APIRouter()
    decorate(router.get("/")(function))
    app.include_router(router)


def on_router_included_before(app: FastAPI, function: Any, decorate: Any) -> None:
    inner, outer = APIRouter(), APIRouter()
    outer.include_router(inner)
    app.include_router(outer)
    decorate(inner.get("/")(function))


def on_mounted(app: FastAPI, function: Any, decorate: Any) -> None:
    mounted = FastAPI()
    app.mount("/mounted", mounted)
    decorate(mounted.get("/")(function))


def on_websocket(app: FastAPI, function: Any, decorate: Any) -> None:
    decorate(app.websocket("/")(function))


def on_handler(app: FastAPI, function: Any, decorate: Any) -> None:
    decorate(app.exception_handler(Trouble)(function))


PLACES = [
    on_app,
    on_router,
    on_router_included_before,
    on_mounted,
    on_websocket,
    on_handler,
]


async def refused_start(app: Any) -> str:
    """Start the application, and return what is said."""

    async def nothing(*args: Any) -> Any:
        return {"type": "lifespan.startup"}

    with pytest.raises(ConfigurationError) as raised:
        await app({"type": "lifespan", "app": app, "state": {}}, nothing, nothing)
    return str(raised.value)


async def refused(app: Any) -> str:
    """Start the application, and ask it; return what is said each time."""
    told = await refused_start(app)
    for _ in range(2):
        answer = await ask(app, "GET", "/")
        assert isinstance(answer.error, ConfigurationError)
        assert str(answer.error) == told
    return told


@pytest.mark.parametrize("kind", [AsyncDatabase, Database])
@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("place", PLACES)
async def test_it_is_told_when_the_application_starts(
    kind: Any, decorator: str, place: Any
) -> None:
    """And with each request, where nobody has let it start. The function is named."""
    db, app = kind("sqlite://"), FastAPI()
    db.install(app)
    function = fresh(db)
    place(app, function, DECORATORS[decorator](db))
    told = await refused(app)
    assert f"`@db.{decorator.partition('(')[0]}` stands above" in told
    assert f"{__file__}:{function.__code__.co_firstlineno}" in told


NOT_ENTERED: dict[str, Callable[[Db], Any]] = {
    "atomic": lambda db: db.atomic,
    "atomic()": lambda db: db.atomic(durable=True),
    "scope": lambda db: db.scope,
    "scope()": lambda db: db.scope(),
    "savepoint": lambda db: db.savepoint,
    "once()": lambda db: db.once("key"),
}


def depend_directly(app: FastAPI, dependency: Any) -> None:
    def endpoint(given: Annotated[Any, Depends(dependency)]) -> None: ...

    app.get("/")(endpoint)


def depend_for_the_route(app: FastAPI, dependency: Any) -> None:
    app.get("/", dependencies=[Depends(dependency)])(lambda: None)


def depend_for_the_router(app: FastAPI, dependency: Any) -> None:
    router = APIRouter(dependencies=[Depends(dependency)])
    router.get("/")(lambda: None)
    app.include_router(router)


def depend_below_another(app: FastAPI, dependency: Any) -> None:
    def other(given: Annotated[Any, Depends(dependency)]) -> None: ...

    app.get("/", dependencies=[Depends(other)])(lambda: None)


WAYS = [
    depend_directly,
    depend_for_the_route,
    depend_for_the_router,
    depend_below_another,
]


@pytest.mark.parametrize("kind", [AsyncDatabase, Database])
@pytest.mark.parametrize("what", NOT_ENTERED)
@pytest.mark.parametrize("depend", WAYS)
async def test_a_block_is_no_dependency(kind: Any, what: str, depend: Any) -> None:
    """FastAPI would call it, take its arguments from the request, and not enter it."""
    db, app = kind("sqlite://"), FastAPI()
    db.install(app)
    depend(app, NOT_ENTERED[what](db))
    told = await refused(app)
    assert f"The route '/' has `Depends(db.{what})`" in told
    assert "Depends(db.get_session)" in told


async def test_so_it_is_in_starlette() -> None:
    """Which has a list of routes."""
    db = AsyncDatabase("sqlite://")
    function = fresh(db)
    app = Starlette(routes=[Mount("/", routes=[Route("/", function)])])
    db.atomic(function)
    db.install(app)
    assert "`@db.atomic`" in await refused(app)


async def test_so_it_is_for_a_middleware() -> None:
    """Which may be outside of ours, and so is told of at the start only."""
    db, app = AsyncDatabase("sqlite://"), FastAPI()

    @db.atomic
    @app.middleware("http")
    async def users_own(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    db.install(app)
    assert "the middleware" in await refused_start(app)


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("kind", [AsyncDatabase, Database])
async def test_a_function_of_a_route_may_serve_elsewhere_too(kind: Any, decorator: str) -> None:
    """`nightly = db.scope(function)` beside its route: nothing of that is passed over."""
    db, app = kind("sqlite://"), FastAPI()
    db.install(app)
    function = work if db.is_async else plain_work
    app.get("/")(function)
    nightly = DECORATORS[decorator](db)(function)
    assert (await ask(app, "GET", "/")).status == 200
    del nightly


async def test_below_it_works_and_marks_work_either_way() -> None:
    """What a route calls is what our decorator has made; a mark stays on the function itself."""
    db, app = AsyncDatabase("sqlite://"), FastAPI()
    db.install(app)
    app.get("/")(db.atomic(fresh(db)))
    db.readonly(app.get("/marked")(fresh(db)))
    db.atomic(work)  # elsewhere
    assert (await ask(app, "GET", "/")).status == 200
