"""A revision does not end its own transaction, and what stays of one that failed is told."""

from __future__ import annotations

import re

import pytest

from dbscope import MigrationError
from dbscope.migrate import Migrations
from tests.migrate.project import ITEMS, ON_MYSQL, ON_POSTGRESQL, USUAL, Project

everywhere = pytest.mark.worlds(drivers=[*USUAL, *ON_MYSQL])
on_postgresql = pytest.mark.worlds(drivers=ON_POSTGRESQL)

INSERT = "session().execute(sa.text(\"INSERT INTO item (id, name) VALUES ({0}, 'row {0}')\"))"
MADE = ITEMS.replace("sa.String,", "sa.String(50),")
BY_HAND = {
    "the session's rollback": "session().rollback()",
    "the connection's rollback": "op.get_bind().rollback()",
    "the connection's commit": "op.get_bind().commit()",
    "the transaction's rollback": "op.get_bind().get_transaction().rollback()",
    "closing the connection": "op.get_bind().close()",
    "text": 'op.execute("COMMIT")',
    "text of several": 'op.execute(" /* a */ ROLLBACK")',
    "text by the connection": 'op.get_bind().exec_driver_sql("rollback")',
}


def failure(call, *args) -> str:
    """Return what a MigrationError says, without what its class adds."""
    with pytest.raises(MigrationError) as caught:
        call(*args)
    return caught.value.what


@everywhere
@pytest.mark.parametrize("caught", [False, True], ids=["plain", "in an except"])
@pytest.mark.parametrize("how", BY_HAND)
def test_a_revision_that_ends_its_transaction_fails_and_keeps_nothing(
    project: Project, how: str, caught: bool
):
    """Also where the revision has caught what refused it; the message names its line."""
    project.write("items", MADE)
    project.migrations.upgrade()
    code = f"{INSERT.format(1)}\n{BY_HAND[how]}\n{INSERT.format(2)}"
    if caught:
        first, end, last = code.splitlines()
        code = f"""
try:
    {first}
    raise ValueError
except ValueError:
    try:
        {end}
    except Exception:
        pass
try:
    {last}
except Exception:
    pass
"""
    path = project.write("ends", code, branch="data", depends_on="items")
    line = next(
        number
        for number, text in enumerate(path.read_text().splitlines(), 1)
        if BY_HAND[how] in text
    )
    told = failure(project.migrations.upgrade)
    assert f"ends.py:{line} failed" in told
    assert "inside a revision: a revision is one transaction" in told
    assert "begin_nested()" in told
    assert project.column("SELECT count(*) FROM item") == [0]
    assert project.stored() == ["items"]
    path.write_text(path.read_text().replace(BY_HAND[how], "pass"))
    project.migrations.upgrade()
    assert "ends" in project.stored()


@everywhere
def test_a_savepoint_undoes_a_part_of_a_revision(project: Project):
    """By `begin_nested()`, of the session as of the connection."""
    project.write("items", MADE)
    project.write(
        "parts",
        f"""
        {INSERT.format(1)}
        try:
            with session().begin_nested():
                {INSERT.format(2)}
                {INSERT.format(1)}
        except sa.exc.IntegrityError:
            pass
        nested = op.get_bind().begin_nested()
        {INSERT.format(3)}
        nested.rollback()
        {INSERT.format(4)}
        """,
        branch="data",
        depends_on="items",
    )
    project.migrations.upgrade()
    assert sorted(project.column("SELECT id FROM item")) == [1, 4]


@on_postgresql
def test_words_inside_a_body_or_a_value_end_nothing(project: Project):
    """A function of PL/pgSQL has its own BEGIN and END, and a text may have any word."""
    project.write(
        "body",
        '''
        op.execute("""CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS $$
            BEGIN
                RETURN 1; -- ; COMMIT
            END; $$""")
        op.execute("CREATE TABLE t (name text)")
        op.execute("INSERT INTO t VALUES ('; COMMIT')")
        ''',
    )
    project.migrations.upgrade()
    assert project.column("SELECT name FROM t") == ["; COMMIT"]


# -- what stays ------------------------------------------------------------------------------------


