"""What `dbscope doctor` looks at on MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbscope.backends.doctor import Doctor

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import Dialect


class MySQLDoctor(Doctor):
    """What is particular to them."""

    title = "MySQL"

    def product(self, dialect: Dialect) -> str:
        """Return which of them answers: SQLAlchemy knows it when it has connected."""
        return "MariaDB" if getattr(dialect, "is_mariadb", False) else self.title

    def room(self, connection: Connection) -> int:
        """Return how many connections the server takes."""
        return int(connection.exec_driver_sql("SELECT @@max_connections").scalar_one())
