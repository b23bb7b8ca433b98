"""Attributes that are loaded late are read for all objects of a kind at once: `db.watch.heal()`.

The statement that SQLAlchemy sends for one object is sent with `IN` for all that were loaded with
it. What is kept of that are rows, as the driver gave them: each object gets its own when it asks
for them, by SQLAlchemy's own code, as if its statement had been sent. So no object is made, set or
changed before its time. Rows are forgotten as soon as anything is written or expired.
"""

# ruff: noqa: SLF001  (what a loader asks for shows only from inside)

from __future__ import annotations

from copy import copy
from itertools import chain
from typing import TYPE_CHECKING, Any
from unicodedata import combining, normalize

from sqlalchemy import TextClause, and_, bindparam
from sqlalchemy.engine import IteratorResult
from sqlalchemy.orm import Session
from sqlalchemy.sql import functions, operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList
from sqlalchemy.sql.functions import FunctionElement, GenericFunction

from dbscope.engine.late_loads import NOTHING, is_plain, load_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dbscope.engine.late_loads import Load

AT_ONCE = 500  # objects, as SQLAlchemy's selectinload has it
KNOWN = {  # functions that SQLAlchemy knows, of which none writes
    name
    for name, each in vars(functions).items()
    if isinstance(each, type) and issubclass(each, GenericFunction)
}
KEY = "dbscope_key"  # the column that says whose row it is


class Batch:
    """Rows of one statement for many objects.

    Args:
        result: of the statement, whose rows are read.
        asked: for which parameters.
    """

    def __init__(self, result: Any, asked: Iterable[Any]) -> None:
        self.context = without_key(result.context)
        self.mapper = self.context.compiled.compile_state._entities[0].mapper
        self.metadata = result._metadata
        self.rows: dict[Any, list[Any]] = {value: [] for value in asked}
        self.is_exact = True
        self.taken = 0
        place = list(result.keys()).index(KEY)
        processors = self.metadata._effective_processors
        process = processors[place] if processors else None
        for row in result._fetchall_impl():
            value = row[place] if process is None else process(row[place])
            if value in self.rows:
                self.rows[value].append(row)
            else:
                self.is_exact = False  # equal to the server, and not to us: a collation, say
        result.close()

    def values(self, column: Any) -> Iterator[Any]:
        """Give what the rows have in a column: of objects that are not there yet."""
        place = self.metadata._index_for_key(column, False)
        if place is not None:
            processors = self.metadata._effective_processors
            process = processors[place] if processors else None
            for row in chain.from_iterable(self.rows.values()):
                yield row[place] if process is None else process(row[place])

    def take(self, value: Any) -> Any:
        """Return what the statement for this parameter alone would have given, once."""
        make: Any = IteratorResult
        self.taken += 1
        result = make(self.metadata, iter(self.rows.pop(value)))
        result.context = self.context
        return result


def without_key(context: Any) -> Any:
    """Return the context of a statement for many, as if it did not ask for the key."""
    compiled, state = copy(context.compiled), copy(context.compiled.compile_state)
    state._entities = state._entities[:-1]
    compiled.compile_state = state
    alone = copy(context)
    alone.compiled = compiled
    return alone


