"""The settings of a database, as they were given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

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
    engine_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    session_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    session_class: type[Any] | None = None
    manual_commit: Literal["allow", "forbid"] = "allow"
    verify_commit: bool = False
    session_settings: SessionSettings | None = None
    idle_limit: float | None = None  # seconds
    retry_codes: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.manual_commit not in ("allow", "forbid"):
            raise ConfigurationError(
                f"manual_commit is 'allow' or 'forbid', not {self.manual_commit!r}."
            )

        if str(self.engine_options.get("isolation_level", "")).upper() == "AUTOCOMMIT":
            raise ConfigurationError(
                "An engine with isolation_level='AUTOCOMMIT' keeps the work of a scope that fails. "
                "Autocommit is `atomic_requests=False`, or `scope(atomic=False)`."
            )

    def for_postgresql(self) -> list[str]:
        """Return the names of those that only PostgreSQL can follow."""
        given = {
            "verify_commit": self.verify_commit,
            "session_settings": self.session_settings is not None,
        }
        return [name for name, is_given in given.items() if is_given]
