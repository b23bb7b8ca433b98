"""The transaction you answered for is the transaction you have."""

from dbscope.database import AsyncDatabase, Database
from dbscope.errors import (
    AttributeMismatch,
    BlocksOutOfOrder,
    ConcurrentUse,
    ConfigurationError,
    DatabaseUnavailable,
    DBScopeError,
    DurableError,
    ManualCommitForbidden,
    MigrationError,
    PoolTimeout,
    ReadOnlyViolation,
    Rollback,
    ScopeClosed,
    ScopeMissing,
    TransactionBroken,
    TransactionManagementError,
    TransactionOutcomeUnknown,
    TransactionRequired,
    UnexpectedRollback,
)
from dbscope.scopes.http import DBSessionMiddleware
from dbscope.unit.policy import default_commit_veto

__all__ = [
    "AsyncDatabase",
    "AttributeMismatch",
    "BlocksOutOfOrder",
    "ConcurrentUse",
    "ConfigurationError",
    "DBScopeError",
    "DBSessionMiddleware",
    "Database",
    "DatabaseUnavailable",
    "DurableError",
    "ManualCommitForbidden",
    "MigrationError",
    "PoolTimeout",
    "ReadOnlyViolation",
    "Rollback",
    "ScopeClosed",
    "ScopeMissing",
    "TransactionBroken",
    "TransactionManagementError",
    "TransactionOutcomeUnknown",
    "TransactionRequired",
    "UnexpectedRollback",
    "default_commit_veto",
]
