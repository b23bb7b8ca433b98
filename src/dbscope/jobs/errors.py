"""Errors that keep their type on the way to another process.

A system of jobs makes the error of a result anew, from its type and its `args`. SQLAlchemy's need
more than that, and so come out as a plain `Exception`. Each has a subclass here that is made of its
text alone. An error of the application needs none, if it is made of its `args`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc

from dbscope import masked


def _init(self: Any, text: str) -> None:
    exc.StatementError.__init__(self, text, None, None, None)


def _reduce(self: Any) -> tuple[Any, ...]:
    return self.__class__, (str(self),)


def _text(self: Any) -> str:
    return str(self.args[0])


def _of(base: type[exc.StatementError]) -> type[exc.StatementError]:
    """Make the subclass of an error of SQLAlchemy that is made of its text."""
    members = {"__init__": _init, "__reduce__": _reduce, "_sql_message": _text}
    about = {"__module__": __name__, "__doc__": f"SQLAlchemy's `{base.__name__}` of a job."}
    return type(base.__name__, (base,), {**members, **about})


PORTABLE: dict[type[BaseException], Any] = {
    base: _of(base)
    for base in (
        exc.StatementError,
        exc.DBAPIError,
        exc.InterfaceError,
        exc.DatabaseError,
        exc.DataError,
        exc.OperationalError,
        exc.IntegrityError,
        exc.InternalError,
        exc.ProgrammingError,
        exc.NotSupportedError,
    )
}
globals().update({each.__name__: each for each in PORTABLE.values()})


def portable(error: BaseException) -> BaseException:
    """Return the error, or what is told of it in another process: the same type, and the text."""
    kind = PORTABLE.get(type(error))
    if kind is None:
        return error
    copy: BaseException = kind(masked(str(error)))
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy.with_traceback(error.__traceback__)
