"""What decorators of ours share: which functions they take, and that a route calls what they make.

The decorators of routes return the function as it is, and their router keeps it. Whatever stands
above `@app.get` is therefore passed over, unless it only leaves a mark (`db.readonly`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from dbscope.errors import ConfigurationError
from dbscope.scopes.entering import Bound, Entered
from dbscope.unit import callsite
from dbscope.unit.hooks import is_async

F = TypeVar("F", bound=Callable[..., Any])
AsyncF = TypeVar("AsyncF", bound=Callable[..., Coroutine[Any, Any, Any]])

_decorated: WeakKeyDictionary[Callable[..., Any], str] = WeakKeyDictionary()
_places: WeakKeyDictionary[Callable[..., Any], Place] = WeakKeyDictionary()


class Place(Enum):
    """Where what a decorator has made can be called."""

    OUTERMOST = "in no transaction"
    ANYWHERE = "anywhere, for it opens a scope of its own"


def wraps(function: F, what: str, place: Place | None = None) -> Callable[[Callable[..., Any]], F]:
    """Do what `functools.wraps` does, and note what the function was decorated with.

    Args:
        function: that is decorated.
        what: the name of the decorator.
        place: where the result can be called, if the decorator says so.
    """
    with suppress(TypeError):  # an object that can be called, and not referred to weakly
        _decorated[function] = what

    def noted(wrapper: Callable[..., Any]) -> F:
        if place is not None:
            _places[wrapper] = place
        return cast("F", functools.wraps(function)(wrapper))

    return noted


def around_async(
    function: AsyncF, block: Entered, opened: Callable[[], Any], place: Place | None = None
) -> AsyncF:
    """Decorate an `async def` function.

    Args:
        function: that is decorated.
        block: whose decorator it is.
        opened: what is entered for each call.
        place: where the result can be called, if not everywhere.
    """
    must_be_async(function, block.called)
    block.is_used = True

    @wraps(function, block.called, place)
    async def inside(*args: Any, **kwargs: Any) -> Any:
        async with opened():
            return await function(*args, **kwargs)

    return inside


def around(function: F, block: Entered, opened: Callable[[], Any], place: Place | None = None) -> F:
    """Decorate a plain function; the arguments are those of `around_async`."""
    must_be_plain(function, block.called)
    block.is_used = True

    @wraps(function, block.called, place)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with opened():
            return function(*args, **kwargs)

    return inside


def must_be_outermost(function: Any) -> bool:
    """Tell whether a function refuses to be called in a transaction, by a decorator of ours."""
    place = None
    while function is not None and place is None:
        with suppress(TypeError):
            place = _places.get(function)
        function = _inside(function)
    return place is Place.OUTERMOST


def _inside(function: Any) -> Any:
    """Return the function in a partial, a method or a wrapper, None if there is none."""
    if isinstance(function, functools.partial):
        return cast("Any", function).func
    return getattr(function, "__func__", None) or getattr(function, "__wrapped__", None)


def check_routes(app: Any) -> None:
    """Look whether the routes of an application go past a decorator, or do not enter a block.

    Raises:
        ConfigurationError: one of them does so; what it does would be no transaction.
    """
    _check_dependencies(app)
    for registered, function in _functions_of(app):
        what = _decorated.get(function) if inspect.isfunction(function) else None
        if what is not None and not _is_there_as_it_is(function):
            raise ConfigurationError(
                f"`@db.{what}` stands above the decorator of the {registered}, which has the "
                f"function at {callsite.of(function)} without it, so that it would do nothing. "
                f"Write `@db.{what}` below the other one, next to the function."
            )


def _check_dependencies(app: Any) -> None:
    for route in routes_below(getattr(app, "routes", ())):
        for call in _dependencies_of(getattr(route, "dependant", None)):
            if isinstance(call, (Bound, Entered)):
                name = call.func.__name__ if isinstance(call, Bound) else f"{call.called}()"
                raise ConfigurationError(
                    f"The route {route.path!r} has `Depends(db.{name})`: a dependency is called, "
                    "and not entered, so that it would do nothing. Write the decorator next to the "
                    "endpoint; the session is `Depends(db.get_session)`."
                )


def _dependencies_of(dependant: Any) -> Iterator[Any]:
    for each in getattr(dependant, "dependencies", ()):
        yield each.call
        yield from _dependencies_of(each)


def _is_there_as_it_is(function: Any) -> bool:
    """Tell whether the function's name is still its own: `nightly = db.scope(route_function)`."""
    return function.__globals__.get(function.__name__) is function


def _functions_of(app: Any) -> Iterator[tuple[str, Any]]:
    for route in routes_below(getattr(app, "routes", ())):
        yield f"route {getattr(route, 'path', None)!r}", getattr(route, "endpoint", None)
    for each in getattr(app, "user_middleware", ()):
        yield "middleware", each.kwargs.get("dispatch")
    for error, handler in getattr(app, "exception_handlers", {}).items():
        yield f"exception handler of {getattr(error, '__name__', error)}", handler


def routes_below(routes: Iterable[Any]) -> Iterator[Any]:
    """Give the routes of a router, with those of routers in it, and of mounted applications."""
    for route in routes:
        yield route
        # FastAPI keeps an included router as it is, so that what it gets later is served too.
        inner: Any = getattr(route, "original_router", route)
        yield from routes_below(getattr(inner, "routes", None) or ())


def must_be_async(function: Any, what: str) -> None:
    """Raise TypeError unless calling the function gives a coroutine."""
    _refuse_generators(function, what)
    if not is_async(function):
        raise TypeError(
            f"@{what} of an AsyncDatabase decorates async functions, and {function!r} is a plain "
            f"one; use `db.sync.{what}`."
        )


def must_be_plain(function: Any, what: str) -> None:
    """Raise TypeError unless the function is an ordinary one."""
    _refuse_generators(function, what)
    if is_async(function):
        raise TypeError(
            f"@{what} of a Database decorates plain functions, and {function!r} is async; "
            f"use `db.async_.{what}`."
        )


# Whose decorators make something else of a function: above them there is no function any more.
TASKS = {
    "celery": "task",
    "dramatiq": "actor",
    "faststream": "subscriber",
    "procrastinate": "task",
    "taskiq": "task",
}


def _refuse_tasks(task: Any, what: str) -> None:
    """Refuse what a system of jobs has made of a function."""
    for base in type(task).__mro__:
        system = base.__module__.partition(".")[0]
        if system in TASKS and not inspect.isclass(task):
            raise ConfigurationError(
                f"`@db.{what}` stands above `@...{TASKS[system]}` of {system}, which has the "
                f"function without it: jobs would run outside of it. Swap the two lines, so that "
                f"`@db.{what}` is next to the function."
            )


def _refuse_generators(function: Any, what: str) -> None:
    _refuse_tasks(function, what)
    if not callable(function):
        raise TypeError(f"@{what} decorates functions, not {function!r}")
    target = inspect.unwrap(function)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise TypeError(
            f"@{what} cannot decorate the generator {function!r}: its body runs after the call "
            f"has returned. Use `with db.{what}(): ...` inside it."
        )
