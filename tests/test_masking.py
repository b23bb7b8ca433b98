"""What is secret is shown as ***, in whatever spelling: `repr`, messages, the command, logs."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from dbscope import AsyncDatabase, ConfigurationError, Database, DatabaseUnavailable, masked
from dbscope.cli import say
from dbscope.cli.ping import shown

SECRET = "s3cr3t"

SPELLINGS = [
    f"postgresql://shop:{SECRET}@db/shop",
    f"postgresql://shop:tea@{SECRET}@db/shop",
    f"postgresql://shop:tea/{SECRET}@db/shop",
    f"postgresql://shop:tea {SECRET}@db/shop",
    f"postgresql://shop@azure:{SECRET}@db/shop",
    f"postgresql+psycopg://:{SECRET}@db:5432",
    f"postgresql:///shop?user=shop&password={SECRET}",
    f"postgresql://db/shop?PASSWORD={SECRET}&application_name=a",
    f"postgresql://db/shop?p%61ssword={SECRET}",
    f"postgresql://db/shop?sslkey=a&sslpassword={SECRET}#b",
    f"mysql://db/shop?passwd={SECRET}",
    f"mysql://db/shop?pwd={SECRET}",
    f"of postgresql://a:b@db1/shop, postgresql://a:{SECRET}@db2/shop",
    f"host=db password={SECRET} dbname=shop",
    f"host=db password = 'tea {SECRET}' dbname=shop",
    f"{{'host': 'db', 'password': '{SECRET}'}}",
    f'{{"passwd": "tea \\" {SECRET}"}}',
    f"connect(password='{SECRET}', host='db')",
    f"SECRET_KEYS={SECRET},older",
    f"https://{SECRET}@sentry.example.com/1",
    f"password: {SECRET}",
    f"- db:\n    password: {SECRET}\n    host: db",
    f"Authorization: Bearer {SECRET}.abc",
    f"authorization: basic {SECRET}==",
    f"ALTER ROLE shop PASSWORD '{SECRET}'",
    f"ALTER USER shop IDENTIFIED BY '{SECRET}'",
    f"CREATE USER shop IDENTIFIED WITH mysql_native_password AS '{SECRET}'",
    f"mssql+pyodbc:///?odbc_connect=Driver%3Da%3BPWD%3D{SECRET}%3BUID%3Da",
    f"mssql+pyodbc:///?odbc_connect=pwd%3D{SECRET}",
    f"smtps://shop:{SECRET}@mail.example.com:465",
]
WHERE: list[Callable[[str], str]] = [
    masked,
    lambda text: str(DatabaseUnavailable(f"{text}: nobody is there.")),
    lambda text: repr(ConfigurationError(text)),
    lambda text: masked(f"It did not work: {text} (try again)\nand a second line"),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_password_is_hidden_in_every_spelling(spelling: str, capsys) -> None:
    """By one function, which our messages and what the command prints go through."""
    for show in WHERE:
        assert SECRET not in show(spelling)
        assert "***" in show(spelling)
    say.say(spelling)
    say.echo_err(spelling)
    assert SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize("spelling", [each for each in SPELLINGS if "ql://" in each[:15]])
def test_no_database_shows_its_password(spelling: str) -> None:
    """Made of a text or of a URL object."""
    for url in (spelling, make_url(spelling)):
        db = Database(url, engine_options={"connect_args": {"password": SECRET}})
        assert SECRET not in repr(db) + str(db) + repr(db._settings) + shown(db)


def test_a_url_that_cannot_be_read_is_not_shown() -> None:
    """Neither is what SQLAlchemy says about it: that quotes a part of it, the wrong one."""
    with pytest.raises(ConfigurationError) as caught:
        AsyncDatabase(f"postgresql://shop:tea@pot:{SECRET}@db/shop")
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown.replace(__file__, "").partition("ConfigurationError")[2]
    assert caught.value.__suppress_context__


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
@example("@")
@example("p@ss:w/ord")
@example(" ")
@example("1 2")
def test_a_password_of_a_url_object_may_be_any_text(text: str) -> None:
    """Also one that cannot be written in a URL."""
    password = f"{text}{SECRET}"
    query = {"passwd": password, "sslpassword": password}
    url = URL.create("postgresql", "shop", password, "db", database="shop", query=query)
    assert SECRET not in masked(url)
    assert SECRET not in repr(Database(url))
    assert SECRET not in masked(f"postgresql://shop:{quote(password, safe='')}@db/shop")


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///app.db",
        "postgresql://shop@db:5432/shop",
        "http://127.0.0.1:8000 answers, write to anna@example.com",
        'password authentication failed for user "shop"',
        "the password: at least 8 characters",
        'SELECT a AS "b" FROM t ORDER BY "b"',
        "Basic rules: none; the bearer knows",
        """(1045, "Access denied for user 'shop'@'db' (using password: YES)")""",
        "UPDATE users SET password_hash = %(password_hash)s".replace(" = %(password_hash)s", ""),
        "",
    ],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    """A message must still say something."""
    assert masked(text) == text


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["://", "a", ":", "@", "password", "=", "'", '"', " ", "\\", "%"])))
@example(["://", "a", ":", " "])
@example(["password", "=", "'", "\\"])
@example(["%"])
def test_no_text_takes_for_ever(pieces: list[str]) -> None:
    """Errors and logs may have in them what a stranger has sent."""
    begin = time.process_time()
    masked("".join(pieces[:5]) * 4_000)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("path", ["/a\nERROR forged", "/a\x1b[31m", "/ä b", "/\ud800"])
def test_a_path_is_quoted_in_messages(path: str) -> None:
    """What a client has sent makes no line of its own in a log, and no colour on a terminal."""
    from dbscope.scopes.request import RequestScope

    scope = RequestScope({"method": "GET", "path": path}, None, None)  # type: ignore[arg-type]
    assert str(scope).isascii()
    assert str(scope).isprintable()
    assert str(scope).startswith("GET /")
