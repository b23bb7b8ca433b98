"""What a block asks for, and whether it can have it where it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbscope.errors import AttributeMismatch, ConfigurationError

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit

Classes = tuple[type[BaseException], ...]

# SQL's own; a database may give a stronger one than it is asked for.
ISOLATION_LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtomicOptions:
    """The arguments of `atomic()`; see `AsyncDatabase.atomic`."""

    savepoint: bool = True
    durable: bool = False
    required: bool = False  # there must be a transaction already
    own: bool = False  # a session and a connection of its own
    isolation: str | None = None
    readonly: bool | None = None
    timeout: float | None = None  # seconds
    retry: int = 0  # of a decorated function: how often it may be done again
    rollback_for: Classes = ()
    no_rollback_for: Classes = ()

    @property
    def features(self) -> list[str]:
        """Return what the database must be able to do for it."""
        asked = {
            "isolation": self.isolation is not None,
            "readonly": bool(self.readonly),
            "statement_timeout": self.timeout is not None,
        }
        return [name for name, is_asked in asked.items() if is_asked]

    def keeps(self, error: BaseException | None) -> bool:
        """Tell whether what was done is kept though this exception leaves the block.

        The rule for the nearest class of the exception decides, as in Spring
        (`RuleBasedTransactionAttribute`); without one it is rolled back. So it is by a
        cancellation and its kin, which are no answer of the business.
        """
        if not (self.no_rollback_for and isinstance(error, Exception)):
            return False
        classes = type(error).__mro__
        return _nearest(classes, self.no_rollback_for) < _nearest(classes, self.rollback_for)


PLAIN = AtomicOptions()


def _nearest(classes: Classes, rules: Classes) -> int:
    return next((position for position, each in enumerate(classes) if each in rules), len(classes))


def exception_classes(given: type[BaseException] | Classes) -> Classes:
    """Return the exception classes, of which one or several were given.

    Raises:
        ConfigurationError: something else was given.
    """
    classes: Classes = given if isinstance(given, tuple) else (given,)
    for each in classes:
        if not _is_exception(each):
            raise ConfigurationError(f"{each!r} must be a class of exceptions.")
    return classes


def _is_exception(given: object) -> bool:
    return isinstance(given, type) and issubclass(given, BaseException)


def isolation_level(name: str | None) -> str | None:
    """Return the name of an isolation level as SQL writes it.

    Raises:
        ConfigurationError: there is no such level.
    """
    if name is None:
        return None
    level = name.upper().replace("_", " ")
    if level not in ISOLATION_LEVELS:
        raise ConfigurationError(
            f"isolation={name!r} must be one of {', '.join(ISOLATION_LEVELS)}."
        )
    return level


def check(unit: Unit, asked: AtomicOptions, where: object) -> None:
    """Raise AttributeMismatch if the block would be part of something of another kind.

    Spring ignores that by default and SQLAlchemy warns; Rails and .NET raise, and so do we.
    """
    if asked.isolation is None and asked.readonly is None:
        return
    root = unit.blocks[0] if unit.blocks else None
    if root is not None and asked.isolation not in (None, root.isolation):
        raise AttributeMismatch(
            f"The block opened at {where} asks for {asked.isolation}, and {root} "
            f"has {root.isolation or 'the isolation of the database'}."
        )
    fixed = root is not None or unit.readonly
    if fixed and asked.readonly not in (None, unit.is_readonly):
        kinds = {True: "read-only", False: "for writing"}
        raise AttributeMismatch(
            f"The block opened at {where} is to be {kinds[not unit.is_readonly]}, and "
            f"{root or unit.scope} is {kinds[unit.is_readonly]}."
        )
