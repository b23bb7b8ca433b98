"""What an `env.py` has to import: where the database and the tables of an application are."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from types import ModuleType
from typing import Any

from sqlalchemy import MetaData, Table

from dbscope.cli.find import Found, modules_of
from dbscope.cli.say import Refusal


def import_path_of(found: Found) -> str:
    """Return `module:name` of the database, by the module that makes it, not one that imports it.

    Raises:
        Refusal: no module holds it.
    """
    database = found.database
    holders = [
        (module, name)
        for module in modules_of(found.module)
        for name, value in vars(module).items()
        if value is database
    ]
    if not holders:
        raise Refusal(
            "no module holds the database, which env.py has to import: make it outside of a "
            "function, or say where it is with --app module:name."
        )
    module, name = max(holders, key=lambda holder: makes(*holder))
    return f"{module.__name__}:{name}"


def makes(module: ModuleType, name: str) -> bool:
    """Tell whether the name is assigned in the source of the module."""
    with suppress(OSError, TypeError):
        return bool(re.search(rf"^{name}\b[^=\n]*=", inspect.getsource(module), re.MULTILINE))
    return False


def metadata_of(found: Found) -> str:
    """Return `module:Base.metadata` of the only base class of the application's models.

    Where there is no such class, it is the only metadata of its tables.

    Raises:
        Refusal: there is none, or several.
    """
    held = [
        (module.__name__, name, value)
        for module in modules_of(found.module)
        for name, value in vars(module).items()
    ]
    there = {
        value: f"{value.__module__}:{value.__qualname__}.metadata"
        for _, _, value in held
        if is_base(value)
    } or {
        value.metadata: f"{module}:{name}.metadata"
        for module, name, value in held
        if is_table(value)
    }
    if len(there) != 1:
        several = f"several ({', '.join(sorted(there.values()))})" if there else "none"
        raise Refusal(
            f"the base class of the models was looked for, and {several} found; "
            "say where its tables are: --metadata module:Base.metadata."
        )
    return there.popitem()[1]


def is_table(value: Any) -> bool:
    """Tell whether this is a table that was written without a class."""
    return isinstance(value, Table)


def is_base(value: Any) -> bool:
    """Tell whether this is a class that models derive from, and no model itself."""
    return (
        isinstance(value, type)
        and isinstance(vars(value).get("metadata"), MetaData)
        and "__mapper__" not in vars(value)
    )
