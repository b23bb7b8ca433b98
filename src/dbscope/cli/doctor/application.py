"""Checks of the application: its middleware, and its secrets, of which only names are shown."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, cast

from dbscope import DBSessionMiddleware
from dbscope.backends.doctor import Finding, ok, serious, warning
from dbscope.cli.find import Found, modules_of

SHORTEST = 32  # bytes, as long as the output of the SHA-256 that signs (RFC 2104, section 3)
FEWEST = 10  # different characters; a random one of 32 has some 25
SECRET = re.compile(r"secret|password|(^|_)keys?$", re.IGNORECASE)
SIGNING = re.compile(r"(secret|signing|session)_keys?$", re.IGNORECASE)
USUAL = {"admin", "changeme", "changethis", "example", "password", "root", "secret"}
MAKE_ONE = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'


def middlewares(found: Found) -> Iterator[tuple[str, Any]]:
    """Give what the application was given, outermost first: each base class's name, options."""
    for middleware in getattr(found.application, "user_middleware", ()):
        for cls in getattr(middleware.cls, "__mro__", ()):
            yield cls.__name__, middleware.kwargs


def session_middleware(found: Found) -> Finding | None:
    """DBSessionMiddleware is there."""
    if found.application is None:
        return None
    if DBSessionMiddleware.__name__ not in dict(middlewares(found)):
        return serious(
            "The application has no DBSessionMiddleware: requests have no session.",
            "Call db.install(app), or add Middleware(DBSessionMiddleware).",
        )
    return ok("DBSessionMiddleware is there")


def default_secrets(found: Found) -> Finding | None:
    """No secret of the settings is the one that the code has."""
    secrets = list(secrets_of_settings(found))
    default = [name for name, value, standard in secrets if value == standard]
    if default:
        return serious(
            f"{', '.join(default)}: still the value that the code has, which others know.",
            f"Set it in the environment; one is made by {MAKE_ONE}",
        )
    return ok("no secret is the one in the code") if secrets else None


def short_secrets(found: Found) -> Finding | None:
    """No key that signs can be guessed."""
    keys = {name: value for name, value, _ in secrets_of_settings(found) if SIGNING.search(name)}
    for name, options in middlewares(found):
        if name == "SessionMiddleware" and "secret_key" in options:
            keys["the secret_key of SessionMiddleware"] = options["secret_key"]
    short = [name for name, value in keys.items() if any(is_weak(text) for text in texts(value))]
    if short:
        return serious(
            f"{', '.join(short)}: shorter than {SHORTEST} bytes, or always the same characters.",
            f"Use a random one; it is made by {MAKE_ONE}",
        )
    return ok("all keys are long enough") if keys else None


def is_weak(key: str) -> bool:
    """Tell whether a key can be guessed."""
    return len(key.encode()) < SHORTEST or len(set(key)) < FEWEST


def database_password(found: Found) -> Finding | None:
    """The password of a database is not what everybody tries first."""
    for name, db in found.databases.items():
        usual = USUAL | db.backend.doctor().usual_passwords | {db.url.username}
        if db.url.password and db.url.password in usual:
            return warning(
                f"The password of the database {name} is what everybody tries first.",
                "Choose another one, and take the URL from the environment.",
            )
    return None


def own_checks(found: Found) -> Iterator[Callable[[], Finding | None]]:
    """Give the checks that the application has for itself, in `app.state.doctor`.

    Each is a function that returns None, or what is wrong and what to do about it.
    """
    for own in getattr(getattr(found.application, "state", None), "doctor", ()):

        @wraps(own)
        def check(own: Callable[[], tuple[str, str] | None] = own) -> Finding | None:
            wrong = own()
            return None if wrong is None else serious(*wrong)

        yield check


def secrets_of_settings(found: Found) -> Iterator[tuple[str, Any, Any]]:
    """Give name, value and default of the secrets in the application's pydantic-settings."""
    settings: Any = sys.modules.get("pydantic_settings")
    if settings is None:
        return
    held = [value for module in modules_of(found.module) for value in vars(module).values()]
    for each in {id(value): value for value in held}.values():
        if not isinstance(each, settings.BaseSettings):
            continue
        for name, field in cast("Any", type(each)).model_fields.items():
            secret = getattr(each, name)
            if SECRET.search(name) and any(texts(secret)):
                yield f"{type(each).__name__}.{name}", secret, field.default


def texts(value: Any) -> list[str]:
    """Return the text of a secret, or the texts of several (a key and its predecessors)."""
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, list | tuple | set | frozenset):
        return [text for each in cast("list[Any]", value) for text in texts(each)]
    return [value] if isinstance(value, str) else []


CHECKS = (session_middleware, default_secrets, short_secrets, database_password)
