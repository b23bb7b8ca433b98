"""R20: `session_settings`, by which PostgreSQL's row level security knows who is asking."""

import secrets
from contextvars import ContextVar
from typing import Any

import pytest
from sqlalchemy import text

from dbscope import ConfigurationError
from tests.worlds import Both, World, is_postgresql, is_sqlite

pytestmark = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])

tenant: ContextVar[str | None] = ContextVar("tenant", default=None)
TOLD = text("SELECT current_setting('app.tenant', true)")

HOSTILE = [
    "'; DROP TABLE item; --",
    "' OR '1'='1",
    "\\'; SELECT pg_sleep(10); --",
    "$$; DROP TABLE item; $$",
    "%(name)s :name $1 ?",
    "ä\u202e\U0001f600",
    "app.tenant",
    "",
    " ",
    "x" * 10_000,
]


def with_tenant(world: World) -> None:
    """Make the database tell who the tenant is."""
    world.database = type(world.database)(
        world.url, session_settings=lambda: {"app.tenant": tenant.get()}
    )


def asked_as(db: Both, who: str | None, **scope: Any) -> str:
    """Ask the server, in a scope of its own, for whom it thinks that it works."""
    tenant.set(who)
    with db.scope(**scope):
        return str(db.scalar(TOLD))


@pytest.mark.parametrize("scope", [{}, {"atomic": False}, {"readonly": True}])
def test_each_transaction_knows_its_tenant_and_no_other(world: World, scope: Any) -> None:
    """Reads that autocommit too, and nothing of it stays with the connection."""
    with_tenant(world)

    def story(db: Both) -> None:
        for who in ("anna", "bert", None, "anna"):
            assert asked_as(db, who, **scope) == (who or "")

    world.play(story)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_is_only_a_name(world: World, name: str) -> None:
    """It is bound, so nothing in it is SQL."""
    with_tenant(world)

    def story(db: Both) -> None:
        assert asked_as(db, name) == name

    world.play(story)
    assert world.look.scalar("SELECT count(*) FROM item") == 0


def test_a_thousand_random_names_come_back_as_they_are(world: World) -> None:
    """R20: quotes, backslashes, comments and letters of all kinds, mixed."""
    with_tenant(world)
    letters = "'\"\\;-/*$%:?(){}[] \n\tabcäßλ\u2028\U0001f600"

    def story(db: Both) -> None:
        for _ in range(1000):
            name = "".join(secrets.choice(letters) for _ in range(12))
            assert asked_as(db, name) == name

    world.play(story)


def test_policies_see_the_tenant(world: World) -> None:
    """Row level security: each sees its own rows, many at a time."""
    with_tenant(world)
    role = f"dbscope_{secrets.token_hex(4)}"  # roles are those of all databases of the server
    world.look.execute(
        "CREATE TABLE IF NOT EXISTS tenant_note (owner text, words text); TRUNCATE tenant_note;"
        "ALTER TABLE tenant_note ENABLE ROW LEVEL SECURITY;"
        "ALTER TABLE tenant_note FORCE ROW LEVEL SECURITY;"
        "DROP POLICY IF EXISTS own ON tenant_note;"
        "CREATE POLICY own ON tenant_note USING (owner = current_setting('app.tenant'));"
        f"CREATE ROLE {role}; GRANT ALL ON tenant_note TO {role}"
    )

    def one(db: Both, who: str) -> None:
        tenant.set(who)
        for number in range(50):
            with db.scope():
                db.execute(text(f"SET LOCAL ROLE {role}"))
                words = {"owner": who, "words": f"{who} {number}"}
                db.execute(text("INSERT INTO tenant_note VALUES (:owner, :words)"), words)
                seen = db.scalars(text("SELECT owner FROM tenant_note")).all()
                assert set(seen) == {who}
                assert len(seen) == number + 1

    def story(db: Both) -> None:
        world.at_once(*(lambda who=who: one(db, who) for who in ("anna", "bert", "cleo")))

    world.play(story)
    world.look.execute(f"DROP TABLE tenant_note; DROP ROLE {role}")


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_only_postgresql_has_such_settings(world: World) -> None:
    """Elsewhere it is refused, for a policy that is not applied would be a leak."""
    with pytest.raises(ConfigurationError, match="session_settings"):
        type(world.database)(world.url, session_settings=dict)


@pytest.mark.parametrize("scope", [{}, {"atomic": False}])
def test_nothing_is_begun_for_somebody_unknown(world: World, scope: Any) -> None:
    """A function that fails leaves no transaction that would go on without its settings."""
    known: dict[str, str] = {}
    world.database = type(world.database)(
        world.url, session_settings=lambda: {"app.tenant": known["tenant"]}
    )

    def story(db: Both) -> None:
        with db.scope(**scope):
            for _ in range(2):
                with pytest.raises(KeyError):
                    db.scalar(TOLD)
                assert db.stats()["pool_checked_out"] == 0
            known["tenant"] = "anna"
            assert db.scalar(TOLD) == "anna"

    world.play(story)
