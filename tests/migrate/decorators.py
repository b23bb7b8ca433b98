"""Types as applications write them; no revision may need this module, but for own SQL."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import ipaddress
import json
import uuid
from typing import Any

import pydantic
from sqlalchemy import CHAR, JSON, BigInteger, DateTime, Integer, LargeBinary, Numeric, String, Text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.mutable import MutableList
from sqlalchemy.types import TypeDecorator, UserDefinedType


class GUID(TypeDecorator[uuid.UUID]):
    """The recipe of SQLAlchemy's documents."""

    impl = CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID())
        return dialect.type_descriptor(CHAR(36))

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value if value is None or dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(value)


class JSONText(TypeDecorator[Any]):
    """JSON in a column of text."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        own = {"postgresql": postgresql.JSONB(), "mysql": mysql.MEDIUMTEXT()}
        return dialect.type_descriptor(own.get(dialect.name, Text()))

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value if dialect.name == "postgresql" else json.dumps(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value if dialect.name == "postgresql" else json.loads(value)


class UTC(TypeDecorator[dt.datetime]):
    """An instant, with its zone on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.astimezone(dt.UTC)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Encrypted(TypeDecorator[str]):
    """A text that the database does not read; the key is an argument that has no default."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, key: bytes, *args: Any) -> None:
        super().__init__(*args)
        self.key = key

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return base64.b85encode(value.encode())

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return base64.b85decode(bytes(value)).decode()


class Level(enum.IntEnum):
    low = 1
    high = 2


class IntEnum(TypeDecorator[enum.IntEnum]):
    impl = Integer
    cache_ok = True

    def __init__(self, kind: type[enum.IntEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return int(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return self.kind(value)


class CommaList(TypeDecorator[list[str]]):
    impl = String(120)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return ",".join(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value.split(",")


class Address(pydantic.BaseModel):
    street: str
    numbers: list[int]


class Pydantic(TypeDecorator[Any]):
    impl = JSON
    cache_ok = True

    def __init__(self, model: type[pydantic.BaseModel]) -> None:
        super().__init__()
        self.model = model

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.JSONB(none_as_null=True))
        return dialect.type_descriptor(JSON())

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.model_dump(mode="json")

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return self.model.model_validate(value)


class IPAddress(TypeDecorator[Any]):
    impl = String(45)
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        own = postgresql.INET() if dialect.name == "postgresql" else self.impl_instance
        return dialect.type_descriptor(own)

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return str(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return ipaddress.ip_address(str(value))


class Money(TypeDecorator[decimal.Decimal]):
    """An exact amount, on SQLite too, as cents."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        own = BigInteger() if dialect.name == "sqlite" else Numeric(12, 2)
        return dialect.type_descriptor(own)

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return int(value * 100) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return decimal.Decimal(value) / 100 if dialect.name == "sqlite" else value


NOCASE = {"sqlite": "NOCASE", "postgresql": None, "mysql": "utf8mb4_general_ci"}


class CaseInsensitive(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Any) -> Any:
        collation = NOCASE.get(dialect.name)
        return dialect.type_descriptor(String(self.length, collation=collation))

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self


class Around(TypeDecorator[uuid.UUID]):
    """A decorator of a decorator."""

    impl = GUID
    cache_ok = True


class Short(String):
    """A subclass that only says how long."""

    def __init__(self) -> None:
        super().__init__(12)


class Point(UserDefinedType[str]):
    """A type with SQL of its own, which no type of SQLAlchemy can say."""

    cache_ok = True

    def __init__(self, size: int = 2) -> None:
        self.size = size

    def get_col_spec(self, **_: Any) -> str:
        return f"CHAR({self.size * 7})"


Tags = MutableList.as_mutable(JSONText())  # type: ignore[arg-type]
