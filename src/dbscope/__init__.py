"""The transaction you answered for is the transaction you have."""

from dbscope.async_database import AsyncDatabase
from dbscope.database import Database
from dbscope.errors import (
    AttributeMismatch,
    AttributeNotLoaded,
    BlocksOutOfOrder,
    ClientTimeout,
    ConcurrentUse,
    ConfigurationError,
    DatabaseUnavailable,
    DBScopeError,
    DurableError,
    ImplicitCommit,
    LockTimeout,
    ManualCommitForbidden,
    MigrationError,
    NeverAwaited,
    PartialCommit,
    PoolTimeout,
    ReadOnlyViolation,
    Rollback,
    ScopeClosed,
    ScopeMissing,
    SynchronousOnlyOperation,
    TransactionBroken,
    TransactionEndedOutside,
    TransactionManagementError,
    TransactionOutcomeUnknown,
    TransactionRequired,
    TransactionTimeout,
    UnexpectedRollback,
)
from dbscope.masking import masked
from dbscope.scopes.http import DBSessionMiddleware
from dbscope.unit.callsite import callsite
from dbscope.unit.policy import default_commit_veto, unsafe_methods

__version__ = "0.2.0"

__all__ = [
    "AsyncDatabase",
    "AttributeMismatch",
    "AttributeNotLoaded",
    "BlocksOutOfOrder",
    "ClientTimeout",
    "ConcurrentUse",
    "ConfigurationError",
    "DBScopeError",
    "DBSessionMiddleware",
    "Database",
    "DatabaseUnavailable",
    "DurableError",
    "ImplicitCommit",
    "LockTimeout",
    "ManualCommitForbidden",
    "MigrationError",
    "NeverAwaited",
    "PartialCommit",
    "PoolTimeout",
    "ReadOnlyViolation",
    "Rollback",
    "ScopeClosed",
    "ScopeMissing",
    "SynchronousOnlyOperation",
    "TransactionBroken",
    "TransactionEndedOutside",
    "TransactionManagementError",
    "TransactionOutcomeUnknown",
    "TransactionRequired",
    "TransactionTimeout",
    "UnexpectedRollback",
    "callsite",
    "default_commit_veto",
    "masked",
    "unsafe_methods",
]
