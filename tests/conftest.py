"""What every test has: the --long switch, one event loop, and a guard against blocking it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from blockbuster import BlockBuster, BlockingError

import dbscope
from tests.support.look import Onlooker

pytest_plugins = ["tests.support.postgres", "tests.support.proxy", "tests.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer --long, for the tests that take minutes."""
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked long, unless --long is given."""
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; runs only with --long"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio: SQLAlchemy knows no other loop."""
    return "asyncio"


@pytest.fixture(scope="session")
def blockbuster() -> BlockBuster:
    """Watch for blocking calls below a frame of the library; made once, since making it is slow."""
    watch = BlockBuster(scanned_modules=["dbscope"])
    for name in ("os.path.abspath", "os.getcwd"):  # SQLAlchemy resolves a file's name, once
        watch.functions.pop(name, None)
    for function in watch.functions.values():
        function.can_block_in("/logging/__init__.py", {"emit"})
        function.can_block_predicate = either(function.can_block_predicate, is_not_ours)
    return watch


OURS = str(Path(dbscope.__file__).parent)
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
    """Tell whether an application inside our middleware blocks, or a driver while it connects."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(OURS):
            return False
        if name != __file__ and any(part in name for part in THEIRS):
            return True
        frame = frame.f_back
    return True


@pytest.fixture(autouse=True)
def blocking_calls(
    blockbuster: BlockBuster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[BlockingError]]:
    """Fail the test in which the library blocks the event loop, even where the error is caught.

    A test that blocks on purpose asks for this fixture and clears the list.
    """
    seen: list[BlockingError] = []

    class Recorded(BlockingError):
        # The library catches errors to roll back, so raising alone would not fail the test.
        def __init__(self, function: str) -> None:
            super().__init__(function)
            seen.append(self)

    monkeypatch.setattr("blockbuster.blockbuster.BlockingError", Recorded)
    blockbuster.activate()
    try:
        yield seen
    finally:
        blockbuster.deactivate()
    if seen:
        pytest.fail(f"the library blocked the event loop: {', '.join(map(str, seen))}")


@pytest.fixture
def look() -> Iterator[Callable[[str], Onlooker]]:
    """Make onlookers, ``look(url)``, which are closed after the test."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(Onlooker(url))
