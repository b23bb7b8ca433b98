"""The names of Django's own cases of `transactions` and `transaction_hooks`, and what differs here.

`python -m tests.unit.django_cases FOLDER` compares the names with a Django's folder `tests`.
"""

import ast
import sys
from pathlib import Path

DECORATED = ("decorator_syntax", "alternate_decorator_syntax")
PAIRS = ("commit_commit", "commit_rollback", "rollback_commit", "rollback_rollback")
ATOMIC = {
    *(f"test_{how}_{end}" for how in DECORATED for end in ("commit", "rollback")),
    *("test_commit", "test_rollback", "test_force_rollback", "test_prevent_rollback"),
    *(f"test_{kind}_{pair}" for kind in ("nested", "merged", "reuse") for pair in PAIRS),
    "test_failure_on_exit_transaction",
}
DURABLE = {
    "test_commit",
    "test_nested_outer_durable",
    "test_nested_both_durable",
    "test_nested_inner_durable",
    "test_sequence_of_durables",
}
CASES = {
    "AtomicTests": ATOMIC,
    "AtomicInsideTransactionTests": ATOMIC,
    "AtomicWithoutAutocommitTests": ATOMIC,
    "AtomicMergeTests": {
        "test_merged_outer_rollback",
        "test_merged_inner_savepoint_rollback",
    },
    "AtomicErrorsTests": {
        "test_atomic_prevents_setting_autocommit",
        "test_atomic_prevents_calling_transaction_methods",
        "test_atomic_prevents_queries_in_broken_transaction",
        "test_atomic_allows_queries_after_fixing_transaction",
        "test_atomic_prevents_queries_in_broken_transaction_after_client_close",
    },
    "AtomicMySQLTests": {"test_implicit_savepoint_rollback"},
    "AtomicMiscTests": {
        "test_wrap_callable_instance",
        "test_atomic_does_not_leak_savepoints_on_failure",
        "test_mark_for_rollback_on_error_in_transaction",
        "test_mark_for_rollback_on_error_in_autocommit",
    },
    "NonAutocommitTests": {
        "test_orm_query_after_error_and_rollback",
        "test_orm_query_without_autocommit",
    },
    "DurableTransactionTests": DURABLE,
    "DurableTests": DURABLE,
    "SavepointTests": {"test_deprecation_warning"},  # in Django 6.1
    "AsyncTransactionTestCase": {  # on its main branch
        "test_new_connection_nested",
        "test_new_connection_nested2",
        "test_new_connection_nested3",
        "test_asavepoint",
    },
    "TestConnectionOnCommit": {
        "test_executes_immediately_if_no_transaction",
        "test_robust_if_no_transaction",
        "test_robust_if_no_transaction_with_callback_as_partial",
        "test_robust_transaction",
        "test_robust_transaction_with_callback_as_partial",
        "test_delays_execution_until_after_transaction_commit",
        "test_does_not_execute_if_transaction_rolled_back",
        "test_executes_only_after_final_transaction_committed",
        "test_discards_hooks_from_rolled_back_savepoint",
        "test_no_hooks_run_from_failed_transaction",
        "test_inner_savepoint_rolled_back_with_outer",
        "test_no_savepoints_atomic_merged_with_outer",
        "test_inner_savepoint_does_not_affect_outer",
        "test_runs_hooks_in_order_registered",
        "test_hooks_cleared_after_successful_commit",
        "test_hooks_cleared_after_rollback",
        "test_hooks_cleared_on_reconnect",
        "test_error_in_hook_doesnt_prevent_clearing_hooks",
        "test_db_query_in_hook",
        "test_transaction_in_hook",
        "test_hook_in_hook",
        "test_raises_exception_non_autocommit_mode",
        "test_raises_exception_non_callable",
    },
}

# A class that runs the cases of another one elsewhere, and the place here that is this elsewhere.
ELSEWHERE = {
    "AtomicTests": "autocommit",
    "AtomicInsideTransactionTests": "scope",
    "AtomicWithoutAutocommitTests": "begin",
}

# What is different here, by the row of the table in docs/adoption.md that gives the reason.
DEVIATIONS = {
    "AtomicTests.test_merged_commit_rollback": "A swallowed failure",
    "AtomicTests.test_failure_on_exit_transaction": "A swallowed failure",
    "AtomicErrorsTests.test_atomic_prevents_queries_in_broken_transaction": "A swallowed failure",
    "AtomicErrorsTests.test_atomic_prevents_queries_in_broken_transaction_after_client_close": (
        "A swallowed failure"
    ),
    "AtomicMySQLTests.test_implicit_savepoint_rollback": "A swallowed failure",
    "TestConnectionOnCommit.test_no_savepoints_atomic_merged_with_outer": "A swallowed failure",
    "AtomicTests.test_force_rollback": "`get_rollback()`",
    "AtomicTests.test_prevent_rollback": "`savepoint()` with an id",
    "SavepointTests.test_deprecation_warning": "`savepoint()` with an id",
    "AsyncTransactionTestCase.test_asavepoint": "`savepoint()` with an id",
    "AtomicErrorsTests.test_atomic_prevents_setting_autocommit": "`set_autocommit()`",
    "NonAutocommitTests.test_orm_query_after_error_and_rollback": "`set_autocommit()`",
    "NonAutocommitTests.test_orm_query_without_autocommit": "`set_autocommit()`",
    "AtomicMiscTests.test_mark_for_rollback_on_error_in_transaction": (
        "`mark_for_rollback_on_error()`"
    ),
    "AtomicMiscTests.test_mark_for_rollback_on_error_in_autocommit": (
        "`mark_for_rollback_on_error()`"
    ),
    "TestConnectionOnCommit.test_hooks_cleared_on_reconnect": "A connection closed in a block",
    "TestConnectionOnCommit.test_raises_exception_non_autocommit_mode": (
        "`on_commit()` in a transaction by hand"
    ),
    "AsyncTransactionTestCase.test_new_connection_nested": "`new_connection()`",
    "AsyncTransactionTestCase.test_new_connection_nested2": "`new_connection()`",
    "AsyncTransactionTestCase.test_new_connection_nested3": "`new_connection()`",
    **{f"DurableTests.{case}": "`TestCase` and `durable`" for case in DURABLE},
}

# Of those, what has nothing here that could be tested.
WITHOUT_A_TEST = {
    "SavepointTests.test_deprecation_warning",
    *(f"DurableTests.{case}" for case in DURABLE),
}


def all_cases() -> set[str]:
    """Return the names of all cases."""
    return {f"{name}.{case}" for name, cases in CASES.items() for case in cases}


def cases_of(folder: Path) -> set[str]:
    """Return the names of the cases in a Django's folder `tests`, with the inherited ones."""
    own: dict[str, set[str]] = {}
    for part in ("transactions", "transaction_hooks"):
        tree = ast.parse((folder / part / "tests.py").read_text(encoding="utf-8"))
        for each in tree.body:
            if isinstance(each, ast.ClassDef):
                bases = [base.id for base in each.bases if isinstance(base, ast.Name)]
                inherited = set[str]().union(*(own.get(base, set()) for base in bases))
                own[each.name] = inherited | {
                    member.name
                    for member in each.body
                    if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
                    and member.name.startswith("test_")
                }
    own.pop("DurableTestsBase", None)
    return {f"{name}.{case}" for name, cases in own.items() for case in cases}


if __name__ == "__main__":
    theirs = cases_of(Path(sys.argv[1]))
    print("not here:", *sorted(theirs - all_cases()))  # noqa: T201
    print("only here:", *sorted(all_cases() - theirs))  # noqa: T201
