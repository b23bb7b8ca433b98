"""The settings of a database, as they were given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from dbscope import arguments
from dbscope.arguments import Rule, or_none
from dbscope.backends import registry
from dbscope.engine import options, session_state
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from dbscope.backends.base import Backend
    from dbscope.unit.policy import AtomicRequests

SessionSettings = Callable[[], Mapping[str, object]]


OF_KIND = {
    True: or_none(
        Rule(
            "an AsyncEngine or AsyncConnection",
            lambda value: isinstance(value, AsyncEngine | AsyncConnection),
        )
    ),
    False: or_none(
        Rule("an Engine or Connection", lambda value: isinstance(value, Engine | Connection))
    ),
}
RULES = {
    "name": arguments.TEXT,
    "atomic_requests": arguments.DECIDES,
    "engine_options": arguments.OPTIONS,
    "session_options": arguments.OPTIONS,
    "session_class": or_none(Rule("a class", lambda value: isinstance(value, type))),
    "manual_commit": arguments.one_of("allow", "forbid"),
    "verify_commit": arguments.FLAG,
    "session_settings": or_none(arguments.CALLED),
    "idle_limit": arguments.SECONDS,
    "client_wait": arguments.SECONDS,
    "retry_codes": arguments.CODES,
    "reset_session": arguments.FLAG,
    "allow_async_unsafe": arguments.FLAG,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The arguments of `Database` and `AsyncDatabase`, which say what each is.

    Raises:
        ConfigurationError: a value that there is not.
    """

    name: str
    atomic_requests: AtomicRequests = True
    engine: Engine | AsyncEngine | None = None
    engine_options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    session_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    session_class: type[Any] | None = None
    manual_commit: Literal["allow", "forbid"] = "allow"
    verify_commit: bool = False
    session_settings: SessionSettings | None = None
    idle_limit: float | None = None  # seconds
    client_wait: float | None = 5.0  # seconds
    retry_codes: Collection[str] = ()
    reset_session: bool = False
    allow_async_unsafe: bool = False

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            arguments.check(name, getattr(self, name), rule)
        if self.engine is not None and self.engine_options:
            raise ConfigurationError(
                "engine_options are for an engine that dbscope creates, and a ready one was given; "
                "give them to `create_engine`."
            )

    def check(self, backend: Backend, session_class: type[Any], *, is_async: bool) -> None:
        """Check what was given against what there is; nothing is connected to, or sent.

        Args:
            backend: that of the database.
            session_class: SQLAlchemy's, or a subclass of it.
            is_async: which kind of database.

        Raises:
            ConfigurationError: something that cannot be honoured.
        """
        registry.require(backend, *self._asked())
        if self.reset_session:
            session_state.check(self.engine.dialect if self.engine else backend.url.get_dialect())
        options.check_session(self.session_options, session_class, is_async=is_async)
        if self.engine is None:
            options.check_engine(self.engine_options, backend, is_async=is_async)
        else:
            options.check_given(self.engine)

    def _asked(self) -> list[str]:
        given = {
            "verify_commit": self.verify_commit,
            "session_settings": self.session_settings is not None,
            "reset_session": self.reset_session,
        }
        return [name for name, is_given in given.items() if is_given]


def values_of(settings: SessionSettings) -> dict[str, str]:
    """Return what is to be set: asked before anything is begun, since it may fail.

    A value of None is the empty text, which stands for what was never set.
    """
    values = arguments.check("What session_settings returns", settings(), arguments.OPTIONS)
    return {name: "" if value is None else str(value) for name, value in values.items()}


def for_other_kind(settings: Settings, *, is_async: bool) -> dict[str, Any]:
    """Return what is different in the settings of the companion of a database.

    Args:
        settings: those of the database.
        is_async: that database, and not its companion.
    """
    session, engine = dict(settings.session_options), dict(settings.engine_options)
    found: dict[str, Any] = {"session_options": session, "engine_options": engine}
    plain = session.pop("sync_session_class", None)
    if is_async and plain is not None:
        found["session_class"] = plain
    if engine.get("poolclass") in {QueuePool, AsyncAdaptedQueuePool}:
        engine["poolclass"] = QueuePool if is_async else AsyncAdaptedQueuePool
    return found
