"""Keeps nothing of tests that are over.

What is kept is looked at by each collection of garbage to come: of thousands of tests that was most
of the time of those that collect.
"""

import gc
from functools import partial
from itertools import count

import pytest
from fastapi.dependencies import models

OFTEN = 300  # tests
ended = count(1)
# FastAPI's, of endpoints, which know their application and its database.
CACHES = [each for each in vars(models).values() if hasattr(each, "cache_clear")]


@pytest.hookimpl(trylast=True)
def pytest_fixture_post_finalizer(fixturedef, request) -> None:
    """Let what a fixture was made of forget it: one of the session would know all that ever were.

    pytest leaves there how each of them is ended, with its test.
    """
    for name in fixturedef.argnames:
        around = request._fixture_defs.get(name)
        if around is None:
            continue
        ends = around._finalizers
        ends[:] = [each for each in ends if not is_end_of(each, fixturedef, request)]


def is_end_of(finalizer: object, fixturedef, request) -> bool:
    """Tell whether it would end a fixture, as it was made for this request."""
    return (
        isinstance(finalizer, partial)
        and getattr(finalizer.func, "__self__", None) is fixturedef
        and finalizer.keywords.get("request") is request
    )


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Empty the caches; now and then, let the garbage collector look no more at what is left."""
    for cache in CACHES:
        cache.cache_clear()
    if next(ended) % OFTEN == 0:
        gc.collect()
        gc.freeze()
