"""The databases of an application, by the names that people use for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import iscoroutine, isroutine
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from typing_extensions import TypeIs

from dbscope import AsyncDatabase, Database
from dbscope.cli.load import load, target, told
from dbscope.cli.say import Refusal

AnyDatabase = Database[Any] | AsyncDatabase[Any]


@dataclass(frozen=True)
class Found:
    """What was found: a module, its application if it has one, and the databases."""

    target: str
    module: ModuleType
    application: Any | None
    databases: dict[str, AnyDatabase]
    chosen: str | None = None
    config: Path | None = None

    @property
    def name(self) -> str:
        """Return the name of the one database that is meant.

        Raises:
            Refusal: there are several, or none of that name.
        """
        names = ", ".join(self.databases)
        if self.chosen is None and len(self.databases) > 1:
            raise Refusal(f"{self.target} has several databases; choose: --database {{{names}}}.")
        if self.chosen is None:
            return next(iter(self.databases))
        for name, db in self.databases.items():
            if self.chosen in (name, db.name):
                return name
        raise Refusal(f"{self.target} has no database {self.chosen!r}, but {names}.")

    @property
    def database(self) -> AnyDatabase:
        """Return the one database that is meant; see `name`."""
        return self.databases[self.name]


def find(given: str | None, chosen: str | None = None) -> Found:
    """Import the application, and find its databases.

    Args:
        given: `module:name` of an application, a database or a function without arguments that
            makes one of them, or `module`; see `load.target`.
        chosen: the name of the database that is meant: of the variable, or its own.

    Raises:
        Refusal: there is no application, or it has no database.
    """
    address = target(given)
    path, _, name = address.partition(":")
    module = load(path)
    there = attribute(module, name) if name else None
    if isroutine(there):
        there = made_by(there, address)
    if is_database(there):
        return Found(address, module, None, {name: there}, chosen)
    if there is not None and not is_application(there):
        kind = type(there).__name__
        raise Refusal(f"{address} is no application and no database, but of type {kind}.")
    application = there or application_of(module)
    databases = databases_of(module, application)
    if not databases:
        raise Refusal(
            f"{address} has no database: neither was one installed (db.install(app)), nor does a "
            f"module of {module.__name__.partition('.')[0]!r} hold a Database or an AsyncDatabase."
        )
    return Found(address, module, application, databases, chosen)


def attribute(module: ModuleType, name: str) -> Any:
    """Return what a module has by this name, which may have dots."""
    try:
        return attrgetter(name)(module)
    except AttributeError:
        raise Refusal(f"the module {module.__name__!r} has no {name!r}.") from None


def made_by(factory: Callable[[], Any], address: str) -> Any:
    """Return what a function makes, as `uvicorn --factory` does.

    Raises:
        Refusal: it fails, or wants arguments; the error is told in one line.
    """
    try:
        made = factory()
    except (Exception, SystemExit) as error:
        raise Refusal(f"{address} makes no application: {told(error)}") from error
    if iscoroutine(made):
        made.close()
        raise Refusal(f"{address} makes no application: it is async, and there is no loop here.")
    if made is None:
        raise Refusal(f"{address} makes no application: it returns nothing.")
    return made


def is_application(value: Any) -> bool:
    """Tell whether it is an application of Starlette or FastAPI."""
    return hasattr(value, "user_middleware") and hasattr(value, "router")


def application_of(module: ModuleType) -> Any | None:
    """Return the application of a module: `app`, `api`, or the only one (as FastAPI does)."""
    found = {name: value for name, value in vars(module).items() if is_application(value)}
    for usual in ("app", "api"):
        if usual in found:
            return found[usual]
    return next(iter(found.values())) if len(found) == 1 else None


def databases_of(module: ModuleType, application: Any | None) -> dict[str, AnyDatabase]:
    """Return the databases that modules hold, and those that only the application knows."""
    found: dict[str, AnyDatabase] = {}
    for each in modules_of(module):
        for name, value in list(vars(each).items()):
            if is_database(value) and not is_known(value, found):
                found[name if name not in found else f"{each.__name__}.{name}"] = value
    for db in getattr(application, "dbscope_installed", ()):
        if not is_known(db, found):
            found[db.name] = db
    return found


def is_database(value: object) -> TypeIs[AnyDatabase]:
    """Tell whether it is a database of either kind."""
    return isinstance(value, Database | AsyncDatabase)


def is_known(db: AnyDatabase, found: dict[str, AnyDatabase]) -> bool:
    """Tell whether a database was found already, or is the companion (`db.sync`) of one."""
    made = {id(vars(db).get("sync")), id(vars(db).get("async_")), id(db)}
    return any(id(other) in made for other in found.values())


def modules_of(module: ModuleType) -> Iterator[ModuleType]:
    """Give the module, and the other loaded ones of its package, or of its folder."""
    yield module
    package, dot, _ = module.__name__.partition(".")
    folder = None if dot or not module.__file__ else Path(os.path.normpath(module.__file__)).parent
    for name, other in sorted(sys.modules.items()):
        beside = folder is not None and is_own(getattr(other, "__file__", None) or "", folder)
        if other is not module and (beside or f"{name}.".startswith(f"{package}.")):
            yield other


def is_own(file: str, folder: Path) -> bool:
    """Tell whether a file is below the folder; by its text, since of thousands it is asked."""
    file = os.path.normpath(file)
    within = file.startswith(f"{str(folder).removesuffix(os.sep)}{os.sep}")
    return within and f"{os.sep}site-packages{os.sep}" not in file