class Peers:
    """What one session has read for objects that have not asked for it yet.

    Args:
        session: it.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.load: Load | None = None  # that goes on
        self.batches: dict[Any, Batch] = {}
        self.refused: set[Any] = set()  # statements that are not to be sent for many
        self.at_once = AT_ONCE

    def forget(self) -> None:
        """Forget all rows: they may be others now. Where few were of use, fewer are read next."""
        if self.batches:
            self.at_once = min(2 * max(each.taken for each in self.batches.values()), AT_ONCE)
            self.batches.clear()

    def execute(
        self, execute: Callable[..., Any], statement: Any, params: Any = None, **kwargs: Any
    ) -> Any:
        """Execute a statement of the session, whatever it is."""
        around, self.load = self.load, load_of(statement, params, kwargs)
        if self.batches and self.load is None and may_write(statement):
            self.forget()
        try:
            return execute(statement, params, **kwargs)
        finally:
            self.load = around

    def read(
        self, connection: Any, load: Load, statement: Any, params: Any, options: Mapping[str, Any]
    ) -> Any:
        """Return the rows of a late load; they come from the server, or were read before."""
        place = place_of(connection, statement, options)
        ((name, value),) = params.items()
        batch = self.batches.get(place)
        if batch is None or value not in batch.rows:
            if batch is not None and not batch.rows:  # all were of use
                self.at_once = min(2 * self.at_once, AT_ONCE)
            batch = None
            asked = self._asked(load, value) if self._may_read(place) else {}
            together = for_many(statement, name) if len(asked) > 1 else None
            if together is not None:
                batch = self._read(connection, together, {name: list(asked)}, options)
                if batch.is_exact:
                    self.batches[place] = batch
                else:
                    self.refused.add(place)
                    batch = None
        if batch is not None:
            return batch.take(value)
        return connection.execute(statement, params, execution_options=options)

    def _may_read(self, place: Any) -> bool:
        return place is not None and place not in self.refused

    def _asked(self, load: Load, value: Any) -> dict[Any, None]:
        """Return for which parameters the rows are wanted, that of the load first."""
        found, alike = {value: None}, {bare(value)}
        rows = [each for each in self.batches.values() if each.mapper is load.state.mapper]
        ahead = chain.from_iterable(each.values(load.column) for each in rows)
        for other in chain(load.others(self.session), ahead):
            if is_plain(other) and (key := bare(other)) not in alike:
                alike.add(key)
                found[other] = None
                if len(found) >= self.at_once:
                    break
        return found

    def _read(self, connection: Any, together: Any, given: dict[str, Any], options: Any) -> Batch:
        (asked,) = given.values()
        return Batch(connection.execute(together, given, execution_options=options), asked)


def bare(value: Any) -> Any:
    """Return what is equal for keys that the server may find equal: texts, by a collation."""
    if not isinstance(value, str):
        return value
    parts = [each for each in normalize("NFKD", value) if not combining(each)]
    return "".join(filter(str.isalnum, parts)).lower() if all(map(str.isascii, parts)) else ""


class StandIn:
    """A connection, as long as a late load is executed on it."""

    def __init__(self, connection: Any, peers: Peers, load: Load) -> None:
        self._connection = connection
        self._peers = peers
        self._load = load

    def execute(
        self, statement: Any, params: Any = None, *, execution_options: Any = NOTHING
    ) -> Any:
        """Return rows."""
        return self._peers.read(self._connection, self._load, statement, params, execution_options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class HealingSession(Session):
    """A session that may read for many objects what is loaded late for one."""

    dbscope_peers: Peers | None = None

    def _connection_for_bind(self, *args: Any, **kwargs: Any) -> Any:
        connection: Any = super()._connection_for_bind(*args, **kwargs)
        peers = self.dbscope_peers
        if peers is None or peers.load is None:
            return connection
        load, peers.load = peers.load, None  # what it wants of the session is no part of it
        return StandIn(connection, peers, load)

    def connection(self, *args: Any, **kwargs: Any) -> Any:
        """Return the connection, by which anything may be written: nothing is read ahead then."""
        self.dbscope_peers = None
        return super().connection(*args, **kwargs)

    def expire_all(self) -> None:
        """Expire all objects, and what was read for them."""
        forget(self)
        super().expire_all()

    def _expire_state(self, *args: Any, **kwargs: Any) -> None:
        forget(self)  # refresh() comes here, too
        super()._expire_state(*args, **kwargs)


def forget(session: HealingSession) -> None:
    """Forget what was read ahead."""
    if session.dbscope_peers is not None:
        session.dbscope_peers.forget()


def may_write(statement: Any) -> bool:
    """Tell whether a statement may write though it is a SELECT: in its WITH, or by a function."""
    return any(map(_may_write, visitors.iterate(statement)))


def _may_write(part: Any) -> bool:
    if issubclass(type(part), FunctionElement):
        return getattr(part, "name", "") not in KNOWN
    return getattr(part, "is_dml", False) or isinstance(part, TextClause)


def place_of(connection: Any, statement: Any, options: Mapping[str, Any]) -> Any:
    """Return what is equal for statements that differ in their parameter only, if that is known."""
    key = statement._generate_cache_key()
    others = {name: each for name, each in options.items() if name != "_sa_orm_load_options"}
    if key is None:
        return None
    values = tuple(each.value for each in key.bindparams)
    place = (key.key, values, connection.engine, tuple(sorted(others.items())))
    try:
        hash(place)
    except TypeError:
        return None
    return place


def for_many(statement: Any, name: str) -> Any:
    """Return the statement for many values of its parameter; None if it cannot be told."""
    bound = [each for each in visitors.iterate(statement) if getattr(each, "key", None) == name]
    if sum(isinstance(each, BindParameter) for each in bound) != 1:
        return None
    columns: list[Any] = []
    criteria = tuple(_among(each, name, columns) for each in statement._where_criteria)
    if not columns:
        return None
    many = statement.add_columns(columns[0].label(KEY))
    many._where_criteria = criteria
    return many


def _among(criterion: Any, name: str, columns: list[Any]) -> Any:
    """Return a criterion with `IN`; that of each value holds for its own rows, and no others."""
    same = criterion
    if isinstance(criterion, BooleanClauseList) and criterion.operator is operators.and_:
        clauses: list[Any] = [_among(each, name, columns) for each in criterion.clauses]
        return and_(*clauses)
    if isinstance(criterion, BinaryExpression) and criterion.operator is operators.eq:
        sides = (criterion.left, criterion.right), (criterion.right, criterion.left)
        for bound, column in sides:
            if isinstance(bound, BindParameter) and bound.key == name:
                columns.append(column)
                among: Any = column.in_(bindparam(name, type_=bound.type, expanding=True))
                return among
    return same
