"""What every test has: the --long switch, one event loop, and a guard against blocking it."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
from blockbuster import BlockBuster, BlockingError

import dbscope
from dbscope.engine import lost_answer
from tests.support.look import Onlooker
from tests.support.processes import LONG, short_folder
from tests.worlds import MISSING

pytest_plugins = [
    "tests.support.browser",
    "tests.support.postgres",
    "tests.support.mysql",
    "tests.support.proxy",
    "tests.support.certificates",
    "tests.support.forgetting",
    "tests.support.order",
    "tests.support.quick",
    "tests.support.watched",
    "tests.fixtures",
]


# When garbage is collected, by `gc.set_threshold`: a test makes thousands of objects that live
# as long as it does, and Python's own thresholds look at all of them several times.
SELDOM = (10_000, 20, 20)

collect_ignore = ["compliance"]  # SQLAlchemy's suite, which runs on its own


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer --long, for the tests that take minutes."""
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")


def pytest_configure(config: pytest.Config) -> None:
    """Tell it to the programs that tests start, too."""
    if config.getoption("--long"):
        os.environ[LONG] = "1"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the tests themselves from the garbage collector: it would look at all of them, again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*SELDOM)
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a world has not; skip what is marked long, unless --long is given."""
    elsewhere = {item: None for item in items if is_elsewhere(item)}
    config.hook.pytest_deselected(items=list(elsewhere))
    items[:] = [item for item in items if item not in elsewhere]
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; runs only with --long"))
        elif item.get_closest_marker("ci") and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason="runs only where CI is set, or with --long"))


def is_elsewhere(item: pytest.Item) -> bool:
    """Tell whether a test needs what its world does not have."""
    world = item.callspec.params.get("database_url") if hasattr(item, "callspec") else None
    needed = [name for mark in item.iter_markers("needs") for name in mark.args]
    return any(world in MISSING[name] for name in needed)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder as `tmp_path`, in which the names of sockets are short enough."""
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _spool() -> Iterator[None]:
    """Let the processes that are watched find each other in a folder of this run."""
    with short_folder() as folder:
        os.environ["DBSCOPE_WATCH_DIR"] = str(folder)
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio: SQLAlchemy knows no other loop."""
    return "asyncio"


class Blocked(BlockingError):
    """A blocking call that is noted as well as raised: the library catches errors to roll back."""

    seen: ClassVar[list[BlockingError]] = []

    def __init__(self, function: str) -> None:
        super().__init__(function)
        self.seen.append(self)


@pytest.fixture(scope="session")
def blockbuster() -> Iterator[BlockBuster]:
    """Watch for blocking calls below a frame of the library; all the time, as to begin is slow."""
    watch = BlockBuster(scanned_modules=["dbscope"])
    for name in ("os.path.abspath", "os.getcwd"):  # SQLAlchemy resolves a file's name, once
        watch.functions.pop(name, None)
    for function in watch.functions.values():
        function.can_block_in("/logging/__init__.py", {"emit"})
        function.can_block_predicate = either(function.can_block_predicate, is_not_ours)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blockbuster.blockbuster.BlockingError", Blocked)
        watch.activate()
        yield watch
        watch.deactivate()


OURS = str(Path(dbscope.__file__).parent)
ON_THE_LOOP = tuple(str(Path(OURS, *part)) for part in (["sqlite_inline"], ["backends", "sqlite"]))
THEIRS = (
    str(Path(__file__).parent),
    "/starlette/routing.py",
    "/fastapi/routing.py",
    "/asyncpg/",
    "/logging/",  # where it goes is the choice of the application
)


def either(*predicates: Callable[..., bool]) -> Callable[..., bool]:
    """Return what is true when one of them is."""
    return lambda *args, **kwargs: any(predicate(*args, **kwargs) for predicate in predicates)


def is_not_ours(*args: object, **kwargs: object) -> bool:
    """Tell whether an application inside our middleware blocks, or a driver as it means to."""
    frame = sys._getframe(1)
    while frame is not None:
        answer = may_block(frame.f_code.co_filename)
        if answer is not None:
            return answer
        frame = frame.f_back
    return True


@cache
def may_block(file: str) -> bool | None:
    """Tell whether what is called from a file may block; None: who calls the file decides."""
    if file.startswith(ON_THE_LOOP):  # where it is known how long a statement takes
        return True
    if file.startswith(OURS):
        return False
    return True if file != __file__ and any(part in file for part in THEIRS) else None


@pytest.fixture(autouse=True)
def blocking_calls(blockbuster: BlockBuster) -> Iterator[list[BlockingError]]:
    """Fail the test in which the library blocks the event loop, even where the error is caught.

    A test that blocks on purpose asks for this fixture and clears the list.
    """
    Blocked.seen.clear()
    yield Blocked.seen
    if Blocked.seen:
        pytest.fail(f"the library blocked the event loop: {', '.join(map(str, Blocked.seen))}")


@pytest.fixture(autouse=True)
def slow_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """One on a machine that stalls answers a ROLLBACK later than the library would wait.

    And whoever waits there for the turn to write to SQLite is served later, too.
    """
    monkeypatch.setattr("dbscope.engine.factory.FINISH_TIMEOUT", 30)
    monkeypatch.setattr("dbscope.backends.sqlite.recipe.BUSY_TIMEOUT", 50)


@pytest.fixture
def late_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """What became of a COMMIT, where a machine that stalls comes to it later than we would ask."""
    monkeypatch.setattr(lost_answer, "PAUSES", (*lost_answer.PAUSES, *[0.5] * 40))


@pytest.fixture
def look() -> Iterator[Callable[[str], Onlooker]]:
    """Make onlookers, ``look(url)``, which are closed after the test."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(Onlooker(url))
