"""Every type of SQLAlchemy that a database has, and those of applications, with a value of each."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import pickle
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.mutable import MutableDict

from tests.migrate import decorators as ours

DAY = dt.date(2026, 2, 3)
HOUR = dt.time(4, 5, 6)
MOMENT = dt.datetime.combine(DAY, HOUR)
ZONED = MOMENT.replace(tzinfo=dt.UTC)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
SPAN = dt.timedelta(days=1, seconds=2)
TEXT = "grüße"


class Color(enum.Enum):
    red = "r"
    green = "g"


def of_values(kind: type[enum.Enum]) -> list[str]:
    return [each.value for each in kind]


Case = tuple[Callable[[], Any], Any]

OURS: dict[str, Case] = {
    "guid": (ours.GUID, ID),
    "guid around": (ours.Around, ID),
    "guid variant": (lambda: ours.GUID().with_variant(sa.Uuid(), "postgresql"), ID),
    "json text": (ours.JSONText, {"a": [1]}),
    "json mutable": (lambda: ours.Tags, ["a", "b"]),
    "utc": (ours.UTC, ZONED),
    "encrypted": (lambda: ours.Encrypted(b"key"), "secret"),
    "encrypted length": (lambda: ours.Encrypted(b"key", 64), "secret"),
    "int enum": (lambda: ours.IntEnum(ours.Level), ours.Level.high),
    "comma list": (ours.CommaList, ["a", "b"]),
    "pydantic": (lambda: ours.Pydantic(ours.Address), ours.Address(street="s", numbers=[1])),
    "ip": (ours.IPAddress, ipaddress.ip_address("10.0.0.1")),
    "money": (ours.Money, Decimal("12.34")),
    "case": (lambda: ours.CaseInsensitive(20), "Abc"),
    "subclass": (ours.Short, "abc"),
    "own sql": (lambda: ours.Point(2), "x" * 14),
    "variant of ours": (
        lambda: sa.String(36).with_variant(ours.CaseInsensitive(9), "sqlite", "mysql"),
        "a",
    ),
}

EVERYWHERE: dict[str, Case] = {
    "String n": (lambda: sa.String(20), TEXT),
    "Unicode n": (lambda: sa.Unicode(20), TEXT),
    "UnicodeText": (sa.UnicodeText, TEXT),
    "Text": (sa.Text, TEXT),
    "Integer": (sa.Integer, 7),
    "SmallInteger": (sa.SmallInteger, 7),
    "BigInteger": (sa.BigInteger, 2**40),
    "BigInteger variant": (lambda: sa.BigInteger().with_variant(sa.Integer(), "sqlite"), 7),
    "Numeric": (sa.Numeric, Decimal(3)),
    "Numeric args": (lambda: sa.Numeric(10, 3), Decimal("1.250")),
    "Numeric p": (lambda: sa.Numeric(8), Decimal(8)),
    "Numeric float": (lambda: sa.Numeric(10, 2, asdecimal=False), 1.5),
    "Float": (sa.Float, 1.5),
    "Float p": (lambda: sa.Float(53), 1.5),
    "Float 24": (lambda: sa.Float(24), 1.5),
    "Double": (sa.Double, 1.5),
    "Boolean": (sa.Boolean, True),
    "Boolean check": (lambda: sa.Boolean(create_constraint=True, name="b"), True),
    "Date": (sa.Date, DAY),
    "Time": (sa.Time, HOUR),
    "DateTime": (sa.DateTime, MOMENT),
    "Interval": (sa.Interval, SPAN),
    "Interval p": (lambda: sa.Interval(second_precision=3), SPAN),
    "Interval emulated": (lambda: sa.Interval(native=False), SPAN),
    "LargeBinary": (sa.LargeBinary, b"\0a"),
    "LargeBinary n": (lambda: sa.LargeBinary(50), b"\0a"),
    "PickleType": (sa.PickleType, {"a": {1}}),
    "PickleType impl": (
        lambda: sa.PickleType(
            protocol=2,
            pickler=pickle,
            impl=sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql"),
        ),
        {"a": {1}},
    ),
    "JSON": (sa.JSON, {"a": [None, 1]}),
    "JSON none": (lambda: sa.JSON(none_as_null=True), {"a": 1}),
    "JSON mutable": (lambda: MutableDict.as_mutable(sa.JSON()), {"a": 1}),
    "JSON variant": (lambda: sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), [1]),
    "Uuid": (sa.Uuid, ID),
    "Uuid text": (lambda: sa.Uuid(as_uuid=False), str(ID)),
    "Uuid emulated": (lambda: sa.Uuid(native_uuid=False), ID),
    "Enum": (lambda: sa.Enum("a", "it's", name="letters"), "it's"),
    "Enum class": (lambda: sa.Enum(Color, name="color"), Color.red),
    "Enum values": (lambda: sa.Enum(Color, name="colorv", values_callable=of_values), Color.red),
    "Enum text": (lambda: sa.Enum("a", "bcd", native_enum=False), "bcd"),
    "Enum text n": (lambda: sa.Enum("a", "b", native_enum=False, length=30), "b"),
    "Enum check": (
        lambda: sa.Enum("a", "b%", native_enum=False, create_constraint=True, name="e"),
        "b%",
    ),
    "Enum variant": (lambda: sa.Enum("a", name="v").with_variant(sa.Text(), "sqlite"), "a"),
    "Enum as a variant": (
        lambda: sa.String(3).with_variant(sa.Enum("a", name="w"), "postgresql", "mysql"),
        "a",
    ),
    "VARCHAR": (lambda: sa.VARCHAR(9), TEXT),
    "CHAR": (lambda: sa.CHAR(5), TEXT),
    "NUMERIC": (lambda: sa.NUMERIC(6, 1), Decimal("1.5")),
    "DECIMAL": (lambda: sa.DECIMAL(6, 1), Decimal("1.5")),
    "REAL": (sa.REAL, 1.5),
    "FLOAT": (sa.FLOAT, 1.5),
    "DOUBLE_PRECISION": (sa.DOUBLE_PRECISION, 1.5),
    "INTEGER": (sa.INTEGER, 7),
    "INT": (sa.INT, 7),
    "SMALLINT": (sa.SMALLINT, 7),
    "BIGINT": (sa.BIGINT, 7),
    "BOOLEAN": (sa.BOOLEAN, True),
    "DATE": (sa.DATE, DAY),
    "TIME": (sa.TIME, HOUR),
    "TIMESTAMP": (sa.TIMESTAMP, MOMENT),
    "TEXT": (sa.TEXT, TEXT),
    "three variants": (
        lambda: (
            sa.String(30)
            .with_variant(sa.Text(), "sqlite")
            .with_variant(mysql.VARCHAR(40), "mysql", "mariadb")
            .with_variant(postgresql.VARCHAR(50), "postgresql")
        ),
        TEXT,
    ),
}

SQLITE: dict[str, Case] = {
    "String": (sa.String, TEXT),
    "Unicode": (sa.Unicode, TEXT),
    "DateTime tz": (lambda: sa.DateTime(timezone=True), MOMENT),
    "DATETIME": (sa.DATETIME, MOMENT),
    "BLOB": (sa.BLOB, b"a"),
    "CLOB": (sa.CLOB, TEXT),
    "BINARY": (lambda: sa.BINARY(4), b"abcd"),
    "VARBINARY": (lambda: sa.VARBINARY(4), b"a"),
    "NCHAR": (lambda: sa.NCHAR(5), "abcde"),
    "NVARCHAR": (lambda: sa.NVARCHAR(5), "abcde"),
    "DOUBLE": (sa.DOUBLE, 1.5),
    "nocase": (lambda: sa.String(5, collation="NOCASE"), "a"),
    "sqlite DATETIME": (sqlite.DATETIME, MOMENT),
    "sqlite DATETIME text": (
        lambda: sqlite.DATETIME(
            storage_format="%(year)04d%(month)02d%(day)02d%(hour)02d%(minute)02d%(second)02d x",
            regexp=r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d) x",
        ),
        MOMENT,
    ),
    "sqlite DATETIME digits": (
        lambda: sqlite.DATETIME(
            storage_format="%(year)04d%(month)02d%(day)02d%(hour)02d%(minute)02d%(second)02d",
            regexp=r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)",
        ),
        MOMENT,
    ),
    "sqlite DATE": (sqlite.DATE, DAY),
    "sqlite DATE text": (
        lambda: sqlite.DATE(
            storage_format="%(year)04d%(month)02d%(day)02d", regexp=r"(\d{4})(\d\d)(\d\d)"
        ),
        DAY,
    ),
    "sqlite TIME": (sqlite.TIME, HOUR),
    "sqlite JSON": (sqlite.JSON, {"a": 1}),
}

POSTGRESQL: dict[str, Case] = {
    "String": (sa.String, TEXT),
    "Unicode": (sa.Unicode, TEXT),
    "DateTime tz": (lambda: sa.DateTime(timezone=True), ZONED),
    "Time tz": (lambda: sa.Time(timezone=True), HOUR.replace(tzinfo=dt.UTC)),
    "TIMESTAMP tz": (lambda: sa.TIMESTAMP(timezone=True), ZONED),
    "UUID": (sa.UUID, ID),
    "collation": (lambda: sa.String(5, collation="C"), "a"),
    "ARRAY": (lambda: sa.ARRAY(sa.Integer), [1, 2]),
    "ARRAY 2": (lambda: sa.ARRAY(sa.String(7), dimensions=2), [["a"], ["b"]]),
    "ARRAY enum": (lambda: sa.ARRAY(sa.Enum("x", "y", name="xy")), ["x"]),
    "ARRAY ours": (lambda: sa.ARRAY(ours.GUID()), [ID]),
    "ARRAY variant": (lambda: sa.JSON().with_variant(sa.ARRAY(sa.Text), "postgresql"), ["a"]),
    "pg ARRAY": (lambda: postgresql.ARRAY(sa.Numeric(5, 2), as_tuple=True), (Decimal("1.50"),)),
    "pg ARRAY of JSONB": (lambda: postgresql.ARRAY(postgresql.JSONB), [{"a": 1}]),
    "BIT": (lambda: postgresql.BIT(3), "101"),
    "BIT varying": (lambda: postgresql.BIT(5, varying=True), "101"),
    "BYTEA": (postgresql.BYTEA, b"a"),
    "CIDR": (postgresql.CIDR, ipaddress.ip_network("10.0.0.0/8")),
    "INET": (postgresql.INET, ipaddress.ip_address("10.0.0.1")),
    "MACADDR": (postgresql.MACADDR, "08:00:2b:01:02:03"),
    "MACADDR8": (postgresql.MACADDR8, "08:00:2b:01:02:03:04:05"),
    "MONEY": (postgresql.MONEY, "$1.50"),
    "OID": (postgresql.OID, 7),
    "REGCLASS": (postgresql.REGCLASS, "pg_class"),
    "REGCONFIG": (postgresql.REGCONFIG, "english"),
    "INTERVAL": (postgresql.INTERVAL, SPAN),
    "INTERVAL fields": (lambda: postgresql.INTERVAL(fields="DAY TO SECOND"), SPAN),
    "INTERVAL p": (lambda: postgresql.INTERVAL(precision=3), SPAN),
    "pg TIMESTAMP p": (lambda: postgresql.TIMESTAMP(True, 3), ZONED),
    "pg TIME p": (lambda: postgresql.TIME(precision=2), HOUR),
    "JSON": (postgresql.JSON, {"a": 1}),
    "JSONB": (postgresql.JSONB, {"a": 1}),
    "JSONB astext": (lambda: postgresql.JSONB(astext_type=sa.Unicode()), {"a": 1}),
    "JSONB mutable": (lambda: MutableDict.as_mutable(postgresql.JSONB()), {"a": 1}),
    "JSONPATH": (postgresql.JSONPATH, '$."a"'),
    "TSVECTOR": (postgresql.TSVECTOR, "'a'"),
    "TSQUERY": (postgresql.TSQUERY, "'a'"),
    "CITEXT": (postgresql.CITEXT, "a"),
    "HSTORE": (postgresql.HSTORE, {"a": "b"}),
    "HSTORE mutable": (lambda: MutableDict.as_mutable(postgresql.HSTORE()), {"a": "b"}),
    "pg ENUM": (lambda: postgresql.ENUM("p", "q", name="pq"), "q"),
    "DOMAIN": (
        lambda: postgresql.DOMAIN("positive", sa.Integer(), check="VALUE > 0"),
        3,
    ),
    **{
        name: (getattr(postgresql, name), None)
        for name in [
            "INT4RANGE",
            "INT8RANGE",
            "NUMRANGE",
            "DATERANGE",
            "TSRANGE",
            "TSTZRANGE",
            "INT4MULTIRANGE",
            "INT8MULTIRANGE",
            "NUMMULTIRANGE",
            "DATEMULTIRANGE",
            "TSMULTIRANGE",
            "TSTZMULTIRANGE",
        ]
    },
}

MYSQL: dict[str, Case] = {
    "DateTime tz": (lambda: sa.DateTime(timezone=True), MOMENT),
    "DATETIME": (sa.DATETIME, MOMENT),
    "BLOB": (sa.BLOB, b"a"),
    "BINARY": (lambda: sa.BINARY(4), b"abcd"),
    "VARBINARY": (lambda: sa.VARBINARY(4), b"a"),
    "NCHAR": (lambda: sa.NCHAR(5), "abcde"),
    "NVARCHAR": (lambda: sa.NVARCHAR(5), "abcde"),
    "DOUBLE": (sa.DOUBLE, 1.5),
    "collation": (lambda: sa.String(5, collation="utf8mb4_bin"), "a"),
    "Text n": (lambda: sa.Text(100), "a"),
    "mysql BIT": (lambda: mysql.BIT(3), 5),
    "mysql CHAR": (lambda: mysql.CHAR(5, charset="latin1"), "a"),
    "mysql VARCHAR": (
        lambda: mysql.VARCHAR(5, charset="latin1", collation="latin1_general_cs"),
        "a",
    ),
    "mysql ENUM": (lambda: mysql.ENUM("a", "it's", charset="latin1"), "it's"),
    "mysql SET": (lambda: mysql.SET("a", "b", charset="latin1"), {"a", "b"}),
    "mysql YEAR": (mysql.YEAR, 2026),
    "mysql TINYINT": (lambda: mysql.TINYINT(unsigned=True), 200),
    "mysql TINYINT 1": (lambda: mysql.TINYINT(1), 1),
    "mysql SMALLINT": (lambda: mysql.SMALLINT(unsigned=True), 7),
    "mysql MEDIUMINT": (lambda: mysql.MEDIUMINT(6, zerofill=True), 7),
    "mysql INTEGER": (lambda: mysql.INTEGER(11, unsigned=True), 7),
    "mysql BIGINT": (lambda: mysql.BIGINT(unsigned=True), 7),
    "mysql DECIMAL": (lambda: mysql.DECIMAL(8, 2, unsigned=True), Decimal("1.50")),
    "mysql NUMERIC": (lambda: mysql.NUMERIC(8, 2), Decimal("1.50")),
    "mysql DOUBLE": (lambda: mysql.DOUBLE(8, 2, asdecimal=False), 1.5),
    "mysql FLOAT": (lambda: mysql.FLOAT(8, 2, asdecimal=False), 1.5),
    "mysql REAL": (lambda: mysql.REAL(asdecimal=False), 1.5),
    "mysql DATETIME": (lambda: mysql.DATETIME(fsp=6), MOMENT),
    "mysql TIMESTAMP": (lambda: mysql.TIMESTAMP(fsp=3), MOMENT),
    "mysql TIME": (lambda: mysql.TIME(fsp=2), HOUR),
    "mysql JSON": (mysql.JSON, {"a": 1}),
    "mysql TEXT": (lambda: mysql.TEXT(charset="latin1"), "a"),
    **{
        f"mysql {name}": (getattr(mysql, name), b"a" if "BLOB" in name else "a")
        for name in ["TINYTEXT", "MEDIUMTEXT", "LONGTEXT", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB"]
    },
    "mysql NCHAR": (lambda: mysql.NCHAR(5), "a"),
    "mysql NVARCHAR": (lambda: mysql.NVARCHAR(5), "a"),
}

OF: dict[str, dict[str, Case]] = {
    "sqlite": EVERYWHERE | OURS | SQLITE,
    "postgresql": EVERYWHERE | OURS | POSTGRESQL,
    "mysql": EVERYWHERE | OURS | MYSQL,
}
