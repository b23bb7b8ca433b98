"""Random nestings of blocks: how they are made and run, and what must come of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy import insert as core_insert
from sqlalchemy.exc import IntegrityError

from dbscope import Rollback
from tests.unit.blocks import Trouble
from tests.worlds import Both, Item

TAKEN = "taken"  # a name that is stored before, so that another one fails
PLAIN_STEPS = ("add", "flush", "read", "statement", "hook")
FAILURES = ("raise", "failing statement", "failing flush")
ENDINGS = ("well", "Rollback", "set_rollback", *FAILURES)


@dataclass(frozen=True)
class Nested:
    """A block, what is done in it, and how it ends."""

    steps: tuple[str | Nested, ...]
    ending: str
    joins: bool = False  # `savepoint=False`; a failure leaves it for the block around


Steps = Sequence[str | Nested]


def nested(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[Nested]:
    """Return blocks of such steps."""
    inside = st.lists(steps, max_size=4).map(tuple)
    real = st.builds(Nested, inside, st.sampled_from(ENDINGS))
    joined = st.builds(Nested, inside, st.sampled_from(("well", *FAILURES)), st.just(True))
    return real | real | joined


def nestings() -> st.SearchStrategy[list[str | Nested]]:
    """Return what is done in a transaction: steps, and blocks of steps."""
    plain = st.sampled_from(PLAIN_STEPS)
    steps: st.SearchStrategy[Any] = st.recursive(plain, lambda s: plain | nested(s), max_leaves=12)
    return st.lists(steps | nested(steps), max_size=5)


# -- what must come of them ------------------------------------------------------------------------


@dataclass
class Base:
    """What BEGIN or a SAVEPOINT starts; it is sent with the first statement inside."""

    begun: bool = False


@dataclass
class Model:
    """The rules, without a database: what is stored, which hooks run, and what is sent."""

    rows: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    promised: list[tuple[int, int]] = field(default_factory=list)  # a hook, its depth
    log: list[tuple[str, int]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    bases: list[Base] = field(default_factory=lambda: [Base()])
    made: int = 0

    def run(self, steps: Steps) -> bool:
        """Run a transaction; tell whether it is committed."""
        try:
            self.steps(steps, depth=0)
        except Trouble:
            self.undo(0, 0)
            return False
        if self.pending:
            self.send()
        self.log += [("commit", number) for number, _ in self.promised]
        return True

    def steps(self, steps: Steps, depth: int) -> None:
        """Do one after the other."""
        for step in steps:
            if isinstance(step, Nested):
                self.block(step, depth + 1)
            else:
                self.step(step, depth)

    def step(self, step: str, depth: int) -> None:
        """Do one step."""
        if step == "hook":
            self.promised.append((self.new(), depth))
        elif step in {"add", "flush"}:
            self.pending.append(self.new())
        if step == "statement":
            self.send()
            self.rows.append(self.new())
        elif step in {"read", "flush"}:
            self.send()

    def block(self, block: Nested, depth: int) -> None:
        """Enter a block, and leave it in its way."""
        if block.joins:
            self.inside(block, depth)
            return
        if self.pending:
            self.send()
        rows, promised, base = len(self.rows), len(self.promised), self.bases[-1]
        if base.begun:
            self.bases.append(Base())
        try:
            self.inside(block, depth)
            fails = block.ending != "well"
        except Trouble:
            fails = True
        if fails:
            self.undo(rows, promised)
        elif self.pending:
            self.send()
        if self.bases[-1] is not base and self.bases.pop().begun:
            self.sent["RELEASE"] += 1

    def inside(self, block: Nested, depth: int) -> None:
        """Do what is in a block, and what makes it fail."""
        self.steps(block.steps, depth)
        if block.ending in FAILURES:
            if block.ending != "raise":
                self.send()
            raise Trouble

    def undo(self, rows: int, promised: int) -> None:
        """Forget what was done; its hooks run innermost first."""
        del self.rows[rows:]
        self.pending.clear()
        due = sorted(self.promised[promised:], key=lambda hook: -hook[1])
        self.log += [("rollback", number) for number, _ in due]
        del self.promised[promised:]
        base = self.bases[-1]
        if base.begun and base is not self.bases[0]:
            self.sent["ROLLBACK TO"] += 1
            self.sent["RELEASE"] += 1
        base.begun = False

    def send(self) -> None:
        """Send what is pending, and before it every BEGIN and SAVEPOINT that was put off."""
        for base in self.bases:
            if not base.begun:
                self.sent["BEGIN" if base is self.bases[0] else "SAVEPOINT"] += 1
                base.begun = True
        self.rows += self.pending
        self.pending.clear()

    def new(self) -> int:
        """Return a number that nothing has yet."""
        self.made += 1
        return self.made


# -- how they are run ------------------------------------------------------------------------------


@dataclass
class Play:
    """The same against a database; names are numbers, with something before them."""

    db: Both
    prefix: str
    log: list[tuple[str, int]] = field(default_factory=list)
    made: int = 0

    def steps(self, steps: Steps) -> None:
        """Do one after the other."""
        for step in steps:
            if isinstance(step, Nested):
                self.block(step)
            else:
                self.step(step)

    def step(self, step: str) -> None:
        """Do one step."""
        if step == "read":
            self.db.scalar(select(func.count()).select_from(Item))
        elif step == "hook":
            self.hook(self.new())
        elif step == "statement":
            self.db.execute(core_insert(Item).values(name=self.prefix + str(self.new())))
        else:
            self.db.session.add(Item(name=self.prefix + str(self.new())))
            if step == "flush":
                self.db.session.flush()

    def hook(self, number: int) -> None:
        """Promise to write down how it ended."""
        self.db.on_commit(lambda: self.log.append(("commit", number)))
        self.db.on_rollback(lambda: self.log.append(("rollback", number)))

    def block(self, block: Nested) -> None:
        """Enter a block, and leave it in its way; its failure ends where it was undone."""
        if block.joins:
            with self.db.atomic(savepoint=False):
                self.inside(block)
            return
        with suppress(Trouble, IntegrityError), self.db.atomic():
            self.inside(block)

    def inside(self, block: Nested) -> None:
        """Do what is in a block, and what makes it fail."""
        self.steps(block.steps)
        if block.ending == "raise":
            raise Trouble
        if block.ending == "Rollback":
            raise Rollback
        if block.ending == "set_rollback":
            self.db.set_rollback(True)
        elif block.ending == "failing statement":
            self.db.execute(core_insert(Item).values(name=TAKEN))
        elif block.ending == "failing flush":
            self.db.session.add(Item(name=TAKEN))
            self.db.session.flush()

    def new(self) -> int:
        """Return a number that nothing has yet."""
        self.made += 1
        return self.made
