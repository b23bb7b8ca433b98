"""Secrets are shown as ***: the one place that knows how a password can be spelled.

For whatever a person may read: `repr`, messages, logs, reports. Rather too much is hidden than too
little, and every text is read once, from the left to the right.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

HIDDEN = "***"
NAMES = ("password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "credential")
# A name and what is given to it: `?sslpassword=a`, `password = 'a b'`, `"passwd": "a"`.
GIVEN = re.compile(r"""(?<![\w%.-])(?P<name>[\w%.-]++)["']?\s*+(?P<sign>[=:])\s*+""")
QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\"""", re.DOTALL)
WORD = re.compile(r"[^\s&]++")
# Of a header, or a line of YAML; prose has colons too: "password: must be longer".
AFTER_COLON = re.compile(r"(?![a-zA-Z]++ [a-z])[^\s&,;]++")
USED = re.compile(r"\(using password: (?:YES|NO)\)")  # of MySQL's "Access denied"
# `IDENTIFIED BY 'a'`, `PASSWORD 'a'`; `Authorization: Bearer a`; `odbc_connect=…%3BPWD%3Da%3B`.
IN_SQL = re.compile(
    r"\b(?P<words>(?:PASSWORD|IDENTIFIED\s++(?:(?:WITH|VIA)\s++\w++\s++)?(?:BY|AS|USING))\s++)"
    rf"(?:{QUOTED.pattern})",
    re.IGNORECASE | re.DOTALL,
)
BEARER = re.compile(  # words of prose are of letters only
    r"\b(?P<kind>Bearer|Basic)\s++(?=[a-z]*+[\d._~+/=-])[\w.~+/=-]++", re.IGNORECASE
)
ENCODED = re.compile(
    r"(?P<name>(?:%3B|[?&;=]|(?<![\w%+.-]))(?:(?!%3[BD])[\w%+.-]){1,40}?)%3D(?:(?!%3B)[^\s&])++",
    re.IGNORECASE,
)
# `user:password@` of a URL, as far as the last @: a password may have one that is not escaped.
SCHEME = re.compile(r"(?<![\w+.-])[\w+.-]++://")
PORT = re.compile(r":\d*+(?![^\s/?#])")
END = re.compile(r"[\r\n\"'<>]|\s(?=\S*://)")


def masked(value: object) -> str:
    """Return a text, or the text of anything, with *** in place of the secrets in it.

    Args:
        value: a message, a URL (also one of SQLAlchemy's), a DSN in words, an error.

    Example:
        >>> masked("postgresql://shop:tea@pot@db/shop?sslpassword=tea")
        'postgresql://shop:***@db/shop?sslpassword=***'
    """
    render = getattr(value, "render_as_string", None)
    text = str(render(hide_password=True) if callable(render) else value)
    return _without_others(_without_given(_without_userinfo(text)))


def is_secret(name: str) -> bool:
    """Tell whether what is called so is not to be shown."""
    plain = unquote_plus(name).lower().replace("_", "").replace("-", "")
    return any(each in plain for each in NAMES)


def _without_given(text: str) -> str:
    parts: list[str] = []
    done = start = 0
    while found := GIVEN.search(text, start):
        start = found.end()
        if not is_secret(found["name"]) or USED.match(text, max(found.start() - 7, 0)):
            continue
        quoted = QUOTED.match(text, start)
        given = quoted or (WORD if found["sign"] == "=" else AFTER_COLON).match(text, start)
        if given is not None:
            quote = given[0][0] if quoted else ""
            parts += [text[done:start], quote, HIDDEN, quote]
            done = start = given.end()
    return "".join([*parts, text[done:]])


def _without_others(text: str) -> str:
    """Hide what stands behind words of SQL and of HTTP, and in a URL within a URL."""
    text = BEARER.sub(rf"\g<kind> {HIDDEN}", text)
    text = ENCODED.sub(lambda m: f"{m['name']}%3D{HIDDEN}" if is_secret(m["name"]) else m[0], text)
    return IN_SQL.sub(rf"\g<words>'{HIDDEN}'", text)


def _without_userinfo(text: str) -> str:
    parts: list[str] = []
    done = 0
    while found := SCHEME.search(text, done):
        start = found.end()
        stop = END.search(text, start)
        end = len(text) if stop is None else stop.start()
        parts += [text[done:start], _hide_userinfo(text[start:end], found[0])]
        done = end
    return "".join([*parts, text[done:]])


def _hide_userinfo(rest: str, scheme: str) -> str:
    """Return what is behind `scheme://` without the password; blanks may be a part of that."""
    word = rest.split(maxsplit=1)[0] if rest.strip() else rest
    user, colon, _ = word.partition(":")
    at = rest.rfind("@") if colon and not PORT.match(word, len(user)) else word.rfind("@")
    if at < 0:
        return rest
    if not colon or len(user) > at:
        return f"{HIDDEN}{rest[at:]}" if scheme.startswith("http") else rest
    return f"{user}:{HIDDEN}{rest[at:]}"
