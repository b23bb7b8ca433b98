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
    if owner is None or owner.url == db.url or owner in (*_companions(db), db):
        return
    where = config.get_main_option("script_location")
    raise ConfigurationError(
        f"The revisions in {where} are those of {db}, and not of {owner}; they were found from the "
        f"working directory, {Path.cwd()}. Say where its own are: Migrations(db, '/.../{INI}'), or "
        "--config."
    )


def _companions(db: AnyDatabase) -> tuple[Any, ...]:
    return vars(db).get("sync"), vars(db).get("async_")


def has_section(toml: Path) -> bool:
    """Tell whether this is a file with the section [tool.alembic]."""
    if not toml.exists():
        return False
    try:
        return "alembic" in tomllib.loads(toml.read_text(encoding="utf-8")).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{toml} cannot be read: {error}.") from error
