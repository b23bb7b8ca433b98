"""Where the revisions of an application's database are: what the application itself says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dbscope.cli.find import AnyDatabase, Found, is_known, modules_of
from dbscope.cli.say import Refusal

if TYPE_CHECKING:
    from dbscope.migrate import Migrations


def of_database(found: Found, db: AnyDatabase) -> Migrations:
    """Return the application's own `Migrations` of a database.

    Where it has none, the settings are those of --config, else the nearest to the module of the
    application, from its folder upwards, else from the working directory upwards.

    Raises:
        Refusal: it has several that differ, or one and another --config.
    """
    from dbscope.migrate import Migrations

    own = {str(each.config): each for each in own_migrations(found, db)}
    if len(own) > 1:
        raise Refusal(
            f"{found.target} has several Migrations of {db}: {', '.join(sorted(own))}. "
            "Say with --app which module is meant."
        )
    for config, migrations in own.items():
        if found.config is not None and not is_same(found.config, config):
            raise Refusal(
                f"{found.target} has Migrations of its own, by {config}; leave --config out, or "
                "change them there."
            )
        return migrations
    return Migrations(db, found.config or beside(found))


def own_migrations(found: Found, db: AnyDatabase) -> Iterator[Migrations]:
    """Give what the modules of the application hold."""
    from dbscope.migrate import Migrations

    for module in modules_of(found.module):
        for value in list(vars(module).values()):
            if isinstance(value, Migrations) and is_known(value.db, {"": db}):
                yield value


def beside(found: Found) -> Path | None:
    """Return the nearest settings of Alembic, from the folder of the application upwards."""
    from dbscope.migrate.settings import INI, TOML, has_section

    file = found.module.__file__
    for folder in Path(file).resolve().parents if file else ():
        if (folder / INI).exists():
            return folder / INI
        if has_section(folder / TOML):
            return folder / TOML
    return None


def is_same(path: Path, config: str) -> bool:
    """Tell whether both are one file."""
    return Path(config).exists() and path.resolve() == Path(config).resolve()
