"""What is installed here, and what answers there."""

from __future__ import annotations

from importlib import metadata

from sqlalchemy import Connection, Engine

from dbscope.backends import registry
from dbscope.backends.doctor import Doctor, Numbers


def installed(package: str) -> str:
    """Return the version of a package, or "?" if it was not installed as one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"


def driver_version(engine: Engine) -> str:
    """Return name and version of the driver."""
    driver = registry.driver_of(engine.dialect)
    package = driver.package or engine.dialect.driver
    return driver.of_python or f"{package} {installed(package)}"


def server_numbers(connection: Connection) -> Numbers:
    """Return the version of the server, as numbers."""
    found: tuple[int | str, ...] = connection.dialect.server_version_info or ()
    return tuple(int(number) for number in found if str(number).isdigit())


def server_version(connection: Connection, doctor: Doctor) -> str:
    """Return name and version of the server."""
    numbers = ".".join(map(str, server_numbers(connection)))
    return f"{doctor.product(connection.dialect)} {numbers}"
