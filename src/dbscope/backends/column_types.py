"""Types for the columns of our own tables, where a generic one is not enough on every database."""

from __future__ import annotations

from sqlalchemy import BigInteger, DateTime, Integer, LargeBinary

LONG = 2**32 - 1  # bytes, by which MySQL makes a LONGBLOB; its own types would be a slow import
MYSQL = ("mysql", "mariadb")


def long_binary() -> LargeBinary:
    """Return the type of bytes, as many as there are; MySQL's own ends at 65,535."""
    return LargeBinary().with_variant(LargeBinary(LONG), *MYSQL)


def moment() -> DateTime:
    """Return the type of a time with microseconds; MySQL's own has whole seconds."""
    from sqlalchemy.dialects.mysql import DATETIME

    return DateTime().with_variant(DATETIME(fsp=6), *MYSQL)


def serial_number() -> BigInteger:
    """Return the type of a key that the database counts; SQLite counts only what is an INTEGER."""
    return BigInteger().with_variant(Integer(), "sqlite")
