"""The settings of Alembic: which file they are in, and whose revisions they name."""

from __future__ import annotations

import copy
import tomllib
from os import PathLike
from pathlib import Path
from typing import Any

from alembic.config import Config

from dbscope import AsyncDatabase, ConfigurationError, Database

AnyDatabase = Database[Any] | AsyncDatabase[Any]
INI = "alembic.ini"
TOML = "pyproject.toml"


def load(given: str | PathLike[str] | Config | None, **attributes: Any) -> Config:
    """Return a configuration of our own, with these attributes.

    Raises:
        ConfigurationError: there is none.
    """
    if isinstance(given, Config):
        config = copy.copy(given)
        config.attributes = {**given.attributes, **attributes}
    else:
        file, toml = _find() if given is None else _files(Path(given))
        config = Config(file, toml, attributes=attributes)
    config.messaging_opts = {"quiet": True}
    config.config_args = _Escaped(config.config_args)
    return config


class _Escaped(dict[str, str]):
    """Arguments for the file of settings: Alembic adds the folder, in which % is only a letter."""

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name, value.replace("%", "%%"))


def _find() -> tuple[Path | None, Path | None]:
    here = Path.cwd()
    for folder in (here, *here.parents):
        ini, toml = folder / INI, folder / TOML
        if ini.exists() or has_section(toml):
            return (ini if ini.exists() else None), (toml if toml.exists() else None)
    raise ConfigurationError(
        f"There is no {INI}, and no {TOML} with [tool.alembic], in {here} or above. "
        "`dbscope init` writes it."
    )


def _files(path: Path) -> tuple[Path | None, Path | None]:
    if not path.exists():
        raise ConfigurationError(f"There is no {path}.")
    return (None, path) if path.suffix == ".toml" else (path, None)


def depends_on_where(given: str | PathLike[str] | Config | None) -> bool:
    """Tell whether another working directory would lead to other files."""
    return given is None or not (isinstance(given, Config) or Path(given).is_absolute())


def refuse_other(config: Config, db: AnyDatabase, owner: AnyDatabase | None) -> None:
    """Refuse the revisions of another application, which a working directory has led to.

    Raises:
        ConfigurationError: env.py is about another database than the owner of the migrations.
    """
    if owner is None or _is_same(db, owner):
        return
    where = config.get_main_option("script_location")
    raise ConfigurationError(
        f"The revisions in {where} are those of {db}, made at {db.made_at}, and not of {owner}, "
        f"made at {owner.made_at}; they were found from the working directory, {Path.cwd()}. Say "
        f"where its own are: Migrations(db, '/.../{INI}'), or --config. If they are its own, let "
        "env.py import the database of the application."
    )


def _is_same(db: AnyDatabase, owner: AnyDatabase) -> bool:
    """Tell whether both are one database object, or the objects of one line of code.

    A module that is imported twice, as `__main__` and by its name, makes two. That the URLs are
    equal says nothing: `sqlite:///app.db` is the URL of many.
    """
    ours, theirs = _with_companions(owner), _with_companions(db)
    if any(each is other for each in ours for other in theirs):
        return True
    lines = [{Path(str(each.made_at)).absolute() for each in both} for both in (ours, theirs)]
    return owner.url == db.url and not lines[0].isdisjoint(lines[1])


def _with_companions(db: AnyDatabase) -> list[AnyDatabase]:
    made: list[Any] = [db, vars(db).get("sync"), vars(db).get("async_")]
    return [each for each in made if each is not None]


def has_section(toml: Path) -> bool:
    """Tell whether this is a file with the section [tool.alembic]."""
    if not toml.exists():
        return False
    try:
        return "alembic" in tomllib.loads(toml.read_text(encoding="utf-8")).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{toml} cannot be read: {error}.") from error
