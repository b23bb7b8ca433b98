"""The settings of a database, as they were given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.ext.asyncio import AsyncEngine

from dbscope.engine import options, session_state
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

    from dbscope.backends.base import Features
    from dbscope.unit.policy import AtomicRequests

SessionSettings = Callable[[], Mapping[str, object]]


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

    def __post_init__(self) -> None:
        if self.manual_commit not in ("allow", "forbid"):
            raise ConfigurationError(
                f"manual_commit is 'allow' or 'forbid', not {self.manual_commit!r}."
            )
        if self.session_settings is not None and not callable(self.session_settings):
            raise ConfigurationError(
                "session_settings is a function that returns the settings of each transaction, "
                f"not {self.session_settings!r}."
            )
        if self.client_wait is not None and not self.client_wait > 0:
            raise ConfigurationError(
                f"client_wait is seconds, or None for no limit, not {self.client_wait!r}."
            )
        if self.engine is not None and self.engine_options:
            raise ConfigurationError(
                "engine_options are for an engine that is to be made; this one is there already."
            )

    def check(
        self, features: Features, url: URL, session_class: type[Any], *, is_async: bool
    ) -> None:
        """Check what was given against what there is; nothing is connected to, or sent.

        Args:
            features: what the database can do.
            url: with the driver that is to be used.
            session_class: SQLAlchemy's, or a subclass of it.
            is_async: which kind of database.

        Raises:
            ConfigurationError: something that cannot be honoured.
        """
        features.require(*self._asked())
        if self.reset_session:
            session_state.check((self.engine or url.get_dialect()).driver)
        options.check_session(self.session_options, session_class, is_async=is_async)
        if self.engine is None:
            options.check_engine(self.engine_options, url, is_async=is_async)
        elif isinstance(self.engine, AsyncEngine) is not is_async:
            wanted = "an AsyncEngine" if is_async else "an Engine"
            raise ConfigurationError(f"engine must be {wanted} here, not {self.engine!r}.")
        else:
            options.check_given(self.engine)

    def _asked(self) -> list[str]:
        given = {
            "verify_commit": self.verify_commit,
            "session_settings": self.session_settings is not None,
            "reset_session": self.reset_session,
        }
        return [name for name, is_given in given.items() if is_given]