BLOCKS = """
op.execute("CREATE TABLE one (i int)")
with op.get_context().autocommit_block():
    op.execute("CREATE TABLE two (i int)")
op.execute("CREATE TABLE three (i int)")
op.execute("INSERT INTO nothing VALUES (1)")
"""


@everywhere
def test_what_stays_of_an_autocommit_block_is_told(project: Project):
    """By name, and how to go on; also when the second start finds it there."""
    path = project.write("blocks", BLOCKS)
    told = failure(project.migrations.upgrade)
    stays = {"one", "two"} | ({"three"} if project.url.startswith("mysql") else set())
    assert project.tables() == {"alembic_version", *stays}
    (listed,) = re.findall(r"this stays: (.*?)\.", told)
    assert set(listed.split(", ")) == {f"CREATE TABLE {name}" for name in stays}
    assert "`dbscope stamp blocks`" in told
    if not project.url.startswith("mysql"):
        told = failure(project.migrations.upgrade)
        assert "exists" in told
    for name in stays:
        project.execute(f"DROP TABLE {name}")
    path.write_text(path.read_text().replace("INTO nothing", "INTO one"))
    assert [each.id for each in project.migrations.upgrade()] == ["blocks"]


@pytest.mark.worlds(drivers=ON_MYSQL)
def test_what_a_revision_has_half_done_is_told(project: Project):
    """MariaDB commits at each CREATE TABLE; the first failure and the next one say how to go on."""
    path = project.write("half", "op.execute('CREATE TABLE half (i int)')\nraise ValueError('no')")
    told = failure(project.migrations.upgrade)
    assert "It has done, and this stays: CREATE TABLE half." in told
    assert "cannot roll back DDL" in told
    for each in (told, failure(project.migrations.upgrade)):
        assert "To go on: undo by hand what is there of this revision" in each
        assert "`dbscope stamp half`" in each
    project.migrations.stamp("half")
    assert project.migrations.upgrade() == ()
    assert path.exists()


INDEX = """
with op.get_context().autocommit_block():
    op.execute("CREATE UNIQUE INDEX CONCURRENTLY {0} ix_twice ON twice (i)")
"""


@on_postgresql
def test_an_invalid_index_is_named_and_not_taken_for_made(project: Project):
    """CREATE INDEX CONCURRENTLY that fails leaves one, which IF NOT EXISTS would skip."""
    project.write("twice", 'op.execute("CREATE TABLE twice (i int)")')
    project.migrations.upgrade()
    project.execute("INSERT INTO twice VALUES (1), (1)")
    project.write("unique", INDEX.format("IF NOT EXISTS"), down="twice")
    remedy = "The index ix_twice is invalid: DROP INDEX CONCURRENTLY ix_twice."
    assert remedy in failure(project.migrations.upgrade)
    project.execute("DELETE FROM twice")
    told = failure(project.migrations.upgrade)
    assert "it leaves an invalid index: ix_twice" in told
    assert remedy in told
    assert project.stored() == ["twice"]
    project.execute("DROP INDEX ix_twice")
    project.migrations.upgrade()
    assert project.stored() == ["unique"]


@on_postgresql
def test_ddl_timeout_is_kept_inside_an_autocommit_block(project: Project):
    """Its statements wait for a lock of others no longer than those of a transaction."""
    project.write("items", ITEMS)
    project.migrations.upgrade()
    project.write(
        "waits",
        """
        with op.get_context().autocommit_block():
            assert op.get_bind().scalar(sa.text("SHOW lock_timeout")) == "200ms"
        assert op.get_bind().scalar(sa.text("SHOW lock_timeout")) == "200ms"
        """,
        down="items",
    )
    Migrations(project.db, project.config, ddl_timeout=0.2).upgrade()


@everywhere
def test_the_session_goes_on_behind_an_autocommit_block(project: Project):
    """What it had added is written before the block, and it joins the next transaction."""
    project.write("items", MADE)
    project.write(
        "more",
        f"""
        kept = session()
        kept.add({project.module}.Item(name="a"))
        with op.get_context().autocommit_block():
            op.execute("SELECT 1")
        kept.add({project.module}.Item(name="b"))
        """.replace("kept = ", f"import {project.module}\n        kept = "),
        branch="data",
        depends_on="items",
    )
    project.migrations.upgrade()
    assert sorted(project.column("SELECT name FROM item")) == ["a", "b"]
