"""The test kit: what a test wants to say about SQL and transactions, beside `db.sandbox()`."""

from dbscope.testing.faults import conflict, fail_commit, lose_commit_answer
from dbscope.testing.statements import assert_max_statements, assert_statements
from dbscope.testing.transactions import (
    assert_no_open_transactions,
    capture_on_commit,
    part_of_a_transaction,
)

__all__ = [
    "assert_max_statements",
    "assert_no_open_transactions",
    "assert_statements",
    "capture_on_commit",
    "conflict",
    "fail_commit",
    "lose_commit_answer",
    "part_of_a_transaction",
]
