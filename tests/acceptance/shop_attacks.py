"""Attacks that are one request each: who sends it, what it is, and the answer it must get."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FOREIGN = {"Origin": "https://evil.example"}
ALLOWED = "https://app.example.com"
JSON = {"Content-Type": "application/json"}
CUP = {"name": "another cup", "price": "1.00"}
USER = {"email": "new@example.com", "name": "new", "password": "long enough"}
LOGIN = {"email": "nobody@example.com", "password": "long enough"}
NESTED = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
ETC_PASSWD = "%2e%2e%2f" * 8 + "etc%2fpasswd"


@dataclass(frozen=True)
class Attack:
    """A request, and the status of its answer.

    `{item}` and `{order}` in the path are those of Anna; Bert and a stranger do not own them.
    """

    who: str
    method: str
    path: str
    status: int
    options: dict[str, Any] = field(default_factory=dict)


def send(who: str, method: str, path: str, status: int, **options: Any) -> Attack:
    """Return an attack, with the options of httpx."""
    return Attack(who, method, path, status, options)


def page(status: int, **query: Any) -> Attack:
    """Return an attack on the parameters of a list."""
    return send("stranger", "GET", "/items", status, params=query)


def body(path: str, status: int, content: bytes, who: str = "bert") -> Attack:
    """Return an attack by a body that says to be JSON."""
    return send(who, "POST", path, status, content=content, headers=JSON)


def named(name: str) -> Attack:
    """Return an attack by the name of a user, as JSON spells it."""
    told = f'{{"email": "new@example.com", "name": "{name}", "password": "long enough"}}'
    return body("/users", 422, told.encode(), "stranger")


OWNERS = {
    "A stranger changes the item of somebody else": send(
        "stranger", "PATCH", "/items/{item}", 401, json={"price": "0.01"}
    ),
    "A user changes the item of somebody else": send(
        "bert", "PATCH", "/items/{item}", 403, json={"price": "0.01"}
    ),
    "A user deletes the item of somebody else": send("bert", "DELETE", "/items/{item}", 403),
    "A user adds to the stock of somebody else": send(
        "bert", "POST", "/items/{item}/stock", 403, json={"quantity": 1}
    ),
    "A user reads the order of somebody else": send("bert", "GET", "/orders/{order}", 404),
    "A user reads the page of the order of somebody else": send(
        "bert", "GET", "/shop/orders/{order}", 404
    ),
    "A stranger reads an order": send("stranger", "GET", "/orders/{order}", 401),
    "A stranger orders": send(
        "stranger", "POST", "/orders", 401, json={"lines": [{"item_id": 1, "quantity": 1}]}
    ),
    "A stranger stores an item": send("stranger", "POST", "/items", 401, json=CUP),
    "A stranger deletes an item": send("stranger", "DELETE", "/items/{item}", 401),
    "A user stores an item in the name of somebody else": send(
        "bert", "POST", "/items", 403, json={**CUP, "owner_id": 1}
    ),
    "A user gives an item to somebody else": send(
        "anna", "PATCH", "/items/{item}", 403, json={"owner_id": 2}
    ),
    "A change of a version that is no longer there": send(
        "anna", "PATCH", "/items/{item}", 412, json={"price": "2"}, headers={"If-Match": '"99"'}
    ),
    "A change by the tag of another item": send(
        "anna",
        "PATCH",
        "/items/{item}",
        412,
        json={"price": "2"},
        headers={"If-Match": '"item-0-1"'},
    ),
    "A change by a weak tag": send(
        "anna",
        "PATCH",
        "/items/{item}",
        412,
        json={"price": "2"},
        headers={"If-Match": 'W/"item-1-1"'},
    ),
    "An order at a price that is not the one that holds": send(
        "bert", "POST", "/orders", 409, json={"lines": [{"item_id": 1, "price": "0.01"}]}
    ),
    "A deletion of a version that is no longer there": send(
        "anna", "DELETE", "/items/{item}", 412, headers={"If-Match": '"99"'}
    ),
}

OTHER_SITES = {
    "A page of another site orders": send(
        "anna", "POST", "/orders", 403, json={}, headers={"Sec-Fetch-Site": "cross-site"}
    ),
    "A page of a subdomain orders": send(
        "anna", "POST", "/orders", 403, json={}, headers={"Sec-Fetch-Site": "same-site"}
    ),
    "A page of another site orders, by an old browser": send(
        "anna", "POST", "/orders", 403, json={}, headers=FOREIGN
    ),
    "A page without an origin orders (a sandbox, a file)": send(
        "anna", "POST", "/orders", 403, json={}, headers={"Origin": "null"}
    ),
    "A page of another site logs somebody in": send(
        "stranger", "POST", "/login", 403, json=LOGIN, headers=FOREIGN
    ),
    "A page of another site logs somebody out": send(
        "anna", "POST", "/logout", 403, headers={"Sec-Fetch-Site": "cross-site"}
    ),
    "A page of a host that is not ours (DNS rebinding)": send(
        "anna", "GET", "/items", 400, headers={"Host": "evil.example"}
    ),
    "A form of another site is sent to a page": send(
        "anna", "POST", "/shop/logout", 403, headers={"Sec-Fetch-Site": "cross-site"}
    ),
    "A page of another site deletes": send("anna", "DELETE", "/items/{item}", 403, headers=FOREIGN),
    "A link logs out": send("anna", "GET", "/shop/logout", 405),
    "A form sends JSON as plain text": send(
        "anna", "POST", "/orders", 422, content=b"{}", headers={"Content-Type": "text/plain"}
    ),
}

LISTS = {
    "A negative limit": page(422, limit=-1),
    "A limit of nothing": page(422, limit=0),
    "A limit of everything": page(422, limit=10**9),
    "A limit that is no number": page(422, limit="NaN"),
    "A limit in another notation": page(422, limit="1e3"),
    "A limit with SQL in it": page(422, limit="1; DROP TABLE items"),
    "A negative offset": page(422, offset=-1),
    "An offset beyond the largest number": page(422, offset=2**63),
    "An offset of 4000 digits": page(422, offset="9" * 4000),
    "A cursor of nonsense": page(422, after="nonsense"),
    "An empty cursor": page(422, after=""),
    "A cursor of 1001 characters": page(422, after="A" * 1001),
    "A cursor with NUL": page(422, after="\0"),
    "A sort by the hash of the password": page(422, sort="password_hash"),
    "A sort by a column that is not offered": page(422, sort="owner_id"),
    "A sort by SQL": page(422, sort="id; DROP TABLE items"),
    "A sort by a subquery": page(422, sort="(SELECT password_hash FROM users)"),
    "A sort by one column twice": page(422, sort="name,-name"),
    "A sort by more columns than there are": page(422, sort="id,name,price,id"),
    "A sort by 5000 columns": page(422, sort="-name," * 5000 + "id"),
    "A list of 300 tags": send(
        "anna", "PATCH", "/items/{item}", 422, json={}, headers={"If-Match": '"a",' * 300}
    ),
    "An id with SQL in it": send("stranger", "GET", "/items/1%20OR%201=1", 422),
    "An id of 4000 digits": send("stranger", "GET", "/items/" + "9" * 4000, 422),
}

BODIES = {
    "JSON of a wrong type": body("/users", 422, b'["email"]'),
    "A number for a password": body("/login", 422, b'{"email": "a@b.c", "password": 12345678}'),
    "An object for an e-mail address": body(
        "/login", 422, b'{"email": {"$ne": null}, "password": "x"}'
    ),
    "NUL in an e-mail address": body("/login", 422, b'{"email": "a\\u0000@b", "password": "x"}'),
    "A line break in an e-mail address": send(
        "stranger", "POST", "/users", 422, json={**USER, "email": "a@b.c\r\nBcc: everybody@b.c"}
    ),
    "A header in an e-mail address, encoded": send(
        "stranger", "POST", "/users", 422, json={**USER, "email": "=?utf-8?q?=0aBcc:_x?=@b.c"}
    ),
    "A separator that counts as a line break in an e-mail address": send(
        "stranger", "POST", "/users", 422, json={**USER, "email": "a\x1cb@example.com"}
    ),
    "Two receivers in an e-mail address": send(
        "stranger", "POST", "/users", 422, json={**USER, "email": "anna,bert@example.com"}
    ),
    "SQL in an e-mail address": send(
        "stranger", "POST", "/login", 422, json={**LOGIN, "email": "' OR 1=1 -- @b.c"}
    ),
    "SQL in a password": send(
        "stranger", "POST", "/login", 401, json={**LOGIN, "password": "' OR '1'='1"}
    ),
    "A password of 100,000 characters at the login": send(
        "stranger", "POST", "/login", 422, json={**LOGIN, "password": "x" * 100_000}
    ),
    "A password of 100,000 characters for a new user": send(
        "stranger", "POST", "/users", 422, json={**USER, "password": "x" * 100_000}
    ),
    "Half a character (a lone surrogate) as a password": body(
        "/users", 422, b'{"email": "a@b.c", "name": "a", "password": "\\ud800 long enough"}'
    ),
    "Half a character (a lone surrogate) at the login": body(
        "/login", 422, b'{"email": "a@b.c", "password": "\\ud800 long enough"}'
    ),
    "Half a character (a lone surrogate) as a name": body(
        "/items", 422, b'{"name": "\\ud800", "price": 1}'
    ),
    "TAB in a name": named("a\\tb"),
    "DEL in a name": named("a\\u007fb"),
    "A line break in a name": named("Anna\\nTotal: 0.00"),
    "A line separator in a name": named("Anna\\u2028Total: 0.00"),
    "A name that is shown backwards": named("a\\u202egnp.exe"),
    "A name of nothing but spaces": named(" \\u3000\\u00a0 "),
    "A name of nothing that is seen": named("\\u200b\\u3164\\u200d"),
    "An e-mail address that no mail can be made for": send(
        "stranger", "POST", "/users", 422, json={**USER, "email": "anna..b@example.com"}
    ),
    "JSON that is nested 50,000 deep": body("/items", 400, NESTED),
    "JSON that is no UTF-8": body("/items", 400, b'{"name": "\xff", "price": 1}'),
    "A number of 5000 digits": body("/items", 400, b'{"name": "x", "price": %s}' % (b"9" * 5000)),
    "A number with a huge exponent": body("/items", 422, b'{"name": "x", "price": "1e999999"}'),
    "A price that is no number": body("/items", 422, b'{"name": "x", "price": NaN}'),
    "A negative price": body("/items", 422, b'{"name": "x", "price": "-1"}'),
    "A negative quantity": body("/orders", 422, b'{"lines": [{"item_id": 1, "quantity": -1}]}'),
    "An order of nothing": body("/orders", 422, b'{"lines": []}'),
    "One item on two lines": body("/orders", 422, b'{"lines": [{"item_id": 1}, {"item_id": 1}]}'),
    "A body of 10 MB": body("/login", 413, b'{"email": "%s"}' % (b"x" * 10_000_000)),
}

FILES = {
    "A path out of the folder of files": send(
        "stranger", "GET", "/shop/static/..%2f..%2f..%2fconfig.py", 404
    ),
    "A path to the passwords of the machine": send(
        "stranger", "GET", "/shop/static/" + ETC_PASSWD, 404
    ),
    "An absolute path": send("stranger", "GET", "/shop/static/%2fetc%2fpasswd", 404),
    "A path with NUL": send("stranger", "GET", "/shop/static/shop.css%00.svg", 404),
    "The folder itself": send("stranger", "GET", "/shop/static/", 404),
}

REQUESTS = {**OWNERS, **OTHER_SITES, **LISTS, **BODIES, **FILES}
