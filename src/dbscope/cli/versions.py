"""What is installed here, and what answers there."""

from __future__ import annotations

from importlib import metadata

from sqlalchemy import Connection, Engine

PACKAGES = {"psycopg_async": "psycopg", "pymysql": "PyMySQL"}
OF_PYTHON = {"pysqlite": "sqlite3, of Python", "inline": "sqlite+inline, over Python's sqlite3"}
SERVERS = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
Numbers = tuple[int, ...]


def installed(package: str) -> str:
    """Return the version of a package, or "?" if it was not installed as one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"


def driver_version(engine: Engine) -> str:
    """Return name and version of the driver."""
    driver = engine.dialect.driver
    package = PACKAGES.get(driver, driver)
    return OF_PYTHON.get(driver) or f"{package} {installed(package)}"


def server_numbers(connection: Connection) -> Numbers:
    """Return the version of the server, as numbers."""
    found: tuple[int | str, ...] = connection.dialect.server_version_info or ()
    return tuple(int(number) for number in found if str(number).isdigit())


def server_version(connection: Connection) -> str:
    """Return name and version of the server."""
    of_mariadb = getattr(connection.dialect, "is_mariadb", False)
    name = "mariadb" if of_mariadb else connection.dialect.name
    return f"{SERVERS.get(name, name)} {'.'.join(map(str, server_numbers(connection)))}"
