"""A migration whose connection is lost, wherever that happens, is told in a sentence."""

from __future__ import annotations

from contextlib import suppress

import pytest

from dbscope import DatabaseUnavailable, MigrationError
from dbscope.migrate import Migrations
from tests.migrate.project import ITEMS, ON_MYSQL, ON_POSTGRESQL, Project
from tests.support.proxy import Proxy

MANY = 300  # messages; each third is enough


@pytest.mark.ci
@pytest.mark.timeout(600)
@pytest.mark.worlds(drivers=[*ON_POSTGRESQL, *ON_MYSQL])
def test_a_migration_that_is_cut_at_any_message(project: Project, request):
    """By one of our errors at each; what was done before is found by the next start."""
    project.write("items", ITEMS)
    server = "mysql_server" if "mysql" in project.url else "postgres"
    with Proxy(request.getfixturevalue(server)) as proxy:
        for number in range(1, MANY, 3):
            project.execute("DROP TABLE IF EXISTS item")
            project.execute("DROP TABLE IF EXISTS alembic_version")
            db = type(project.db)(proxy.through(project.url))
            proxy.cut_at(number)
            with suppress(DatabaseUnavailable, MigrationError):
                Migrations(db, project.config).upgrade()
            is_cut = proxy.is_in("pass_through")
            proxy.pass_through()
            if not is_cut:
                break
