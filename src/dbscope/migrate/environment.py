"""`run()`: what an `env.py` calls, from Alembic's command as well as from ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from logging.config import fileConfig
from typing import Any

from alembic import context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError, to_tuple
from sqlalchemy import Connection, MetaData

from dbscope import AsyncDatabase, Database, DBScopeError
from dbscope.backends import registry
from dbscope.backends.migrating import Migrating
from dbscope.migrate import branches, connect, rendering, settings
from dbscope.migrate.comparing import compare_type
from dbscope.migrate.connect import Patience
from dbscope.migrate.faults import as_migration_error
from dbscope.migrate.work import KEY, Work

CONNECTION = "connection"  # in `Config.attributes`, as in Alembic's own recipes
DONE = "dbscope.done"
OWNER = "dbscope.owner"  # the database whose revisions were looked for in the working directory


def run(
    db: Database[Any] | AsyncDatabase[Any],
    metadata: MetaData | Sequence[MetaData],
    *,
    before: Callable[[Connection], None] | None = None,
    **options: Any,
) -> None:
    """Be the `env.py` of an application.

    Each revision is a transaction of its own. Tables of SQLite are changed in batch mode, types are
    compared, and an autogenerate that finds nothing writes no file. A type of the application is
    written as the type that is stored, so that a revision goes on working when the code changes.

    Args:
        db: the database; `Migrations` brings its own connection to it.
        metadata: of the models, for autogenerate.
        before: called with the connection whenever something is about to be run, in a transaction
            of its own and before the version table is looked for: `CREATE SCHEMA IF NOT EXISTS`.
        **options: more for Alembic's `context.configure`, or others than ours:
            `render_as_batch=True` writes what runs on SQLite while PostgreSQL is connected.

    Example:
        >>> from dbscope.migrate import run
        >>> from server.models import Base, db
        >>> run(db, Base.metadata)
    """
    settings.refuse_other(context.config, db, context.config.attributes.get(OWNER))
    given = {
        "target_metadata": metadata,
        "compare_type": compare_type,
        "render_item": rendering.render_item,
        "process_revision_directives": _directives,
        **options,
        "transaction_per_migration": True,
    }
    connection = context.config.attributes.get(CONNECTION)
    if context.is_offline_mode():
        _offline(db, given)
    elif connection is not None:
        _online(given, before, connection)
    else:
        _from_command_line(db, partial(_online, given, before))


def _online(
    given: dict[str, Any], before: Callable[[Connection], None] | None, connection: Connection
) -> None:
    if before is not None and _changes_something():
        before(connection)
        connection.commit()
    work = Work(connection, context.config.attributes.setdefault(DONE, []))
    migrating = registry.migrating_of(connection.dialect)
    given = given | _without_hidden(connection, given)
    after = (work.finish, *to_tuple(given.get("on_version_apply"), default=()))
    given = _of(migrating) | given | {"on_version_apply": after, KEY: work}
    context.configure(connection=connection, **given)
    with (
        work.watched(context.get_context()),
        migrating.around(connection),
        context.begin_transaction(),
    ):
        context.run_migrations()


def _of(migrating: Migrating) -> dict[str, Any]:
    return {
        "render_as_batch": migrating.batch_mode,
        "transactional_ddl": migrating.transactional_ddl,
    }


def _without_hidden(connection: Connection, given: dict[str, Any]) -> dict[str, Any]:
    """Leave out tables that no `create_table` makes."""
    hidden = cache(lambda: registry.migrating_of(connection.dialect).hidden_tables(connection))
    of_name, of_object = given.get("include_name"), given.get("include_object")

    def include_name(name: Any, kind: str, parents: Any) -> bool:
        if kind == "table" and name in hidden():
            return False
        return of_name is None or of_name(name, kind, parents)

    def include_object(item: Any, name: Any, kind: str, *rest: Any) -> bool:
        if kind == "table" and name in hidden():
            return False
        return of_object is None or of_object(item, name, kind, *rest)

    return {"include_name": include_name, "include_object": include_object}


def _offline(db: Database[Any] | AsyncDatabase[Any], given: dict[str, Any]) -> None:
    ours: dict[str, Any] = {"literal_binds": True, "dialect_opts": {"paramstyle": "named"}}
    context.configure(url=db.url, **(ours | _of(db.backend.migrating()) | given))
    with context.begin_transaction():
        context.run_migrations()


def _from_command_line(db: Database[Any] | AsyncDatabase[Any], work: Any) -> None:
    """Do what Alembic's own command wants, and fail in its way: a sentence, no traceback."""
    _log(context.config)
    try:
        with as_migration_error(f"{db}"):
            if _changes_something():
                connect.alone(db, work, Patience())
            else:
                connect.look(db, work)
    except DBScopeError as error:
        raise CommandError(error.what or str(error)) from error


def _changes_something() -> bool:
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    return True


def _log(config: Config) -> None:
    if config.file_config.has_section("loggers") and config.config_file_name:
        fileConfig(config.config_file_name, disable_existing_loggers=False)
    elif config.cmd_opts is not None:
        logging.basicConfig(format="%(levelname)-5.5s [%(name)s] %(message)s")
        logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)


def _directives(migration: MigrationContext, _revision: Any, directives: list[Any]) -> None:
    """Place a new revision where it belongs, and drop one in which nothing would be."""
    writing = migration.opts["revision_context"]
    config = migration.config
    assert config is not None
    asked: bool = getattr(config.cmd_opts, "autogenerate", False)
    # `alembic check` comes here too, with no message, and needs what it has found.
    if not asked and writing.command_args["message"] is None:
        return
    (directive,) = directives
    up, down = directive.upgrade_ops, directive.downgrade_ops
    rendering.bring_originals(up.ops)
    if writing.command_args["autogenerate"] and directive.upgrade_ops.is_empty():
        directives.clear()
        config.print_stdout("Nothing to write: the models and the database agree.")
        return
    models = to_tuple(migration.opts["target_metadata"], default=())
    for backend in registry.known():  # the revision may run on any of them
        backend.migrating().complete(up, down, models)
    if directive.head in (None, "head"):
        branches.put(directive, writing.script_directory, "schema")
