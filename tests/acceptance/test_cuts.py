"""R7: the wire is cut before and after COMMIT, with `verify_commit` and without it."""

import asyncio
from collections import Counter
from time import perf_counter
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from dbscope import AsyncDatabase
from dbscope.backends.postgresql import verify_commit
from tests.acceptance.checks import PATIENCE
from tests.acceptance.drivers import ON_POSTGRESQL
from tests.asgi import ask
from tests.support.look import Onlooker
from tests.support.proxy import Proxy

PATIENT = (*verify_commit.PAUSES, *[0.5] * 40)  # seconds
VERIFIED = {driver: [False, True] for driver in ON_POSTGRESQL} | {"asyncmy": [False]}
STATUS = {  # (mode, verify_commit): of every answer
    ("cut_before_commit", False): 500,  # TransactionOutcomeUnknown
    ("cut_after_commit", False): 500,
    ("cut_before_commit", True): 503,  # nothing was stored; try again
    ("cut_after_commit", True): 201,  # it was stored
}


@pytest.fixture(autouse=True)
def late_outcome(times: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on a machine that stalls comes to it later than we would ask."""
    monkeypatch.setattr(verify_commit, "PAUSES", times(PATIENT, verify_commit.PAUSES))


def application(db: AsyncDatabase, seen: Counter[str]) -> FastAPI:
    """Return an application that stores a name for each request."""
    app = FastAPI()
    db.install(app)

    @app.post("/{name}", status_code=201)
    async def store(name: str) -> None:
        await db.execute(text("INSERT INTO cut (name) VALUES (:name)"), {"name": name})
        db.on_commit(lambda: seen.update([name]))

    return app


@pytest.mark.parametrize(
    ("url", "case"),
    [
        (driver, case)
        for driver, verified in VERIFIED.items()
        for case in STATUS
        if case[1] in verified
    ],
    ids=str,
    indirect=["url"],
)
@pytest.mark.timeout(600)
def test_no_answer_lies_about_a_cut_commit(
    url: str, case: tuple[str, bool], proxy: Proxy, times: Any, figures: Any
) -> None:
    """Never a 2xx for what is not stored; verified, each outcome is known, and its hook has run."""
    mode, verified = case
    db = AsyncDatabase(proxy.through(url), verify_commit=verified)
    hooks: Counter[str] = Counter()
    app, took, count = application(db, hooks), [], times(25, 1000)

    async def main() -> Counter[int]:
        statuses: Counter[int] = Counter()
        for number in range(count):
            await db.ping()
            getattr(proxy, mode)()
            begun = perf_counter()
            answer = await ask(app, "POST", f"/{number}")
            took.append(perf_counter() - begun)
            statuses[answer.status or 500] += 1
        await db.dispose()
        return statuses

    with Onlooker(url) as look:
        look.execute("DROP TABLE IF EXISTS cut")
        look.execute("CREATE TABLE cut (name text)")
        statuses = asyncio.run(main())
        stored = {name for (name,) in look.rows("SELECT name FROM cut")}
        assert look.idle_in_transaction(PATIENCE) == []
    assert statuses == {STATUS[mode, verified]: count}
    assert len(stored) == (count if mode == "cut_after_commit" else 0)
    assert set(hooks) == (stored if verified else set())
    took.sort()
    median, late = took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000
    told = f"{dict(statuses)}, {median:.1f} / {late:.1f} ms"
    figures(f"R7 {mode} x {count}, verify={verified}: {told}")
